"""JSON Schemas of what sample tables look like in answers, derived from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from control_plane.api.parameters import Finding
from optiinfra.catalogue import TABLES, FieldSpec

UNKNOWN = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "description": "for each null, why it is null",
}
TIME = {"type": ["string", "null"], "format": "date-time"}


def field_schema(field: FieldSpec) -> dict[str, Any]:
    """This will describe one field of the catalogue."""
    described = f"{field.doc} Source: {field.source}."
    if field.type == "real[]":
        return {"type": ["array", "null"], "items": {"type": ["number", "null"]}, "description": described}
    kind = "integer" if field.type == "bigint" else "number"
    return {"type": [kind, "null"], "description": described}


def reading_schema(table: str, names: Sequence[str], **identity: dict[str, Any]) -> dict[str, Any]:
    """This will describe an item that shows the named fields of a table."""
    fields = {name: field_schema(TABLES[table].field(name)) for name in names}
    head = {"taken_at": TIME, "age_seconds": {"type": ["number", "null"]}}
    return {"type": "object", "properties": {**identity, **head, **fields, "unknown": UNKNOWN}}


def scalar_names(table: str) -> list[str]:
    """This will name every field of a table that is one number or a list of them."""
    return [f.name for f in TABLES[table].fields if f.type != "histogram"]


TEXT = {"type": "string"}
MAYBE_TEXT = {"type": ["string", "null"]}
GPU: dict[str, Any] = {"gpu": TEXT, "node": TEXT, "index": {"type": ["integer", "null"]}, "name": MAYBE_TEXT}
MAYBE_INTEGER = {"type": ["integer", "null"]}
GPU_INSTANCE: dict[str, Any] = {
    "instance": {"type": "string", "description": "UUID of its first compute instance, as the kubelet names it"},
    "gpu": {"type": ["string", "null"], "description": "the GPU that it is a part of"},
    "node": TEXT,
    "gpu_index": MAYBE_INTEGER,
    "gpu_instance_id": MAYBE_INTEGER,
    "profile": MAYBE_TEXT,
    "name": MAYBE_TEXT,
    "sm_count": MAYBE_INTEGER,
    "compute_instances": {"type": ["array", "null"], "items": {"type": "object"}},
    "state": {"enum": ["present", "gone", None]},
    "processes": {"type": ["array", "null"], "items": {"type": "object"}},
}
_PLACE = {"pod": MAYBE_TEXT, "namespace": MAYBE_TEXT, "container": MAYBE_TEXT}
OWNER: dict[str, Any] = {
    **_PLACE,
    "pid": {"type": "integer"},
    "container_id": MAYBE_TEXT,
    "pod_uid": MAYBE_TEXT,
    "server": {"type": ["string", "null"], "description": "URL of the inference server that it belongs to"},
    "rank": {"type": ["object", "null"], "description": "its place in its engine, such as dp, pp, tp, ep"},
}
FINDINGS: tuple[str, ...] = get_args(Finding)
_NUMA_NODES = {"type": "array", "items": {"type": "integer"}, "description": "as the device plugin says; may be empty"}
_SHARES = {"type": "integer", "description": "replicas of a shared device; 0: the whole device"}
GPU_ATTRIBUTION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "allocated_to": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "properties": {
                    **_PLACE,
                    "resource": TEXT,
                    "device": TEXT,
                    "shares": _SHARES,
                    "claim": {"type": "string", "description": "of dynamic resource allocation; empty: a plugin's"},
                    "numa_nodes": _NUMA_NODES,
                    "ended": {"type": "boolean", "description": "listed still, but the pod has no process any more"},
                },
            },
            "description": "containers that the kubelet gave it to",
        },
        "allocatable": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "properties": {"resource": TEXT, "device": TEXT, "shares": _SHARES, "numa_nodes": _NUMA_NODES},
            },
            "description": "how a device plugin offers it, in use or not; empty: it is unhealthy or no plugin's",
        },
        "used_by": {
            "type": ["array", "null"],
            "items": {"type": "object", "properties": {**OWNER, "used_bytes": {"type": ["integer", "null"]}}},
            "description": "processes with a compute context on it",
        },
        "finding": {
            "type": "string",
            "description": f"what the difference between the two says: {', '.join(FINDINGS)}",
        },
        "finding_detail": {"type": "string", "description": "why the finding is unknown"},
        "left_out": {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "description": "how many entries each list lacks, and of how many processes no history is kept",
        },
        "unknown": UNKNOWN,
    },
}
SERVER_ATTRIBUTION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "namespace": MAYBE_TEXT,
        "pod": MAYBE_TEXT,
        "pod_uid": MAYBE_TEXT,
        "gpus": {
            "type": ["array", "null"],
            "items": {"type": "object"},
            "description": "the GPUs that its processes use, each with pid, role and rank",
        },
        "unknown": UNKNOWN,
    },
}
SERVER: dict[str, Any] = {
    "server_id": {"type": "integer"},
    "url": TEXT,
    "node": TEXT,
    "engine": MAYBE_TEXT,
    "model": MAYBE_TEXT,
    "state": MAYBE_TEXT,
}
