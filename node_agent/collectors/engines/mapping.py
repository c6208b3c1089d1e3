"""From an engine's metrics to our fields: the rules that hold for every engine.

An engine names, per field, the metrics that have carried it, newest first; the first that is
exposed counts. Ranks are added up (KV-cache usage: the fullest one). Series that are copies
of one another, as SGLang's tensor-parallel ranks are, count once: the largest of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import assert_never

from node_agent.collectors.exposition import MAX_KNOWN_LABELS, Exposition, Labels, Series
from node_agent.model import Histogram, Reason, Value
from node_agent.untrusted import Plain, clean_text
from optiinfra.catalogue import TABLES, FieldSpec

MAX_BUCKETS = 512  # the largest known distribution that is read here, TGI's token lengths, has 100
MAX_COUNT = 2**53  # observations in a bucket: beyond it a float, which the format's numbers are, no longer counts
MAX_MODELS = 16  # an engine serves one model; LoRA adapters do not get a label of their own
_OF_THE_SCRAPE = frozenset({"up_flag", "scrape_seconds", "counters_since_unix_seconds", "ranks_count"})
_START_TIME = "process_start_time_seconds"  # written by Prometheus' client library, without the engine's prefix


class Combine(Enum):
    """How the ranks of one server become one number."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One metric that has carried a field, without the engine's prefix."""

    name: str
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)  # label -> the values that count


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A counter or gauge."""

    sources: tuple[Source, ...]
    combine: Combine = Combine.SUM
    copies_add: bool = False  # of this, copies have each their own
    zero_is_off: bool = False  # the engine exposes 0 as well where it does not measure this at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A histogram."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A value that hides in labels: the engine's own function finds it."""

    names: tuple[str, ...]
    read: Callable[[Exposition], Value]


