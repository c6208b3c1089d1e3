"""How this control plane is set up, and what it can do."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Response

from control_plane import __version__
from control_plane.api.answers import answer
from control_plane.api.context import Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Parameters

router = APIRouter(tags=["configuration"])

# A setting that is a URL, or a list of them, may carry somebody's name and password.
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]*@")


def _without_credentials(value: object) -> object:
    if isinstance(value, str):
        return _CREDENTIALS.sub("***@", value)
    if isinstance(value, list | tuple):
        return [_without_credentials(entry) for entry in value]
    return value


@router.get("/config", **operation("config", "The settings in force", errors=(422,)))
async def get_config(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """Secrets are shown as set or not set, never as they are."""
    settings = {name: _without_credentials(value) for name, value in context.settings.items()}
    return answer({"version": __version__, "database": context.database_description, "settings": settings})


@router.get("/capabilities", **operation("capabilities", "What this control plane can do", errors=(422,)))
async def get_capabilities(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """Engines, tables and features; what is missing says why."""
    return answer(context.capabilities)
