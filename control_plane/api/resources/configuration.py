"""How this control plane is set up, and what it can do."""

from __future__ import annotations

from fastapi import APIRouter, Response

from control_plane import __version__
from control_plane.api.answers import answer
from control_plane.api.context import Context
from control_plane.api.operations import operation

router = APIRouter(tags=["configuration"])


@router.get("/config", **operation("config", "The settings in force", errors=()))
async def get_config(context: Context) -> Response:
    """Secrets are shown as set or not set, never as they are."""
    return answer({"version": __version__, "database": context.database_description, "settings": context.settings})


@router.get("/capabilities", **operation("capabilities", "What this control plane can do", errors=()))
async def get_capabilities(context: Context) -> Response:
    """Engines, tables and features; what is missing says why."""
    return answer(context.capabilities)
