"""What happened on a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class Severity(IntEnum):
    """How bad an event is. The numbers are those of telemetry.proto's EventSeverity."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedEvent:
    """One event of one node, checked; its words are the agent's."""

    taken_at_us: int  # by our clock, as the tick's
    kind: str
    entity_kind: int  # an EntityKind, or the number of one that only a newer release knows
    entity_key: str
    severity: int  # a Severity, or 0 for one that only a newer release knows
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvent:
    """One event, as it is stored."""

    event_id: int
    taken_at: datetime
    received_at: datetime
    kind: str
    entity_kind: int
    entity_key: str
    severity: int
    detail: Mapping[str, object]
