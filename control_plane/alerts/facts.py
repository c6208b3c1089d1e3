"""What rules look at. None is unknown, everywhere, and never fine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from control_plane.model.bottleneck import Bottleneck
from control_plane.model.entity import Entity
from control_plane.model.sample import Reading

# A look that is older says nothing of now.
FRESH = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node, and when its newest sample was taken."""

    node_id: int
    name: str
    sampled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """A GPU with the newest look at it, and at its health."""

    entity: Entity
    reading: Reading | None
    health: Reading | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """Something that happened on a node."""

    node_id: int
    at: datetime
    kind: str
    severity: int
    entity_kind: int
    entity_key: str
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class UseFacts:
    """What a GPU's time went into, over some whole hours."""

    entity: Entity
    hours: float
    paid_seconds: float
    observed_seconds: float
    busy_ratio: float | None
    wasted_seconds: float  # stranded, or allocated and idle
    held: bool  # by somebody: allocated, or memory is held


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesystemFacts:
    """A file system, and where it stood some hours ago."""

    entity: Entity
    available_bytes: float | None
    total_bytes: float | None
    available_then: float | None
    seconds_between: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveFacts:
    """How an objective is kept."""

    name: str
    labels: Mapping[str, str]  # model, route, and what it was given
    objective: str
    violated: Mapping[int, tuple[datetime, float | None]]  # server (0: together) -> since when, share of bad events
    kept: frozenset[int]  # servers of which a verdict was made of late
    burning: Mapping[str, tuple[bool | None, float | None, str]]  # window -> exceeded, rate, severity
    budget_left: float | None  # at best


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundFacts:
    """What binds a server, or a GPU that no server has."""

    entity: Entity
    bottleneck: Bottleneck
    since: datetime
    judged_at: datetime
    score: float
    evidence: Mapping[str, object]  # where it is something to tell of


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that rules look at, as of one moment."""

    now: datetime
    nodes: Sequence[NodeFacts] = ()
    gpus: Sequence[GpuFacts] = ()
    servers: Sequence[tuple[Entity, Reading | None]] = ()
    events: Sequence[EventFacts] = ()
    use: Mapping[float, Sequence[UseFacts]] = field(default_factory=dict)  # hours -> GPUs
    filesystems: Mapping[float, Sequence[FilesystemFacts]] = field(default_factory=dict)  # hours looked back
    objectives: Sequence[ObjectiveFacts] = ()
    bound: Sequence[BoundFacts] = ()

    def fresh(self, reading: Reading | None) -> Reading | None:
        """This will give a look if it says something of now."""
        return reading if reading is not None and self.now - reading.taken_at <= FRESH else None
