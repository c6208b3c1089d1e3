"""Quantiles from histograms: of what happened between two looks, over one server or several.

A histogram knows only how many observations fell between two bounds. So a quantile is an interval,
and the single number is a guess inside it; both are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.model.sample import Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """A quantile and how well it is known."""

    value: float | None  # interpolated in its bucket; None when it lies above the last bound
    low: float  # it is certainly above this
    high: float | None  # and not above this; None: the last bucket has no upper bound


def increase(first: Distribution | None, last: Distribution) -> Distribution:
    """This will give what was observed between two looks; None for `first` means since zero.

    A count that fell means that the counters began anew unnoticed: then all of `last` is new, as
    Prometheus' increase() has it. ValueError when the bounds differ.
    """
    if first is None:
        return last
    if first.bounds != last.bounds:
        raise ValueError("the bounds of the two looks differ")
    counts = tuple(b - a for a, b in zip(first.counts, last.counts, strict=True))
    if any(c < 0 for c in counts):
        return last
    total = None if first.sum is None or last.sum is None else last.sum - first.sum
    return Distribution(bounds=last.bounds, counts=counts, sum=total)


def merged(distributions: Sequence[Distribution]) -> Distribution | None:
    """This will add distributions up; None when their bounds differ, since no honest sum exists, or there are none."""
    if not distributions or any(d.bounds != distributions[0].bounds for d in distributions):
        return None
    sums = [d.sum for d in distributions]
    return Distribution(
        bounds=distributions[0].bounds,
        counts=tuple(sum(column) for column in zip(*(d.counts for d in distributions), strict=True)),
        sum=None if any(s is None for s in sums) else sum(s for s in sums if s is not None),
    )


def quantile(distribution: Distribution, share: float) -> Quantile | None:
    """This will give the `share` quantile (0..1); None when nothing was observed.

    Linear within a bucket, and from zero within the first, as Prometheus' histogram_quantile() is.
    """
    total = sum(distribution.counts)
    if total == 0:
        return None
    rank = min(share * total, total)  # a float's rounding must not ask for more than there is
    seen = 0
    for index, count in enumerate(distribution.counts):
        if count and seen + count >= rank:
            low = distribution.bounds[index - 1] if index else min((0.0, *distribution.bounds[:1]))
            if index == len(distribution.bounds):
                return Quantile(value=None, low=low, high=None)
            high = distribution.bounds[index]
            value = low + (high - low) * (max(0.0, rank - seen) / count)
            return Quantile(value=min(value, high), low=low, high=high)
        seen += count
    raise AssertionError("the counts add up to their total")


def mean(distribution: Distribution) -> float | None:
    """This will give the exact mean; None when nothing was observed or the sum is unknown."""
    total = sum(distribution.counts)
    return None if total == 0 or distribution.sum is None else distribution.sum / total
