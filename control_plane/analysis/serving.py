"""What inference servers did between two moments, from where their counters stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.analysis.distributions import increase, merged
from control_plane.model.sample import Distribution, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one server did in a window."""

    seconds: float  # that the looks cover; less than the window when scrapes failed
    growth: Mapping[str, float | None]  # counters; None is unknown
    distributions: Mapping[str, Distribution]
    unknown: Mapping[str, str]  # counter or histogram -> why


def _growth(first: Reading | None, last: Reading, name: str) -> float | None:
    end = last.values.get(name)
    if not isinstance(end, int | float):
        return None
    if first is None:
        return float(end)
    start = first.values.get(name)
    if not isinstance(start, int | float):
        return None
    return float(end - start) if end >= start else float(end)


def _added(left: float | None, right: float | None) -> float | None:
    """This will add two growths: a run of the counters in which one is unknown makes the sum unknown."""
    return None if left is None or right is None else left + right


def served(
    spans: Sequence[tuple[Reading | None, Reading]], counters: Sequence[str], *, since: datetime
) -> Served | None:
    """This will add up the runs of one server's counters; None when there is none.

    Each span is where the counters stood first (None: they began at zero inside the window) and last.
    """
    if not spans:
        return None
    growth: dict[str, float | None] = {}
    seconds = 0.0
    histograms: dict[str, list[Distribution]] = {}
    unknown: dict[str, str] = {}
    for first, last in spans:
        seconds += (last.taken_at - (first.taken_at if first else _began(last, since))).total_seconds()
        for name in counters:
            grown = _growth(first, last, name)
            growth[name] = grown if name not in growth else _added(growth[name], grown)
            if grown is None:
                unknown[name] = last.unknown.get(name, "not_sent")
        for name, distribution in last.distributions.items():
            start = first.distributions.get(name) if first else None
            if first is not None and start is None:
                continue  # it appeared in between; what it counted before is not of this window
            histograms.setdefault(name, []).append(increase(start, distribution))
        unknown |= {n: why for n, why in last.unknown.items() if n not in histograms and n not in growth}
    distributions = {name: total for name, parts in histograms.items() if (total := merged(parts)) is not None}
    unknown |= dict.fromkeys(histograms.keys() - distributions.keys(), "bucket_bounds_differ")
    return Served(seconds=seconds, growth=growth, distributions=distributions, unknown=unknown)


def _began(last: Reading, since: datetime) -> datetime:
    began = last.values.get("counters_since_unix_seconds")
    if not isinstance(began, int | float):
        return since
    return max(since, datetime.fromtimestamp(began, tz=since.tzinfo))


def ratio(part: float | None, whole: float | None) -> float | None:
    """This will divide; None when either is unknown or there was nothing to divide by."""
    return None if part is None or not whole else part / whole


def first_known(growth: Mapping[str, float | None], *names: str) -> float | None:
    """This will give the first counter that is known; name live ones before those that wait for a request's end."""
    return next((value for name in names if (value := growth.get(name)) is not None), None)


def output_tokens(served: Served) -> float | None:
    """This will give the tokens that came out, counted as they did where the engine has such a counter.

    SGLang's live counter leaves out each request's first token, which prefill makes; the first-token
    histogram counts just those.
    """
    live, first = served.growth.get("generation_tokens_live_total"), served.distributions.get("ttft_seconds")
    if live is None or first is None:
        return served.growth.get("generation_tokens_total")
    return live + sum(first.counts)
