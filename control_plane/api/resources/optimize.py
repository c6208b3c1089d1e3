"""Recommendations: made now, listed, explained, and decided about by people."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from control_plane.api import recommendations as words
from control_plane.api import scope
from control_plane.api.answers import answer, page
from control_plane.api.audit_trail import Changed
from control_plane.api.context import ApiContext, Context, WhoAsks
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, OfServers, Paged, Parameters, decode_cursor
from control_plane.api.recommendations import KEPT, OUTCOME
from control_plane.decisions.lifecycle import may
from control_plane.model.access import Caller
from control_plane.model.decision import ALIVE, RecommendationState
from control_plane.model.errors import InvalidRequest
from control_plane.model.recommendation import Recommendation, RecommendationKind
from control_plane.stages.keeping import keep
from control_plane.stages.recommending import Limits, Outcome, outcomes
from control_plane.storage import recommendations

router = APIRouter(tags=["optimisation"])

# Policies think for up to a second about each server; a consolidation for up to eight.
SECONDS = 60.0
RecommendationId = Annotated[int, Path(ge=1, le=2**53, description="a recommendation's id")]


class Scoped(BaseModel):
    """Of which servers; what is left out narrows nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: list[Name] = Field(default_factory=list, max_length=100, description="server ids or URLs")
    model: list[Name] = Field(default_factory=list, max_length=100, description="model names")
    node: list[Name] = Field(default_factory=list, max_length=100, description="node names or ids")


class ScaledBody(Scoped):
    """Of which services, and within what."""

    least_replicas: int = Field(1, ge=0, le=100_000, description="of each service; 0 with may_sleep")
    most_replicas: int = Field(1000, ge=0, le=100_000, description="of each service")
    may_sleep: bool = Field(False, description="something wakes a service without replicas when a request comes")
    cold_start_seconds: float | None = Field(
        None, gt=0, le=86_400, allow_inf_nan=False, description="from the order of a replica to its first request (180)"
    )


