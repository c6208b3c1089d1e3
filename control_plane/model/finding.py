"""What a stage found out about a window of time, about one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

# Windows that are kept ready; any other is added up when it is asked for.
WINDOWS = (timedelta(hours=1), timedelta(days=1), timedelta(days=7), timedelta(days=30))
USUAL_WINDOW = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A finding before it is kept: what it is about, its place in its list, and what was found."""

    kind: str
    subject_kind: str  # fleet, node, gpu, server, model, namespace, gpu_model, series
    subject: str
    body: Mapping[str, Any]
    node_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A finding as it is kept."""

    subject: str
    place: int
    since: datetime
    until: datetime
    found_at: datetime
    body: Mapping[str, Any]
