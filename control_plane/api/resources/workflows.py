"""Workflows: from looking to recording, begun, watched and answered; executions are those about one recommendation."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from control_plane.api import scope
from control_plane.api.answers import answer, page
from control_plane.api.context import ApiContext, Context, WhoAsks
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, Parameters, decode_cursor
from control_plane.api.resources.optimize import Reason, Scoped
from control_plane.api.schemas import TEXT, TIME, UNKNOWN
from control_plane.model.access import Caller
from control_plane.model.decision import RecommendationState
from control_plane.model.errors import Conflict, InvalidRequest
from control_plane.model.recommendation import RecommendationKind
from control_plane.model.workflow import ENDED, STEPS, Workflow, WorkflowState
from control_plane.storage import recommendations, workflows

router = APIRouter(tags=["workflows"])

WorkflowId = Annotated[Name, Path(description="a workflow's id")]
Seconds = Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False)]
GRAPH_VERSION = 1
ALIVE = tuple(state for state in WorkflowState if state not in ENDED)
_MAYBE_ID = {"type": ["integer", "null"]}
WORKFLOW: dict[str, Any] = {
    "type": "object",
    "properties": {
        "workflow_id": TEXT, "state": {"enum": [state.value for state in WorkflowState]}, "because": TEXT,
        "recommendation_id": _MAYBE_ID, "asked": {"type": "object"}, "started_at": TIME, "started_by": TEXT,
        "due_at": TIME, "ended_at": TIME, "unknown": UNKNOWN,
    },
}  # fmt: skip
_STEP = {"type": "object", "properties": {"step": TEXT, "at": TIME, "detail": {"type": "object"}}}
WHOLE: dict[str, Any] = {
    "type": "object",
    "properties": {
        **WORKFLOW["properties"],
        "graph": {"type": "object", "description": "its steps, what follows what, and where it stands"},
        "steps": {"type": "array", "items": _STEP, "description": "what it did, in order"},
    },
}
EDGES = (
    ("collect", "analyse"), ("analyse", "find"), ("find", "predict"), ("predict", "rank"), ("rank", "approve"),
    ("approve", "execute"), ("execute", "watch"), ("watch", "watch"), ("watch", "record"),
)  # fmt: skip


class RunBody(Scoped):
    """What a workflow is about; what is left out narrows nothing."""

    kinds: list[RecommendationKind] = Field(default_factory=list, max_length=10, description="policies to ask; all")
    watch_seconds: Seconds = Field(60.0, description="between two looks at what came of it")
    watch_looks: int = Field(3, ge=1, le=1000, description="at most")


class Answer(Reason):
    """A person's answer."""

    approved: bool = Field(description="whether the chosen recommendation may be carried out")


