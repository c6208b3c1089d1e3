"""Objectives: made by REST or from OpenSLO documents, and checked against the histograms that they are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from control_plane.api.answers import answer, page
from control_plane.api.context import ApiContext, Context
from control_plane.api.documents import documents
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, Parameters, decode_cursor
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.api.slo_bodies import SloBody, body_schema, definitions
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.errors import InvalidRequest, UnknownResource
from control_plane.model.sample import Reading
from control_plane.model.slo import HISTOGRAMS, Indicator, Slo, SloDefinition
from control_plane.slo.buckets import explained, place
from control_plane.slo.scope import matches
from control_plane.storage import readings, slos
from control_plane.storage.readings import Selection

router = APIRouter(tags=["slo"])

MOST_SERVERS = 10_000
SloId = Annotated[Name, Path(description="an objective's id or name")]
Servers = Sequence[tuple[Entity, Reading | None]]

BUCKETS_SCHEMA = {
    "type": "array",
    "description": "how the limits lie among the bounds of the servers' histograms, for each set of bounds there is",
    "items": {
        "type": "object",
        "properties": {
            "histogram": TEXT,
            "limit_seconds": {"type": "number"},
            "servers_count": {"type": "integer"},
            "below_seconds": {"type": "number"},
            "above_seconds": {"type": ["number", "null"]},
            "exact": {"type": "boolean"},
            "detail": TEXT,
            "unknown": UNKNOWN,
        },
    },
}
SLO_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "slo_id": {"type": "integer"},
        "name": TEXT,
        "description": TEXT,
        "indicator": {"enum": [i.value for i in Indicator]},
        "objective": {"type": "string", "description": "the promise in words"},
        "target_ratio": {"type": "number"},
        "window_days": {"type": "integer"},
        "threshold_seconds": {"type": ["number", "null"]},
        "limits": {"type": "object", "additionalProperties": {"type": "number"}},
        "floor_tokens_per_second": {"type": ["number", "null"]},
        "scope": {"type": "object", "additionalProperties": TEXT},
        "route": MAYBE_TEXT,
        "labels": {"type": "object", "additionalProperties": TEXT},
        "created_at": TIME,
        "changed_at": TIME,
        "counted_since": {**TIME, "description": "moves back while the samples of before are counted"},
        "servers_count": {"type": "integer", "description": "servers in scope"},
        "buckets": BUCKETS_SCHEMA,
        "unknown": UNKNOWN,
    },
}


def in_words(definition: SloDefinition) -> str:
    """This will say a promise in a sentence."""
    share = f"{100 * definition.target_ratio:g} %"
    match definition.indicator:
        case Indicator.ERROR_RATE:
            said = f"{share} of requests end without an error"
        case Indicator.AVAILABILITY:
            said = f"a server answers and makes progress {share} of the time"
        case Indicator.THROUGHPUT_FLOOR:
            said = f"while requests wait, {definition.floor_tokens_per_second:g} tokens/s come out {share} of the time"
        case Indicator.GOODPUT:
            limits = " and ".join(f"{name} ≤ {limit:g}" for name, limit in sorted(definition.limits.items()))
            said = f"{share} of requests keep {limits}"
        case _:
            of = "tokens" if definition.indicator is Indicator.INTER_TOKEN else "requests"
            said = f"{share} of {of} have {HISTOGRAMS[definition.indicator]} ≤ {definition.threshold_seconds:g}"
    return f"{said}, over {definition.window_days} days"


def limits_of(definition: SloDefinition) -> dict[str, float]:
    """This will give the limits by histogram."""
    if definition.threshold_seconds is not None:
        return {HISTOGRAMS[definition.indicator]: definition.threshold_seconds}
    return dict(definition.limits)


def buckets(definition: SloDefinition, servers: Servers) -> list[dict[str, Any]]:
    """This will say how each limit lies among the bounds that servers really have."""
    out = []
    for histogram, limit in limits_of(definition).items():
        counts: dict[tuple[float, ...], int] = {}
        for _, reading in servers:
            found = reading.distributions.get(histogram) if reading else None
            if found is not None:
                counts[found.bounds] = counts.get(found.bounds, 0) + 1
        for bounds, count in sorted(counts.items()):
            at = place(bounds, limit)
            item = {
                "histogram": histogram, "limit_seconds": limit, "servers_count": count, "below_seconds": at.below,
                "above_seconds": at.above, "exact": at.is_exact, "detail": explained(at, limit),
            }  # fmt: skip
            if at.above is None:
                item["unknown"] = {"above_seconds": "above_the_last_bound"}
            out.append(item)
    return out


def shown(slo: Slo, servers: Servers) -> dict[str, Any]:
    """This will show an objective, with how it can be judged by the servers in its scope."""
    definition = slo.definition
    item: dict[str, Any] = {"slo_id": slo.slo_id, **slos.said(definition), "objective": in_words(definition)}
    item |= {"created_at": slo.created_at, "changed_at": slo.changed_at, "counted_since": slo.covered_since}
    item |= {"servers_count": len(servers), "buckets": buckets(definition, servers)}
    why = {"threshold_seconds": "not_of_this_indicator", "floor_tokens_per_second": "not_of_this_indicator"}
    why["route"] = "not_named"
    return item | {"unknown": {name: reason for name, reason in why.items() if item[name] is None}}


async def every_server(context: ApiContext) -> Servers:
    """This will give all servers with their newest samples."""
    selection = Selection(kind=EntityKind.INFERENCE_SERVER)
    return await readings.latest(context.database.engine, context.dictionaries, "inference", selection, MOST_SERVERS)


def in_scope(definition: SloDefinition, servers: Servers) -> Servers:
    """This will give those of the servers that a definition is about."""
    return [(entity, reading) for entity, reading in servers if matches(definition.scope, entity)]


async def find_slo(context: ApiContext, name: str) -> Slo:
    """This will give the objective with that name or id. Raises UnknownResource."""
    found = await slos.named(context.database.engine, [name])
    if not found:
        raise UnknownResource(f"there is no objective {name[:64]!r}; GET /slo lists those there are")
    return next((slo for slo in found if slo.definition.name == name), found[0])


@router.get("/slo", **operation("slo_list", "Every objective", scope="read", answer=listed(SLO_SCHEMA)))
async def list_slos(asked: Annotated[Paged, Query()], context: Context) -> Response:
    """As configured, with the promise in words, and how its limits lie among the servers' histogram bounds."""
    found = await slos.find(context.database.engine, after=decode_cursor(asked.cursor, "after"), limit=asked.limit + 1)
    servers = await every_server(context)
    items = [shown(slo, in_scope(slo.definition, servers)) for slo in found[: asked.limit]]
    return page(items, more=len(found) > asked.limit, last_id=found[: asked.limit][-1].slo_id if items else 0)


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        body_schema(),
                        {
                            "type": "object",
                            "description": "an OpenSLO document, v1 or v2alpha",
                            "required": ["apiVersion"],
                        },
                    ]
                }
            },
            "application/yaml": {
                "schema": {"type": "string", "description": "the same, in YAML; several parts at once"}
            },
        },
    }
}


