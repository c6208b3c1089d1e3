"""Expositions that somebody saved, read as if they had been scraped: no server, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from node_agent.collectors.engines.mapping import read_values
from node_agent.collectors.engines.registry import ENGINES, WANTED, identify
from node_agent.collectors.exposition import read
from node_agent.model import Histogram, Reason, Value
from node_agent.untrusted import Plain

# The largest real body has 0.2 MB; what is far beyond is no engine's.
MOST_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One saved answer of an inference server's /metrics, in the catalogue's terms."""

    engine: str
    models: tuple[str, ...]
    started_unix_seconds: float | None  # when its counters began, if it says so
    values: Mapping[str, Value]  # every field of the catalogue that a scrape could give, or why it is not there
    config: Mapping[str, Plain]  # what its metrics say of how it was started


def read_snapshot(body: bytes) -> Snapshot | None:
    """This will read one body; None when it holds the metrics of no inference server that is known."""
    name = identify(body)
    if name is None or ENGINES[name].table != "inference":
        return None
    engine, exposition = ENGINES[name], read(body, WANTED[name])
    reading = read_values(engine, exposition)
    return Snapshot(
        engine=name,
        models=reading.models,
        started_unix_seconds=reading.started_unix_seconds,
        values=reading.values,
        config=dict(engine.configuration({}, exposition).config),
    )


def as_plain(snapshot: Snapshot) -> dict[str, object]:
    """This will give a snapshot as JSON can hold it: values, reasons for what is unknown, histograms."""
    values: dict[str, float | int] = {}
    unknown: dict[str, str] = {}
    histograms: dict[str, dict[str, object]] = {}
    for name, value in snapshot.values.items():
        if isinstance(value, Reason):
            unknown[name] = value.name.lower()
        elif isinstance(value, Histogram):
            histograms[name] = {"bounds": list(value.bounds), "counts": list(value.counts), "sum": value.sum}
        elif isinstance(value, int | float):
            values[name] = value
    return {
        "engine": snapshot.engine,
        "models": list(snapshot.models),
        "started_unix_seconds": snapshot.started_unix_seconds,
        "values": values,
        "unknown": unknown,
        "histograms": histograms,
        "config": dict(snapshot.config),
    }
