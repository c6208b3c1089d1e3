"""Whether a candidate still says what the baseline says: a faster wrong model must not pass. Pure.

Two looks. Where both choose the most likely token, they go the same way until they disagree once; after that the
texts have nothing to do with one another. So each prompt tells how many tokens were agreed on and whether a
disagreement ended it: a hazard per token. The baseline against itself has one too, since batches change rounding;
only what is more than that counts. And where the engine gives likelihoods: how much less likely the candidate finds
the baseline's own text, in nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.model.errors import InvalidRequest
from control_plane.statistics.sequences import Difference, Verdict

_Z = 1.959963984540054  # 95 % on two sides
# Fewer prompts are an anecdote.
LEAST_PROMPTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMargins:
    """How much a candidate may differ from the baseline."""

    disagreement: float = 0.05  # of next tokens, more than the baseline from itself
    log_likelihood: float = 0.05  # nats per token less likely: 5 % more perplexity

    def __post_init__(self) -> None:
        """This will refuse what is no margin, with InvalidRequest."""
        if not (0 < self.disagreement < 1 and 0 < self.log_likelihood < 10):
            raise InvalidRequest("a margin of quality is a share of tokens between 0 and 1, and nats above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One prompt: how many tokens two texts shared, and whether a disagreement ended that."""

    agreed: int
    disagreed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What came of comparing words."""

    verdict: Verdict
    because: str
    prompts: int
    disagreement: Difference
    log_likelihood: Difference | None  # None: an engine does not give likelihoods


def agreement(first: Sequence[str], second: Sequence[str]) -> Agreement:
    """This will compare two texts, token by token. One that ends while the other goes on disagrees there."""
    agreed = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            return Agreement(agreed=agreed, disagreed=True)
        agreed += 1
    return Agreement(agreed=agreed, disagreed=len(first) != len(second))


def judged(
    candidate: Sequence[Agreement],
    itself: Sequence[Agreement],
    losses: Sequence[float] | None,
    margins: QualityMargins,
) -> Quality:
    """This will judge a candidate by its agreement with the baseline, the baseline's with itself, and by `losses`.

    `losses`: for each prompt, by how many nats per token the candidate finds the baseline's text less likely.
    """
    disagreement = _hazards(candidate, itself, margins.disagreement)
    likelihood = None if losses is None else _mean(losses, margins.log_likelihood)
    known = [d for d in (disagreement, likelihood) if d is not None]
    verdict, because = Verdict.PASS, "its words are the baseline's, within the margins"
    if any(d.verdict is Verdict.FAIL for d in known):
        verdict, because = Verdict.FAIL, "its words are surely others than the baseline's, by more than the margins"
    elif any(d.verdict is Verdict.INCONCLUSIVE for d in known):
        verdict, because = Verdict.INCONCLUSIVE, "too few prompts to tell whether its words are the baseline's"
    return Quality(
        verdict=verdict, because=because, prompts=len(candidate), disagreement=disagreement, log_likelihood=likelihood
    )


def _hazards(candidate: Sequence[Agreement], itself: Sequence[Agreement], margin: float) -> Difference:
    if min(len(candidate), len(itself)) < LEAST_PROMPTS:
        return _unknown("disagreement", margin)
    (first, variance), (second, other) = _hazard(candidate), _hazard(itself)
    return _bounded("disagreement", first - second, math.sqrt(variance + other), margin)


def _hazard(agreements: Sequence[Agreement]) -> tuple[float, float]:
    """This will give disagreements per token that was looked at, and its variance: prompts are independent."""
    looked = [a.agreed + a.disagreed for a in agreements]
    tokens, ended = max(1, sum(looked)), sum(a.disagreed for a in agreements)
    rate = ended / tokens
    residual = sum((a.disagreed - rate * n) ** 2 for a, n in zip(agreements, looked, strict=True))
    likely = (ended + 1) / (tokens + 2)  # none that was seen does not mean that there is none
    return rate, max(residual / tokens**2, likely * (1 - likely) / tokens)


def _mean(losses: Sequence[float], margin: float) -> Difference:
    if len(losses) < LEAST_PROMPTS:
        return _unknown("log_likelihood", margin)
    mean = math.fsum(losses) / len(losses)
    variance = math.fsum((loss - mean) ** 2 for loss in losses) / (len(losses) - 1) / len(losses)
    return _bounded("log_likelihood", mean, math.sqrt(variance), margin)


def _bounded(name: str, value: float, deviation: float, margin: float) -> Difference:
    low, high = value - _Z * deviation, value + _Z * deviation
    verdict = Verdict.FAIL if low > margin else Verdict.PASS if high < margin else Verdict.INCONCLUSIVE
    return Difference(name=name, margin=margin, value=value, low=low, high=high, verdict=verdict)


def _unknown(name: str, margin: float) -> Difference:
    return Difference(name=name, margin=margin, value=None, low=None, high=None, verdict=Verdict.INCONCLUSIVE)
