"""How this control plane stands with the fleet's orchestrator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What the orchestrator knows agents as; a control plane is both."""

    PERFORMANCE = "performance"
    RESOURCE = "resource"


@dataclass(slots=True, kw_only=True)
class Registration:
    """One role's standing. Changed by whoever keeps it; everybody else only reads."""

    role: Role
    agent_id: str | None = None  # None: not registered
    registered_at: datetime | None = None
    last_heartbeat_at: datetime | None = None
    last_error: str | None = None  # of the newest try; None: it went well
    last_error_at: datetime | None = None
    failures_in_a_row: int = 0
    heartbeat_interval_seconds: float | None = None
