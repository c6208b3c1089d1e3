"""Generated histories: what a fleet's samples look like over hours and days, at the precision that drivers report.

Values walk at random as a busy fleet's do: whole percents and degrees, milliwatts, megabyte-sized allocations that
change now and then, counters that only grow, and GPM's ratios with all the digits that a float has. Error counters,
limits and totals stay what they are, as they do on most machines for weeks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from control_plane.model.reason import Reason
from control_plane.model.sample import KNOWN, HistogramColumn, SampleBlock
from optiinfra.catalogue import FieldSpec, TableSpec

BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
MIB = 1024**2
CORES = 64
# What does not change from one sample to the next on a machine that is well.
STILL = (
    "ecc_", "remapped_", "retired_", "throttled_", "nvlink_crc", "nvlink_replays", "nvlink_recoveries", "xid_",
    "pcie_replays", "memory_total", "memory_reserved", "bar1_total", "power_limit", "memory_clock", "swap_", "oom_",
    "errors", "drops", "huge_page", "limit", "logical_count", "capacity", "maximum", "up_flag", "ranks_", "asleep",
    "counters_since", "inodes_total", "total_bytes", "recovery_action", "encoder_", "decoder_", "jpeg_", "optical_",
    "fp64_", "fabric_", "nvlink_links", "nvlink_link_speed", "nvlink_malformed", "nvlink_buffer", "bit_error",
    "transmit_discards", "persistence_", "pcie_link", "pcie_bad", "pcie_nak", "pcie_unsupported", "pcie_recover",
    "compute_processes", "fan_speed", "steal", "aborted", "failed", "preemptions", "swapped", "rejected", "lora_",
    "size_bytes", "restarts",
)  # fmt: skip
# Ratios that a driver or kernel gives with all the digits of a float; the others come as whole percents.
FINE_RATIOS = ("_active_ratio", "sm_occupancy_ratio", "cpu_", "kv_cache", "usage", "acceptance", "pressure_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """When entities are sampled: each node at its own phase, with some milliseconds of jitter."""

    start_us: int
    count: int
    interval_us: int = 5_000_000

    def taken_at_us(self, node: int) -> npt.NDArray[np.int64]:
        """This will give one node's stamps."""
        chance = np.random.default_rng((node, self.start_us // 1_000_000))
        phase = (node * 7_919_317) % self.interval_us
        jitter = chance.integers(0, 3_000, self.count)
        return self.start_us + phase + np.arange(self.count, dtype=np.int64) * self.interval_us + jitter


def _walk(chance: np.random.Generator, count: int, low: float, high: float, step: float) -> npt.NDArray[np.float64]:
    """This will walk between two walls, from which it is thrown back."""
    span = high - low
    path = chance.uniform(0, span) + np.cumsum(chance.normal(0, step * span, count))
    folded = np.abs(path) % (2 * span)
    return low + np.where(folded > span, 2 * span - folded, folded)


def _counter(
    chance: np.random.Generator, count: int, field: FieldSpec, seconds: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    per_second = {"bytes": 5e7, "tokens": 900.0, "joules": 450.0, "seconds": 0.4}.get(field.unit, 20.0)
    growth = np.cumsum(_walk(chance, count, 0, 2 * per_second, 0.05) * np.diff(seconds, prepend=seconds[0] - 5))
    grown = chance.uniform(1e3, 1e5) * per_second + growth
    if field.type == "bigint":
        return np.floor(grown)
    digits = 2 if "cpu" in field.name else 3 if field.unit == "joules" else 6
    return np.round(grown, digits)


def _gauge(chance: np.random.Generator, count: int, field: FieldSpec) -> npt.NDArray[np.float64]:
    unit = field.unit
    if unit == "ratio":
        fine = any(part in field.name for part in FINE_RATIOS)
        walk = _walk(chance, count, 0, 1, 0.03)
        return walk if fine else np.round(walk, 2)
    if unit == "celsius":
        return np.round(_walk(chance, count, 45, 75, 0.02))
    if unit == "watts":
        walk = _walk(chance, count, 200, 700, 0.03)
        return walk if "mean" in field.name else np.round(walk, 3)
    if unit == "megahertz":
        return np.round(_walk(chance, count, 1400, 1980, 0.05) / 15) * 15
    if unit == "bytes":  # an allocation now and then
        moves = np.where(chance.random(count) < 0.02, chance.integers(-64, 65, count), 0)
        return (chance.integers(20_000, 60_000) + np.cumsum(moves)) * 2.0 * MIB
    if unit == "bytes_per_second":
        return _walk(chance, count, 0, 2e10, 0.05)
    if unit == "seconds":
        return np.round(_walk(chance, count, 0.001, 0.05, 0.1), 6)
    if unit == "bits":
        return np.where(chance.random(count) < 0.02, 4.0, 0.0)
    return np.round(_walk(chance, count, 0, 40, 0.04))


def _series(
    table: str, field: FieldSpec, entity: int, ticks: Ticks, seconds: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    chance = np.random.default_rng((zlib.crc32(f"{table}.{field.name}".encode()), entity, ticks.start_us // 1_000_000))
    if any(part in field.name for part in STILL):
        top = 1.0 if field.unit in ("ratio", "flag") or "up_flag" in field.name else 0.0
        value = {"bytes": 80.0 * 1024 * MIB, "watts": 700.0, "megahertz": 2619.0}.get(field.unit, top)
        return np.full(ticks.count, 1.7e9 if "since" in field.name else 0.0 if field.is_counter else value)
    if field.is_counter:
        return _counter(chance, ticks.count, field, seconds)
    return _gauge(chance, ticks.count, field)


def _histogram(field: FieldSpec, entity: int, ticks: Ticks) -> HistogramColumn:
    chance = np.random.default_rng((zlib.crc32(field.name.encode()), entity, ticks.start_us // 1_000_000))
    shape = chance.dirichlet(np.full(len(BOUNDS) + 1, 0.3))
    observed = chance.poisson(40 * shape, (ticks.count, len(BOUNDS) + 1))
    counts = 1_000 + np.cumsum(observed, axis=0, dtype=np.int64)
    return HistogramColumn(bounds=BOUNDS, counts=counts, sums=np.cumsum(observed.sum(axis=1) * 0.31))


def block_of(
    spec: TableSpec,
    *,
    node: int,
    entity: int,
    ticks: Ticks,
    without: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> SampleBlock:
    """This will make the rows of one entity, oldest first; fields in `without`, or not in `only`, are unsupported."""
    taken_at = ticks.taken_at_us(node)
    seconds = (taken_at - ticks.start_us) / 1e6
    codes = np.full((ticks.count, len(spec.fields)), KNOWN, np.uint8)
    columns: dict[str, npt.NDArray[np.floating]] = {}
    histograms = {}
    for index, field in enumerate(spec.fields):
        if field.name in without or (only is not None and field.name not in only):
            codes[:, index] = int(Reason.UNSUPPORTED)
        elif field.type == "histogram":
            histograms[field.name] = _histogram(field, entity, ticks)
        elif field.type == "real[]":
            cores = [_series(spec.name, field, entity * CORES + core, ticks, seconds) for core in range(CORES)]
            columns[field.name] = np.stack(cores, axis=1).astype(np.float32)
        else:
            values = _series(spec.name, field, entity, ticks, seconds)
            columns[field.name] = values.astype(np.float32 if field.type == "real" else np.float64)
    extra: dict[str, npt.NDArray[np.floating] | npt.NDArray[np.integer]] = {}
    if spec.name == "host":
        extra = {"received_at": taken_at + 20_000, "clock_offset_seconds": np.full(ticks.count, 0.001, np.float32)}
    return SampleBlock(
        table=spec,
        node_ids=np.full(ticks.count, node, np.int32),
        entity_ids=np.full(ticks.count, entity, np.int32),
        taken_at_us=taken_at,
        codes=codes,
        columns=columns,
        histograms=histograms,
        extra=extra,
    )


def joined(blocks: Sequence[SampleBlock]) -> SampleBlock:
    """This will put blocks of one table below one another."""
    first = blocks[0]
    return SampleBlock(
        table=first.table,
        node_ids=np.concatenate([b.node_ids for b in blocks]),
        entity_ids=np.concatenate([b.entity_ids for b in blocks]),
        taken_at_us=np.concatenate([b.taken_at_us for b in blocks]),
        codes=np.concatenate([b.codes for b in blocks]),
        columns={name: np.concatenate([b.columns[name] for b in blocks]) for name in first.columns},
        histograms={
            name: HistogramColumn(
                bounds=h.bounds,
                counts=np.concatenate([b.histograms[name].counts for b in blocks]),
                sums=np.concatenate([b.histograms[name].sums for b in blocks]),
            )
            for name, h in first.histograms.items()
        },
        extra={name: np.concatenate([b.extra[name] for b in blocks]) for name in first.extra},
    )


def take_rows(block: SampleBlock, rows: npt.NDArray[np.intp]) -> SampleBlock:
    """This will give some rows of a block, in the order asked for."""
    return SampleBlock(
        table=block.table,
        node_ids=block.node_ids[rows],
        entity_ids=block.entity_ids[rows],
        taken_at_us=block.taken_at_us[rows],
        codes=block.codes[rows],
        columns={name: values[rows] for name, values in block.columns.items()},
        histograms={
            name: HistogramColumn(bounds=h.bounds, counts=h.counts[rows], sums=h.sums[rows])
            for name, h in block.histograms.items()
        },
        extra={name: values[rows] for name, values in block.extra.items()},
    )


def in_time_order(blocks: Sequence[SampleBlock], slice_us: int) -> Iterator[SampleBlock]:
    """This will give all rows as ingest would commit them: a slice of time after the other, each by entity."""
    whole = joined(blocks)
    slices = whole.taken_at_us // slice_us
    order = np.lexsort((whole.taken_at_us, whole.entity_ids, slices))
    ends = np.flatnonzero(np.append(np.diff(slices[order]) != 0, True)) + 1
    begin = 0
    for end in ends:
        yield take_rows(whole, order[begin:end])
        begin = end
