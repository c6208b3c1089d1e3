"""Test runs: load on a server, the highest rate that it keeps, a candidate beside its baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class TrialKind(StrEnum):
    """What is found out. Names are stored: none is ever renamed."""

    LOAD = "load"
    HIGHEST_RATE = "highest_rate"
    VALIDATION = "validation"


class TrialState(StrEnum):
    """Where a test run stands. Names are stored: none is ever renamed."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"  # a person's word; what was measured until then is kept
    FAILED = "failed"  # it could not be run as asked
    INTERRUPTED = "interrupted"  # the process that ran it ended, and what it had measured is lost


OVER = frozenset({TrialState.FINISHED, TrialState.CANCELLED, TrialState.FAILED, TrialState.INTERRUPTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """What is asked for. Keys of servers are no part of it."""

    kind: TrialKind
    base_url: str  # the server; of a validation the candidate
    baseline_url: str | None = None
    model: str | None = None  # None: the only one that it has
    baseline_model: str | None = None  # None: as the candidate's
    api: str = "chat"  # chat, completions
    rate: float = 1.0  # requests per second
    ramp_to_rate: float | None = None
    most_rate: float = 2000.0  # where a search ends
    seconds: float = 60.0  # how long requests are due; of a search, each try at least
    warm_up_seconds: float = 5.0
    variation: float = 1.0  # of gaps over their mean: 0 a metronome, 1 Poisson
    prompt_length: str = "512"  # tokens; trials/load/lengths.py has the forms
    output_length: str = "128"
    prefixes: int = 0
    prefix_tokens: int = 0
    prefix_ratio: float = 1.0
    ttft_seconds: float | None = None  # the objective
    tpot_seconds: float | None = None
    e2e_seconds: float | None = None
    good_ratio: float = 0.95
    timeout_seconds: float = 120.0
    most_in_flight: int = 1000
    seed: int = 1
    compares_words: bool = True  # of a validation
    bad_margin_ratio: float = 0.02
    ttft_margin_factor: float | None = 1.10
    tpot_margin_factor: float | None = 1.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A test run as it is stored."""

    trial_id: str
    spec: TrialSpec
    state: TrialState
    asked_at: datetime
    asked_by: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Mapping[str, Any] | None = None
    verdict: str | None = None  # pass, fail, inconclusive; None: not known yet, or nothing was promised
    because: str = ""
    result: Mapping[str, Any] | None = None