class Reason(BaseModel):
    """Why it is decided so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field("", max_length=2000, description="kept with the decision")


_ANSWER = listed(OUTCOME)


async def _made(
    context: ApiContext, kind: RecommendationKind, body: Scoped, limits: Limits | None = None
) -> list[dict[str, Any]]:
    """This will ask the policies of one kind, keep what they recommend, and show what each said."""
    asked = OfServers(
        server=body.server, model=body.model, node=body.node, limit=1000, cursor=None, namespace=[], pod=[]
    )
    selection = await scope.of_servers(context, asked)
    now = context.clock.now()
    found = await outcomes(context.database, context.dictionaries, kind, selection, now, limits=limits or Limits())
    return [await _kept_and_shown(context, each) for each in found]


async def _kept_and_shown(context: ApiContext, outcome: Outcome) -> dict[str, Any]:
    item: dict[str, Any] = {
        "subject_kind": outcome.subject_kind, "subject": outcome.subject, "server_id": outcome.subject_id,
        "unknown": {} if outcome.subject_id is not None else {"server_id": "not_of_one_server"},
    }  # fmt: skip
    if not isinstance(outcome.found, Recommendation):
        said = {"because": outcome.found.because, "explanation": outcome.found.explanation}
        return item | {"outcome": "no_action", "no_action": said}
    kept = await keep(context.database, outcome, outcome.found, context.clock.now())
    return item | {"outcome": "recommendation", "recommendation": words.shown(kept)}


def _operation(operation_id: str, summary: str) -> dict[str, Any]:
    return operation(
        operation_id, summary, scope="operate", rate="heavy", seconds=SECONDS, answer=_ANSWER,
        errors=(404, 413, 422, 503),
    )  # fmt: skip


async def _answered(context: ApiContext, kind: RecommendationKind, body: Scoped) -> Response:
    limits = None
    if isinstance(body, ScaledBody):
        if body.least_replicas > body.most_replicas:
            raise InvalidRequest("least_replicas is more than most_replicas; nothing satisfies that")
        limits = Limits(
            least=body.least_replicas, most=body.most_replicas, may_sleep=body.may_sleep,
            cold_start_seconds=body.cold_start_seconds,
        )  # fmt: skip
    return answer({"items": await _made(context, kind, body, limits), "next_cursor": None})


@router.post("/optimize/scale-up", **_operation("optimize_scale_up", "More replicas, where demand needs them"))
async def scale_up(_: Annotated[Parameters, Query()], context: Context, body: ScaledBody | None = None) -> Response:
    """For each service (the servers of one model): how many, what they cost, and what that stands on; or why not."""
    return await _answered(context, RecommendationKind.SCALE_UP, body or ScaledBody())


@router.post(
    "/optimize/scale-down", **_operation("optimize_scale_down", "Fewer replicas, where those that are left hold it")
)
async def scale_down(_: Annotated[Parameters, Query()], context: Context, body: ScaledBody | None = None) -> Response:
    """For each service: how many may go, and what that saves; none at all where nobody asks and something wakes it."""
    return await _answered(context, RecommendationKind.SCALE_DOWN, body or ScaledBody())


@router.post("/optimize/consolidate", **_operation("optimize_consolidate", "The same engines on fewer GPUs"))
async def consolidate(_: Annotated[Parameters, Query()], context: Context, body: Scoped | None = None) -> Response:
    """Which engines to move where. GPUs whose price, kind or use is unknown are left out."""
    return await _answered(context, RecommendationKind.CONSOLIDATE, body or Scoped())


@router.post("/optimize/kv-cache", **_operation("optimize_kv_cache", "Room in the KV cache"))
async def kv_cache(_: Annotated[Parameters, Query()], context: Context, body: Scoped | None = None) -> Response:
    """For each server: the flags that make room where the KV cache binds, and what that brings; or why none."""
    return await _answered(context, RecommendationKind.KV_CACHE, body or Scoped())


@router.post("/optimize/quantize", **_operation("optimize_quantize", "Weights in fewer bits"))
async def quantize(_: Annotated[Parameters, Query()], context: Context, body: Scoped | None = None) -> Response:
    """For each server: the format that its GPUs and its engine can take and that serves most; or why none."""
    return await _answered(context, RecommendationKind.QUANTIZE, body or Scoped())


@router.post("/optimize/batch", **_operation("optimize_batch", "More requests at once"))
async def batch(_: Annotated[Parameters, Query()], context: Context, body: Scoped | None = None) -> Response:
    """For each server: the limit on requests at once, where it binds and the hardware has room; or why none."""
    return await _answered(context, RecommendationKind.BATCH, body or Scoped())


@router.post("/optimize/parallelism", **_operation("optimize_parallelism", "The same GPUs, divided otherwise"))
async def parallelism(_: Annotated[Parameters, Query()], context: Context, body: Scoped | None = None) -> Response:
    """For each server: how its GPUs are divided among tensor, pipeline, data and expert ranks; or why that stays."""
    return await _answered(context, RecommendationKind.PARALLELISM, body or Scoped())


# -- what is stored ------------------------------------------------------------------------------------


class OfRecommendations(Paged):
    """Which of those that are stored."""

    state: list[RecommendationState] = Field(
        default_factory=list, max_length=10, description="default: open, approved, executing; may be repeated"
    )
    kind: list[RecommendationKind] = Field(default_factory=list, max_length=10, description="may be repeated")
    server: list[Name] = Field(default_factory=list, max_length=100, description="server id or URL; may be repeated")
    model: list[Name] = Field(default_factory=list, max_length=100, description="a service's model; may be repeated")


_LIST: dict[str, Any] = {"scope": "read", "answer": listed(KEPT), "errors": (404, 422, 503)}


async def _list(asked: OfRecommendations, context: ApiContext) -> Response:
    engine = context.database.engine
    await recommendations.expire(engine, context.clock.now())
    offset = decode_cursor(asked.cursor, "after")
    subject_ids = await scope.server_ids(context, asked.server)
    found = await recommendations.find(
        engine, states=asked.state or ALIVE, kinds=[str(kind) for kind in asked.kind] or None, subject_ids=subject_ids,
        subjects=asked.model or None, offset=offset, limit=asked.limit + 1,
    )  # fmt: skip
    items = [words.shown(kept) for kept in found[: asked.limit]]
    return page(items, more=len(found) > asked.limit, last_id=offset + len(items))


@router.get(
    "/optimize/recommendations",
    **operation("optimize_recommendations", "What is recommended, ranked by what it saves", **_LIST),
)
async def list_recommendations(asked: Annotated[OfRecommendations, Query()], context: Context) -> Response:
    """Those that are open, approved or under way. One that was not found again for a day is gone."""
    return await _list(asked, context)


@router.post(
    "/optimize/recommendations",
    **operation("optimize_recommendations_post", "The same, as published scripts ask for it", **_LIST),
)
async def post_recommendations(asked: Annotated[OfRecommendations, Query()], context: Context) -> Response:
    """As GET; nothing is changed."""
    return await _list(asked, context)


@router.get(
    "/optimize/recommendations/{recommendation_id}",
    **operation("optimize_recommendation", "One recommendation", scope="read", answer=KEPT, errors=(404, 422, 503)),
)
async def get_recommendation(
    recommendation_id: RecommendationId, _: Annotated[Parameters, Query()], context: Context
) -> Response:
    """With its evidence and prediction, in words, and what really came once it was carried out."""
    await recommendations.expire(context.database.engine, context.clock.now())
    return answer(words.shown(await recommendations.get(context.database.engine, recommendation_id)))


async def _decide(
    context: ApiContext, caller: Caller, changed: Changed, recommendation_id: int, body: Reason | None,
    after: Literal[RecommendationState.APPROVED, RecommendationState.REJECTED],
) -> Response:  # fmt: skip
    engine, now = context.database.engine, context.clock.now()
    await recommendations.expire(engine, now)
    known = await recommendations.get(engine, recommendation_id)
    changed.was({"state": known.state})
    before = [state for state in RecommendationState if may(state, after)]
    kept = await recommendations.move(
        engine, recommendation_id, before=before, after=after, now=now, by=f"{caller.kind} {caller.name}",
        reason=body.reason or None if body else None,
    )  # fmt: skip
    changed.became({"state": kept.state})
    return answer(words.shown(kept))


def _decision(operation_id: str, summary: str) -> dict[str, Any]:
    return operation(operation_id, summary, scope="approve", answer=KEPT, errors=(404, 409, 413, 422, 503))


@router.post(
    "/optimize/recommendations/{recommendation_id}/approve",
    **_decision("optimize_approve", "Agree to a recommendation"),
)
async def approve(
    recommendation_id: RecommendationId, _: Annotated[Parameters, Query()], context: Context, caller: WhoAsks,
    changed: Changed, body: Reason | None = None,
) -> Response:  # fmt: skip
    """Only an open one. It does not begin anything by itself: POST /optimize/execute does."""
    return await _decide(context, caller, changed, recommendation_id, body, RecommendationState.APPROVED)


@router.post(
    "/optimize/recommendations/{recommendation_id}/reject",
    **_decision("optimize_reject", "Turn a recommendation down"),
)
async def reject(
    recommendation_id: RecommendationId, _: Annotated[Parameters, Query()], context: Context, caller: WhoAsks,
    changed: Changed, body: Reason | None = None,
) -> Response:  # fmt: skip
    """One that is open or approved. The same change found again is a new recommendation."""
    return await _decide(context, caller, changed, recommendation_id, body, RecommendationState.REJECTED)
