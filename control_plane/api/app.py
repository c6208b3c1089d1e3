"""The FastAPI application: every resource, one way to answer, one way to fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from control_plane import __version__
from control_plane.api import dashboard_page, docs_page, problems
from control_plane.api.body_limit import BodyLimit
from control_plane.api.compression import Compression
from control_plane.api.context import ApiContext
from control_plane.api.guard import guarded, rule_of
from control_plane.api.headers import SafeHeaders
from control_plane.api.operations import PROBLEM_SCHEMA, refusal
from control_plane.api.resources import (
    alert_rules,
    alerts,
    api_keys,
    audit,
    bottlenecks,
    collect,
    configuration,
    cost,
    events,
    gpu,
    gpu_attribution,
    gpu_health,
    gpu_instances,
    gpu_utilization,
    health,
    inference,
    insights,
    integrations,
    join_tokens,
    live,
    lmcache,
    lmcache_changes,
    metrics,
    metrics_history,
    node_config,
    nodes,
    opportunities,
    optimize,
    report,
    rollouts,
    slo,
    slo_status,
    system,
    trends,
    trials,
    utilization,
    waste,
    workflows,
)

DESCRIPTION = (
    "What every GPU host and inference server of a fleet is doing, kept in Postgres. A value that could not be read "
    "is null, with its reason under `unknown`; it is never zero. Units stand at the end of field names."
)


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name, "in": "header", "required": False, "description": description,
        "schema": {"type": "string", "maxLength": 255},
    }  # fmt: skip


IDEMPOTENCY_KEY = _header(
    "Idempotency-Key", "the same key and question within a day gives the first answer again, and is done once"
)
IF_MATCH = _header("If-Match", "the ETag of what is changed; with another one it is left as it is")


def build_app(context: ApiContext, *, cors_origins: Sequence[str] = ()) -> FastAPI:
    """This will make the application over what `context` reaches. Pages of `cors_origins` may ask it in a browser."""
    app = FastAPI(
        title="OptiInfra",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    app.add_middleware(BodyLimit)
    app.add_middleware(Compression)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match"],
            expose_headers=["ETag", "RateLimit", "RateLimit-Policy", "Retry-After"],
        )
    app.add_middleware(SafeHeaders)
    problems.install(app)
    docs_page.install(app)
    dashboard_page.install(app)
    for resource in (
        health, gpu, gpu_attribution, gpu_health, gpu_instances, gpu_utilization, system, join_tokens, nodes,
        node_config, events, inference, lmcache, metrics, metrics_history, collect, configuration, api_keys, audit,
        integrations,
        slo_status, slo, waste, cost, trends, utilization, opportunities, optimize, report, rollouts, trials,
        workflows, insights, lmcache_changes,
        bottlenecks, alert_rules, alerts, live,
    ):  # fmt: skip
        app.router.routes.extend(guarded(resource.router))

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
    document["components"]["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "an API key (`optiinfra keys create`) or an identity provider's token; none where the "
            "control plane runs without keys, which it does on loopback only unless told otherwise",
        }
    }
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                _describe_guard(route, document["paths"][route.path_format][method.lower()])
    return document


def _describe_guard(route: APIRoute, operation: dict[str, Any]) -> None:
    """This will say what stands before a route: it is the same everywhere, so no route has to."""
    rule = rule_of(route)
    for status in (400, 408, 413, 431) if "requestBody" in operation else (431,):
        operation["responses"].setdefault(str(status), refusal(status))
    operation["x-rate"] = rule.rate
    for ours in ("x-seconds", "x-shared", "x-secret", "x-table", "x-versioned"):
        operation.pop(ours, None)
    operation["security"] = [] if rule.is_public else [{"bearer": []}]
    refusals: list[int] = [] if rule.is_public else [401, 403, 429, 503]
    parameters = operation.setdefault("parameters", [])
    if rule.writes:
        refusals += [409]
        parameters.append(IDEMPOTENCY_KEY)
    if rule.is_versioned:
        refusals += [412] if rule.writes else []
        parameters += [IF_MATCH] if rule.writes else []
        operation["responses"]["200"]["headers"] = {"ETag": {"schema": {"type": "string"}}}
    if rule.is_table:
        operation["responses"]["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    if not parameters:
        del operation["parameters"]
    for status in refusals:
        operation["responses"].setdefault(str(status), refusal(status))
