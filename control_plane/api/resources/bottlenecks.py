"""What binds inference servers, and GPUs that none has: now, and over a window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from control_plane.analysis.bottlenecks.evidence import SERIES
from control_plane.analysis.bottlenecks.following import WINDOW
from control_plane.api import scope
from control_plane.api.answers import age_seconds, evidence, page, server_identity
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import OfServers, Window, Windowed, decode_cursor, window
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.bottleneck import Bottleneck, Spell, Verdict
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.errors import InvalidRequest
from control_plane.storage import bottlenecks
from control_plane.storage.readings import Selection, select_entities

router = APIRouter(tags=["analysis"])

DEFAULT_WINDOW = timedelta(hours=1)
# Verdicts are written a few times a minute; a server may be looked at every five minutes.
STALE = timedelta(minutes=15)
MOST_SPELLS = 10_000  # of all servers of one answer
MOST_SHOWN = 20  # of one server
_NAMES = [b.value for b in Bottleneck]
_MAYBE_NAME = {"enum": [*_NAMES, None]}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_JUDGED = (
    "bottleneck", "since", "judged_at", "age_seconds", "score", "runner_up", "runner_up_score", "evidence",
)  # fmt: skip
ITEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "server_id": {"type": ["integer", "null"]},
        "url": MAYBE_TEXT,
        "gpu": {"type": ["string", "null"], "description": "of a GPU that no inference server has"},
        "node": TEXT,
        "engine": MAYBE_TEXT,
        "model": MAYBE_TEXT,
        "state": MAYBE_TEXT,
        "bottleneck": {**_MAYBE_NAME, "description": "what binds now; docs/bottlenecks.md says when each does"},
        "since": TIME,
        "judged_at": {**TIME, "description": "when the newest window that was judged ended"},
        "age_seconds": _MAYBE_NUMBER,
        "score": {**_MAYBE_NUMBER, "description": "0..1: how strongly the evidence says so"},
        "runner_up": {**_MAYBE_NAME, "description": "what would bind next"},
        "runner_up_score": _MAYBE_NUMBER,
        "evidence": {"type": ["object", "null"]},
        "remedies": {"type": "array", "items": TEXT, "description": "in the order in which to try them"},
        "cannot_tell": {
            "type": "object",
            "additionalProperties": TEXT,
            "description": "classes that the metrics at hand cannot speak to, and what would be needed",
        },
        "over_window": {
            "type": "array",
            "description": "of the asked window, how long each bound, the longest first",
            "items": {
                "type": "object",
                "properties": {
                    "bottleneck": {"enum": _NAMES}, "seconds": {"type": "number"}, "ratio": {"type": "number"},
                },
            },
        },
        "spells": {
            "type": "array",
            "description": f"the newest {MOST_SHOWN} of the window, the newest first",
            "items": {
                "type": "object",
                "properties": {
                    "bottleneck": {"enum": _NAMES}, "since": TIME, "until": TIME, "score": {"type": "number"},
                },
            },
        },
        "unknown": UNKNOWN,
    },
}  # fmt: skip


class BottlenecksQuestion(OfServers, Windowed):
    """Verdicts on servers, or on GPUs that none has; by default over the last hour."""

    of: Literal["server", "gpu"] = Field("server", description="gpu: the GPUs that no inference server has")
    bottleneck: list[Bottleneck] = Field(
        default_factory=list, max_length=len(Bottleneck), description="only where it binds now; may be repeated"
    )


@router.get(
    "/analysis/bottlenecks",
    **operation(
        "analysis_bottlenecks", "What binds each inference server, and what to do about it", scope="read",
        answer=listed(ITEM_SCHEMA, since=TIME, until=TIME), errors=(404, 422, 503),
    ),
)  # fmt: skip
async def analysis_bottlenecks(asked: Annotated[BottlenecksQuestion, Query()], context: Context) -> Response:
    """The constraint that binds, since when, with the runner-up, the numbers that say so, and remedies in order.

    Judged at every sample from those of the last quarter minute; what binds changes when another class has held for
    half a minute, so that it does not flap. Without GPU metrics some classes cannot be told apart, and without an
    engine's others: `cannot_tell` names them.
    """
    now = context.clock.now()
    over = window(asked, now, DEFAULT_WINDOW)
    standing = await bottlenecks.now(context.database.engine)
    selection = await _selection(context, asked, standing)
    found = await select_entities(context.database.engine, selection, asked.limit + 1)
    shown = found[: asked.limit]
    ids = [entity.entity_id for entity in shown]
    before = await bottlenecks.before(
        context.database.engine, ids, since=over.since, until=over.until, limit=MOST_SPELLS
    )
    items = [_item(e, standing.get(e.entity_id), before.get(e.entity_id, []), over, now) for e in shown]
    return page(
        items, more=len(found) > asked.limit, last_id=shown[-1].entity_id if shown else 0,
        since=over.since, until=over.until,
    )  # fmt: skip


async def _selection(context: ApiContext, asked: BottlenecksQuestion, standing: Mapping[int, Spell]) -> Selection:
    """This will select what is asked about. Raises InvalidRequest and UnknownResource."""
    binding = {i for i, spell in standing.items() if spell.verdict.bottleneck in asked.bottleneck}
    if asked.of == "server":
        selection = await scope.of_servers(context, asked)
        if not asked.bottleneck:
            return selection
        of = binding if selection.entity_ids is None else binding & set(selection.entity_ids)
        return _narrowed(selection, of)
    if asked.server or asked.model or asked.namespace or asked.pod:
        raise InvalidRequest("GPUs that no server has have no server, model, namespace or pod; name nodes")
    selection = Selection(
        kind=EntityKind.GPU, node_ids=await scope.node_ids(context, asked.node),
        after=decode_cursor(asked.cursor, "after"),
    )  # fmt: skip
    return _narrowed(selection, binding if asked.bottleneck else standing.keys())


def _narrowed(selection: Selection, ids: Iterable[int]) -> Selection:
    return replace(selection, entity_ids=sorted(ids))


def _item(entity: Entity, spell: Spell | None, before: Sequence[Spell], over: Window, now: datetime) -> dict[str, Any]:
    is_server = entity.kind is EntityKind.INFERENCE_SERVER
    named: dict[str, Any] = server_identity(entity) | {"gpu": None}
    if not is_server:
        named = dict.fromkeys(named) | {"gpu": entity.key, "node": entity.node_name}
    unknown = {name: "has_a_server" if is_server else "no_server" for name, value in named.items() if value is None}
    if is_server:
        unknown |= {name: "not_sent" for name in ("engine", "model", "state") if named[name] is None}
    why = _why_not(entity, spell, now)
    spells = [*([] if spell is None else [spell]), *before]
    within = [s for s in spells if s.until > over.since and s.since < over.until]
    if spell is None or why is not None:
        judged: dict[str, Any] = dict.fromkeys(_JUDGED) | {"remedies": [], "cannot_tell": {}}
        unknown |= dict.fromkeys(_JUDGED, why or "not_judged_yet")
    else:
        judged = _judged(spell, now)
        unknown |= {n: "nothing_else_near" for n in ("runner_up",) if judged[n] is None}
    return {
        **named, **judged,
        "over_window": _over_window(within, over),
        "spells": [_shown(s) for s in within[:MOST_SHOWN]],
        "unknown": unknown,
    }  # fmt: skip


def _why_not(entity: Entity, spell: Spell | None, now: datetime) -> str | None:
    """This will say why there is no verdict on now; None where there is one."""
    if entity.attributes.get("state") in ("gone", "not_watched"):
        return f"server_{entity.attributes['state']}"
    if spell is None:
        return "not_judged_yet"
    return "judged_too_long_ago" if now - spell.until > STALE else None


def _judged(spell: Spell, now: datetime) -> dict[str, Any]:
    verdict = spell.verdict
    return {
        "bottleneck": verdict.bottleneck, "since": spell.since, "judged_at": spell.until,
        "age_seconds": age_seconds(spell.until, now), "score": verdict.score, "runner_up": verdict.runner_up,
        "runner_up_score": verdict.runner_up_score, "evidence": _evidence(verdict, spell.until),
        "remedies": verdict.remedies, "cannot_tell": verdict.cannot_tell,
    }  # fmt: skip


def _evidence(verdict: Verdict, until: datetime) -> dict[str, Any]:
    series = dict.fromkeys(field for each in verdict.evidence for field in SERIES.get(each.name, ()))
    numbers = {e.name: {"value": e.value, "unit": e.unit, "means": e.means} for e in verdict.evidence}
    return evidence(series=list(series), since=until - WINDOW, until=until, numbers=numbers)


def _over_window(spells: Sequence[Spell], over: Window) -> list[dict[str, Any]]:
    seconds: dict[Bottleneck, float] = {}
    for spell in spells:
        length = (min(spell.until, over.until) - max(spell.since, over.since)).total_seconds()
        seconds[spell.verdict.bottleneck] = seconds.get(spell.verdict.bottleneck, 0.0) + max(0.0, length)
    return [
        {"bottleneck": of, "seconds": round(length, 3), "ratio": round(length / over.seconds, 4)}
        for of, length in sorted(seconds.items(), key=lambda item: -item[1])
    ]


def _shown(spell: Spell) -> dict[str, Any]:
    return {
        "bottleneck": spell.verdict.bottleneck, "since": spell.since, "until": spell.until,
        "score": spell.verdict.score,
    }  # fmt: skip
