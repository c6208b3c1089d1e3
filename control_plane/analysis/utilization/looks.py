"""Looks at GPUs as columns: what many samples say, and which stretch of time each of them speaks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SECOND_US = 1_000_000

# A GPM value is the mean since the look before, so a look speaks for the time up to it. Beyond so many times the usual
# distance it does not: samples are missing, and what happened meanwhile is not known.
MOST_INTERVALS = 2.5

FIELDS = (
    "gpu_utilization_ratio", "memory_controller_utilization_ratio", "graphics_active_ratio", "sm_active_ratio",
    "tensor_active_ratio", "fp64_active_ratio", "fp32_active_ratio", "fp16_active_ratio", "dram_active_ratio",
    "pcie_transmit_bytes_per_second", "pcie_receive_bytes_per_second",
    "nvlink_transmit_bytes_per_second", "nvlink_receive_bytes_per_second",
    "memory_used_bytes", "power_draw_watts", "power_draw_mean_watts", "power_limit_watts", "energy_joules_total",
    "clock_event_reasons_bits",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """n looks at any number of GPUs, in the order of GPU and time. NaN is unknown."""

    gpu_ids: Integers  # (n,)
    taken_at_us: Integers  # (n,), microseconds since 1970 UTC
    # Of FIELDS, and `requests_running_count` of the server that has the GPU; one that is missing was never known.
    columns: Mapping[str, Numbers]

    def __len__(self) -> int:
        return len(self.gpu_ids)

    def column(self, name: str) -> Numbers:
        """This will give one field, NaN throughout when nobody knows it."""
        found = self.columns.get(name)
        return np.full(len(self), np.nan) if found is None else found

    @property
    def is_first(self) -> Flags:
        """This will mark each GPU's first look."""
        first = np.ones(len(self), bool)
        first[1:] = self.gpu_ids[1:] != self.gpu_ids[:-1]
        return first


def most(columns: Sequence[Numbers]) -> Numbers:
    """This will give the largest known value of each look; NaN where none is known."""
    return np.asarray(np.fmax.reduce(np.stack(columns), axis=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """The time that looks speak for: (starts, ends] of each, none of them overlapping on one GPU."""

    starts_us: Integers
    ends_us: Integers

    @property
    def seconds(self) -> Numbers:
        """This will give the length of each."""
        return np.asarray((self.ends_us - self.starts_us) / SECOND_US, np.float64)


USUAL_US = 5 * SECOND_US


def usual_interval_us(looks: Looks) -> Integers:
    """This will give each look the usual distance of its GPU's looks; 5 s where there are no two."""
    if not len(looks):
        return np.zeros(0, np.int64)
    begins = np.flatnonzero(looks.is_first)
    counts = np.diff(np.append(begins, len(looks)))
    distances = np.full(len(looks), np.iinfo(np.int64).max)
    distances[1:] = np.where(looks.is_first[1:], distances[1:], np.diff(looks.taken_at_us))
    gpu = np.repeat(np.arange(len(begins)), counts)
    ordered = distances[np.lexsort((distances, gpu))]  # by GPU and length; the first look's, which has none, comes last
    middle = ordered[begins + np.maximum(counts - 2, 0) // 2]
    usual = np.where((counts > 1) & (middle > 0), middle, USUAL_US)
    return np.asarray(np.repeat(usual, counts), np.int64)


def spans(looks: Looks, *, interval_us: int | Integers) -> Spans:
    """This will say which time each look speaks for: back to the look before, or one interval after a gap."""
    before = np.empty(len(looks), np.int64)
    before[1:] = looks.taken_at_us[:-1]
    usual = looks.taken_at_us - interval_us
    before = np.where(looks.is_first, usual, before)
    gap = looks.taken_at_us - before > MOST_INTERVALS * interval_us
    return Spans(starts_us=np.where(gap, usual, before), ends_us=looks.taken_at_us)


def within(of: Spans, *, since_us: int, until_us: int) -> Spans:
    """This will cut spans to a window; those outside have no length."""
    starts = np.clip(of.starts_us, since_us, until_us)
    return Spans(starts_us=starts, ends_us=np.maximum(np.clip(of.ends_us, since_us, until_us), starts))
