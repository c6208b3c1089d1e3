"""How this control plane stands with other programs of the fleet."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.api.answers import answer
from control_plane.api.context import Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Parameters
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.registration import Registration, Role

router = APIRouter(tags=["administration"])

STATES = ("registered", "not_registered", "failing", "disabled")
ROLE = {
    "type": "object",
    "properties": {
        "role": {"enum": list(Role)},
        "state": {"enum": list(STATES)},
        "agent_id": MAYBE_TEXT,
        "registered_at": TIME,
        "last_heartbeat_at": TIME,
        "heartbeat_interval_seconds": {"type": ["number", "null"]},
        "last_error": {"type": ["string", "null"], "description": "of the newest try"},
        "last_error_at": TIME,
        "failures_in_a_row": {"type": "integer"},
        "unknown": UNKNOWN,
    },
}
ANSWER = {
    "type": "object",
    "properties": {
        "enabled": {"type": "boolean"},
        "url": TEXT,
        "state": {"enum": list(STATES)},
        "roles": {"type": "array", "items": ROLE},
    },
}


def state_of(registration: Registration) -> str:
    """This will give the word for how a role stands."""
    if registration.last_error is not None:
        return "failing"
    return "registered" if registration.agent_id is not None else "not_registered"


def _role(registration: Registration) -> dict[str, Any]:
    read = {
        "agent_id": registration.agent_id,
        "registered_at": registration.registered_at,
        "last_heartbeat_at": registration.last_heartbeat_at,
        "heartbeat_interval_seconds": registration.heartbeat_interval_seconds,
        "last_error": registration.last_error,
        "last_error_at": registration.last_error_at,
    }
    reasons = {"last_heartbeat_at": "none_yet", "last_error": "none", "last_error_at": "none"}
    return {
        "role": registration.role,
        "state": state_of(registration),
        **read,
        "failures_in_a_row": registration.failures_in_a_row,
        "unknown": {name: reasons.get(name, "not_registered") for name, value in read.items() if value is None},
    }


@router.get(
    "/integrations/orchestrator",
    **operation("orchestrator", "Registration with the orchestrator", scope="read", answer=ANSWER, errors=(422,)),
)
async def get_orchestrator(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """Registered or not, the last heartbeat, the last error. It being absent disturbs nothing."""
    roles = [_role(registration) for registration in context.registrations]
    order = ("failing", "not_registered", "registered")
    state = min((role["state"] for role in roles), key=order.index) if roles else "disabled"
    url = str(context.settings.get("orchestrator_url"))
    return answer({"enabled": bool(roles), "url": url, "state": state, "roles": roles})