def _configure_operation() -> dict[str, Any]:
    described = operation(
        "slo_configure", "Make or change objectives", scope="admin", errors=(400, 413, 422, 503),
        answer=listed(SLO_SCHEMA),
    )  # fmt: skip
    described["openapi_extra"] |= _BODY
    return described


@router.post("/slo/configure", **_configure_operation())
async def configure(_: Annotated[Parameters, Query()], request: Request, context: Context) -> Response:
    """One objective, or an OpenSLO document with its indicators, as JSON or YAML; the same name again changes it.

    A limit between two bounds of a histogram is taken, and `buckets` says what it costs in certainty; one above the
    last bound of every server in scope is refused. A change of what is counted begins the count anew.
    """
    try:
        asked = definitions(await documents(request))
    except RequestValidationError as error:
        raise InvalidRequest(*_in_places(error)) from None
    servers = await every_server(context)
    _refuse_unjudgeable(asked, servers)
    made = await slos.write(context.database.engine, asked, context.clock.now())
    items = [shown(slo, in_scope(slo.definition, servers)) for slo in made]
    return answer({"items": items, "next_cursor": None})


def _in_places(error: RequestValidationError) -> tuple[str, list[tuple[str, str]]]:
    fields = ", ".join(SloBody.model_fields)
    wrong = []
    for found in error.errors():
        parts = [str(part)[:64] for part in found["loc"][1:]]
        message = str(found["msg"])
        if found["type"] == "extra_forbidden":
            known = fields if len(parts) == 1 else "model, engine, server, node, namespace"
            message = f"there is no field {parts[-1]} here; accepted: {known}"
        wrong.append(("/" + "/".join(parts) if parts else "", message))
    return "; ".join(f"{place or 'body'}: {why}" for place, why in wrong[:3]), wrong


def _refuse_unjudgeable(asked: Sequence[SloDefinition], servers: Servers) -> None:
    """This will refuse a limit of which no server could ever tell who keeps it."""
    wrong = []
    for definition in asked:
        found: Mapping[str, list[dict[str, Any]]] = {}
        found = {name: [] for name in limits_of(definition)}
        for item in buckets(definition, in_scope(definition, servers)):
            found[item["histogram"]].append(item)
        wrong += [
            (f"/{definition.name[:64]}", f"{name}: {items[0]['detail']}")
            for name, items in found.items()
            if items and all(item["above_seconds"] is None for item in items)
        ]
    if wrong:
        raise InvalidRequest("; ".join(why for _, why in wrong[:3]), wrong)


@router.get(
    "/slo/{slo_id}", **operation("slo_get", "One objective", scope="read", answer=SLO_SCHEMA, errors=(404, 422, 503))
)
async def get_slo(slo_id: SloId, _: Annotated[Parameters, Query()], context: Context) -> Response:
    """As configured, with the promise in words, and how its limits lie among the servers' histogram bounds."""
    slo = await find_slo(context, slo_id)
    return answer(shown(slo, in_scope(slo.definition, await every_server(context))))


@router.delete(
    "/slo/{slo_id}",
    **operation(
        "slo_delete", "Take an objective back", scope="admin", errors=(404, 422, 503),
        answer={"type": "object", "properties": {"deleted": SLO_SCHEMA}},
    ),
)  # fmt: skip
async def delete_slo(slo_id: SloId, _: Annotated[Parameters, Query()], context: Context) -> Response:
    """With all that was counted for it. The answer shows it for the last time."""
    slo = await find_slo(context, slo_id)
    await slos.remove(context.database.engine, slo.slo_id)
    return answer({"deleted": shown(slo, in_scope(slo.definition, await every_server(context)))})