class ExecuteBody(BaseModel):
    """Which recommendation is carried out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recommendation_id: int = Field(ge=1, le=2**53, description="one that is approved")
    dry_run: bool = Field(True, description="say what would be done; false needs an actuator, which is not there yet")
    watch_seconds: Seconds = Field(60.0, description="between two looks at what came of it")
    watch_looks: int = Field(3, ge=1, le=1000, description="at most")


class OfWorkflows(Paged):
    """Which of them."""

    state: list[WorkflowState] = Field(default_factory=list, max_length=10, description="default: any; may be repeated")


def shown(found: Workflow) -> dict[str, Any]:
    """This will show one."""
    item: dict[str, Any] = {
        "workflow_id": found.workflow_id, "state": found.state, "because": found.because,
        "recommendation_id": found.recommendation_id, "asked": _said(found.asked), "started_at": found.started_at,
        "started_by": found.started_by, "due_at": found.due_at, "ended_at": found.ended_at,
    }  # fmt: skip
    why = {
        "recommendation_id": "none_is_chosen", "due_at": "nothing_to_do_until_somebody_acts",
        "ended_at": "it_has_not_ended",
    }  # fmt: skip
    if found.ended_at is not None:
        why["due_at"] = "it_has_ended"
    return item | {"unknown": {name: reason for name, reason in why.items() if item[name] is None}}


async def _whole(context: ApiContext, workflow_id: str) -> Response:
    found = await workflows.get(context.database.engine, workflow_id)
    done = await workflows.steps(context.database.engine, workflow_id)
    names = [step.step.partition(" ")[0] for step in done]
    standing = next((step for step in STEPS if step not in names), STEPS[-1])
    graph: dict[str, Any] = {
        "version": found.graph_version, "nodes": list(STEPS), "edges": [list(edge) for edge in EDGES],
        "done": list(dict.fromkeys(names)), "at": None if found.ended_at is not None else standing,
    }  # fmt: skip
    graph["unknown"] = {} if graph["at"] else {"at": "it_has_ended"}
    steps = [{"step": step.step, "at": step.at, "detail": _said(step.detail)} for step in done]
    return answer(shown(found) | {"graph": graph, "steps": steps})


def _said(detail: Any) -> Any:
    """This will leave out what a step did not say."""
    if isinstance(detail, dict):
        return {name: _said(value) for name, value in detail.items() if value is not None}
    return [_said(each) for each in detail] if isinstance(detail, list) else detail


async def _start(
    context: ApiContext, caller: Caller, asked: dict[str, Any], recommendation_id: int | None
) -> Workflow:  # fmt: skip
    return await workflows.start(
        context.database.engine, workflow_id=secrets.token_hex(8), graph_version=GRAPH_VERSION, asked=asked,
        recommendation_id=recommendation_id, by=f"{caller.kind} {caller.name}", now=context.clock.now(),
    )  # fmt: skip


async def _listed(asked: OfWorkflows, context: ApiContext, *, only_executions: bool) -> Response:
    offset = decode_cursor(asked.cursor, "after")
    found = await workflows.find(
        context.database.engine, states=asked.state, only_executions=only_executions, offset=offset,
        limit=asked.limit + 1,
    )  # fmt: skip
    items = [shown(each) for each in found[: asked.limit]]
    return page(items, more=len(found) > asked.limit, last_id=offset + len(items))


@router.get("/workflows", **operation("workflows", "Every workflow, the newest first", scope="read",
                                      answer=listed(WORKFLOW)))  # fmt: skip
async def list_workflows(asked: Annotated[OfWorkflows, Query()], context: Context) -> Response:
    """Where each stands and why; `due_at` is when it goes on by itself."""
    return await _listed(asked, context, only_executions=False)


@router.get("/workflows/{workflow_id}", **operation("workflow", "One workflow", scope="read", answer=WHOLE,
                                                    errors=(404, 422, 503)))  # fmt: skip
async def get_workflow(workflow_id: WorkflowId, _: Annotated[Parameters, Query()], context: Context) -> Response:
    """Its graph, where it stands in it, and what it did in each step."""
    return await _whole(context, workflow_id)


@router.post(
    "/workflows/run",
    **operation("workflow_run", "Begin a workflow", scope="operate", answer=WORKFLOW, errors=(404, 413, 422, 503)),
)
async def run(
    _: Annotated[Parameters, Query()], context: Context, caller: WhoAsks, body: RunBody | None = None
) -> Response:
    """It looks, asks policies, chooses what rails allow, and waits for a person before it goes on."""
    wanted = body or RunBody()
    asked = {
        "kinds": [str(kind) for kind in wanted.kinds], "models": wanted.model,
        "server_ids": await scope.server_ids(context, wanted.server) or [],
        "node_ids": await scope.node_ids(context, wanted.node) or [],
        "watch_seconds": wanted.watch_seconds, "watch_looks": wanted.watch_looks,
    }  # fmt: skip
    return answer(shown(await _start(context, caller, asked, None)))


@router.post(
    "/workflows/{workflow_id}/resume",
    **operation("workflow_resume", "Agree, or not, to what a workflow has chosen", scope="approve", answer=WORKFLOW,
                errors=(404, 409, 413, 422, 503)),
)  # fmt: skip
async def resume(
    workflow_id: WorkflowId, _: Annotated[Parameters, Query()], context: Context, caller: WhoAsks, body: Answer
) -> Response:
    """Only while it waits for that; it goes on within seconds."""
    said = {"approved": body.approved, "by": f"{caller.kind} {caller.name}", "reason": body.reason or None}
    found = await workflows.answer(
        context.database.engine, workflow_id, said, only_in=[WorkflowState.AWAITING_APPROVAL], now=context.clock.now()
    )
    return answer(shown(found))


# -- executions ----------------------------------------------------------------------------------------


@router.post(
    "/optimize/execute",
    **operation("optimize_execute", "Carry a recommendation out", scope="approve", answer=WORKFLOW,
                errors=(404, 409, 413, 422, 503)),
)  # fmt: skip
async def execute(body: ExecuteBody, _: Annotated[Parameters, Query()], context: Context, caller: WhoAsks) -> Response:
    """One that is approved. It says step by step what would be done, watches whether somebody does it, and records
    what came. Servers behind a router that the operator has named are changed by POST /rollout/start."""
    if not body.dry_run:
        raise InvalidRequest("no actuator carries this out by itself yet: ask with dry_run, or POST /rollout/start")
    kept = await recommendations.get(context.database.engine, body.recommendation_id)
    if kept.state is not RecommendationState.APPROVED:
        raise Conflict(f"recommendation {body.recommendation_id} is {kept.state}; approve it first")
    asked = {
        "recommendation_id": body.recommendation_id, "watch_seconds": body.watch_seconds,
        "watch_looks": body.watch_looks,
        "approved": {"approved": True, "by": kept.decided_by, "reason": kept.reason},
    }  # fmt: skip
    return answer(shown(await _start(context, caller, asked, body.recommendation_id)))


@router.get("/optimize/executions", **operation("optimize_executions", "Every execution, the newest first",
                                                scope="read", answer=listed(WORKFLOW)))  # fmt: skip
async def executions(asked: Annotated[OfWorkflows, Query()], context: Context) -> Response:
    """Workflows that are about one recommendation."""
    return await _listed(asked, context, only_executions=True)


@router.get("/optimize/executions/{workflow_id}", **operation("optimize_execution", "One execution", scope="read",
                                                              answer=WHOLE, errors=(404, 422, 503)))  # fmt: skip
async def execution(workflow_id: WorkflowId, _: Annotated[Parameters, Query()], context: Context) -> Response:
    """Its steps, with what was promised, what would be done, and what was seen."""
    return await _whole(context, workflow_id)


@router.post(
    "/optimize/executions/{workflow_id}/cancel",
    **operation("optimize_cancel", "Stop an execution", scope="approve", answer=WORKFLOW,
                errors=(404, 409, 413, 422, 503)),
)  # fmt: skip
async def cancel(
    workflow_id: WorkflowId, _: Annotated[Parameters, Query()], context: Context, caller: WhoAsks,
    body: Reason | None = None,
) -> Response:  # fmt: skip
    """It ends within seconds, and records how far it came."""
    said = {"cancel": True, "approved": False, "by": f"{caller.kind} {caller.name}"}
    said |= {"reason": body.reason} if body and body.reason else {}
    found = await workflows.answer(context.database.engine, workflow_id, said, only_in=ALIVE, now=context.clock.now())
    return answer(shown(found))
