"""Join tokens: with one, an agent gets its first certificate."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from control_plane.api.answers import answer
from control_plane.api.context import Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Name, Parameters
from control_plane.api.schemas import TEXT, TIME
from control_plane.model.errors import Conflict

router = APIRouter(tags=["nodes"])


class TokenQuestion(Parameters):
    """For how long, how many and which nodes."""

    hours: float = Field(1.0, ge=0.01, le=8760, description="hours until it expires")
    max_uses: int = Field(1, ge=1, le=100_000, description="nodes that may enrol with it")
    node_name: Name | None = Field(None, description="the one node that may use it; default: any")


TOKEN_SCHEMA = {
    "type": "object",
    "properties": {
        "token": TEXT,
        "expires_at": TIME,
        "max_uses": {"type": "integer"},
        "node_name": {"type": ["string", "null"]},
        "unknown": {"type": "object", "description": "node_name is null for a token of any node"},
    },
}


@router.post(
    "/nodes/join-tokens",
    **operation(
        "join_token",
        "A token to enrol nodes with",
        scope="admin",
        secret=True,
        answer=TOKEN_SCHEMA,
        errors=(409, 422, 503),
        status=201,
    ),
)
async def create(asked: Annotated[TokenQuestion, Query()], context: Context) -> Response:
    """The token is shown here and never again: only its digest is stored."""
    if context.enrolment is None:
        raise Conflict("agents need no certificate here; start with --grpc-host 0.0.0.0, or --grpc-tls on")
    made = await context.enrolment.create_token(
        lifetime=timedelta(hours=asked.hours), max_uses=asked.max_uses, node_name=asked.node_name
    )
    body = {
        "token": made.token,
        "expires_at": made.expires_at,
        "max_uses": made.max_uses,
        "node_name": made.node_name,
        "unknown": {} if made.node_name else {"node_name": "not_applicable"},
    }
    shown = answer(body, status=201)
    shown.headers["Cache-Control"] = "no-store"
    return shown
