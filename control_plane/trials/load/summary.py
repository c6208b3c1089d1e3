"""What a run says: rates, latencies and errors of what was measured. Pure.

A request that failed is no fast request: it stands beyond every percentile of its latency. So the percentile of a
run in which more failed than it leaves room for is unknown, and never the percentile of the lucky ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control_plane.model.errors import InvalidRequest
from control_plane.statistics import intervals
from control_plane.statistics.intervals import Estimate
from control_plane.trials.load.records import LoadRun, Outcome, RequestRecord

LEVELS = (0.5, 0.9, 0.95, 0.99)
# Requests that were sent later than this after they were due: the machine that sends was too busy to measure.
MOST_LATE_SECONDS = 0.02
# The requests under way grow by more than this share of those that come: the server does not keep up.
_GROWTH_SHARE = 0.05
_GRID = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What makes a request a good one, and how many have to be good."""

    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    e2e_seconds: float | None = None
    share: float = 0.95

    def __post_init__(self) -> None:
        """This will refuse what is no objective, with InvalidRequest."""
        limits = [v for v in (self.ttft_seconds, self.tpot_seconds, self.e2e_seconds) if v is not None]
        if any(not 0 < limit < float("inf") for limit in limits) or not 0 < self.share < 1:
            raise InvalidRequest("an objective has limits above 0 s and a share of requests between 0 and 1")

    def good(self, record: RequestRecord) -> bool:
        """This will say whether a request kept every limit. One that failed did not."""
        if record.outcome is not Outcome.COMPLETED:
            return False
        pairs = (
            (record.ttft_seconds, self.ttft_seconds),
            (record.tpot_seconds, self.tpot_seconds),
            (record.e2e_seconds, self.e2e_seconds),
        )
        return all(limit is None or value is None or value <= limit for value, limit in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a latency is spread over requests, in seconds."""

    count: int
    mean: Estimate  # of those that have a value
    percentiles: Mapping[float, Estimate]  # of all, failures beyond the slowest
    most: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run in figures. Rates are per second of the measured window."""

    window_seconds: float
    requests: int  # measured: due after the warm-up, and not cancelled by us
    warmup_requests: int
    outcomes: Mapping[Outcome, int]
    details: Mapping[str, int]  # the most frequent reasons of failures
    due_per_second: float
    sent_per_second: float
    completed_per_second: float  # that ended within the window
    prompt_tokens_per_second: float | None
    output_tokens_per_second: float | None
    prompt_tokens_mean: float | None
    output_tokens_mean: float | None
    cached_prompt_ratio: float | None
    ttft: Spread
    tpot: Spread
    e2e: Spread
    itl_percentiles: Mapping[float, float | None]  # of gaps between chunks; gaps of one request hang together
    itl_mean: float | None
    good_ratio: Estimate
    good_per_second: float
    in_flight_mean: float
    saturated: bool | None  # None: the run was too short to tell
    late_seconds_p99: float  # how much later than due requests were sent
    doubts: Sequence[str]  # why these figures may be wrong
    stopped: bool


def summarize(run: LoadRun, objective: Objective) -> Summary:
    """This will put a run into figures."""
    records = sorted(run.records, key=lambda r: (r.due_seconds, r.number))
    measured = [r for r in records if r.due_seconds >= run.warmup_seconds and r.outcome is not Outcome.CANCELLED]
    begin, end = run.warmup_seconds, _end(run, measured)
    window = max(end - begin, 1e-9)
    ended = [r for r in records if r.outcome is Outcome.COMPLETED and begin <= r.ended_seconds <= end]
    completed = [r for r in measured if r.outcome is Outcome.COMPLETED]
    good = np.array([objective.good(r) for r in measured], dtype=np.bool_)
    in_flight = _in_flight(records, begin, end)
    late = [r.sent_seconds - r.due_seconds for r in measured if r.sent_seconds is not None]
    late_p99 = float(np.quantile(late, 0.99)) if late else 0.0
    output, prompt = _total([r.output_tokens for r in ended]), _total([r.prompt_tokens for r in ended])
    return Summary(
        window_seconds=window,
        requests=len(measured),
        warmup_requests=sum(r.due_seconds < run.warmup_seconds for r in records),
        outcomes=dict(Counter(r.outcome for r in measured)),
        details=dict(Counter(r.detail for r in measured if r.detail is not None).most_common(5)),
        due_per_second=len(measured) / window,
        sent_per_second=len(late) / window,
        completed_per_second=len(ended) / window,
        prompt_tokens_per_second=None if prompt is None else prompt / window,
        output_tokens_per_second=None if output is None else output / window,
        prompt_tokens_mean=_mean([r.prompt_tokens for r in completed]),
        output_tokens_mean=_mean([r.output_tokens for r in completed]),
        cached_prompt_ratio=_cached(completed),
        ttft=_spread([r.ttft_seconds if r.ttft_seconds is not None else np.inf for r in measured]),
        tpot=_spread([t for r in completed if (t := r.tpot_seconds) is not None]),
        e2e=_spread([r.e2e_seconds if r.e2e_seconds is not None else np.inf for r in measured]),
        itl_percentiles={level: run.gaps.quantile(level) for level in LEVELS},
        itl_mean=run.gaps.sum_seconds / run.gaps.total if run.gaps.total else None,
        good_ratio=intervals.share(good),
        good_per_second=float(np.sum(good)) / window,
        in_flight_mean=float(np.mean(in_flight)),
        saturated=_saturated(in_flight, window, len(measured) / window, completed),
        late_seconds_p99=late_p99,
        doubts=_doubts(run, measured, completed, late_p99),
        stopped=run.stopped,
    )


def _end(run: LoadRun, measured: Sequence[RequestRecord]) -> float:
    """A run that was stopped ends with the last request that was due."""
    return max((r.due_seconds for r in measured), default=run.warmup_seconds) if run.stopped else run.seconds


def _spread(values: Sequence[float]) -> Spread:
    array = np.asarray(values, dtype=np.float64)
    came = array[np.isfinite(array)]
    return Spread(
        count=len(came),
        mean=intervals.mean(came),
        percentiles={level: intervals.quantile(array, level) for level in LEVELS},
        most=float(came.max()) if len(came) else None,
    )


def _total(counts: Sequence[int | None]) -> float | None:
    known = [c for c in counts if c is not None]
    return float(sum(known)) if len(known) == len(counts) else None


def _mean(counts: Sequence[int | None]) -> float | None:
    known = [c for c in counts if c is not None]
    return sum(known) / len(known) if known else None


def _cached(completed: Sequence[RequestRecord]) -> float | None:
    said = [r for r in completed if r.cached_tokens is not None and r.prompt_tokens is not None]
    tokens = sum(r.prompt_tokens or 0 for r in said)
    return sum(r.cached_tokens or 0 for r in said) / tokens if tokens else None


def _in_flight(records: Sequence[RequestRecord], begin: float, end: float) -> NDArray[np.float64]:
    """This will count the requests that were under way, at moments through the window."""
    moments = np.linspace(begin, end, _GRID)
    sent = np.sort([r.sent_seconds for r in records if r.sent_seconds is not None])
    ended = np.sort([r.ended_seconds for r in records if r.sent_seconds is not None])
    return (np.searchsorted(sent, moments, "right") - np.searchsorted(ended, moments, "right")).astype(np.float64)


def _saturated(
    in_flight: NDArray[np.float64], window: float, rate: float, completed: Sequence[RequestRecord]
) -> bool | None:
    """This will say whether requests pile up, as opposed to coming and going."""
    lasting = [r.ended_seconds - r.due_seconds for r in completed]
    middle = float(np.median(lasting)) if lasting else window
    slope = float(np.polyfit(np.linspace(0, window, _GRID), in_flight, 1)[0])
    if slope <= _GROWTH_SHARE * rate:
        return False if window >= 5 * middle else None
    # Requests under way come and go by their square root, and stay alike for as long as one lasts: such a line's
    # slope has this standard deviation even when nothing grows.
    chance = np.sqrt(12 * 2 * middle * max(1.0, float(np.mean(in_flight)))) / window**1.5
    return bool(slope > 3 * chance) or None


def _doubts(
    run: LoadRun, measured: Sequence[RequestRecord], completed: Sequence[RequestRecord], late_p99: float
) -> list[str]:
    doubts = []
    middle = float(np.median([r.ttft_seconds or 0.0 for r in completed])) if completed else 0.0
    if late_p99 > max(MOST_LATE_SECONDS, middle / 10):
        doubts.append(
            f"1 % of requests were sent more than {late_p99:.3f} s after they were due: this host was too busy; "
            "that time counts as waiting"
        )
    if any(r.outcome is Outcome.NOT_SENT for r in measured):
        doubts.append("some requests were not sent, because too many were under way or this host had no sockets left")
    if any(r.output_tokens is None for r in completed):
        doubts.append("the server does not count tokens: chunks were counted instead, and may carry several")
    if run.stopped:
        doubts.append("the run was stopped before its end")
    return doubts
