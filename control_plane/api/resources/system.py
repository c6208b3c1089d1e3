"""The machines themselves: CPU, memory, disks, network, and how long work had to wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.api import scope
from control_plane.api.answers import page, rated, sampled
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import NodeHistory, OfNodes
from control_plane.api.schemas import TEXT, reading_schema, scalar_names
from control_plane.api.series import POINT_SCHEMA, history
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Reading
from control_plane.storage import readings, stored_samples
from control_plane.storage.readings import Selection
from optiinfra.catalogue import TABLES

router = APIRouter(tags=["system"])

_HOST = scalar_names("host")
CPU = [n for n in _HOST if n.startswith(("cpu_", "load_", "pressure_cpu", "cgroup_cpu"))]
MEMORY = [
    n for n in _HOST if n.startswith(("memory_", "swap_", "huge_page", "oom_", "pressure_memory", "cgroup_memory"))
]
PRESSURE_IO = [n for n in _HOST if n.startswith("pressure_io")]
NODE = {"node": TEXT}
# Rates are over the last minute: long enough to be smooth, short enough to be now.
RATE_WINDOW = timedelta(minutes=1)
MOST_DEVICES_PER_NODE = 64


def _item(context: ApiContext, entity: Entity, reading: Reading | None, names: Sequence[str]) -> dict[str, Any]:
    return {"node": entity.node_name} | sampled(reading, names, context.clock.now())


async def _hosts(context: ApiContext, asked: OfNodes) -> tuple[list[tuple[Entity, Reading | None]], bool]:
    selection = await scope.of_nodes(context, asked, EntityKind.NODE)
    found = await readings.latest(context.database.engine, context.dictionaries, "host", selection, asked.limit + 1)
    return found[: asked.limit], len(found) > asked.limit


async def _host_page(context: ApiContext, asked: OfNodes, names: Sequence[str]) -> Response:
    found, more = await _hosts(context, asked)
    items = [_item(context, entity, reading, names) for entity, reading in found]
    return page(items, more=more, last_id=found[-1][0].entity_id if found else 0)


async def _devices(
    context: ApiContext, table: str, kind: EntityKind, label: str, plural: str, hosts: Sequence[Entity]
) -> dict[int, dict[str, Any]]:
    """This will give, by node, the newest readings of its devices, with the rates of their counters.

    Of more than MOST_DEVICES_PER_NODE the ones that were sampled last; how many others there are is said too.
    """
    selection = Selection(kind=kind, node_ids=[h.node_id for h in hosts])
    counts = await readings.count_by_node(context.database.engine, selection)
    found = await readings.latest_of_each_node(
        context.database.engine, context.dictionaries, table, selection, MOST_DEVICES_PER_NODE
    )
    now = context.clock.now()
    counters = [f for f in TABLES[table].scalars if f.is_counter]
    ids = [entity.entity_id for entity, reading in found if reading and reading.taken_at > now - RATE_WINDOW * 2]
    rates = await stored_samples.explained_rates(
        context.database.engine, table, counters, ids, since=now - RATE_WINDOW, until=now
    )
    out: dict[int, list[dict[str, Any]]] = {h.node_id: [] for h in hosts}
    for entity, reading in found:
        item = {label: entity.key} | sampled(reading, scalar_names(table), now)
        if counters:
            grown = rates.get(entity.entity_id, {})
            item["per_second"] = rated({f.name.removesuffix("_total"): grown.get(f.name) for f in counters})
        out[entity.node_id].append(item)
    return {
        node_id: {plural: items, f"{plural}_left_out": max(0, counts.get(node_id, 0) - len(items))}
        for node_id, items in out.items()
    }


async def _disks(context: ApiContext, hosts: Sequence[Entity]) -> dict[int, dict[str, Any]]:
    disks = await _devices(context, "disk", EntityKind.DISK, "device", "disks", hosts)
    mounts = await _devices(context, "filesystem", EntityKind.FILESYSTEM, "mount_point", "filesystems", hosts)
    return {h.node_id: disks[h.node_id] | mounts[h.node_id] for h in hosts}


async def _interfaces(context: ApiContext, hosts: Sequence[Entity]) -> dict[int, dict[str, Any]]:
    interfaces = await _devices(context, "network", EntityKind.NETWORK_INTERFACE, "interface", "interfaces", hosts)
    ports = await _devices(context, "infiniband", EntityKind.INFINIBAND_PORT, "port", "infiniband_ports", hosts)
    return {h.node_id: interfaces[h.node_id] | ports[h.node_id] for h in hosts}


_DEVICE_LIST = {"type": "array", "items": {"type": "object"}}
_LEFT_OUT = {"type": "integer", "description": "more of them, that were sampled less lately"}


def _lists(*plurals: str) -> dict[str, Any]:
    """This will describe lists of devices."""
    return {
        f"{plural}{end}": shape for plural in plurals for end, shape in (("", _DEVICE_LIST), ("_left_out", _LEFT_OUT))
    }


@router.get(
    "/system/cpu",
    **operation(
        "system_cpu",
        "CPU use, load and pressure",
        scope="read",
        shared=True,
        answer=listed(reading_schema("host", CPU, **NODE)),
        errors=(404, 422, 503),
    ),
)
async def system_cpu(asked: Annotated[OfNodes, Query()], context: Context) -> Response:
    """Shares are over the last sampling interval; pressure is the kernel's PSI."""
    return await _host_page(context, asked, CPU)


