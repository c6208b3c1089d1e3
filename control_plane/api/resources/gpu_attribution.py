"""Whose GPUs are: to whom each was given, who uses it, and what the difference says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.api import scope
from control_plane.api.answers import gpu_attribution, gpu_identity, page, sampled
from control_plane.api.context import Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import OfAttributions
from control_plane.api.schemas import FINDINGS, GPU, GPU_ATTRIBUTION, TEXT, TIME, UNKNOWN, scalar_names
from control_plane.model.entity import Entity
from control_plane.model.sample import Reading
from control_plane.storage import attribution, readings

router = APIRouter(tags=["gpu"])

# Processes are sampled every ten seconds: after three that are missing a sample says nothing about now.
PROCESS_WINDOW = timedelta(seconds=40)
# The most that one node samples, for a page of a hundred nodes.
MOST_PROCESSES = 25_600

_COUNTS = {
    "type": "object",
    "properties": {
        "gpus": {"type": "integer"},
        "findings": {"type": "object", "properties": {finding: {"type": "integer"} for finding in FINDINGS}},
    },
}
_NODE_COUNTS = {"type": "object", "properties": {"node": TEXT, **_COUNTS["properties"]}}  # type: ignore[dict-item]


def counted(findings: Mapping[str, int]) -> dict[str, Any]:
    """This will give how many GPUs there are, and how many of each finding; none is 0 of it."""
    return {"gpus": sum(findings.values()), "findings": {name: findings.get(name, 0) for name in FINDINGS}}


@router.get(
    "/gpu/attribution",
    **operation(
        "gpu_attribution",
        "To whom each GPU was given, who uses it, and what the difference says",
        scope="read",
        shared=True,
        errors=(404, 422, 503),
        answer=listed(
            {
                "type": "object",
                "properties": {
                    **GPU,
                    "taken_at": TIME,
                    "age_seconds": {"type": ["number", "null"]},
                    "unknown": UNKNOWN,
                    "attribution": GPU_ATTRIBUTION,
                },
            },
            nodes={"type": "array", "items": _NODE_COUNTS, "description": "over all pages"},
            fleet=_COUNTS,
        ),
    ),
)
async def list_attributions(asked: Annotated[OfAttributions, Query()], context: Context) -> Response:
    """`finding=allocated_but_unused` lists GPUs that pods hold and nobody uses; `namespace` and `pod` narrow to GPUs
    that were given to them or that they use. Beside each process stands its newest sample (every 10 s)."""
    selection = replace(
        await scope.of_gpus(context, asked),
        findings=asked.finding or None,
        owner_namespaces=asked.namespace or None,
        owner_pods=asked.pod or None,
    )
    engine, now = context.database.engine, context.clock.now()
    found = await readings.latest(engine, context.dictionaries, "gpu", selection, asked.limit + 1)
    shown = found[: asked.limit]
    newest = await attribution.newest_of_processes(
        engine, context.dictionaries, [gpu for gpu, _ in shown], since=now - PROCESS_WINDOW, limit=MOST_PROCESSES
    )
    counts = await attribution.count_findings(engine, replace(selection, after=0))
    total: Counter[str] = Counter()
    for findings in counts.values():
        total.update(findings)
    return page(
        [
            gpu_identity(gpu) | sampled(reading, (), now) | {"attribution": _with_samples(gpu, newest, now)}
            for gpu, reading in shown
        ],
        more=len(found) > asked.limit,
        last_id=shown[-1][0].entity_id if shown else 0,
        nodes=[{"node": name} | counted(findings) for name, findings in counts.items()],
        fleet=counted(total),
    )


def _with_samples(gpu: Entity, newest: Mapping[tuple[int, str, int], Reading], now: datetime) -> dict[str, Any]:
    """This will add to each process on a GPU what was last sampled of it."""
    said = gpu_attribution(gpu)
    if said["used_by"] is None:
        return said
    users = [
        user | {"sample": _sample(newest.get((gpu.node_id, gpu.key, user["pid"])), now)} for user in said["used_by"]
    ]
    return said | {"used_by": users}


def _sample(reading: Reading | None, now: datetime) -> dict[str, Any]:
    names = scalar_names("gpu_process")
    if reading is not None:
        return sampled(reading, names, now)
    nulls = ("taken_at", "age_seconds", *names)
    return dict.fromkeys(nulls) | {"unknown": dict.fromkeys(nulls, "no_recent_sample")}
