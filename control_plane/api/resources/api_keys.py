"""API keys: made, listed, revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from control_plane.access import keys
from control_plane.api.answers import answer
from control_plane.api.audit_trail import Changed
from control_plane.api.context import Context, WhoAsks
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, Parameters, decode_text_cursor, encode_cursor
from control_plane.api.schemas import TEXT, TIME, UNKNOWN
from control_plane.model.access import ApiKey, KeyState, Scope
from control_plane.model.errors import UnknownResource
from control_plane.storage import api_keys

router = APIRouter(tags=["administration"])


class NewKey(BaseModel):
    """What a key is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=keys.LONGEST_NAME)] = Field(
        description="who or what uses it"
    )
    scopes: list[Scope] = Field(
        default_factory=lambda: [Scope.READ], min_length=1, max_length=len(Scope), description="what it opens"
    )
    days: float = Field(
        keys.USUAL_LIFE.days, gt=0, le=keys.MOST_LIFE.days, allow_inf_nan=False, description="days until it expires"
    )


KEY: dict[str, Any] = {
    "key_id": TEXT,
    "name": TEXT,
    "scopes": {"type": "array", "items": {"enum": list(Scope)}},
    "state": {"enum": list(KeyState)},
    "created_at": TIME,
    "created_by": TEXT,
    "expires_at": TIME,
    "revoked_at": TIME,
    "last_used_at": {**TIME, "description": "to the minute"},
    "unknown": UNKNOWN,
}
KEY_SCHEMA = {"type": "object", "properties": KEY}
NEW_KEY_SCHEMA = {
    "type": "object",
    "required": ["key"],
    "properties": {"key": {"type": "string", "description": "shown here and never again"}, **KEY},
}


def _shown(key: ApiKey, now: datetime) -> dict[str, Any]:
    unknown = {}
    if key.revoked_at is None:
        unknown["revoked_at"] = "not_revoked"
    if key.last_used_at is None:
        unknown["last_used_at"] = "never_used"
    return {
        "key_id": key.key_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "state": key.state(now),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "unknown": unknown,
    }


@router.post(
    "/api-keys",
    **operation(
        "api_key_create",
        "Make an API key",
        scope="admin",
        secret=True,
        errors=(400, 413, 422, 503),
        answer=NEW_KEY_SCHEMA,
        status=201,
    ),
)
async def create(
    _: Annotated[Parameters, Query()], asked: NewKey, context: Context, caller: WhoAsks, change: Changed
) -> Response:
    """The key is shown here and never again: only its digest is stored."""
    now = context.clock.now()
    made = keys.make(
        name=asked.name, scopes=asked.scopes, life=timedelta(days=asked.days), created_by=caller.name, now=now
    )
    await api_keys.add(context.database.engine, made.key)
    change.became(_shown(made.key, now))
    return answer({"key": made.text} | _shown(made.key, now), status=201)


@router.get(
    "/api-keys",
    **operation("api_keys", "Every API key", scope="admin", answer=listed(KEY_SCHEMA)),
)
async def get_keys(asked: Annotated[Paged, Query()], context: Context) -> Response:
    """Those that have expired or were revoked are among them."""
    after = decode_text_cursor(asked.cursor, "after")
    found = await api_keys.every(context.database.engine, after=after, limit=asked.limit + 1)
    shown, now = found[: asked.limit], context.clock.now()
    cursor = encode_cursor(after=shown[-1].key_id) if len(found) > len(shown) else None
    return answer({"items": [_shown(key, now) for key in shown], "next_cursor": cursor})


@router.delete(
    "/api-keys/{key_id}",
    **operation("api_key_revoke", "Revoke an API key", scope="admin", errors=(404, 422, 503), answer=KEY_SCHEMA),
)
async def revoke(
    key_id: Annotated[Name, Path(description="a key's id")],
    _: Annotated[Parameters, Query()],
    context: Context,
    change: Changed,
) -> Response:
    """For ever. It opens nothing from now on; at other replicas within five seconds."""
    now = context.clock.now()
    before = await api_keys.find(context.database.engine, key_id)
    if before is None:
        raise UnknownResource(f"there is no API key {key_id[:64]!r}; GET /api-keys lists those there are")
    change.was(_shown(before, now))
    revoked = await api_keys.revoke(context.database.engine, key_id, now) or before
    context.gate.forget(key_id)
    return answer(_shown(revoked, now))
