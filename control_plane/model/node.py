"""A GPU host as its agent introduces it, and what is known of its connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIntroduction:
    """How an agent introduces itself; untrusted until enrolment gives it an identity."""

    agent_id: str
    name: str
    agent_version: str
    replayed: bool  # a recording that is played, not a live machine
    attributes: Mapping[str, object]


class NodeState(StrEnum):
    """Whether a node's numbers can be relied on now."""

    CONNECTED = "connected"  # samples arrive on time
    STALE = "stale"  # none for longer than three intervals: current values are old
    GONE = "gone"  # none for longer than five minutes
    NEVER_SAMPLED = "never_sampled"  # it has connected, but no sample has been committed


# A sample may be late by one interval and its commit; three in a row missing is not lateness.
STALE_AFTER_INTERVALS = 3
STALE_AFTER_AT_LEAST_SECONDS = 10.0
GONE_AFTER_SECONDS = 300.0


def node_state(*, age_seconds: float | None, interval_seconds: float | None) -> NodeState:
    """This will judge a node by the age of its newest sample; None means that there is none."""
    if age_seconds is None:
        return NodeState.NEVER_SAMPLED
    if age_seconds > GONE_AFTER_SECONDS:
        return NodeState.GONE
    patience = max(STALE_AFTER_INTERVALS * (interval_seconds or 5.0), STALE_AFTER_AT_LEAST_SECONDS)
    return NodeState.STALE if age_seconds > patience else NodeState.CONNECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorState:
    """How one collector's last run on a node went."""

    collector: str
    outcome: str
    duration_seconds: float
    detail: str
    last_success_age_seconds: float | None = None  # before this run; None: not since the agent started, or not said
    last_error: str = ""  # of the last run that failed; it stays when the collector recovers
    last_error_age_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """What one commit says about a node besides its samples."""

    node_id: int
    taken_at: datetime
    received_at: datetime
    clock_offset_seconds: float | None  # node's clock minus ours; positive when the node is ahead
    sampling_interval_seconds: float | None
    collectors: Sequence[CollectorState]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as it is stored."""

    node_id: int
    agent_id: str
    name: str
    agent_version: str
    replayed: bool
    attributes: Mapping[str, object]
    first_seen_at: datetime
    connected_at: datetime
    status: NodeStatus | None
    lost_ticks: int  # reported lost, ever
    refused_batches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleLoss:
    """Ticks that were taken and will never arrive."""

    node_id: int
    epoch: bytes
    first_seq: int
    last_seq: int
    first_taken_at: datetime | None
    last_taken_at: datetime | None
    tick_count: int | None  # None: a gap that nobody explained
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Batches of one node that were refused for one cause."""

    node_id: int
    cause: str  # a stable word, such as "unknown_schema"
    detail: str  # a sentence about the last one
    count: int
    at: datetime
