"""The FastAPI application: every resource, one way to answer, one way to fail."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from control_plane import __version__
from control_plane.api import docs_page, problems
from control_plane.api.body_limit import BodyLimit
from control_plane.api.context import ApiContext
from control_plane.api.operations import PROBLEM_SCHEMA
from control_plane.api.resources import (
    collect,
    configuration,
    events,
    gpu,
    gpu_attribution,
    gpu_health,
    gpu_instances,
    gpu_utilization,
    health,
    inference,
    join_tokens,
    lmcache,
    metrics,
    metrics_history,
    node_config,
    nodes,
    system,
)

DESCRIPTION = (
    "What every GPU host and inference server of a fleet is doing, kept in Postgres. A value that could not be read "
    "is null, with its reason under `unknown`; it is never zero. Units stand at the end of field names."
)


def build_app(context: ApiContext) -> FastAPI:
    """This will make the application over what `context` reaches."""
    app = FastAPI(
        title="OptiInfra",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    app.add_middleware(BodyLimit)
    problems.install(app)
    docs_page.install(app)
    for resource in (
        health, gpu, gpu_attribution, gpu_health, gpu_instances, gpu_utilization, system, join_tokens, nodes,
        node_config, events, inference, lmcache, metrics, metrics_history, collect, configuration,
    ):  # fmt: skip
        app.include_router(resource.router)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _openapi(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """This will give the OpenAPI document, with the one shape of errors that we really send."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    return document
