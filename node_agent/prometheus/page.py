"""Writes a tick in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from node_agent.clock import Instant
from node_agent.model import CollectorReport, Entity, EntityKind, Machine, Sample, Tick, Value
from node_agent.prometheus.names import BOOT_TIME, CPU_SECONDS, FAMILIES, TIME, UNAME, Family, Metric, memory_metric
from node_agent.untrusted import clean_text
from optiinfra.catalogue import TABLES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OWN_PREFIX = "optiinfra_agent_"
# Three samples missing is not lateness, and is what the control plane calls stale.
STALE_AFTER_INTERVALS = 3
STALE_AFTER_AT_LEAST_SECONDS = 10.0

# Tables that are not in every tick, and for how long a row of one stands for its thing: three readings missed.
SLOW_TABLES = {"gpu_health": 30.0}

_Lines = dict[str, tuple[str, list[str]]]  # kind and lines of each metric: all of one name have to stand together


class NewestTick:
    """Keeps the tick that the page shows."""

    def __init__(self, hostname: str) -> None:
        """`hostname` is the label Hostname of dcgm-exporter."""
        self._hostname = hostname
        self._tick: Tick | None = None
        self._fresh_seconds = 0.0
        self._slow: dict[tuple[str, EntityKind, str], tuple[Instant, Sample]] = {}

    def keep(self, tick: Tick, interval_seconds: float) -> None:
        """This will take the place of the tick before."""
        self._tick = tick
        slow = {
            (sample.table, *sample.entity): (tick.taken_at, sample)
            for sample in tick.samples
            if sample.table in SLOW_TABLES
        }
        there = {(entity.kind, entity.key) for entity in tick.entities}
        self._slow = {key: held for key, held in (self._slow | slow).items() if key[1:] in there}
        self._fresh_seconds = max(STALE_AFTER_INTERVALS * interval_seconds, STALE_AFTER_AT_LEAST_SECONDS)

    def page(self, now: Instant) -> str | None:
        """This will write the page; None before the first tick, and when the newest is too old to pass for now."""
        if self._tick is None or now.monotonic_seconds - self._tick.taken_at.monotonic_seconds > self._fresh_seconds:
            return None
        oldest = self._tick.taken_at.monotonic_seconds
        held = [
            (at, sample)
            for at, sample in self._slow.values()
            if at is not self._tick.taken_at and oldest - at.monotonic_seconds <= SLOW_TABLES[sample.table]
        ]
        return render(self._tick, hostname=self._hostname, held=held)


def render(tick: Tick, *, hostname: str, held: Sequence[tuple[Instant, Sample]] = ()) -> str:
    """This will write a tick as a page. What is unknown is not on it.

    `held` are rows of earlier ticks that none came after: they bear the time at which they were read.
    """
    lines: _Lines = {}
    entities = {(entity.kind, entity.key): entity for entity in tick.entities}
    for at, sample in held:
        entity = entities.get(sample.entity)
        _add_sample(lines, FAMILIES[sample.table], sample, entity, hostname, round(at.wall.timestamp() * 1000))
    for sample in tick.samples:
        if (family := FAMILIES.get(sample.table)) is not None:
            _add_sample(lines, family, sample, entities.get(sample.entity), hostname)
        elif sample.table == "agent":
            _add_own(lines, sample)
    if tick.machine is not None:
        _add_machine(lines, tick.machine, tick.taken_at, hostname)
    for report in tick.reports:
        _add_report(lines, report)
    _add(lines, Metric(name=f"{OWN_PREFIX}tick_timestamp_seconds", kind="gauge"), {}, tick.taken_at.wall.timestamp())
    return "".join(_written(lines))


def _add_sample(
    lines: _Lines,
    family: Family,
    sample: Sample,
    entity: Entity | None,
    hostname: str,
    read_at_milliseconds: int | None = None,
) -> None:
    attributes = entity.attributes if entity is not None else {}
    labels = {
        label: family.prefixes.get(label, "") + str(value)
        for label, source in family.labels.items()
        if (value := attributes.get(source) if source else sample.entity[1]) is not None
    }
    if sample.entity[0] in (EntityKind.GPU, EntityKind.GPU_INSTANCE):
        labels["Hostname"] = hostname
    for field, metric in family.metrics.items():
        _add(lines, metric, labels, sample.values.get(field), read_at_milliseconds)


def _add_machine(lines: _Lines, machine: Machine, taken_at: Instant, hostname: str) -> None:
    for number, ticks in (machine.cpu_ticks or {}).items():
        for mode, count in zip(machine.cpu_modes, ticks, strict=True):
            _add(lines, CPU_SECONDS, {"cpu": str(number), "mode": mode}, count / machine.ticks_per_second)
    for line, size in (machine.memory_bytes or {}).items():
        if (metric := memory_metric(line)) is not None:
            _add(lines, metric, {}, size)
    _add(lines, BOOT_TIME, {}, machine.booted_unix_seconds)
    _add(lines, TIME, {}, taken_at.wall.timestamp())
    if machine.kernel:
        _add(lines, UNAME, {**machine.kernel, "nodename": hostname}, 1)


def _add_own(lines: _Lines, sample: Sample) -> None:
    for spec in TABLES[sample.table].scalars:
        metric = Metric(name=OWN_PREFIX + spec.name, kind="counter" if spec.is_counter else "gauge")
        _add(lines, metric, {}, sample.values.get(spec.name))


def _add_report(lines: _Lines, report: CollectorReport) -> None:
    labels = {"collector": report.collector}
    outcome = labels | {"outcome": report.outcome.name.lower()}
    _add(lines, Metric(name=f"{OWN_PREFIX}collector_outcome", kind="gauge"), outcome, 1)
    for name, value in (
        ("collector_duration_seconds", report.duration_seconds),
        ("collector_last_success_age_seconds", report.last_success_age_seconds),
        ("collector_last_error_age_seconds", report.last_error_age_seconds),
    ):
        _add(lines, Metric(name=OWN_PREFIX + name, kind="gauge"), labels, value)


def _add(
    lines: _Lines,
    metric: Metric,
    labels: Mapping[str, str],
    value: Value | None,
    read_at_milliseconds: int | None = None,
) -> None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return
    shown = value if metric.factor is None else value * metric.factor
    text = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    _, found = lines.setdefault(metric.name, (metric.kind, []))
    at = "" if read_at_milliseconds is None else f" {read_at_milliseconds}"
    found.append(f"{metric.name}{{{text}}} {_number(shown)}{at}\n" if text else f"{metric.name} {_number(shown)}{at}\n")


def _written(lines: _Lines) -> Iterator[str]:
    for name, (kind, found) in lines.items():
        yield f"# TYPE {name} {kind}\n"
        yield from found


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else repr(value)


def _escaped(text: str) -> str:
    """As the format asks for; control characters, which a device's name may hold, are gone before."""
    return clean_text(text).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
