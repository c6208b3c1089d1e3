"""How long prompts and outputs are, in tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control_plane.model.errors import InvalidRequest

# The longest context that is sold today; a longer prompt is a slip of the hand.
MOST_TOKENS = 2_000_000
FORMS = "512, 128-1024, lognormal:512,0.8 (median, sigma), lognormal:512,0.8,16-4096, or counted:128=90,1024=10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Always the same."""

    tokens: int

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """This will give `count` lengths."""
        return np.full(count, self.tokens, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Every length from `low` to `high`, both included, as likely as another."""

    low: int
    high: int

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """This will give `count` lengths."""
        return random.integers(self.low, self.high, count, endpoint=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormal:
    """Most are short and few are long, as in recorded traffic."""

    median: float
    sigma: float  # standard deviation of the logarithm
    low: int = 1
    high: int = MOST_TOKENS

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """This will give `count` lengths; what falls outside of the limits is put on them."""
        drawn = random.lognormal(np.log(self.median), self.sigma, count)
        return np.clip(np.rint(drawn), self.low, self.high).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Lengths as they were counted in live traffic: bounds as of a histogram, uniform within a bucket."""

    bounds: Sequence[int]  # upper bounds, ascending; the first bucket begins at 1
    counts: Sequence[float]

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """This will give `count` lengths."""
        shares = np.asarray(self.counts, dtype=np.float64)
        buckets = random.choice(len(self.bounds), count, p=shares / shares.sum())
        high = np.asarray(self.bounds, dtype=np.int64)[buckets]
        low = np.concatenate(([1], np.asarray(self.bounds[:-1], dtype=np.int64) + 1))[buckets]
        return random.integers(low, np.maximum(low, high), endpoint=True)


Lengths = Fixed | Uniform | LogNormal | Counted


def parse(text: str) -> Lengths:
    """This will read lengths from words. Raises InvalidRequest that says which forms there are."""
    try:
        found = _parsed(text.strip())
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no length in tokens; write {FORMS}") from error
    match found:
        case Fixed():
            low, high = found.tokens, found.tokens
        case Counted():
            low, high = found.bounds[0], found.bounds[-1]
        case _:
            low, high = found.low, found.high
    if not 1 <= low <= high <= MOST_TOKENS:
        raise InvalidRequest(f"{text!r}: lengths are between 1 and {MOST_TOKENS:,} tokens, the smaller first")
    return found


def counted(counts: Sequence[tuple[int, float]]) -> str:
    """This will write lengths as they were counted, by upper bound, in the form that `parse` reads."""
    return "counted:" + ",".join(f"{bound}={count:g}" for bound, count in counts)


def _parsed(text: str) -> Lengths:
    kind, _, rest = text.partition(":")
    if kind == "counted":
        pairs = [part.split("=") for part in rest.split(",")]
        bounds, counts = [int(bound) for bound, _ in pairs], [float(count) for _, count in pairs]
        if bounds != sorted(set(bounds)) or not all(0 <= count < 1e15 for count in counts) or not sum(counts):
            raise ValueError(rest)
        return Counted(bounds=bounds, counts=counts)
    if rest:
        if kind != "lognormal":
            raise ValueError(kind)
        median, sigma, *limits = rest.split(",")
        low, high = (int(part) for part in limits[0].split("-")) if limits else (1, MOST_TOKENS)
        if len(limits) > 1 or not (1 <= float(median) <= MOST_TOKENS and 0 < float(sigma) <= 5):
            raise ValueError(rest)
        return LogNormal(median=float(median), sigma=float(sigma), low=low, high=high)
    if "-" in text:
        low, high = (int(part) for part in text.split("-"))
        return Uniform(low=low, high=high)
    return Fixed(tokens=int(text))
