"""What a GPU was doing, from what its parts were doing.

"GPU utilisation" only says that a kernel was resident: on an H200 it reads 100 % during a mere copy
and 100 % while a hung collective spins (tests/data/nvml). The parts tell these apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Activity(StrEnum):
    """What bounds the work, in the order in which it is asked."""

    UNKNOWN = "unknown"  # not even the classic figure is known
    BUSY_UNSPECIFIED = "busy_unspecified"  # busy, and what would tell with what is not known
    COMPUTE_BOUND = "compute_bound"  # the arithmetic pipes are the limit
    MEMORY_BOUND = "memory_bound"  # device memory bandwidth is the limit
    COPYING = "copying"  # data moves over PCIe or NVLink, hardly any SM works
    STALLED = "stalled"  # busy by the classic figure, but nothing is computed or moved
    UNDERUSED = "underused"  # SMs work, far below any limit
    IDLE = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuParts:
    """The shares (0..1) and rates of one sample; None is unknown."""

    gpu_utilization_ratio: float | None
    sm_active_ratio: float | None
    tensor_active_ratio: float | None
    dram_active_ratio: float | None
    fp32_active_ratio: float | None
    fp64_active_ratio: float | None
    transfer_bytes_per_second: float | None  # PCIe and NVLink, both directions


# Below it a share is noise: an idle H200 with a context shows up to 2 % SM activity.
BUSY_SHARE = 0.05
# A pipe is the limit when it is busy more than half the cycles: a bf16 matmul at the power cap shows
# 93 % on an H200, prompt processing by vLLM 83 %, token generation 3 %.
PIPE_LIMIT_SHARE = 0.5
# Achieved bandwidth tops out near 90 % of the counter's maximum; decode-like work shows 80 to 88 %.
BANDWIDTH_LIMIT_SHARE = 0.6
# 4 % of a PCIe 4.0 x16 link (31.5 GB/s); an idle GPU shows 0.04 GB/s.
TRANSFER_BYTES_PER_SECOND = 1.25e9
TRANSFER_FIELDS = (
    "pcie_transmit_bytes_per_second", "pcie_receive_bytes_per_second",
    "nvlink_transmit_bytes_per_second", "nvlink_receive_bytes_per_second",
)  # fmt: skip

HONEST_SIGNAL = {
    Activity.COMPUTE_BOUND: "tensor_active_ratio",
    Activity.MEMORY_BOUND: "dram_active_ratio",
    Activity.COPYING: "pcie_receive_bytes_per_second",
    Activity.STALLED: "sm_active_ratio",
    Activity.UNDERUSED: "sm_active_ratio",
    Activity.IDLE: "sm_active_ratio",
    Activity.BUSY_UNSPECIFIED: "gpu_utilization_ratio",
    Activity.UNKNOWN: None,
}


def classify(parts: GpuParts) -> Activity:
    """This will say what one sample shows."""
    if parts.sm_active_ratio is None:
        return _classic(parts.gpu_utilization_ratio)
    pipes = (parts.tensor_active_ratio, parts.fp32_active_ratio, parts.fp64_active_ratio)
    if any(share is not None and share >= PIPE_LIMIT_SHARE for share in pipes):
        return Activity.COMPUTE_BOUND
    if parts.dram_active_ratio is not None and parts.dram_active_ratio >= BANDWIDTH_LIMIT_SHARE:
        return Activity.MEMORY_BOUND
    if parts.sm_active_ratio >= BUSY_SHARE:
        # A limit that was not looked at may be the one that binds: not knowing is not "far below it".
        blind = parts.dram_active_ratio is None or None in pipes
        return Activity.BUSY_UNSPECIFIED if blind else Activity.UNDERUSED
    return _without_sm(parts)


def _without_sm(parts: GpuParts) -> Activity:
    """This will judge a sample in which hardly any SM worked."""
    moved = parts.transfer_bytes_per_second
    if moved is not None and moved >= TRANSFER_BYTES_PER_SECOND:
        return Activity.COPYING
    if parts.gpu_utilization_ratio is not None and parts.gpu_utilization_ratio >= PIPE_LIMIT_SHARE:
        return Activity.BUSY_UNSPECIFIED if moved is None else Activity.STALLED
    return Activity.IDLE


def honest_signal(activity: Activity, means: Mapping[str, float | None]) -> str | None:
    """This will name the field to trust for a kind of work, given the window's means by field."""
    if activity is Activity.COPYING:  # whichever way the bytes went
        known = {name: mean for name in TRANSFER_FIELDS if (mean := means.get(name)) is not None}
        return max(known, key=lambda name: known[name]) if known else HONEST_SIGNAL[activity]
    if activity is Activity.BUSY_UNSPECIFIED and means.get("sm_active_ratio") is not None:
        return "sm_active_ratio"
    return HONEST_SIGNAL[activity]


def _classic(share: float | None) -> Activity:
    """This will judge by the classic figure alone, which can tell idle from not idle and no more."""
    if share is None:
        return Activity.UNKNOWN
    return Activity.IDLE if share < BUSY_SHARE else Activity.BUSY_UNSPECIFIED


def time_shares(activities: Iterable[Activity]) -> Mapping[Activity, float]:
    """This will give the share of samples in each activity; empty when there are none."""
    counts = Counter(activities)
    total = counts.total()
    return {activity: counts[activity] / total for activity in Activity if counts[activity]}
