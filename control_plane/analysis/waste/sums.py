"""What a window's GPU time and energy went into, summed up: all of it, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from control_plane.analysis.utilization.looks import Flags
from control_plane.analysis.waste.division import CAUSES, NUMBER, Division
from control_plane.model.use import CLASS_OF, Cause, UseClass

JOULES_PER_KWH = 3.6e6
# Rounding of float sums of a year of seconds.
SLACK_SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Joules, over the seconds in which they are known."""

    joules: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What GPU time went into. `seconds` has every cause that occurs, and adds up to what is paid."""

    seconds: Mapping[Cause, float] = field(default_factory=dict)
    energy: Mapping[Cause, Energy] = field(default_factory=dict)

    @property
    def paid_seconds(self) -> float:
        """This will give wall time × GPUs."""
        return sum(self.seconds.values())

    def of(self, wanted: UseClass) -> float:
        """This will give the seconds of one class."""
        return sum(s for cause, s in self.seconds.items() if CLASS_OF[cause] is wanted)


def used(division: Division, *, of: Flags, paid_seconds: float) -> Used:
    """This will sum up the looks that `of` marks; what they do not cover of the paid time had no samples.

    ValueError when they cover more than was paid.
    """
    seconds = np.zeros(len(CAUSES))
    joules, known = np.zeros(len(CAUSES)), np.zeros(len(CAUSES))
    whole = division.busy_seconds + division.rest_seconds
    is_known = of & ~np.isnan(division.joules)
    parts = ((division.busy_cause, division.busy_seconds), (division.rest_cause, division.rest_seconds))
    for causes, length in parts:
        seconds += np.bincount(causes, weights=np.where(of, length, 0.0), minlength=len(CAUSES))
        known += np.bincount(causes, weights=np.where(is_known, length, 0.0), minlength=len(CAUSES))
        share = np.divide(length, whole, out=np.zeros_like(whole), where=whole > 0)
        joules += np.bincount(
            causes, weights=np.where(is_known, np.nan_to_num(division.joules) * share, 0.0), minlength=len(CAUSES)
        )
    missing = paid_seconds - seconds.sum()
    if missing < -SLACK_SECONDS:
        raise ValueError(f"looks cover {-missing:g} s more than the {paid_seconds:g} s that are paid")
    seconds[NUMBER[Cause.NO_SAMPLES]] += max(missing, 0.0)
    return Used(
        seconds={cause: float(s) for cause, s in zip(CAUSES, seconds, strict=True) if s > 0},
        energy={
            cause: Energy(joules=float(j), seconds=float(k))
            for cause, j, k in zip(CAUSES, joules, known, strict=True)
            if k > 0
        },
    )


def total(parts: Iterable[Used]) -> Used:
    """This will add up what different GPUs, or one GPU in different windows, went into."""
    seconds: dict[Cause, float] = {}
    energy: dict[Cause, Energy] = {}
    for part in parts:
        for cause, length in part.seconds.items():
            seconds[cause] = seconds.get(cause, 0.0) + length
        for cause, more in part.energy.items():
            so_far = energy.get(cause, Energy())
            energy[cause] = Energy(joules=so_far.joules + more.joules, seconds=so_far.seconds + more.seconds)
    return Used(seconds=seconds, energy=energy)
