"""Who changed what."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from control_plane.api.answers import answer
from control_plane.api.context import Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, Windowed, decode_cursor, encode_cursor, window
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.access import AuditEntry, CallerKind
from control_plane.storage import audit

router = APIRouter(tags=["administration"])

DEFAULT_WINDOW = timedelta(days=7)
MOST_ID = 2**62


class AuditQuestion(Paged, Windowed):
    """Which writes."""

    caller: list[Name] = Field(default_factory=list, max_length=100, description="its id or name; may be repeated")
    operation: list[Name] = Field(default_factory=list, max_length=100, description="operation id; may be repeated")


MAYBE_OBJECT = {"type": ["object", "null"]}
ENTRY = {
    "type": "object",
    "properties": {
        "audit_id": {"type": "integer"},
        "at": TIME,
        "caller": {
            "type": "object",
            "properties": {"kind": {"enum": list(CallerKind)}, "id": TEXT, "name": TEXT, "address": MAYBE_TEXT},
        },
        "operation": TEXT,
        "target": {"type": "string", "description": "the path that was asked"},
        "asked": {"type": "object", "description": "query and body; secrets are replaced"},
        "before": {**MAYBE_OBJECT, "description": "what was there"},
        "after": {**MAYBE_OBJECT, "description": "what is there since"},
        "status": {"type": ["integer", "null"], "description": "of the answer"},
        "ended_at": TIME,
        "unknown": UNKNOWN,
    },
}


def _shown(entry: AuditEntry) -> dict[str, Any]:
    caller: dict[str, Any] = {
        "kind": entry.caller_kind,
        "id": entry.caller,
        "name": entry.caller_name,
        "address": entry.address,
    }
    if entry.address is None:
        caller["unknown"] = {"address": "not_over_the_network"}
    ended = {"status": entry.status, "ended_at": entry.ended_at}
    unknown = {name: "has_not_ended" for name, value in ended.items() if value is None}
    refused = entry.status is not None and entry.status >= 400
    for name, there in (("before", entry.before), ("after", entry.after)):
        if there is None:
            unknown[name] = "refused" if refused else "none" if entry.status else "has_not_ended"
    return {
        "audit_id": entry.audit_id,
        "at": entry.at,
        "caller": caller,
        "operation": entry.operation,
        "target": entry.target,
        "asked": entry.asked,
        "before": entry.before,
        "after": entry.after,
        **ended,
        "unknown": unknown,
    }


@router.get("/audit", **operation("audit", "Who changed what, the newest first", scope="admin", answer=listed(ENTRY)))
async def get_audit(asked: Annotated[AuditQuestion, Query()], context: Context) -> Response:
    """One entry for each write that was let in, written before it was begun. Without a status: it has not ended, or the
    process died before it did."""
    span = window(asked, context.clock.now(), DEFAULT_WINDOW)
    found = await audit.find(
        context.database.engine,
        since=span.since,
        until=span.until,
        callers=asked.caller,
        operations=asked.operation,
        before=decode_cursor(asked.cursor, "before", most=MOST_ID) or None,
        limit=asked.limit + 1,
    )
    shown = found[: asked.limit]
    cursor = encode_cursor(before=shown[-1].audit_id) if len(found) > len(shown) else None
    return answer({"items": [_shown(entry) for entry in shown], "next_cursor": cursor})
