"""What a GPU's time went into, and in which class of use or waste that falls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from control_plane.model.activity import Activity
from control_plane.model.labels import Labels


class UseClass(StrEnum):
    """What paid time is. The classes are disjoint and add up to all of it."""

    USEFUL = "useful"  # busy with work, near a limit of the GPU
    INEFFICIENT = "inefficient"  # busy, and held back: clocked down, starved, tiny batches
    STRANDED = "stranded"  # memory is held, and no work is done
    ALLOCATED_IDLE = "allocated_idle"  # given to somebody who does not use it
    UNALLOCATED = "unallocated"  # nobody has it
    UNKNOWN = "unknown"  # down, or not looked at


class Cause(StrEnum):
    """Why time falls into its class."""

    WORK = "work"
    BUSY_UNSPECIFIED = "busy_unspecified"  # a kernel was resident; GPM, which would tell with what, is missing
    SLOWED = "slowed"  # heat or the power supply holds the clocks down
    HOST_STARVED = "host_starved"  # the GPU waits for the CPU between kernels, while there is work
    COPYING = "copying"  # data moves, the SMs rest
    UNDERUSED = "underused"  # SMs work far below every limit
    STUCK = "stuck"  # a collective that never ends
    STALLED = "stalled"  # resident, and nothing is computed or moved
    MEMORY_HELD = "memory_held"  # idle, and weights or caches fill the memory
    ALLOCATED_UNUSED = "allocated_unused"  # idle and empty, and given to a pod
    UNALLOCATED = "unallocated"  # idle and empty, and given to nobody
    NOT_JUDGED = "not_judged"  # looked at, and what would tell is unknown
    NO_SAMPLES = "no_samples"  # down, disconnected, or samples were lost


CLASS_OF = {
    Cause.WORK: UseClass.USEFUL,
    Cause.BUSY_UNSPECIFIED: UseClass.USEFUL,
    Cause.SLOWED: UseClass.INEFFICIENT,
    Cause.HOST_STARVED: UseClass.INEFFICIENT,
    Cause.COPYING: UseClass.INEFFICIENT,
    Cause.UNDERUSED: UseClass.INEFFICIENT,
    Cause.STUCK: UseClass.STRANDED,
    Cause.STALLED: UseClass.STRANDED,
    Cause.MEMORY_HELD: UseClass.STRANDED,
    Cause.ALLOCATED_UNUSED: UseClass.ALLOCATED_IDLE,
    Cause.UNALLOCATED: UseClass.UNALLOCATED,
    Cause.NOT_JUDGED: UseClass.UNKNOWN,
    Cause.NO_SAMPLES: UseClass.UNKNOWN,
}

# Means over time that are kept: each as the sum of value × seconds, beside the seconds in which it was known.
KEPT_MEANS = (
    "gpu_utilization_ratio", "graphics_active_ratio", "sm_active_ratio", "tensor_active_ratio", "dram_active_ratio",
    "busy_ratio", "roofline_ratio", "power_draw_watts", "memory_used_bytes",
)  # fmt: skip
GPU_USE = (
    "paid_seconds", "observed_seconds", "power_capped_seconds", "slowed_seconds", "classic_seconds", "energy_seconds",
    *(f"use_{cause}_seconds" for cause in Cause),
    *(f"use_{cause}_joules" for cause in Cause),
    *(f"activity_{activity}_seconds" for activity in Activity),
    *(f"{name}_{part}" for name in KEPT_MEANS for part in ("sum", "seconds")),
)  # fmt: skip
# What an inference server did. Counters are growth; `load` and `latency` figures are sums over their seconds or counts.
SERVER_USE = (
    "observed_seconds", "up_seconds", "counted_seconds",
    "requests_finished", "requests_failed", "requests_arrived", "requests_arrived_minute_peak",
    "prompt_tokens", "output_tokens", "cached_tokens",
    "requests_running_sum", "requests_waiting_sum", "kv_cache_usage_sum", "load_seconds",
    "ttft_seconds_sum", "ttft_count", "inter_token_seconds_sum", "inter_token_count",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who had a GPU: as its agent said when the time was summed up. None is unknown, or nobody."""

    namespace: str | None = None
    pod: str | None = None
    model: str | None = None
    server_id: int | None = None
    allocated: bool | None = None  # given to somebody by the kubelet; None: no kubelet says
    labels: Labels = ()  # of its node


Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What n things did, each in one stretch of time: columns of GPU_USE or SERVER_USE. NaN is unknown."""

    starts_us: npt.NDArray[np.int64]
    node_ids: npt.NDArray[np.int64]
    entity_ids: npt.NDArray[np.int64]
    owner_ids: npt.NDArray[np.int64]  # 0: nobody, or of a server
    columns: Mapping[str, Numbers]

    def __len__(self) -> int:
        return len(self.entity_ids)

    def taken(self, rows: npt.ArrayLike) -> Cells:
        """This will give some of the cells, by their places or by a mark for each."""
        at = np.asarray(rows)
        at = at if at.dtype == np.bool_ else at.astype(np.int64)
        return Cells(
            starts_us=self.starts_us[at], node_ids=self.node_ids[at], entity_ids=self.entity_ids[at],
            owner_ids=self.owner_ids[at], columns={name: values[at] for name, values in self.columns.items()},
        )  # fmt: skip
