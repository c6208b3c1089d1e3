"""A workflow: where it stands, what was asked of it, what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class WorkflowState(StrEnum):
    """Where a workflow stands."""

    RUNNING = "running"
    AWAITING_APPROVAL = "awaiting_approval"
    WATCHING = "watching"
    DONE = "done"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    FAILED = "failed"


ENDED = (WorkflowState.DONE, WorkflowState.REJECTED, WorkflowState.CANCELLED, WorkflowState.FAILED)
# The steps of the graph, in their order. Names are a contract: threads that wait in a step find it again by its name.
STEPS = ("collect", "analyse", "find", "predict", "rank", "approve", "execute", "watch", "record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow as it is stored."""

    workflow_id: str
    graph_version: int
    state: WorkflowState
    because: str
    asked: Mapping[str, Any]
    recommendation_id: int | None  # that it is about; None: none yet
    pending: Mapping[str, Any] | None  # a person's answer that the next drive takes along
    started_at: datetime
    started_by: str
    due_at: datetime | None  # None: nothing to do until somebody acts
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a workflow did in one step; each is stored once, however often it was begun."""

    step: str
    at: datetime
    detail: Mapping[str, Any]
