"""Where a limit lies in a histogram: what is good, what is bad, and what nobody can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.model.sample import Distribution
from control_plane.model.slo import Events


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A limit among a histogram's bounds."""

    below: float  # the highest bound that is no higher; 0 when there is none
    above: float | None  # the lowest bound that is no lower; None: it lies above the last
    count: int = 0  # of servers that have these bounds

    @property
    def is_exact(self) -> bool:
        """This will say whether every observation is either good or bad."""
        return self.above is not None and _same(self.below, self.above)


def _same(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)


def place(bounds: Sequence[float], limit: float) -> Place:
    """This will find a limit among ascending bounds."""
    below = max((bound for bound in bounds if bound <= limit or _same(bound, limit)), default=0.0)
    above = min((bound for bound in bounds if bound >= limit or _same(bound, limit)), default=None)
    return Place(below=below, above=above)


def split(distribution: Distribution, limit: float) -> Events:
    """This will tell good observations (up to `limit`) from bad ones, and from those in the limit's own bucket."""
    good = bad = doubtful = 0.0
    low = -math.inf
    for high, count in zip((*distribution.bounds, math.inf), distribution.counts, strict=True):
        if high <= limit or _same(high, limit):
            good += count
        elif low >= limit or _same(low, limit):
            bad += count
        else:
            doubtful += count
        low = high
    return Events(good=good, bad=bad, doubtful=doubtful)


def explained(found: Place, limit: float) -> str:
    """This will say in words what a limit's place costs in certainty."""
    if found.above is None:
        return (
            f"{limit:g} s lies above the last bound ({found.below:g} s): what is above {found.below:g} s is never known"
        )
    if found.is_exact:
        return f"{limit:g} s is a bound: every event is counted exactly"
    low, high = f"{found.below:g}", f"{found.above:g}"
    return (
        f"{limit:g} s lies between the bounds {low} and {high} s: events between these two are neither good nor bad "
        f"for certain; {low} or {high} s would be exact"
    )
