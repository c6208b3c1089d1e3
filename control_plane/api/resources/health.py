"""Is it up, is it ready, and what is wrong with which part."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from control_plane import __version__
from control_plane.api.answers import answer, timestamp
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import PUBLIC, operation
from control_plane.api.parameters import Parameters
from control_plane.api.problems import not_ready
from control_plane.model.errors import OptiInfraError
from control_plane.model.node import NodeState, node_state
from control_plane.runtime.jobs import JobState, Standing
from control_plane.storage import migrations, nodes
from control_plane.storage.failures import DatabaseError

router = APIRouter(tags=["health"])

# Below this Postgres may soon be unable to write its log.
LEAST_FREE_BYTES = 1024**3


@router.get("/", **operation("root", "What this is, and where to look", scope=PUBLIC, errors=(422,)))
async def root(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """Name, version, roles, and links."""
    return answer(
        {
            "name": "optiinfra",
            "version": __version__,
            "environment": context.environment,
            "roles": ["resource", "performance"],
            "links": {
                "dashboard": "/dashboard",
                "docs": "/docs",
                "openapi": "/openapi.json",
                "health": "/health/detailed",
                "nodes": "/nodes",
            },
        }
    )


@router.get("/health", **operation("health", "Up, and since when", scope=PUBLIC, errors=(422,)))
async def health(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """Answers as long as the process does; it asks nobody else."""
    now = context.clock.now()
    return answer(
        {
            "status": "healthy",
            "version": __version__,
            "started_at": timestamp(context.started_at),
            "uptime_seconds": round((now - context.started_at).total_seconds(), 3),
        }
    )


@router.get("/health/live", **operation("health_live", "The process's loop answers", scope=PUBLIC, errors=(422,)))
async def health_live(_: Annotated[Parameters, Query()]) -> Response:
    """For liveness probes: never depends on anything outside the process."""
    return answer({"status": "alive"})


async def _timed(context: ApiContext, check: Callable[[ApiContext], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    started = context.clock.monotonic()
    try:
        part = await check(context)
    except (OptiInfraError, DatabaseError, OSError) as error:
        part = {"state": "failed", "error": next(iter(str(error).splitlines()), type(error).__name__)}
    return part | {"latency_seconds": round(context.clock.monotonic() - started, 6)}


async def _database(context: ApiContext) -> dict[str, Any]:
    version = await context.database.ping()
    return {"state": "ok", "server_version": version, "description": context.database_description}


async def _migrations(context: ApiContext) -> dict[str, Any]:
    current, head = await migrations.current_revision(context.database.engine), migrations.head_revision()
    part = {"state": "ok" if current == head else "failed", "current": current, "head": head}
    return part if current == head else part | {"error": "run `optiinfra migrate`"}


async def _ingest(context: ApiContext) -> dict[str, Any]:
    error = context.ingest.last_error()
    state = "ok" if error is None else "failed"
    if not context.ingest.listening():
        state, error = "failed", "agents cannot connect: the control plane is going down"
    return {"state": state, "error": error, "figures": context.ingest.figures()}


async def _nodes(context: ApiContext) -> dict[str, Any]:
    now = context.clock.now()
    counts: dict[str, int] = {state.value: 0 for state in NodeState}
    for node in await nodes.find(context.database.engine, limit=100_000):
        status = node.status
        age = (now - status.taken_at).total_seconds() if status else None
        interval = status.sampling_interval_seconds if status else None
        counts[node_state(age_seconds=age, interval_seconds=interval)] += 1
    bad = counts[NodeState.STALE] + counts[NodeState.GONE]
    return {"state": "degraded" if bad else "ok", "counts": counts}


async def _disk(context: ApiContext) -> dict[str, Any]:
    usage = shutil.disk_usage(context.data_dir)
    part = {"state": "ok", "path": str(context.data_dir), "free_bytes": usage.free, "total_bytes": usage.total}
    if usage.free < LEAST_FREE_BYTES:
        return part | {
            "state": "degraded",
            "error": "less than 1 GiB is free; history will stop being stored when it is full",
        }
    return part


async def _jobs(context: ApiContext) -> dict[str, Any]:
    if not context.jobs:
        return await _absent("this process has no jobs")
    failed = [job for job in context.jobs if job.standing is Standing.FAILED]
    part: dict[str, Any] = {"state": "degraded" if failed else "ok"}
    if failed:
        part["error"] = "; ".join(f"{job.name}: {job.last_error}" for job in failed)
    part["jobs"] = [_job(job) for job in context.jobs]
    return part


def _job(job: JobState) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": job.name, "standing": job.standing, "figures": job.figures}
    if job.last_success_at is not None:
        shown["last_success_at"] = timestamp(job.last_success_at)
    return shown


async def _absent(detail: str) -> dict[str, Any]:
    return {"state": "not_configured", "detail": detail}


async def _llm(context: ApiContext) -> dict[str, Any]:
    if not context.capabilities.get("llm_configured"):
        return await _absent("no GROQ_API_KEY is set: explanations are made by rule")
    return {"state": "ok", "detail": "a key is set; it is asked by POST /insights"}


async def _orchestrator(context: ApiContext) -> dict[str, Any]:
    if not context.registrations:
        return await _absent("registration is off (REGISTRATION_ENABLED)")
    failing = [r for r in context.registrations if r.last_error is not None]
    part: dict[str, Any] = {"state": "degraded" if failing else "ok"}
    if failing:
        part["error"] = failing[0].last_error
    return part


CHECKS: dict[str, Callable[[ApiContext], Awaitable[dict[str, Any]]]] = {
    "database": _database,
    "migrations": _migrations,
    "ingest": _ingest,
    "nodes": _nodes,
    "disk": _disk,
    "jobs": _jobs,
    "llm": _llm,
    "orchestrator": _orchestrator,
}
# What makes health worse when it is neither well nor absent.
MATTERING = ("nodes", "disk", "jobs")
NEEDED = ("database", "migrations", "ingest")


async def overall(context: ApiContext) -> str:
    """This will give the one word for how everything is: healthy, degraded or unhealthy."""
    return _overall({name: await _timed(context, CHECKS[name]) for name in (*NEEDED, *MATTERING)})


def _overall(parts: Mapping[str, Mapping[str, Any]]) -> str:
    if any(parts[name]["state"] == "failed" for name in NEEDED):
        return "unhealthy"
    well = ("ok", "not_configured")
    return "healthy" if all(parts[name]["state"] in well for name in (*NEEDED, *MATTERING)) else "degraded"


@router.get(
    "/health/detailed",
    **operation("health_detailed", "Every part, its state and last error", scope="read", errors=(422,)),
)
async def health_detailed(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """`status` is the worst of the parts that matter: healthy, degraded or unhealthy."""
    parts = {name: await _timed(context, check) for name, check in CHECKS.items()}
    return answer({"status": _overall(parts), "version": __version__, "parts": parts})


@router.get("/health/ready", **operation("health_ready", "Ready to serve", scope=PUBLIC, errors=(422, 503)))
async def health_ready(_: Annotated[Parameters, Query()], request: Request, context: Context) -> Response:
    """200 when the database answers, the schema is at head and agents can connect; else 503 with what is missing."""
    parts = {name: await _timed(context, CHECKS[name]) for name in NEEDED}
    missing = {name: part for name, part in parts.items() if part["state"] != "ok"}
    if missing:
        return not_ready(request, {name: str(part.get("error")) for name, part in missing.items()})
    return answer({"status": "ready"})