@router.get(
    "/system/memory",
    **operation(
        "system_memory",
        "Memory, swap and pressure",
        scope="read",
        shared=True,
        answer=listed(reading_schema("host", MEMORY, **NODE)),
        errors=(404, 422, 503),
    ),
)
async def system_memory(asked: Annotated[OfNodes, Query()], context: Context) -> Response:
    """`memory_used_bytes` is what programs cannot get: total minus available."""
    return await _host_page(context, asked, MEMORY)


@router.get(
    "/system/disk",
    **operation(
        "system_disk",
        "Disks and file systems",
        scope="read",
        shared=True,
        answer=listed({"type": "object", "properties": {**NODE, **_lists("disks", "filesystems")}}),
        errors=(404, 422, 503),
    ),
)
async def system_disk(asked: Annotated[OfNodes, Query()], context: Context) -> Response:
    """Counters since the machine started, and their rates over the last minute."""
    found, more = await _hosts(context, asked)
    disks = await _disks(context, [entity for entity, _ in found])
    items = [_item(context, entity, reading, PRESSURE_IO) | disks[entity.node_id] for entity, reading in found]
    return page(items, more=more, last_id=found[-1][0].entity_id if found else 0)


@router.get(
    "/system/network",
    **operation(
        "system_network",
        "Network interfaces and InfiniBand ports",
        scope="read",
        shared=True,
        answer=listed({"type": "object", "properties": {**NODE, **_lists("interfaces", "infiniband_ports")}}),
        errors=(404, 422, 503),
    ),
)
async def system_network(asked: Annotated[OfNodes, Query()], context: Context) -> Response:
    """Counters since the machine started, and their rates over the last minute."""
    found, more = await _hosts(context, asked)
    interfaces = await _interfaces(context, [entity for entity, _ in found])
    items = [_item(context, entity, reading, ()) | interfaces[entity.node_id] for entity, reading in found]
    return page(items, more=more, last_id=found[-1][0].entity_id if found else 0)


@router.get(
    "/system/all",
    **operation(
        "system_all",
        "Everything about each machine",
        scope="read",
        shared=True,
        answer=listed(reading_schema("host", _HOST, **NODE)),
        errors=(404, 422, 503),
    ),
)
async def system_all(asked: Annotated[OfNodes, Query()], context: Context) -> Response:
    """CPU, memory, disks, file systems and interfaces in one answer."""
    found, more = await _hosts(context, asked)
    hosts = [entity for entity, _ in found]
    disks, interfaces = await _disks(context, hosts), await _interfaces(context, hosts)
    items = [
        _item(context, entity, reading, _HOST) | disks[entity.node_id] | interfaces[entity.node_id]
        for entity, reading in found
    ]
    return page(items, more=more, last_id=found[-1][0].entity_id if found else 0)


@router.get(
    "/system/history",
    **operation(
        "system_history",
        "Fields of machines over time",
        scope="read",
        rate="heavy",
        table=True,
        answer=listed(
            {
                "type": "object",
                "properties": {**NODE, "field": TEXT, "points": {"type": "array", "items": POINT_SCHEMA}},
            }
        ),
        errors=(404, 422, 503),
    ),
)
async def system_history(asked: Annotated[NodeHistory, Query()], context: Context) -> Response:
    """Min, mean, max and p95 for each step; counters also as a rate."""
    selection = await scope.of_nodes(context, asked, EntityKind.NODE)
    return await history(context, asked, "host", selection, lambda entity: {"node": entity.node_name})
