"""GPU instances: the parts of GPUs in MIG mode, each with its memory, its work and its users."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Response

from control_plane.api import gpus, scope
from control_plane.api.answers import gpu_attribution, instance_identity, page, sampled
from control_plane.api.context import Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import OfGpus
from control_plane.api.schemas import GPU_ATTRIBUTION, GPU_INSTANCE, reading_schema, scalar_names
from control_plane.model.entity import EntityKind
from control_plane.storage import readings

router = APIRouter(tags=["gpu"])


@router.get(
    "/gpu/instances",
    **operation(
        "gpu_instances",
        "The instances of GPUs in MIG mode",
        scope="read",
        errors=(404, 422, 503),
        answer=listed(
            reading_schema("gpu_instance", scalar_names("gpu_instance"), **GPU_INSTANCE, attribution=GPU_ATTRIBUTION),
            nodes_without=gpus.WITHOUT,
        ),
    ),
)
async def gpu_instances(asked: Annotated[OfGpus, Query()], context: Context) -> Response:
    """`gpu` names GPUs: their instances are shown. One that was destroyed has the state `gone`, and its last values."""
    of_gpus = await scope.of_gpus(context, asked)
    selection = replace(of_gpus, kind=EntityKind.GPU_INSTANCE, keys=None, gpus=asked.gpu or None)
    names, now = scalar_names("gpu_instance"), context.clock.now()
    found = await readings.latest(
        context.database.engine, context.dictionaries, "gpu_instance", selection, asked.limit + 1
    )
    shown = found[: asked.limit]
    items = []
    for entity, reading in shown:
        item = instance_identity(entity) | sampled(reading, names, now) | {"attribution": gpu_attribution(entity)}
        processes = entity.attributes.get("processes")
        if processes is None:
            item["unknown"]["processes"] = "not_collected"
        items.append(item | {"processes": processes})
    return page(
        items,
        more=len(found) > asked.limit,
        last_id=shown[-1][0].entity_id if shown else 0,
        nodes_without=await gpus.without(context, asked),
    )
