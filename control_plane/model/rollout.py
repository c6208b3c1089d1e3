"""Rollouts: one version of an inference server takes over from another, in steps that can be taken back.

Shares are in basis points (1/100 of a percent, 0 to 10,000), as routers count them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

WHOLE = 10_000  # basis points: all traffic


class Strategy(StrEnum):
    """How traffic moves."""

    CANARY = "canary"  # in growing shares
    AB = "ab"  # one share, until a test with a stated end is decided
    BLUE_GREEN = "blue_green"  # all at once, with the old version beside it


class State(StrEnum):
    """Where a rollout stands. Names are stored: none is ever renamed."""

    PENDING = "pending"
    AWAITING_APPROVAL = "awaiting_approval"
    PROVISIONING = "provisioning"
    WARMING = "warming"
    SHIFTING = "shifting"
    OBSERVING = "observing"
    PAUSED = "paused"
    BAKING = "baking"
    RETIRING = "retiring"
    ROLLING_BACK = "rolling_back"
    DRAINING = "draining"
    REMOVING = "removing"
    NEEDS_HUMAN = "needs_human"
    TAKEN_OVER = "taken_over"
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


class Event(StrEnum):
    """What moves a rollout from one state to the next."""

    PREFLIGHT_PASSED = "preflight_passed"
    PREFLIGHT_FAILED = "preflight_failed"
    APPROVAL_NEEDED = "approval_needed"
    APPROVED = "approved"
    READY = "ready"
    WARMED = "warmed"
    SHIFTED = "shifted"
    STEP_PASSED = "step_passed"
    LAST_STEP_PASSED = "last_step_passed"
    INCONCLUSIVE = "inconclusive"
    VIOLATION = "violation"
    CANDIDATE_LOST = "candidate_lost"
    TOO_LONG = "too_long"
    PAUSE = "pause"
    RESUME = "resume"
    ROLL_BACK = "roll_back"
    BAKED = "baked"
    RETIRED = "retired"
    SHARE_IS_ZERO = "share_is_zero"
    DRAINED = "drained"
    REMOVED = "removed"
    CANNOT_ACT = "cannot_act"
    CHANGED_BY_HAND = "changed_by_hand"


class Command(StrEnum):
    """What a person may ask of a rollout."""

    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"  # do not wait for the end of this step; the guard stays
    ROLL_BACK = "roll_back"


class Effect(StrEnum):
    """What a rollout does to the outside."""

    ENSURE_CANDIDATE = "ensure_candidate"  # so many replicas of the candidate run
    SET_SHARE = "set_share"
    RETIRE_STABLE = "retire_stable"
    REMOVE_CANDIDATE = "remove_candidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rollout does. It never changes once it has begun."""

    strategy: Strategy
    shares: tuple[int, ...]  # of the candidate, step by step; the last is all of it
    replicas: int  # that the stable version has, and that all traffic needs
    least_seconds: float = 120.0  # of each step, at least
    most_seconds: float = 1800.0  # after them, not knowing pauses the rollout
    least_requests: int = 100  # on the candidate, in each step
    ready_seconds: float = 1800.0  # a large model may take that long to load
    warm_seconds: float = 300.0
    bake_seconds: float = 600.0  # the stable version stays whole until then
    drain_seconds: float = 600.0  # streams may take that long to end
    approve_before: tuple[int, ...] = ()  # shares that a person has to agree to
    allowed_bad_share: float = 0.05  # of requests: the guard's limit
    bad_margin: float = 0.02  # more bad requests than the stable version


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Requests that ended within some seconds, on both sides."""

    seconds: float
    candidate_good: float
    candidate_bad: float
    stable_good: float
    stable_bad: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An effect that was decided on: stored before anything is done. The same key is the same effect."""

    key: str
    effect: Effect
    value: int  # replicas, or basis points
    decided_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout as it is stored: whoever reads it can go on with it."""

    rollout_id: str
    target: str  # what is rolled out to; one rollout at a time
    plan: Plan
    state: State
    since: datetime  # in this state
    step: int = 0
    epoch: int = 0  # counts transitions: what belongs to an earlier one is over
    share: int = 0  # that the candidate shall have
    share_seen: bool = False  # the router was seen to have it, in this epoch or before
    shares_asked: tuple[int, ...] = (0,)  # all that we ever asked for: another is somebody else's
    looks: tuple[Look, ...] = ()  # of this step
    guard: Mapping[str, object] | None = None  # the guard's memory, as its owner writes it
    intent: Intent | None = None  # the newest
    lost_since: datetime | None = None  # the candidate has had too few replicas
    silent_since: datetime | None = None  # the router or the orchestrator does not answer
    corrections: int = 0  # times that the share had to be set again after it had been seen
    command: Command | None = None  # a person's, not yet taken up
    commanded_by: str | None = None
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The outside as it was just read. None is what could not be read."""

    share: int | None  # that the router is set to
    share_kept: bool = True  # a restart of the router would keep it
    candidate_ready: int | None
    candidate_running: int | None  # ready or not: 0 is gone
    candidate_in_flight: int | None
    stable_ready: int | None
    stable_running: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line of a rollout's history: a transition, or an effect and what came of it."""

    at: datetime
    event: str
    state: State
    because: str
    details: Mapping[str, object] = field(default_factory=dict)
