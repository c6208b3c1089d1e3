"""The highest rate at which an objective holds. Pure: which rate to try next, and what a try says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from control_plane.trials.load.summary import Objective, Summary

# From one request in ten minutes to more than one process can send.
LEAST_RATE, MOST_RATE = 1 / 600, 2000.0


class Keeps(StrEnum):
    """What a try at one rate says of the objective."""

    HOLDS = "holds"
    BREAKS = "breaks"
    UNDECIDED = "undecided"  # too few requests to tell: counted as no, never as yes


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One rate, and what came of it."""

    rate: float
    keeps: Keeps
    summary: Summary


@dataclass(slots=True, kw_only=True)
class Search:
    """Doubles until it breaks, then halves the distance, on a scale of ratios."""

    first_rate: float
    most_rate: float = MOST_RATE
    precision: float = 0.1  # the answer is between the highest that holds and this much more
    most_tries: int = 20
    tries: list[Try] = field(default_factory=list)

    def next_rate(self) -> float | None:
        """This will give the rate to try next; None when the answer is known as well as was asked."""
        holds, breaks = self.highest_kept, self.lowest_broken
        if len(self.tries) >= self.most_tries:
            return None
        if holds is None and breaks is None:
            return self.first_rate
        if breaks is None:
            assert holds is not None
            return None if holds >= self.most_rate else min(2 * holds, self.most_rate)
        if holds is None:
            return None if breaks <= LEAST_RATE else max(breaks / 2, LEAST_RATE)
        return None if breaks / holds <= 1 + self.precision else math.sqrt(holds * breaks)

    def learn(self, rate: float, keeps: Keeps, summary: Summary) -> None:
        """This will note what came of a rate."""
        self.tries.append(Try(rate=rate, keeps=keeps, summary=summary))

    @property
    def lowest_broken(self) -> float | None:
        """This will give the lowest rate at which it did not hold, or could not be shown to."""
        return min((t.rate for t in self.tries if t.keeps is not Keeps.HOLDS), default=None)

    @property
    def highest_kept(self) -> float | None:
        """This will give the highest rate at which it held, below any at which it did not."""
        limit = self.lowest_broken or math.inf
        return max((t.rate for t in self.tries if t.keeps is Keeps.HOLDS and t.rate < limit), default=None)


def keeps(summary: Summary, objective: Objective) -> Keeps:
    """This will say whether a run kept its objective, as surely as its requests allow."""
    if summary.saturated:
        return Keeps.BREAKS  # whoever waits longest has not been counted yet
    low, high = summary.good_ratio.low, summary.good_ratio.high
    if low is None or high is None:
        return Keeps.UNDECIDED
    if high < objective.share:
        return Keeps.BREAKS
    return Keeps.HOLDS if low >= objective.share else Keeps.UNDECIDED


def seconds_for(rate: float, *, least_seconds: float, objective: Objective) -> float:
    """This will say how long to try a rate, so that keeping the objective can be told from breaking it.

    When all of n requests are good, Wilson's interval begins at n / (n + 3.84): n has to be 19 × 3.84 for 95 %. Three
    times as many let some be bad.
    """
    needed = 3 * 3.84 * objective.share / (1 - objective.share)
    return max(least_seconds, needed / rate)


def in_words(tries: Sequence[Try]) -> list[str]:
    """This will describe each try in a line."""
    lines = []
    for attempt in tries:
        match attempt.keeps:
            case Keeps.HOLDS:
                word = "holds"
            case Keeps.BREAKS:
                word = "breaks, requests pile up" if attempt.summary.saturated else "breaks"
            case Keeps.UNDECIDED:
                word = "cannot be told from breaking"
            case _:
                assert_never(attempt.keeps)
        good = attempt.summary.good_ratio.value
        share = "unknown" if good is None else f"{100 * good:.1f} %"
        lines.append(f"{attempt.rate:10.3g} requests/s: {share} good: {word}")
    return lines
