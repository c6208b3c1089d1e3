"""Events: what happened on a node, the newest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from control_plane.api import scope
from control_plane.api.answers import answer, timestamp
from control_plane.api.context import Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import EventsOf, Name, decode_cursor, encode_cursor, window
from control_plane.api.schemas import TEXT, TIME
from control_plane.model.entity import EntityKind
from control_plane.model.event import NodeEvent, Severity
from control_plane.storage import events

router = APIRouter(tags=["nodes"])

DEFAULT_WINDOW = timedelta(days=7)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What the cursor's two numbers may be: a Postgres bigint, and the microseconds of the year 2255.
MOST_EVENT_ID, MOST_MICROSECONDS = 1 << 63, 9 * 10**15

EVENT_SCHEMA = {
    "type": "object",
    "properties": {
        "taken_at": TIME,
        "received_at": TIME,
        "kind": TEXT,
        "severity": {"enum": [*(s.name.lower() for s in Severity), "unspecified"]},
        "entity": {"type": "object", "properties": {"kind": TEXT, "key": TEXT}},
        "detail": {"type": "object", "description": "as the agent says it; docs/events.md"},
    },
}


@router.get(
    "/nodes/{node_id}/events",
    **operation(
        "node_events",
        "What happened on one node, the newest first",
        scope="read",
        errors=(404, 422, 503),
        answer=listed(EVENT_SCHEMA),
    ),
)
async def node_events(
    node_id: Annotated[Name, Path(description="a node's id or name")],
    asked: Annotated[EventsOf, Query()],
    context: Context,
) -> Response:
    """XID errors, lost, hung and recovered GPUs. Without `since`: of the last seven days."""
    node = await scope.find_node(context, node_id)
    span = window(asked, context.clock.now(), DEFAULT_WINDOW)
    found = await events.find(
        context.database.engine,
        node.node_id,
        since=span.since,
        until=span.until,
        kinds=asked.kind,
        before=_position(asked.cursor),
        limit=asked.limit + 1,
    )
    shown = found[: asked.limit]
    more = len(found) > asked.limit
    return answer({"items": [_shown(e) for e in shown], "next_cursor": _cursor(shown[-1]) if more else None})


def _position(cursor: str | None) -> tuple[datetime, int] | None:
    if cursor is None:
        return None
    microseconds = decode_cursor(cursor, "us", most=MOST_MICROSECONDS)
    return EPOCH + timedelta(microseconds=microseconds), decode_cursor(cursor, "id", most=MOST_EVENT_ID)


def _cursor(event: NodeEvent) -> str:
    return encode_cursor(us=(event.taken_at - EPOCH) // timedelta(microseconds=1), id=event.event_id)


def _name(kind: type[IntEnum], number: int) -> str:
    """This will name a member; one that only a newer release knows is unspecified."""
    return kind(number).name.lower() if number in set(kind) else "unspecified"


def _shown(event: NodeEvent) -> dict[str, Any]:
    return {
        "taken_at": timestamp(event.taken_at),
        "received_at": timestamp(event.received_at),
        "kind": event.kind,
        "severity": _name(Severity, event.severity),
        "entity": {
            "kind": _name(EntityKind, event.entity_kind),
            "key": event.entity_key,
        },
        "detail": event.detail,
    }
