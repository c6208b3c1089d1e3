"""The health of GPUs: what changes rarely, and what has gone wrong."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from control_plane.api import gpus
from control_plane.api.answers import gpu_identity, sampled
from control_plane.api.context import Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import OfGpus
from control_plane.api.schemas import GPU, MAYBE_TEXT, reading_schema, scalar_names

router = APIRouter(tags=["gpu"])

# What a GPU's agent says beside the numbers.
ATTRIBUTES = (
    "recovery_action", "persistence_enabled", "ecc_enabled", "ecc_enabled_after_reset", "mig_enabled",
    "mig_enabled_after_reset", "gpu_instances_count", "pcie_link_generation_maximum", "pcie_link_width_maximum",
    "nvlink_version", "nvlinks_inactive", "fabric_cluster_uuid", "fabric_clique_id", "unsupported",
)  # fmt: skip


@router.get(
    "/gpu/health",
    **operation(
        "gpu_health",
        "Errors, links, fabric and set-up of every GPU",
        scope="read",
        shared=True,
        errors=(404, 422, 503),
        answer=listed(
            reading_schema(
                "gpu_health",
                scalar_names("gpu_health"),
                **GPU,
                recovery_action=MAYBE_TEXT,
                attributes={"type": "object"},
            ),
            nodes_without=gpus.WITHOUT,
        ),
    ),
)
async def gpu_health(asked: Annotated[OfGpus, Query()], context: Context) -> Response:
    """Read every ten seconds; `recovery_action` is what the driver asks the operator to do, `none` when all is well."""
    found, more = await gpus.latest(context, asked)
    known, now = await gpus.healths(context, found), context.clock.now()
    items = []
    for entity, _ in found:
        item = gpu_identity(entity) | sampled(known.get(entity.entity_id), scalar_names("gpu_health"), now)
        attributes = {name: entity.attributes.get(name) for name in ATTRIBUTES}
        item["recovery_action"] = attributes.pop("recovery_action")
        if item["recovery_action"] is None:
            item["unknown"]["recovery_action"] = item["unknown"].get("recovery_action_code", "not_sent")
        items.append(item | {"attributes": attributes})
    return await gpus.gpu_page(context, asked, items, found, more)
