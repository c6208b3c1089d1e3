"""A comparison in words and as JSON values. Pure, but for what it describes."""

from __future__ import annotations

import math
from typing import Any

from control_plane.statistics.sequences import Difference
from control_plane.trials.comparison.interleaved import Comparison
from control_plane.trials.comparison.quality import Quality
from control_plane.trials.load import report


def difference_as_values(difference: Difference) -> dict[str, Any]:
    """This will give a difference as JSON values; null is what is not known."""
    return {
        "name": difference.name,
        "value": difference.value,
        "low": difference.low,
        "high": difference.high,
        "margin": difference.margin,
        "verdict": str(difference.verdict),
    }


def comparison_as_values(comparison: Comparison, words: Quality | None) -> dict[str, Any]:
    """This will give a comparison as JSON values."""
    return {
        "verdict": str(comparison.verdict),
        "because": comparison.because,
        "differences": [difference_as_values(d) for d in comparison.differences],
        "words": None if words is None else words_as_values(words),
        "candidate": report.as_values(comparison.candidate),
        "baseline": report.as_values(comparison.baseline),
    }


def words_as_values(words: Quality) -> dict[str, Any]:
    """This will give what came of comparing words as JSON values."""
    likelihood = words.log_likelihood
    return {
        "verdict": str(words.verdict),
        "because": words.because,
        "prompts": words.prompts,
        "disagreement": difference_as_values(words.disagreement),
        "log_likelihood": None if likelihood is None else difference_as_values(likelihood),
    }


def comparison_in_words(comparison: Comparison) -> str:
    """This will describe a comparison for people; bounds hold however often it was looked at."""
    lines = [
        f"{comparison.verdict.upper()}: {comparison.because}",
        f"after {comparison.candidate.requests} requests to the candidate and {comparison.baseline.requests} to the "
        "baseline:",
    ]
    lines += [f"  {_line(difference)}" for difference in comparison.differences]
    doubts = {*comparison.candidate.doubts, *comparison.baseline.doubts}
    return "\n".join([*lines, *(f"doubt: {doubt}" for doubt in sorted(doubts))])


def _line(difference: Difference) -> str:
    if difference.value is None or difference.low is None or difference.high is None:
        return f"{difference.name}: too few to say"
    values = (difference.value, difference.low, difference.high, difference.margin)
    if difference.name.endswith("_log_ratio"):
        value, low, high, margin = (math.exp(v) for v in values)
        name = difference.name.removesuffix("_log_ratio")
        return f"{name}: {value:.3f} times the baseline's ({low:.3f}–{high:.3f}); allowed {margin:.3f}"
    value, low, high, margin = (100 * v for v in values)
    return f"{difference.name}: {value:+.2f} % ({low:+.2f} to {high:+.2f}); allowed {margin:+.2f} %"


def words_in_words(words: Quality) -> str:
    """This will describe for people what came of comparing words."""
    lines = [
        f"words {words.verdict.upper()}: {words.because} ({words.prompts} prompts)",
        f"  {_line(words.disagreement)}",
    ]
    likelihood = words.log_likelihood
    if likelihood is None or likelihood.value is None:
        return "\n".join([*lines, "  the engine does not say how likely it finds a text"])
    return "\n".join(
        [*lines, f"  {likelihood.value:+.4f} nats per token less likely; allowed {likelihood.margin:+.4f}"]
    )
