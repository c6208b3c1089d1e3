"""Who has a GPU, or an instance of one: the server with processes on it, its model, the pod it was given to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.model.entity import Entity
from control_plane.model.use import Owner


def owners(gpus: Sequence[Entity], servers: Sequence[Entity]) -> Mapping[int, Owner]:
    """This will say of each GPU, or instance, by its id, who has it."""
    by_key: dict[tuple[int, str], Entity] = {}
    by_pid: dict[tuple[int, int], Entity] = {}
    for server in servers:
        for entry in _dicts(server.attributes.get("gpus")):
            for name in ("gpu", "gpu_instance"):
                if isinstance(key := entry.get(name), str):
                    by_key[server.node_id, key] = server
        for pid in _pids(server):
            by_pid[server.node_id, pid] = server
    return {gpu.entity_id: _owner(gpu, by_key, by_pid) for gpu in gpus}


def _owner(gpu: Entity, by_key: Mapping[tuple[int, str], Entity], by_pid: Mapping[tuple[int, int], Entity]) -> Owner:
    server = by_key.get((gpu.node_id, gpu.key))
    for process in _dicts(gpu.attributes.get("processes")):
        pid = process.get("pid")
        if server is None and isinstance(pid, int):
            server = by_pid.get((gpu.node_id, pid))
    said = gpu.attributes.get("attribution")
    said = said if isinstance(said, dict) else {}
    given = said.get("allocated_to")
    holder = next((e for e in _dicts(given) if not e.get("ended")), None)
    user = next(iter(_dicts(said.get("used_by"))), None)
    place = holder or user or (server.attributes if server is not None else {})
    return Owner(
        namespace=_text(place.get("namespace")),
        pod=_text(place.get("pod")),
        model=_text(server.attributes.get("model")) if server is not None else None,
        server_id=server.entity_id if server is not None else None,
        allocated=None if not isinstance(given, list) else holder is not None,
        labels=gpu.node_labels,
    )


def _dicts(values: Any) -> list[dict[str, Any]]:
    """This will keep what has a shape of what an agent says, which may be anything."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _pids(server: Entity) -> set[int]:
    many, one = server.attributes.get("pids"), server.attributes.get("pid")
    return {pid for pid in [*(many if isinstance(many, list) else []), one] if isinstance(pid, int)}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
