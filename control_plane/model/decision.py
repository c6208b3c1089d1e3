"""A recommendation as it is kept: since when, what became of it, and who decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class RecommendationState(StrEnum):
    """Where a recommendation stands."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXECUTING = "executing"
    EXECUTED = "executed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  # a newer one says something else of the same thing
    EXPIRED = "expired"  # it was not found again for a day


ALIVE = (RecommendationState.OPEN, RecommendationState.APPROVED, RecommendationState.EXECUTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A recommendation as it is stored."""

    recommendation_id: int
    kind: str
    subject_kind: str  # server, service, fleet
    subject: str
    subject_id: int | None
    state: RecommendationState
    made_at: datetime
    found_at: datetime  # the last time that the same was found
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None  # whoever decided gave
    saved_usd_per_month: float | None
    gain_ratio: float  # requests a second, after / before
    body: Mapping[str, Any]
    realised: Mapping[str, Any] | None  # what came of it; None: nothing yet
