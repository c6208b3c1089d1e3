"""How this control plane is set up, and what it can do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from control_plane import __version__
from control_plane.api.answers import answer
from control_plane.api.context import Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Parameters

router = APIRouter(tags=["configuration"])


@router.get("/config", **operation("config", "The settings in force", scope="read", errors=(422,)))
async def get_config(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """Secrets are shown as set or not set, never as they are."""
    return answer({"version": __version__, "database": context.database_description, "settings": context.settings})


@router.get("/capabilities", **operation("capabilities", "What this control plane can do", scope="read", errors=(422,)))
async def get_capabilities(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """Engines, tables and features; what is missing says why."""
    return answer(context.capabilities)
