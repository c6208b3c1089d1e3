"""The candidate beside the stable version, from what ended on both since a step began. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from control_plane.model.rollout import WHOLE, Look
from control_plane.statistics import sequences
from control_plane.statistics.sequences import Arm, Measure, Verdict

MOST_LOOKS = 60
ALPHA = 0.05
# A variance of fewer looks is a guess; until then nothing is said.
LEAST_LOOKS = 8
# A split is believed to be as asked within this much of all traffic: users are no coins, and some have many requests.
SPLIT_TOLERANCE = 0.05


def added(looks: Sequence[Look], look: Look) -> tuple[Look, ...]:
    """This will keep a look; when there are many, each two neighbours become one."""
    kept = (*looks, look)
    if len(kept) <= MOST_LOOKS:
        return kept
    return tuple(_merged(kept[i : i + 2]) for i in range(0, len(kept), 2))


def _merged(looks: Sequence[Look]) -> Look:
    return Look(
        seconds=sum(k.seconds for k in looks),
        candidate_good=sum(k.candidate_good for k in looks),
        candidate_bad=sum(k.candidate_bad for k in looks),
        stable_good=sum(k.stable_good for k in looks),
        stable_bad=sum(k.stable_bad for k in looks),
    )


def candidate_requests(looks: Sequence[Look]) -> float:
    """This will say how many requests ended on the candidate."""
    return sum(k.candidate_good + k.candidate_bad for k in looks)


def compared(looks: Sequence[Look], *, margin: float, planned: float) -> Verdict:
    """This will say whether the candidate has surely more bad requests than the stable version, beyond `margin`."""
    candidate = _arm([(k.candidate_good, k.candidate_bad) for k in looks])
    stable = _arm([(k.stable_good, k.stable_bad) for k in looks])
    measure = Measure(name="bad_share", candidate=candidate, baseline=stable, margin=margin)
    return sequences.judge([measure], alpha=ALPHA, planned=max(planned, 2.0 * sequences.LEAST_PER_ARM))[0]


def _arm(counts: Sequence[tuple[float, float]]) -> Arm:
    total, bad = sum(g + b for g, b in counts), sum(b for _, b in counts)
    plain = sequences.share_arm(count=round(total), hits=round(bad))
    busy = [(g + b, b) for g, b in counts if g + b]
    if len(busy) < LEAST_LOOKS:
        return Arm(count=plain.count, mean=plain.mean, variance_of_mean=math.inf)
    together = math.fsum((b - plain.mean * n) ** 2 for n, b in busy) * len(busy) / (len(busy) - 3) / total**2
    return Arm(count=plain.count, mean=plain.mean, variance_of_mean=max(plain.variance_of_mean, together))


def split(looks: Sequence[Look], *, share: int) -> Verdict:
    """This will say whether the candidate gets the share that was asked for: FAIL is surely more than that."""
    candidate = candidate_requests(looks)
    total = candidate + sum(k.stable_good + k.stable_bad for k in looks)
    if total < sequences.LEAST_PER_ARM:
        return Verdict.INCONCLUSIVE
    asked, seen = share / WHOLE, candidate / total
    # Three standard deviations, looked at a few dozen times.
    chance = 3 * math.sqrt(max(asked * (1 - asked), 1 / total) / total)
    if seen > asked + SPLIT_TOLERANCE + chance:
        return Verdict.FAIL
    return Verdict.PASS if seen >= asked - SPLIT_TOLERANCE - chance else Verdict.INCONCLUSIVE
