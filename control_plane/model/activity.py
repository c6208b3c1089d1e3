"""What a GPU was doing, from what its parts were doing.

"GPU utilisation" only says that a kernel was resident: on an H200 it reads 100 % during a mere copy
and 100 % while a hung collective spins (tests/data/nvml). The parts tell these apart;
`utilization/judging.py` says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Activity(StrEnum):
    """What bounds the work, in the order in which it is asked."""

    UNKNOWN = "unknown"  # not even the classic figure is known
    BUSY_UNSPECIFIED = "busy_unspecified"  # busy, and what would tell with what is not known
    COMPUTE_BOUND = "compute_bound"  # the arithmetic pipes are the limit
    MEMORY_BOUND = "memory_bound"  # device memory bandwidth is the limit
    COMMUNICATING = "communicating"  # NVLink between GPUs is the limit
    COPYING = "copying"  # data moves over PCIe or NVLink, hardly any SM works
    STUCK = "stuck"  # a collective that never ends: the same few SMs spin, nothing is computed or moved
    STALLED = "stalled"  # busy by the classic figure, but nothing is computed or moved
    HOST_STARVED = "host_starved"  # kernel after kernel, each so small that the GPU waits for the host
    HALF_IDLE = "half_idle"  # it works, and stands still in between
    UNDERUSED = "underused"  # SMs work all the time, far below any limit
    IDLE = "idle"


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
    Activity.COMMUNICATING: "nvlink_receive_bytes_per_second",
    Activity.COPYING: "pcie_receive_bytes_per_second",
    Activity.STUCK: "sm_active_ratio",
    Activity.STALLED: "sm_active_ratio",
    Activity.HOST_STARVED: "graphics_active_ratio",
    Activity.HALF_IDLE: "graphics_active_ratio",
    Activity.UNDERUSED: "sm_active_ratio",
    Activity.IDLE: "sm_active_ratio",
    Activity.BUSY_UNSPECIFIED: "gpu_utilization_ratio",
    Activity.UNKNOWN: None,
}


def honest_signal(activity: Activity, means: Mapping[str, float | None]) -> str | None:
    """This will name the field to trust for a kind of work, given the window's means by field."""
    if activity is Activity.COPYING:  # whichever way the bytes went
        known = {name: mean for name in TRANSFER_FIELDS if (mean := means.get(name)) is not None}
        return max(known, key=lambda name: known[name]) if known else HONEST_SIGNAL[activity]
    if activity is Activity.BUSY_UNSPECIFIED and means.get("sm_active_ratio") is not None:
        return "sm_active_ratio"
    return HONEST_SIGNAL[activity]
