"""What of two servers is compared, from requests that went to both. Pure.

Latencies are compared by their logarithms: the question is by what factor the candidate is slower. Requests that
failed are bad ones; they have no latency, and a server that fails does not get faster by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from control_plane.model.errors import InvalidRequest
from control_plane.statistics.sequences import Arm, Measure, timed_arm
from control_plane.trials.load.records import Outcome, RequestRecord
from control_plane.trials.load.summary import Objective

# Chunks that came in one piece have no time between them: a logarithm needs one.
_LEAST_SECONDS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How much worse a candidate may be and still pass."""

    bad_share: float = 0.02  # of requests, more than of the baseline
    ttft_ratio: float | None = 1.10  # times as slow; None: not compared
    tpot_ratio: float | None = 1.10

    def __post_init__(self) -> None:
        """This will refuse what is no margin, with InvalidRequest."""
        ratios = [ratio for ratio in (self.ttft_ratio, self.tpot_ratio) if ratio is not None]
        if not 0 < self.bad_share < 1 or any(not 1 < ratio <= 10 for ratio in ratios):
            raise InvalidRequest("a margin is a share of requests above 0, and factors above 1")


def measures(
    candidate: Sequence[RequestRecord], baseline: Sequence[RequestRecord], objective: Objective, margins: Margins
) -> list[Measure]:
    """This will compare what was measured on both; what neither has is not compared."""
    arms = [_in_order(records) for records in (candidate, baseline)]
    bad, worse = (_bad(records, objective) for records in arms)
    found = [Measure(name="bad_share", candidate=bad, baseline=worse, margin=margins.bad_share)]
    for name, of, ratio in (
        ("ttft_log_ratio", _ttft, margins.ttft_ratio),
        ("tpot_log_ratio", _tpot, margins.tpot_ratio),
    ):
        if ratio is None:
            continue
        first, second = (_logs(records, of) for records in arms)
        if first.count or second.count:
            found.append(Measure(name=name, candidate=first, baseline=second, margin=math.log(ratio)))
    return found


def _in_order(records: Sequence[RequestRecord]) -> list[RequestRecord]:
    return sorted((r for r in records if r.outcome is not Outcome.CANCELLED), key=lambda r: r.due_seconds)


def _ttft(record: RequestRecord) -> float | None:
    return record.ttft_seconds if record.outcome is Outcome.COMPLETED else None


def _tpot(record: RequestRecord) -> float | None:
    return record.tpot_seconds


def _bad(records: Sequence[RequestRecord], objective: Objective) -> Arm:
    hits = np.array([not objective.good(r) for r in records], dtype=np.float64)
    return timed_arm(np.array([r.due_seconds for r in records], dtype=np.float64), hits, share=True)


def _logs(records: Sequence[RequestRecord], of: Callable[[RequestRecord], float | None]) -> Arm:
    found = [(r.due_seconds, math.log(max(v, _LEAST_SECONDS))) for r in records if (v := of(r)) is not None]
    seconds, values = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return timed_arm(seconds, values, share=False)
