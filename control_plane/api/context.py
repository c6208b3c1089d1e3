"""What endpoints are given: everything they may reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from control_plane.access.gate import Gate
from control_plane.access.rates import Buckets, Rate
from control_plane.api.remembered import Remembered
from control_plane.insights.narrator import Narrator
from control_plane.model.access import ANYONE, Caller
from control_plane.model.configuration import NodeConfiguration
from control_plane.model.enrolment import JoinToken
from control_plane.model.registration import Registration
from control_plane.model.rollout import Command, Plan
from control_plane.model.trial import Trial, TrialSpec
from control_plane.runtime.clock import Clock
from control_plane.runtime.destinations import Policy
from control_plane.runtime.jobs import JobState
from control_plane.runtime.sealing import Sealer
from control_plane.storage.readings import Dictionaries
from control_plane.storage.rollouts import RolloutStore, StoredRollout
from control_plane.storage.session import Database
from control_plane.storage.trials import TrialStore


class IngestDoor(Protocol):
    """What the API asks of ingest."""

    def connected_nodes(self) -> frozenset[int]:
        """This will give the nodes that have a stream to this replica."""
        ...

    def figures(self) -> Mapping[str, float]:
        """This will give ingest's counters by name."""
        ...

    def last_error(self) -> str | None:
        """This will give why commits fail at the moment; None when they do not."""
        ...

    def listening(self) -> bool:
        """This will say whether agents can connect."""
        ...

    async def collect_now(self, node_ids: Sequence[int], timeout_seconds: float) -> dict[int, str]:
        """This will ask nodes for a sample now and say of each what came."""
        ...

    async def release_gpus(self, node_id: int, *, seconds: int, timeout_seconds: float) -> tuple[str, str]:
        """This will ask a node to let go of its GPUs and give what it answered, with its words."""
        ...

    def fleet_configuration(self) -> NodeConfiguration:
        """This will give what holds for every node that has no word of its own."""
        ...

    async def configure(self, node_id: int, timeout_seconds: float) -> None:
        """This will bring a node what is stored for it now, if it is connected here, and wait for its answer."""
        ...


class EnrolmentDoor(Protocol):
    """What the API asks of enrolment."""

    async def create_token(self, *, lifetime: timedelta, max_uses: int, node_name: str | None) -> JoinToken:
        """This will make a join token."""
        ...


class RolloutDoor(Protocol):
    """What the API asks of rollouts."""

    @property
    def store(self) -> RolloutStore:
        """This will give where they are kept."""
        ...

    async def plan(self, target: str, plan: Plan) -> tuple[Plan, Mapping[str, Any], list[str]]:
        """This will complete a plan, choose the candidate's side, and say what speaks against it."""
        ...

    async def start(self, target: str, plan: Plan) -> StoredRollout:
        """This will begin a rollout."""
        ...

    async def command(self, rollout_id: str, command: Command, *, by: str) -> StoredRollout:
        """This will hand on a person's command."""
        ...


class TrialDoor(Protocol):
    """What the API asks of test runs."""

    @property
    def store(self) -> TrialStore:
        """This will give where they are kept."""
        ...

    async def ask(self, spec: TrialSpec, *, by: str, keys: Mapping[str, str]) -> Trial:
        """This will take one in; `keys` are those of its servers."""
        ...

    async def cancel(self, trial_id: str, *, by: str) -> Trial:
        """This will end one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What a request must pass beside the gate."""

    buckets: Buckets
    rates: Mapping[str, Rate]  # by group; a group without one is not limited
    hosts: frozenset[str] | None = None  # that may be asked for where keys are off; None: any


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """The process as endpoints see it."""

    gate: Gate
    doors: Doors
    database: Database
    dictionaries: Dictionaries
    database_description: str
    clock: Clock
    started_at: datetime
    ingest: IngestDoor
    enrolment: EnrolmentDoor | None = None  # None: agents need no certificate here
    data_dir: Path
    environment: str
    settings: Mapping[str, object]  # as they may be shown: secrets are already replaced
    capabilities: Mapping[str, object]
    jobs: Sequence[JobState] = ()
    registrations: list[Registration] = field(default_factory=list)  # empty: the orchestrator is not told of us
    rollouts: RolloutDoor | None = None  # None: this process drives none
    trials: TrialDoor | None = None  # None: this process runs none
    narrator: Narrator | None = None  # None: no language model
    remembered: Remembered | None = None  # None: every answer is made anew
    sealer: Sealer  # of secrets that are stored
    webhooks: Policy = field(default_factory=Policy)  # where they may lead


def _context(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return context


Context = Annotated[ApiContext, Depends(_context)]


def _caller(request: Request) -> Caller:
    caller = getattr(request.state, "caller", None)
    return caller if isinstance(caller, Caller) else ANYONE


WhoAsks = Annotated[Caller, Depends(_caller)]
