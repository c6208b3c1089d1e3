"""How stored facts look in JSON. A null always comes with its reason, under `unknown`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Response

from control_plane.api.parameters import encode_cursor
from control_plane.model.entity import Entity
from control_plane.model.sample import Reading


def timestamp(moment: datetime) -> str:
    """This will write a time as RFC 3339 in UTC with Z, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _default(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    raise TypeError


_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME


def answer(body: Any, *, status: int = 200) -> Response:
    """This will send `body` as JSON. Infinity and NaN become null, since JSON has neither."""
    try:
        content = orjson.dumps(body, _default, _OPTIONS)
    except orjson.JSONEncodeError:  # an agent's attributes may hold a whole number beyond 64 bits
        content = json.dumps(body, default=_default, allow_nan=False).encode()
    return Response(content, status, media_type="application/json")


def page(items: Sequence[Any], *, more: bool, last_id: int, **around: Any) -> Response:
    """This will send one page of a list, with the cursor of the next one when there is more."""
    cursor = encode_cursor(after=last_id) if more and items else None
    return answer({"items": items, "next_cursor": cursor, **around})


def values(reading: Reading | None, names: Sequence[str]) -> dict[str, Any]:
    """This will give the named values and, under `unknown`, why each null is null."""
    if reading is None:
        return dict.fromkeys(names) | {"unknown": dict.fromkeys(names, "never_sampled")}
    found = list(map(reading.values.get, names))
    picked: dict[str, Any] = dict(zip(names, found, strict=True))
    missing = [name for name, value in picked.items() if value is None] if None in found else ()
    picked["unknown"] = {name: reading.unknown.get(name, "not_sent") for name in missing}
    return picked


def sampled(reading: Reading | None, names: Sequence[str], now: datetime) -> dict[str, Any]:
    """This will give the named values of the newest sample, when it was taken and how old it is."""
    if reading is None:
        return values(None, ["taken_at", "age_seconds", *names])
    return {"taken_at": reading.taken_at, "age_seconds": age_seconds(reading.taken_at, now)} | values(reading, names)


def rated(rates: Mapping[str, float | str | None]) -> dict[str, Any]:
    """This will give rates and, under `unknown`, why there is none: its text, or that nobody took two samples."""
    shown = {name: None if isinstance(rate, str) else rate for name, rate in rates.items()}
    why = {name: rate if isinstance(rate, str) else "fewer_than_two_samples" for name, rate in rates.items()}
    return {**shown, "unknown": {name: why[name] for name, rate in shown.items() if rate is None}}


def age_seconds(taken_at: datetime | None, now: datetime) -> float | None:
    """This will give how old a sample is."""
    return None if taken_at is None else round(max(0.0, (now - taken_at).total_seconds()), 3)


def gpu_identity(entity: Entity) -> dict[str, Any]:
    """This will name a GPU."""
    return {
        "gpu": entity.key,
        "node": entity.node_name,
        "index": entity.attributes.get("index"),
        "name": entity.attributes.get("name"),
    }


def instance_identity(entity: Entity) -> dict[str, Any]:
    """This will name a GPU instance."""
    said = entity.attributes
    names = ("gpu", "gpu_index", "gpu_instance_id", "profile", "name", "sm_count", "compute_instances", "state")
    return {"instance": entity.key, "node": entity.node_name, **{name: said.get(name) for name in names}}


def gpu_attribution(entity: Entity) -> dict[str, Any]:
    """This will say to whom a GPU was given, who uses it, and what the difference is."""
    said = entity.attributes.get("attribution")
    names = ("allocated_to", "used_by", "allocatable")
    if isinstance(said, dict):  # one of an earlier release says less
        missing = [name for name in names if name not in said]
        unknown = {**said.get("unknown", {}), **dict.fromkeys(missing, "not_sent")}
        return {**dict.fromkeys(missing), "left_out": {}, **said, "unknown": unknown}
    return {
        **dict.fromkeys(names),
        "finding": "unknown",
        "finding_detail": "its agent does not attribute GPUs",
        "left_out": {},
        "unknown": dict.fromkeys(names, "not_sent"),
    }


def server_attribution(entity: Entity) -> dict[str, Any]:
    """This will say in which pod a server runs and which GPUs its processes use, with their ranks."""
    said = {name: entity.attributes.get(name) for name in ("namespace", "pod", "pod_uid", "gpus")}
    why = "not_sent" if said["gpus"] is None else "name_not_known" if said["pod_uid"] else "in_none"
    return {**said, "unknown": {name: why for name, value in said.items() if value is None}}


def server_identity(entity: Entity) -> dict[str, Any]:
    """This will name an inference server."""
    return {
        "server_id": entity.entity_id,
        "url": entity.key,
        "node": entity.node_name,
        "engine": entity.attributes.get("engine"),
        "model": entity.attributes.get("model"),
        "state": entity.attributes.get("state"),
    }


def evidence(*, series: Sequence[str], since: datetime, until: datetime, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """This will say what a judgement was made from, enough to check it with the history endpoints."""
    return {"series": list(series), "since": timestamp(since), "until": timestamp(until), "numbers": numbers}
