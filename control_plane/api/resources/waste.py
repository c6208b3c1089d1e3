"""Where GPU time, energy and money go: in classes that add up to what is paid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.api import uses
from control_plane.api.answers import page
from control_plane.api.context import Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import OfUse
from control_plane.api.schemas import TEXT, UNKNOWN
from control_plane.model.use import Cause, UseClass

router = APIRouter(tags=["analysis"])

NUMBER = {"type": "number"}
MAYBE_NUMBER = {"type": ["number", "null"]}
CLASSES = {
    "type": "array",
    "description": "disjoint: their GPU-hours add up to paid_gpu_hours",
    "items": {
        "type": "object",
        "properties": {
            "class": {"enum": [c.value for c in UseClass]},
            "gpu_hours": NUMBER,
            "ratio": {"type": "number", "description": "share of the paid GPU-hours"},
            "kilowatt_hours": {"type": "number", "description": "as far as energy is known"},
            "usd": {"type": "number", "description": "as far as there are prices"},
            "causes": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"cause": {"enum": [c.value for c in Cause]}, "gpu_hours": NUMBER, "usd": NUMBER},
                },
            },
        },
    },
}
PRICES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "gpu_model": TEXT, "usd_per_gpu_hour": MAYBE_NUMBER, "basis": {"type": ["string", "null"]},
            "provider": {"type": ["string", "null"]}, "as_of": {"type": ["string", "null"], "format": "date"},
            "source": {"type": ["string", "null"]}, "gpu_hours": NUMBER, "unknown": UNKNOWN,
        },
    },
}  # fmt: skip
MONEY = {
    "usd": {"type": ["number", "null"], "description": "what was paid, without what has no price"},
    "waste_usd": {"type": ["number", "null"], "description": "inefficient, stranded, allocated_idle and unallocated"},
    "waste_gpu_hours": NUMBER,
    "unpriced_gpu_hours": NUMBER,
    "currency": TEXT,
    "prices": PRICES,
}
CONFIDENCE = {
    "type": "object",
    "properties": {
        "level": {"enum": ["high", "medium", "low"]},
        "because": {"type": "array", "items": TEXT},
    },
}
EVIDENCE = {"type": "object"}
GROUP = {
    "gpus": {"type": "integer"},
    "paid_gpu_hours": {"type": "number", "description": "wall time × GPUs, down or not"},
    "observed_gpu_hours": NUMBER,
    "observed_ratio": NUMBER,
}
# Of whatever an item is about, one of these is there.
NAMES = ("fleet", "node", "gpu", "index", "name", "server", "model", "namespace", "gpu_model", "pool", "label")
FIGURES = (*GROUP, "classes", *MONEY, "confidence", "evidence")
ITEM = {
    "type": "object",
    "properties": {
        **{name: {"type": ["string", "null"]} for name in NAMES if name != "index"},
        "index": {"type": ["integer", "null"]},
        **GROUP, "classes": CLASSES, **MONEY, "confidence": CONFIDENCE, "evidence": EVIDENCE, "unknown": UNKNOWN,
    },
}  # fmt: skip


def picked(body: Mapping[str, Any], figures: tuple[str, ...]) -> dict[str, Any]:
    """This will take some figures of a finding, with the reasons of those that are unknown."""
    names = [name for name in (*NAMES, *figures) if name in body]
    unknown = {name: why for name, why in body["unknown"].items() if name in names}
    return {name: body[name] for name in names} | {"unknown": unknown}


@router.get(
    "/analysis/waste",
    **operation(
        "analysis_waste",
        "What paid GPU time, energy and money went into",
        scope="read",
        errors=(404, 422, 503),
        answer=listed(ITEM, **uses.WINDOW_SCHEMA),
    ),
)
async def analysis_waste(asked: Annotated[OfUse, Query()], context: Context) -> Response:
    """Useful, inefficient, stranded, allocated and idle, unallocated, unknown: disjoint, and together what is paid.

    `by` says what each item is about: the fleet (default), nodes, GPUs, servers, models, namespaces, kinds of GPU,
    pools, or a node's label (`label:KEY`). The windows 1h, 24h (default), 7d and 30d are kept ready; any other is added
    up, by whole five minutes.
    """
    answer = await uses.answer(context, asked)
    return page(
        [picked(found.body, FIGURES) for found in answer.found],
        more=answer.more,
        last_id=answer.found[-1].place + 1 if answer.found else 0,
        by=asked.by,
        **answer.around(),
    )
