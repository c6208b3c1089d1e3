"""What became of each request. Times are seconds since the run began."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

# Timers of event loops go off up to a millisecond early (uvloop) or late (asyncio), and then the loop may be busy for
# a moment. Less than this is the instrument's own grain; more is waiting, and counts for whoever waits.
TIMER_GRAIN_SECONDS = 0.002


class Outcome(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    REFUSED = "refused"  # no connection, or it was closed without an answer
    REJECTED = "rejected"  # 4xx, 429 among them
    FAILED = "failed"  # 5xx
    TIMED_OUT = "timed_out"
    CUT = "cut"  # the stream ended before its end
    MALFORMED = "malformed"  # the answer is none of this API
    EMPTY = "empty"  # a whole answer without a token
    NOT_SENT = "not_sent"  # too many were under way already, or this host has no more sockets
    CANCELLED = "cancelled"  # by whoever ran the test; the only outcome that says nothing of the server


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request. None is what did not happen, or what the server did not say."""

    number: int
    due_seconds: float
    sent_seconds: float | None
    first_token_seconds: float | None
    last_token_seconds: float | None
    ended_seconds: float
    outcome: Outcome
    prompt_tokens: int | None  # by the server's count
    cached_tokens: int | None  # of the prompt, found in the server's prefix cache
    output_tokens: int | None
    chunks: int  # with tokens in them; a chunk may carry several
    finish_reason: str | None
    http_status: int | None
    detail: str | None  # why it failed, in the server's words or the system's

    @property
    def began_seconds(self) -> float:
        """This will give when its user began to wait: when it was due, not when there was time to send it."""
        if self.sent_seconds is not None and self.sent_seconds - self.due_seconds <= TIMER_GRAIN_SECONDS:
            return self.sent_seconds
        return self.due_seconds

    @property
    def ttft_seconds(self) -> float | None:
        """This will give the time to the first token."""
        return None if self.first_token_seconds is None else self.first_token_seconds - self.began_seconds

    @property
    def e2e_seconds(self) -> float | None:
        """This will give the time to the last token of a whole answer."""
        if self.outcome is not Outcome.COMPLETED or self.last_token_seconds is None:
            return None
        return self.last_token_seconds - self.began_seconds

    @property
    def tpot_seconds(self) -> float | None:
        """This will give the mean time per output token after the first; None of a single token."""
        tokens = self.output_tokens if self.output_tokens is not None else self.chunks
        if self.outcome is not Outcome.COMPLETED or tokens < 2:
            return None
        if self.first_token_seconds is None or self.last_token_seconds is None:
            return None
        return (self.last_token_seconds - self.first_token_seconds) / (tokens - 1)


class GapCounts:
    """The gaps between chunks of many streams, counted in buckets 1 % wide: exact enough, and bounded."""

    _STEP = math.log(1.01)
    _LEAST_SECONDS = 1e-6  # chunks that came in one piece

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._counts: dict[int, int] = {}
        self.total = 0
        self.sum_seconds = 0.0

    def add(self, seconds: float) -> None:
        """This will count one gap."""
        bucket = math.ceil(math.log(max(seconds, self._LEAST_SECONDS) / self._LEAST_SECONDS) / self._STEP)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.total += 1
        self.sum_seconds += seconds

    def quantile(self, share: float) -> float | None:
        """This will give the `share` quantile in seconds, to within half a percent; None of nothing."""
        seen, rank = 0, share * self.total
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return self._LEAST_SECONDS * math.exp((bucket - 0.5) * self._STEP) if bucket else 0.0
        return None


@dataclass(slots=True, kw_only=True)
class LoadRun:
    """What a run left behind."""

    warmup_seconds: float  # requests that were due before it are not measured
    seconds: float  # until the last request was due
    records: list[RequestRecord] = field(default_factory=list)
    gaps: GapCounts = field(default_factory=GapCounts)  # between chunks of measured, completed requests
    stopped: bool = False  # before its end
