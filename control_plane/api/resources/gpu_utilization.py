"""How busy GPUs really are, and with what."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Response

from control_plane.analysis.findings import gpu_use
from control_plane.analysis.utilization.judging import Judged, judge
from control_plane.analysis.utilization.looks import FIELDS, Looks, Spans, spans, usual_interval_us, within
from control_plane.analysis.utilization.owners import owners
from control_plane.analysis.utilization.summary import MEANS, Signal, Summary, added, summary
from control_plane.api import scope, uses
from control_plane.api.answers import evidence, gpu_identity, page, timestamp
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import GpuWindow, OfUse, Window, window
from control_plane.api.schemas import GPU, MAYBE_TEXT, UNKNOWN
from control_plane.model import activity
from control_plane.model.activity import Activity
from control_plane.model.entity import Entity, EntityKind
from control_plane.storage import moments, readings, stored_samples
from control_plane.storage.readings import Selection

router = APIRouter(tags=["gpu"])

DEFAULT_WINDOW = timedelta(minutes=5)
# Samples that one answer may look at: 100 GPUs for an hour at 5 s, with room.
MOST_SAMPLES = 200_000
# What a look says also hangs on the looks before it.
CONTEXT = timedelta(seconds=60)
USED = [name for name in FIELDS if name not in ("memory_used_bytes", "energy_joules_total", "power_draw_mean_watts")]
CLASSIC_NOTE = "only the classic figures are known: they cannot tell work from a copy or a hang"
RATIOS = ("busy_ratio", "roofline_ratio", "power_capped_ratio", "slowed_ratio")
USUAL_SAMPLING_SECONDS = 5.0
MOST_SERVERS = 100_000
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
    return {
        **figures,
        "unknown": {name: why for name, value in figures.items() if value is None},
        "activity": of.activity,
        "activity_shares": {a.value: round(s / observed, 4) for a, s in of.by_activity.items()},
        "observed_ratio": round(min(1.0, observed / of.window_seconds), 4) if of.window_seconds else 0.0,
        "signal": of.signal,
        "honest_signal": activity.honest_signal(of.activity, {name: figures[name] for name in MEANS}),
        "note": CLASSIC_NOTE if of.signal is Signal.CLASSIC else None,
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
            {"type": "object", "properties": {**GPU, **_SHARES, "honest_signal": MAYBE_TEXT}},
            nodes={"type": "array", "items": _GROUP},
            servers={"type": "array", "items": _GROUP},
            models={"type": "array", "items": _GROUP},
            fleet=_GROUP,
            made_from={
                "enum": ["samples", "kept", "added_up"],
                "description": "samples, or what was summed up of them",
            },
        ),
    ),
)
async def gpu_utilization(asked: Annotated[GpuWindow, Query()], context: Context) -> Response:
    """Busy %, SM, tensor and DRAM activity over a window (default 5 minutes), by GPU, node, server, model and fleet.

    `activity` is what most of the time shows; `honest_signal` names the figure to trust for that work. Means run over
    the time in which they were known, and shares over the observed time: `observed_ratio` says how much that is. Of
    more than 200,000 samples it answers from what was summed up of them, by five minutes.
    """
    span = window(asked, context.clock.now(), DEFAULT_WINDOW)
    selection = await scope.of_gpus(context, asked)
    found = await readings.select_entities(context.database.engine, selection, asked.limit + 1)
    entities = found[: asked.limit]
    if len(entities) * span.seconds / USUAL_SAMPLING_SECONDS > MOST_SAMPLES:
        return await _added_up(context, asked)
    rows = await stored_samples.series(
        context.database.engine, "gpu", USED, [e.entity_id for e in entities],
        since=span.since - CONTEXT, until=span.until, limit=MOST_SAMPLES + 1,
    )  # fmt: skip
    if sum(map(len, rows.values())) > MOST_SAMPLES:
        return await _added_up(context, asked)
    summaries = await asyncio.to_thread(_summaries, rows, span)
    servers = await readings.select_entities(
        context.database.engine,
        Selection(kind=EntityKind.INFERENCE_SERVER, node_ids=sorted({e.node_id for e in entities})), MOST_SERVERS,
    )  # fmt: skip
    of = owners(entities, [each for each in servers if each.attributes.get("state") != "gone"])
    groups: dict[str, dict[str, list[Summary]]] = {"node": {}, "server": {}, "model": {}}
    named = {server.entity_id: f"{server.key} on {server.node_name}" for server in servers}
    for entity in entities:
        owner, mine = of[entity.entity_id], summaries[entity.entity_id][0]
        groups["node"].setdefault(entity.node_name, []).append(mine)
        if owner.server_id is not None:
            groups["server"].setdefault(named[owner.server_id], []).append(mine)
        if owner.model is not None:
            groups["model"].setdefault(owner.model, []).append(mine)
    shown_groups = {
        f"{kind}s": [{kind: name} | _group(each) for name, each in found_of.items()]
        for kind, found_of in groups.items()
    }
    return page(
        [_item(entity, *summaries[entity.entity_id], span) for entity in entities],
        more=len(found) > asked.limit,
        last_id=entities[-1].entity_id if entities else 0,
        **shown_groups,
        fleet=_group([of for of, _ in summaries.values()]),
        since=timestamp(span.since),
        until=timestamp(span.until),
        made_from="samples",
    )


async def _added_up(context: ApiContext, asked: GpuWindow) -> Response:
    """This will answer of a long window from what was summed up; some means are of samples only."""
    question = {"since": asked.since, "until": asked.until, "node": asked.node, "gpu": asked.gpu, "limit": asked.limit}

    def of(by: str) -> OfUse:
        return OfUse.model_validate(question | {"by": by, "cursor": asked.cursor if by == "gpu" else None})

    found = {by: await uses.answer(context, of(by)) for by in ("gpu", "node", "server", "model", "fleet")}
    items = [_kept(each.body) | {"evidence": each.body["evidence"]} for each in found["gpu"].found]
    last = found["gpu"].found[-1].place + 1 if found["gpu"].found else 0
    groups = {
        f"{by}s": [_kept(each.body) for each in found[by].found if each.subject != gpu_use.NONE]
        for by in ("node", "server", "model")
    }
    whole = found["fleet"].found
    return page(
        items, more=found["gpu"].more, last_id=last, **groups, fleet=_kept(whole[0].body) if whole else _group([]),
        **{name: value for name, value in found["gpu"].around().items() if name not in ("found_at", "note")},
    )  # fmt: skip


def _kept(body: Mapping[str, Any]) -> dict[str, Any]:
    """This will show what was summed up as samples are shown."""
    names = ("gpu", "node", "index", "name", "server", "model", "gpus")
    figures = {name: body.get(name) for name in (*MEANS, *RATIOS)}
    why = {name: body["unknown"].get(name, "of_shorter_windows_only") for name, v in figures.items() if v is None}
    activity_of = Activity(body["activity"])
    return (
        {name: body[name] for name in names if name in body}
        | figures
        | {
            "unknown": why,
            "activity": activity_of,
            "activity_shares": body["activity_shares"],
            "observed_ratio": body["observed_ratio"],
            "signal": body["signal"],
            "honest_signal": activity.honest_signal(activity_of, {name: figures[name] for name in MEANS}),
            "note": CLASSIC_NOTE if body["signal"] == Signal.CLASSIC else None,
        }
    )


def _summaries(rows: Mapping[int, Sequence[tuple[Any, ...]]], span: Window) -> dict[int, tuple[Summary, int]]:
    """This will sum up each GPU's looks, with the number of those in the window."""
    looks = _looks(rows)
    judged = judge(looks)
    since, until = moments.to_us(span.since), moments.to_us(span.until)
    times = within(spans(looks, interval_us=usual_interval_us(looks)), since_us=since, until_us=until)
    out, end = {}, 0
    for gpu_id, found in rows.items():  # in the order in which their rows were laid one after the other
        begin, end = end, end + len(found)
        samples = int((looks.taken_at_us[begin:end] >= since).sum())
        out[gpu_id] = summary(*_part(looks, judged, times, slice(begin, end)), window_seconds=span.seconds), samples
    return out


def _part(looks: Looks, judged: Judged, times: Spans, rows: slice) -> tuple[Looks, Judged, Spans]:
    return (
        Looks(
            gpu_ids=looks.gpu_ids[rows], taken_at_us=looks.taken_at_us[rows],
            columns={name: values[rows] for name, values in looks.columns.items()},
        ),
        Judged(
            activity=judged.activity[rows], duty=judged.duty[rows], power_capped=judged.power_capped[rows],
            slowed=judged.slowed[rows], weak=judged.weak[rows],
        ),
        Spans(starts_us=times.starts_us[rows], ends_us=times.ends_us[rows]),
    )  # fmt: skip
