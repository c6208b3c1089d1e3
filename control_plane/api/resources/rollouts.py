"""Rollouts: begun, watched, held, hurried and taken back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from control_plane.api.answers import answer
from control_plane.api.context import ApiContext, Context, RolloutDoor, WhoAsks
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, Parameters, decode_text_cursor, encode_cursor
from control_plane.api.schemas import TEXT, TIME, UNKNOWN
from control_plane.model.errors import Conflict, InvalidRequest
from control_plane.model.rollout import Command, Intent, Note, Plan, State, Strategy
from control_plane.storage.rollouts import StoredRollout

router = APIRouter(tags=["rollouts"])

RolloutId = Annotated[Name, Path(description="a rollout's id")]
Seconds = Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
_DEFAULTS = Plan(strategy=Strategy.CANARY, shares=(), replicas=1)

NOTE_SCHEMA = {
    "type": "object",
    "properties": {"at": TIME, "event": TEXT, "state": TEXT, "because": TEXT, "details": {"type": "object"}},
}
ROLLOUT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "rollout_id": TEXT,
        "target": TEXT,
        "state": {"enum": [state.value for state in State]},
        "since": TIME,
        "because": TEXT,
        "candidate": {"enum": ["blue", "green"]},
        "strategy": {"enum": [strategy.value for strategy in Strategy]},
        "steps_percent": {"type": "array", "items": {"type": "number"}},
        "step": {"type": "integer", "description": "from 0; of the steps"},
        "share_percent": {"type": "number", "description": "that the candidate shall have"},
        "share_seen": {"type": "boolean", "description": "whether the router was seen to give it that"},
        "requests": {
            "type": "object",
            "description": "that ended since this step began, on both sides",
            "additionalProperties": {"type": "number"},
        },
        "plan": {"type": "object"},
        "started_at": TIME,
        "ended_at": TIME,
        "unknown": UNKNOWN,
    },
}
WHOLE_SCHEMA = ROLLOUT_SCHEMA | {
    "properties": ROLLOUT_SCHEMA["properties"]
    | {
        "notes": {"type": "array", "items": NOTE_SCHEMA, "description": "its history, the newest last"},
        "intents": {"type": "array", "items": {"type": "object"}, "description": "what it decided to do, in order"},
    }
}


class NewRollout(BaseModel):
    """What is asked for. What is left out has its usual value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Name = Field(description="one of those that the operator has named")
    strategy: Strategy = Field(Strategy.CANARY, description="canary, ab or blue_green")
    steps_percent: list[Percent] = Field(
        default_factory=list, max_length=20, description="shares of the traffic, growing, the last 100"
    )
    replicas: int | None = Field(None, ge=1, le=10_000, description="that all traffic needs; as many as serve now")
    least_seconds: Seconds = Field(_DEFAULTS.least_seconds, description="of each step, at least")
    most_seconds: Seconds = Field(_DEFAULTS.most_seconds, description="after them, not knowing pauses it")
    least_requests: int = Field(_DEFAULTS.least_requests, ge=1, le=10_000_000, description="in each step")
    ready_seconds: Seconds = Field(_DEFAULTS.ready_seconds, description="that loading may take")
    warm_seconds: Seconds = Field(_DEFAULTS.warm_seconds, description="that the first answers may take")
    bake_seconds: Seconds = Field(_DEFAULTS.bake_seconds, description="that the stable version stays whole at the end")
    drain_seconds: Seconds = Field(_DEFAULTS.drain_seconds, description="that streams may take to end, on the way back")
    approve_before_percent: list[Percent] = Field(
        default_factory=list, max_length=20, description="steps that somebody has to agree to"
    )
    allowed_bad_ratio: float = Field(_DEFAULTS.allowed_bad_share, gt=0, lt=0.9, description="of requests")
    bad_margin_ratio: float = Field(_DEFAULTS.bad_margin, gt=0, lt=1, description="more than the stable version")
    dry_run: bool = Field(False, description="say what would be done and what speaks against it, and do nothing")

    def meant(self) -> Plan:
        """This will give the plan that it stands for."""
        return Plan(
            strategy=self.strategy, shares=_points(self.steps_percent), replicas=self.replicas or 0,
            least_seconds=self.least_seconds, most_seconds=self.most_seconds, least_requests=self.least_requests,
            ready_seconds=self.ready_seconds, warm_seconds=self.warm_seconds, bake_seconds=self.bake_seconds,
            drain_seconds=self.drain_seconds, approve_before=_points(self.approve_before_percent),
            allowed_bad_share=self.allowed_bad_ratio, bad_margin=self.bad_margin_ratio,
        )  # fmt: skip