Mapped = Scalar | Distribution | Derived


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What an engine says about itself. None means that it did not say."""

    version: str | None = None
    model: str | None = None
    max_model_len: int | None = None
    config: Mapping[str, Plain] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One inference engine, as data."""

    name: str
    prefixes: tuple[str, ...]
    fields: Mapping[str, Mapped]  # by the catalogue's names
    rank_label: str | None  # tells data-parallel ranks apart
    copy_labels: frozenset[str]  # tell copies of the same series apart
    total_labels: frozenset[str]  # a value here makes a series a part of another that has the total
    model_label: str | None
    config_paths: tuple[tuple[str, ...], ...]  # the only paths ever asked; within one tuple the first that answers
    configuration: Callable[[Mapping[str, object], Exposition], Configuration]  # of the answers by path
    running_name: str  # the gauge of running requests
    progress_names: tuple[str, ...]  # what moves with the engine's steps, and not with a client's request alone
    table: str = "inference"
    health_path: str | None = None  # asked at each look; None where the question makes the engine work

    def wanted(self) -> dict[str, str]:
        """This will give the metric names to read, and the names without prefix to file them under."""
        names: dict[str, str] = {_START_TIME: _START_TIME}
        for bare in {name for mapped in self.fields.values() for name in _names(mapped)} | {*self.progress_names}:
            names.update({prefix + bare: bare for prefix in self.prefixes})
        return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One exposition in our terms."""

    values: Mapping[str, Value]  # every field of the catalogue but those of the scrape itself; ranks_count is here
    models: tuple[str, ...]
    started_unix_seconds: float | None  # when the counters began, if the engine says so


def exactly(*values: str) -> frozenset[str]:
    """This will give the accepted values of a label."""
    return frozenset(values)


def sources(*names: str, where: Mapping[str, frozenset[str]] | None = None) -> tuple[Source, ...]:
    """This will give one source per name, newest name first, all under one condition."""
    return tuple(Source(name=name, where=where or {}) for name in names)


def read_values(engine: Engine, exposition: Exposition) -> Reading:
    """This will translate one exposition; a field that cannot be known holds its Reason."""
    values: dict[str, Value] = {}
    for spec in TABLES[engine.table].fields:
        name = spec.name
        if name in _OF_THE_SCRAPE:
            continue
        mapped = engine.fields.get(name)
        values[name] = Reason.NOT_EXPOSED if mapped is None else in_range(spec, _read_one(engine, mapped, exposition))
    if engine.running_name:
        values["ranks_count"] = _count_ranks(engine, exposition)
    return Reading(values=values, models=_models(engine, exposition), started_unix_seconds=_started(exposition))


def in_range(spec: FieldSpec, value: Value) -> Value:
    """This will give the value in its catalogue type, or the reason why it is impossible."""
    if not isinstance(value, float | int):
        return value
    if math.isnan(value):
        return Reason.NOT_A_NUMBER
    if (spec.minimum is not None and value < spec.minimum) or (spec.maximum is not None and value > spec.maximum):
        return Reason.OUT_OF_RANGE
    if math.isinf(value):
        return Reason.OUT_OF_RANGE
    return round(value) if spec.type == "bigint" else float(value)


def _names(mapped: Mapped) -> Iterable[str]:
    """This will give the sample names that a field needs."""
    match mapped:
        case Scalar():
            for source in mapped.sources:
                yield from (source.name, f"{source.name.removesuffix('_total')}_created")
        case Distribution():
            for source in mapped.sources:
                yield from (source.name + suffix for suffix in ("_bucket", "_sum", "_created"))
        case Derived():
            yield from mapped.names
        case _:
            assert_never(mapped)


def _read_one(engine: Engine, mapped: Mapped, exposition: Exposition) -> Value:
    """This will read one field from the newest of its sources that is exposed."""
    match mapped:
        case Scalar():
            for source in mapped.sources:
                if source.name in exposition.incomplete:
                    return Reason.ERROR
                if series := _selected(engine, source, exposition.series(source.name)):
                    value = _combine(mapped, series, frozenset() if mapped.copies_add else engine.copy_labels)
                    return Reason.NOT_EXPOSED if mapped.zero_is_off and value == 0 else value
        case Distribution():
            for source in mapped.sources:
                if not exposition.incomplete.isdisjoint((source.name + "_bucket", source.name + "_sum")):
                    return Reason.ERROR
                if buckets := _selected(engine, source, exposition.series(source.name + "_bucket")):
                    return _merge(engine, buckets, exposition.series(source.name + "_sum"))
        case Derived():
            return mapped.read(exposition) if exposition.incomplete.isdisjoint(mapped.names) else Reason.ERROR
        case _:
            assert_never(mapped)
    return Reason.NOT_EXPOSED


def _selected(engine: Engine, source: Source, series: Series) -> Series:
    """This will keep the series that a source means."""
    if not source.where and not engine.total_labels:
        return series
    return {labels: value for labels, value in series.items() if _matches(engine, source, dict(labels))}


def _matches(engine: Engine, source: Source, labels: Mapping[str, str]) -> bool:
    """This will say whether one series counts."""
    if any(labels.get(label) for label in engine.total_labels):
        return False
    return all(labels.get(label) in accepted for label, accepted in source.where.items())


def _without(labels: Labels, dropped: frozenset[str]) -> Labels:
    """This will give the labels that are not dropped."""
    return tuple(pair for pair in labels if pair[0] not in dropped)


def _combine(mapped: Scalar, series: Series, copy_labels: frozenset[str]) -> Value:
    """This will make one number of all ranks; series that differ only in `copy_labels` are one."""
    if any(math.isnan(value) for value in series.values()):
        return Reason.NOT_A_NUMBER  # a sum over the rest would look whole
    by_rank: dict[Labels, float] = {}
    for labels, value in series.items():
        rank = _without(labels, copy_labels)
        by_rank[rank] = max(value, by_rank.get(rank, -math.inf))
    match mapped.combine:
        case Combine.SUM:
            return sum(by_rank.values())
        case Combine.MAX:
            return max(by_rank.values())
        case Combine.MIN:
            return min(by_rank.values())
        case _:
            assert_never(mapped.combine)


def _merge(engine: Engine, buckets: Series, sums: Series) -> Value:
    """This will add up the distributions of all ranks.

    Ranks with unlike bounds cannot be added without inventing where their observations lie, so
    they give Reason.ERROR, as does everything that breaks a histogram's own rules.
    """
    by_copy: dict[Labels, dict[float, float]] = {}
    for labels, count in buckets.items():
        bound, copy = _bucket(labels)
        if bound is None:
            return Reason.ERROR
        by_copy.setdefault(copy, {})[bound] = count
    by_rank: dict[Labels, Histogram] = {}
    for labels, counts in by_copy.items():
        one = _histogram(counts, sums.get(labels))
        if isinstance(one, Reason):
            return one
        rank = _without(labels, engine.copy_labels)
        if rank not in by_rank or sum(one.counts) > sum(by_rank[rank].counts):
            by_rank[rank] = one
    return _added(tuple(by_rank.values()))


@lru_cache(MAX_KNOWN_LABELS)
def _bucket(labels: Labels) -> tuple[float | None, Labels]:
    """This will give a bucket's upper bound, and the labels of its histogram. They are the same at every scrape."""
    return _bound(dict(labels).get("le", "")), _without(labels, frozenset({"le"}))


