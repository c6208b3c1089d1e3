"""What looks add up to over a window: time by activity, means over time, and which signal that stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from control_plane.analysis.utilization.judging import ACTIVITIES, Judged
from control_plane.analysis.utilization.looks import Flags, Looks, Numbers, Spans, most
from control_plane.model.activity import Activity


class Signal(StrEnum):
    """What a judgement stands on, the best first."""

    PARTS = "gpm"  # SM, tensor, memory and link activity, as means over the time
    CLASSIC = "nvml_utilization"  # whether any kernel was resident, and whether memory was being read or written
    NONE = "none"


# What is averaged over time; the share of the roofline is made of the others.
MEANS = (
    "gpu_utilization_ratio", "memory_controller_utilization_ratio", "graphics_active_ratio", "sm_active_ratio",
    "tensor_active_ratio", "fp64_active_ratio", "fp32_active_ratio", "fp16_active_ratio", "dram_active_ratio",
    "pcie_transmit_bytes_per_second", "pcie_receive_bytes_per_second",
    "nvlink_transmit_bytes_per_second", "nvlink_receive_bytes_per_second", "power_draw_watts",
)  # fmt: skip
PIPES = ("tensor_active_ratio", "fp64_active_ratio", "fp32_active_ratio", "fp16_active_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over the time in which it was known."""

    value: float
    seconds: float  # in which it was known


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One GPU, or several together, over a window."""

    window_seconds: float  # of GPU time: of two GPUs twice as much
    observed_seconds: float  # that looks speak for; the rest is unknown
    by_activity: Mapping[Activity, float]  # seconds; they add up to what was observed
    power_capped_seconds: float
    slowed_seconds: float  # clocked down by heat or the power supply
    by_signal: Mapping[Signal, float]  # seconds
    duty: Mean | None  # share of the time in which any work ran
    roofline: Mean | None  # share of the nearest limit (arithmetic pipes, memory bandwidth) that was used
    means: Mapping[str, Mean]

    @property
    def activity(self) -> Activity:
        """This will name what most of the observed time shows."""
        return max(self.by_activity, key=lambda a: self.by_activity[a]) if self.by_activity else Activity.UNKNOWN

    @property
    def signal(self) -> Signal:
        """This will name what most of the observed time was judged by."""
        return max(self.by_signal, key=lambda s: self.by_signal[s]) if self.by_signal else Signal.NONE


def roofline(looks: Looks) -> Numbers:
    """This will give each look's share of its nearest limit; NaN unless pipes and bandwidth are known."""
    pipes, dram = most([looks.column(name) for name in PIPES]), looks.column("dram_active_ratio")
    return np.where(np.isnan(dram), np.nan, np.maximum(pipes, dram))


def summary(looks: Looks, judged: Judged, times: Spans, *, window_seconds: float, of: Flags | None = None) -> Summary:
    """This will sum up looks, or those that `of` marks, cut to a window of so many seconds of GPU time."""
    seconds = times.seconds if of is None else np.where(of, times.seconds, 0.0)
    by_activity = np.bincount(judged.activity, weights=seconds, minlength=len(ACTIVITIES))
    unknown = judged.activity == ACTIVITIES.index(Activity.UNKNOWN)
    by_signal = {
        Signal.PARTS: _sum(seconds, ~judged.weak),
        Signal.CLASSIC: _sum(seconds, judged.weak & ~unknown),
        Signal.NONE: _sum(seconds, judged.weak & unknown),
    }
    means = {name: mean for name in MEANS if (mean := _mean(looks.column(name), seconds)) is not None}
    return Summary(
        window_seconds=window_seconds,
        observed_seconds=float(seconds.sum()),
        by_activity={a: float(s) for a, s in zip(ACTIVITIES, by_activity, strict=True) if s > 0},
        power_capped_seconds=_sum(seconds, judged.power_capped),
        slowed_seconds=_sum(seconds, judged.slowed),
        by_signal={signal: s for signal, s in by_signal.items() if s > 0},
        duty=_mean(judged.duty, seconds),
        roofline=_mean(roofline(looks), seconds),
        means=means,
    )


def _sum(seconds: Numbers, where: Flags) -> float:
    return float(seconds[where].sum())


def _mean(values: Numbers, seconds: Numbers) -> Mean | None:
    known = ~np.isnan(values) & (seconds > 0)
    total = float(seconds[known].sum())
    return Mean(value=float((values[known] * seconds[known]).sum()) / total, seconds=total) if total > 0 else None


def added(summaries: list[Summary]) -> Summary:
    """This will add summaries of different GPUs up: a mean is one over all the time in which it was known."""
    return Summary(
        window_seconds=sum(s.window_seconds for s in summaries),
        observed_seconds=sum(s.observed_seconds for s in summaries),
        by_activity=_added([s.by_activity for s in summaries]),
        power_capped_seconds=sum(s.power_capped_seconds for s in summaries),
        slowed_seconds=sum(s.slowed_seconds for s in summaries),
        by_signal=_added([s.by_signal for s in summaries]),
        duty=together([s.duty for s in summaries]),
        roofline=together([s.roofline for s in summaries]),
        means={name: mean for name in MEANS if (mean := together([s.means.get(name) for s in summaries])) is not None},
    )


Key = TypeVar("Key", bound=StrEnum)


def _added(parts: list[Mapping[Key, float]]) -> dict[Key, float]:
    total: dict[Key, float] = {}
    for part in parts:
        for key, seconds in part.items():
            total[key] = total.get(key, 0.0) + seconds
    return total


def together(means: list[Mean | None]) -> Mean | None:
    """This will give the mean over all the time of several; None when none of them is known."""
    known = [mean for mean in means if mean is not None]
    seconds = sum(mean.seconds for mean in known)
    return Mean(value=sum(m.value * m.seconds for m in known) / seconds, seconds=seconds) if seconds > 0 else None