class RolloutNamed(BaseModel):
    """Which one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rollout_id: Name = Field(description="a rollout's id")


class StatusQuestion(Parameters):
    """All that are under way, or one."""

    id: Name | None = Field(None, description="one rollout, whether or not it has ended")


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        at = datetime.fromisoformat(decode_text_cursor(cursor, "at"))
    except ValueError as error:
        raise InvalidRequest("cursor is not one that this endpoint gave; start without one") from error
    return at, decode_text_cursor(cursor, "id")


def _points(percents: list[float]) -> tuple[int, ...]:
    return tuple(round(percent * 100) for percent in percents)


def _door(context: ApiContext) -> RolloutDoor:
    if context.rollouts is None:
        raise Conflict("this process does not drive rollouts")
    return context.rollouts


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "strategy": plan.strategy.value, "steps_percent": [share / 100 for share in plan.shares],
        "replicas": plan.replicas, "least_seconds": plan.least_seconds, "most_seconds": plan.most_seconds,
        "least_requests": plan.least_requests, "ready_seconds": plan.ready_seconds, "warm_seconds": plan.warm_seconds,
        "bake_seconds": plan.bake_seconds, "drain_seconds": plan.drain_seconds,
        "approve_before_percent": [share / 100 for share in plan.approve_before],
        "allowed_bad_ratio": plan.allowed_bad_share, "bad_margin_ratio": plan.bad_margin,
    }  # fmt: skip


def shown(stored: StoredRollout) -> dict[str, Any]:
    """This will show a rollout."""
    rollout = stored.rollout
    looks = rollout.looks
    requests = {
        "candidate_good": sum(k.candidate_good for k in looks), "candidate_bad": sum(k.candidate_bad for k in looks),
        "stable_good": sum(k.stable_good for k in looks), "stable_bad": sum(k.stable_bad for k in looks),
    }  # fmt: skip
    return {
        "rollout_id": rollout.rollout_id, "target": rollout.target, "state": rollout.state.value,
        "since": rollout.since, "because": rollout.because, "candidate": stored.settings["candidate"],
        "strategy": rollout.plan.strategy.value, "steps_percent": [share / 100 for share in rollout.plan.shares],
        "step": rollout.step, "share_percent": rollout.share / 100, "share_seen": rollout.share_seen,
        "requests": requests, "plan": _plan(rollout.plan), "started_at": stored.started_at,
        "ended_at": stored.ended_at, "unknown": {} if stored.ended_at else {"ended_at": "not_ended"},
    }  # fmt: skip


def _note(note: Note) -> dict[str, Any]:
    return {
        "at": note.at, "event": note.event, "state": note.state.value, "because": note.because,
        "details": dict(note.details),
    }  # fmt: skip


def _intent(intent: Intent) -> dict[str, Any]:
    value = {"share_percent": intent.value / 100} if intent.effect.value == "set_share" else {"replicas": intent.value}
    return {"key": intent.key, "effect": intent.effect.value, **value, "decided_at": intent.decided_at}


@router.post(
    "/rollout/start",
    **operation(
        "rollout_start", "Begin a rollout", scope="approve", errors=(404, 409, 422, 503), answer=ROLLOUT_SCHEMA
    ),
)  # fmt: skip
async def start(_: Annotated[Parameters, Query()], asked: NewRollout, context: Context) -> Response:
    """The side of the target without traffic is the candidate: start the new version there first.

    It begins within a second, and ends promoted, rolled back, or waiting for a person; GET /rollout/{id} says why at
    each point. With `dry_run` nothing is begun: the answer is the whole plan, and under `problems` what speaks against.
    """
    door = _door(context)
    if asked.dry_run:
        plan, settings, problems = await door.plan(asked.target, asked.meant())
        body = {"target": asked.target, "candidate": settings["candidate"], "plan": _plan(plan), "problems": problems}
        return answer(body)
    return answer(shown(await door.start(asked.target, asked.meant())))


@router.post(
    "/rollout/rollback",
    **operation(
        "rollout_rollback", "Take a rollout back", scope="approve", errors=(404, 409, 422, 503), answer=ROLLOUT_SCHEMA
    ),
)
async def roll_back(
    _: Annotated[Parameters, Query()], asked: RolloutNamed, context: Context, caller: WhoAsks
) -> Response:
    """The share goes to zero with the next turn, within a second; streams end before the candidate is taken away."""
    return await _commanded(context, asked.rollout_id, Command.ROLL_BACK, caller.name)


@router.get(
    "/rollout/status",
    **operation(
        "rollout_status", "Rollouts under way", scope="read", errors=(404, 422, 503), answer=listed(ROLLOUT_SCHEMA)
    ),
)
async def status(asked: Annotated[StatusQuestion, Query()], context: Context) -> Response:
    """Where each stands, and why."""
    store = _door(context).store
    found = await store.active() if asked.id is None else [await store.get(asked.id)]
    return answer({"items": [shown(stored) for stored in found], "next_cursor": None})


@router.get(
    "/rollout/history",
    **operation("rollout_history", "All rollouts, the newest first", scope="read", answer=listed(ROLLOUT_SCHEMA)),
)
async def history(asked: Annotated[Paged, Query()], context: Context) -> Response:
    """Those under way and those that have ended."""
    before = None
    if asked.cursor is not None:
        before = _position(asked.cursor)
    found = await _door(context).store.history(limit=asked.limit + 1, before=before)
    shown_here, more = found[: asked.limit], len(found) > asked.limit
    cursor = None
    if more:
        last = shown_here[-1]
        cursor = encode_cursor(at=last.started_at.isoformat(), id=last.rollout.rollout_id)
    return answer({"items": [shown(stored) for stored in shown_here], "next_cursor": cursor})


@router.get(
    "/rollout/{rollout_id}",
    **operation(
        "rollout_get", "One rollout with its history", scope="read", errors=(404, 422, 503), answer=WHOLE_SCHEMA
    ),
)
async def get(_: Annotated[Parameters, Query()], rollout_id: RolloutId, context: Context) -> Response:
    """Every transition with its reason, everything that it decided to do, and what came of each try."""
    store = _door(context).store
    stored = await store.get(rollout_id)
    notes, intents = await store.notes(rollout_id), await store.intents(rollout_id)
    more = {"notes": [_note(note) for note in notes], "intents": [_intent(intent) for intent in intents]}
    return answer(shown(stored) | more)


def _command(name: str, summary: str) -> dict[str, Any]:
    return operation(name, summary, scope="approve", errors=(404, 409, 422, 503), answer=ROLLOUT_SCHEMA)


@router.post("/rollout/{rollout_id}/promote", **_command("rollout_promote", "Go on now"))
async def promote(
    _: Annotated[Parameters, Query()], rollout_id: RolloutId, context: Context, caller: WhoAsks
) -> Response:
    """Agrees to the step that waits for somebody, or ends the present one before its time; the guard stays on."""
    return await _commanded(context, rollout_id, Command.PROMOTE, caller.name)


@router.post("/rollout/{rollout_id}/pause", **_command("rollout_pause", "Hold where it is"))
async def pause(
    _: Annotated[Parameters, Query()], rollout_id: RolloutId, context: Context, caller: WhoAsks
) -> Response:
    """The share stays, and so does the guard."""
    return await _commanded(context, rollout_id, Command.PAUSE, caller.name)


@router.post("/rollout/{rollout_id}/resume", **_command("rollout_resume", "Go on with the step that was held"))
async def resume(
    _: Annotated[Parameters, Query()], rollout_id: RolloutId, context: Context, caller: WhoAsks
) -> Response:
    """After a pause, or once a person has looked at what needed one; the step begins anew."""
    return await _commanded(context, rollout_id, Command.RESUME, caller.name)


async def _commanded(context: ApiContext, rollout_id: str, command: Command, by: str) -> Response:
    return answer(shown(await _door(context).command(rollout_id, command, by=by)))
