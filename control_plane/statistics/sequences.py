"""Bounds that hold at every moment together, so that one may look as often as one likes and stop when one likes.

Confidence sequences for a difference of two means, from a mixture over normal alternatives (Robbins 1970), in the
asymptotic form of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic
confidence sequences", theorem 2.2. A plain interval that is looked at every few seconds is wrong a third of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

# Below this many observations an arm's mean is no normal quantity yet, and its variance is not known.
LEAST_PER_ARM = 30
# Requests wait in one queue for seconds rather than minutes; and a variance of fewer stretches is a guess.
STRETCH_SECONDS = 5.0
LEAST_STRETCHES, MOST_STRETCHES = 20, 30


class Verdict(StrEnum):
    """What a comparison says. Only PASS is a pass."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side of a comparison."""

    count: int
    mean: float
    variance_of_mean: float  # what is left of chance in the mean: values that hang together leave more


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Something of which more is worse, on both sides."""

    name: str
    candidate: Arm
    baseline: Arm
    margin: float  # how much worse the candidate may be; of the difference of the means


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Candidate minus baseline, with bounds that hold at all looks together. None: not known yet."""

    name: str
    margin: float
    value: float | None
    low: float | None
    high: float | None
    verdict: Verdict


def share_arm(*, count: int, hits: int) -> Arm:
    """This will make an arm of independent events that hit or did not.

    No hit yet does not mean that there can be none: the variance is that of one more hit and one more miss
    (Agresti and Coull's way to the same end).
    """
    if count == 0:
        return Arm(count=0, mean=0.0, variance_of_mean=math.inf)
    likely = (hits + 1) / (count + 2)
    return Arm(count=count, mean=hits / count, variance_of_mean=likely * (1 - likely) / count)


def timed_arm(seconds: NDArray[np.float64], values: NDArray[np.float64], *, share: bool) -> Arm:
    """This will make an arm of values and when each came: those of one queue hang together, and say less.

    The variance is that of sums over stretches of time (five seconds at least, thirty stretches at most), or what it
    would be if all were independent, whichever is more. Too short a time has no known variance, so nothing can be
    said yet. `share`: the values are 0 or 1.
    """
    count = len(values)
    if count < 2:
        return Arm(count=count, mean=float(values.sum()), variance_of_mean=math.inf)
    mean = float(values.mean())
    if share:
        independent = share_arm(count=count, hits=round(float(values.sum()))).variance_of_mean
    else:
        independent = float(values.var(ddof=1)) / count
    span = float(seconds[-1] - seconds[0])
    width = max(STRETCH_SECONDS, span / MOST_STRETCHES)
    stretches = int(span / width)
    if stretches < LEAST_STRETCHES:
        return Arm(count=count, mean=mean, variance_of_mean=math.inf)
    places = np.minimum(((seconds - seconds[0]) / width).astype(np.int64), stretches - 1)
    residuals = np.bincount(places, weights=values - mean, minlength=stretches)
    # A variance of so few stretches is itself uncertain: its mean over Student's distribution is larger.
    together = float(np.sum(residuals**2)) * stretches / (stretches - 3) / count**2
    return Arm(count=count, mean=mean, variance_of_mean=max(independent, together))


def half_width(*, count: float, variance_of_mean: float, alpha: float, planned: float) -> float:
    """This will give how far the truth is from an estimate at most, at all moments, but for `alpha` of all runs.

    `planned` is the count at which the bound shall be tightest; at others it holds as well, and is a little wider.
    """
    rho2 = (2 * math.log(1 / alpha) + math.log(1 + 2 * math.log(1 / alpha))) / planned
    grown = count * rho2 + 1
    return math.sqrt(variance_of_mean * 2 * grown / (count * rho2) * math.log(math.sqrt(grown) / alpha))


def compared(measure: Measure, *, alpha: float, planned: float) -> Difference:
    """This will bound a measure's difference and say what that means for its margin."""
    candidate, baseline = measure.candidate, measure.baseline
    if min(candidate.count, baseline.count) < LEAST_PER_ARM:
        return Difference(
            name=measure.name, margin=measure.margin, value=None, low=None, high=None, verdict=Verdict.INCONCLUSIVE
        )
    # An arm that was lucky so far also looks steadier than it is: each is taken to vary as much as the other.
    varies = max(candidate.variance_of_mean * candidate.count, baseline.variance_of_mean * baseline.count)
    half = half_width(
        count=candidate.count + baseline.count,
        variance_of_mean=varies / candidate.count + varies / baseline.count,
        alpha=alpha,
        planned=planned,
    )
    value = candidate.mean - baseline.mean
    verdict = Verdict.INCONCLUSIVE
    if value - half > measure.margin:
        verdict = Verdict.FAIL
    elif value + half < measure.margin:
        verdict = Verdict.PASS
    return Difference(
        name=measure.name, margin=measure.margin, value=value, low=value - half, high=value + half, verdict=verdict
    )


def judge(measures: Sequence[Measure], *, alpha: float, planned: float) -> tuple[Verdict, tuple[Difference, ...]]:
    """This will judge all measures together: FAIL if one surely fails, PASS if all surely pass.

    `alpha` is the chance of a wrong verdict over the whole comparison, however often it is looked at; the measures
    share it. Nothing measured is INCONCLUSIVE.
    """
    found = tuple(compared(measure, alpha=alpha / max(1, len(measures)), planned=planned) for measure in measures)
    verdicts = {difference.verdict for difference in found}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL, found
    return (Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.INCONCLUSIVE), found