def _bound(text: str) -> float | None:
    """This will read an upper bound, None when it is none."""
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if math.isnan(bound) or bound == -math.inf else bound


def _histogram(cumulative: Mapping[float, float], total: float | None) -> Histogram | Reason:
    """This will turn the format's running totals into counts per bucket."""
    if total is None or math.inf not in cumulative or len(cumulative) > MAX_BUCKETS:
        return Reason.ERROR
    if math.isnan(total) or any(math.isnan(count) for count in cumulative.values()):
        return Reason.NOT_A_NUMBER
    counts: list[int] = []
    below = 0
    for bound in sorted(cumulative):
        running = cumulative[bound]
        if not math.isfinite(running) or running < below or running != int(running):
            return Reason.ERROR
        if running > MAX_COUNT:
            return Reason.OUT_OF_RANGE
        counts.append(int(running) - below)
        below = int(running)
    if not math.isfinite(total):
        return Reason.ERROR
    return Histogram(bounds=tuple(sorted(cumulative))[:-1], counts=tuple(counts), sum=total)


def _added(parts: tuple[Histogram, ...]) -> Value:
    """This will add distributions of equal bounds."""
    if len({part.bounds for part in parts}) != 1:
        return Reason.ERROR
    counts = tuple(sum(column) for column in zip(*(part.counts for part in parts), strict=True))
    return Histogram(bounds=parts[0].bounds, counts=counts, sum=math.fsum(part.sum for part in parts))


def _count_ranks(engine: Engine, exposition: Exposition) -> Value:
    """This will count data-parallel ranks; series without such a label are one rank."""
    if engine.running_name in exposition.incomplete:
        return Reason.ERROR
    found = {labels.get(engine.rank_label or "") for labels in _running(engine, exposition)}
    return float(len(found)) if found else Reason.NOT_EXPOSED


def _running(engine: Engine, exposition: Exposition) -> list[dict[str, str]]:
    """This will give the labels of the running requests, the one gauge that every rank of every engine has."""
    return [dict(labels) for labels in exposition.series(engine.running_name)]


def _models(engine: Engine, exposition: Exposition) -> tuple[str, ...]:
    """This will give the names of the served models, as the labels have them."""
    found = {clean_text(labels.get(engine.model_label or "", "")) for labels in _running(engine, exposition)}
    return tuple(sorted(found - {""})[:MAX_MODELS])


def _started(exposition: Exposition) -> float | None:
    """This will give when the counters began: the process's start, else the oldest counter's creation."""
    stamps = list(exposition.series(_START_TIME).values())
    if not stamps:
        stamps = [
            value
            for name, series in exposition.samples.items()
            if name.endswith("_created")
            for value in series.values()
        ]
    known = [stamp for stamp in stamps if math.isfinite(stamp) and stamp > 0]
    return min(known, default=None)
