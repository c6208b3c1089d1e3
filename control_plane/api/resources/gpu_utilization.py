"""How busy GPUs really are, and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Response

from control_plane.analysis.utilization.judging import judge
from control_plane.analysis.utilization.looks import FIELDS, Looks, spans, usual_interval_us, within
from control_plane.analysis.utilization.summary import MEANS, Signal, Summary, added, summary
from control_plane.api import scope
from control_plane.api.answers import evidence, gpu_identity, page, timestamp
from control_plane.api.context import Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import GpuWindow, Window, window
from control_plane.api.schemas import GPU, MAYBE_TEXT, TEXT, UNKNOWN
from control_plane.model import activity
from control_plane.model.activity import Activity
from control_plane.model.entity import Entity
from control_plane.model.errors import InvalidRequest
from control_plane.storage import moments, readings, stored_samples

router = APIRouter(tags=["gpu"])

DEFAULT_WINDOW = timedelta(minutes=5)
# Samples that one answer may look at: 100 GPUs for an hour at 5 s, with room.
MOST_SAMPLES = 200_000
# What a look says also hangs on the looks before it.
CONTEXT = timedelta(seconds=60)
USED = [name for name in FIELDS if name not in ("memory_used_bytes", "energy_joules_total", "power_draw_mean_watts")]
_SHARE = {"type": ["number", "null"]}
_SHARES = {
    "activity": {"enum": [a.value for a in Activity], "description": "what most of the observed time shows"},
    "activity_shares": {"type": "object", "additionalProperties": {"type": "number"}},
    "observed_ratio": {"type": "number", "description": "share of the window that samples speak for"},
    "busy_ratio": {**_SHARE, "description": "share of the time in which any work ran"},
    "roofline_ratio": {**_SHARE, "description": "share used of the nearest limit: arithmetic pipes or bandwidth"},
    "power_capped_ratio": {**_SHARE, "description": "share of the time in which the power limit held the clocks down"},
    "slowed_ratio": {**_SHARE, "description": "the same, of heat and the power supply"},
    "signal": {"enum": [s.value for s in Signal], "description": "what it was judged by"},
    "note": MAYBE_TEXT,
    "unknown": UNKNOWN,
}
_GROUP = {"type": "object", "properties": {"gpus": {"type": "integer"}, **_SHARES}}


def _looks(rows: Mapping[int, Sequence[tuple[Any, ...]]]) -> Looks:
    """This will make columns of rows (taken_at, then USED) by GPU."""
    flat = [(gpu_id, *row) for gpu_id, found in rows.items() for row in found]
    values = np.array([row[2:] for row in flat], np.float64).reshape(len(flat), len(USED))  # None becomes NaN
    return Looks(
        gpu_ids=np.array([row[0] for row in flat], np.int64),
        taken_at_us=np.array([moments.to_us(row[1]) for row in flat], np.int64),
        columns={name: values[:, place] for place, name in enumerate(USED)},
    )


def _rounded(value: float, name: str) -> float:
    return round(value, 1 if name.endswith("per_second") else 4)


def shown(of: Summary) -> dict[str, Any]:
    """This will show what looks add up to, with a reason for each figure that is unknown."""
    observed = of.observed_seconds
    figures: dict[str, float | None] = dict.fromkeys(MEANS)
    figures |= {name: _rounded(mean.value, name) for name, mean in of.means.items()}
    for name, mean in (("busy_ratio", of.duty), ("roofline_ratio", of.roofline)):
        figures[name] = None if mean is None else round(mean.value, 4)
    for name, seconds in (("power_capped_ratio", of.power_capped_seconds), ("slowed_ratio", of.slowed_seconds)):
        figures[name] = round(seconds / observed, 4) if observed else None
    why = "never_known_in_window" if observed else "no_samples"
    classic = "only the classic figures are known: they cannot tell work from a copy or a hang"
    return {
        **figures,
        "unknown": {name: why for name, value in figures.items() if value is None},
        "activity": of.activity,
        "activity_shares": {a.value: round(s / observed, 4) for a, s in of.by_activity.items()},
        "observed_ratio": round(min(1.0, observed / of.window_seconds), 4) if of.window_seconds else 0.0,
        "signal": of.signal,
        "honest_signal": activity.honest_signal(of.activity, {name: figures[name] for name in MEANS}),
        "note": classic if of.signal is Signal.CLASSIC else None,
    }


def _item(entity: Entity, of: Summary, samples: int, span: Window) -> dict[str, Any]:
    figures = evidence(
        series=USED, since=span.since, until=span.until,
        numbers={"samples": samples, "observed_seconds": round(of.observed_seconds, 1)},
    )  # fmt: skip
    return gpu_identity(entity) | shown(of) | {"evidence": figures}


def _group(of: Sequence[Summary]) -> dict[str, Any]:
    """This will sum GPUs up; of each mean it says how many GPUs know it."""
    known = {f"{name}_gpus": sum(name in one.means for one in of) for name in MEANS if name.endswith("ratio")}
    found = shown(added(list(of)))
    found["unknown"] = dict.fromkeys(found["unknown"], "no_gpu_knows_it")
    return {"gpus": len(of)} | found | known


@router.get(
    "/gpu/utilization",
    **operation(
        "gpu_utilization",
        "How busy GPUs really are, and with what",
        scope="read",
        shared=True,
        rate="heavy",
        errors=(404, 422, 503),
        answer=listed(
            {"type": "object", "properties": {**GPU, **_SHARES, "honest_signal": TEXT}},
            nodes={"type": "array", "items": _GROUP},
            fleet=_GROUP,
        ),
    ),
)
async def gpu_utilization(asked: Annotated[GpuWindow, Query()], context: Context) -> Response:
    """Busy %, SM, tensor and DRAM activity over a window (default 5 minutes), by GPU, node and fleet.

    `activity` is what most of the time shows; `honest_signal` names the figure to trust for that work. Means run over
    the time in which they were known, and shares over the observed time: `observed_ratio` says how much that is.
    """
    span = window(asked, context.clock.now(), DEFAULT_WINDOW)
    selection = await scope.of_gpus(context, asked)
    found = await readings.select_entities(context.database.engine, selection, asked.limit + 1)
    entities = found[: asked.limit]
    rows = await stored_samples.series(
        context.database.engine, "gpu", USED, [e.entity_id for e in entities],
        since=span.since - CONTEXT, until=span.until, limit=MOST_SAMPLES + 1,
    )  # fmt: skip
    if sum(map(len, rows.values())) > MOST_SAMPLES:
        raise InvalidRequest(f"more than {MOST_SAMPLES:,} samples; ask for a shorter window, or name nodes or GPUs")
    summaries = _summaries(rows, span)
    by_node: dict[str, list[Summary]] = {}
    for entity in entities:
        by_node.setdefault(entity.node_name, []).append(summaries[entity.entity_id][0])
    return page(
        [_item(entity, *summaries[entity.entity_id], span) for entity in entities],
        more=len(found) > asked.limit,
        last_id=entities[-1].entity_id if entities else 0,
        nodes=[{"node": node} | _group(group) for node, group in by_node.items()],
        fleet=_group([of for of, _ in summaries.values()]),
        since=timestamp(span.since),
        until=timestamp(span.until),
    )


def _summaries(rows: Mapping[int, Sequence[tuple[Any, ...]]], span: Window) -> dict[int, tuple[Summary, int]]:
    """This will sum up each GPU's looks, with the number of those in the window."""
    looks = _looks(rows)
    judged = judge(looks)
    since, until = moments.to_us(span.since), moments.to_us(span.until)
    times = within(spans(looks, interval_us=usual_interval_us(looks)), since_us=since, until_us=until)
    out = {}
    for gpu_id in rows:
        mine = looks.gpu_ids == gpu_id
        samples = int((mine & (looks.taken_at_us >= since)).sum())
        out[gpu_id] = summary(looks, judged, times, window_seconds=span.seconds, of=mine), samples
    return out
