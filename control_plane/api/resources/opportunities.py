"""What could be had for the same money, ranked; and what moves with what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from control_plane.analysis.findings import correlation, opportunities
from control_plane.analysis.findings.serving import PER_RESOURCE
from control_plane.api.answers import page, timestamp
from control_plane.api.context import Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, decode_cursor, parse_duration
from control_plane.api.resources.waste import CONFIDENCE, EVIDENCE, MAYBE_NUMBER, NUMBER
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.finding import Finding
from control_plane.storage import findings

router = APIRouter(tags=["analysis"])

_SAVING = {
    "type": "object",
    "properties": {
        "usd_per_month": MAYBE_NUMBER, "usd_per_month_low": MAYBE_NUMBER, "usd_per_month_high": MAYBE_NUMBER,
        "gpu_hours_per_month": NUMBER, "gpu_hours_per_month_low": MAYBE_NUMBER,
        "gpu_hours_per_month_high": MAYBE_NUMBER, "unknown": UNKNOWN,
    },
}  # fmt: skip
OPPORTUNITY = {
    "type": "object",
    "properties": {
        "rank": {"type": "integer"}, "kind": TEXT, "title": TEXT,
        "about": {"type": "object", "description": "the server, pod, node or model that it is about"},
        "cause": TEXT, "saving": _SAVING, "remedy": TEXT,
        "to_do": {"type": "string", "description": "what doing it costs"},
        "effort": {"enum": ["low", "medium", "high"]}, "confidence": CONFIDENCE, "evidence": EVIDENCE,
    },
}  # fmt: skip


class OfWindow(Paged):
    """What was found over a window that is kept ready."""

    window: Literal["24h", "7d", "30d"] = Field("24h", description="what it was found from")


class OfModels(OfWindow):
    """The same, of models."""

    model: list[Name] = Field(default_factory=list, max_length=100, description="model name; may be repeated")


def about(found: list[Finding]) -> dict[str, Any]:
    """This will say of when it is, or why there is nothing."""
    if found:
        first = found[0]
        return {
            "since": timestamp(first.since), "until": timestamp(first.until), "found_at": timestamp(first.found_at),
            "unknown": {},
        }  # fmt: skip
    return dict.fromkeys(("since", "until", "found_at")) | {
        "unknown": dict.fromkeys(("since", "until", "found_at"), "nothing_found")
    }


_WHEN = {"since": TIME, "until": TIME, "found_at": TIME}


@router.get(
    "/analysis/opportunities",
    **operation(
        "analysis_opportunities", "What could be saved, ranked by value", scope="read",
        answer=listed(OPPORTUNITY, **_WHEN),
    ),
)  # fmt: skip
async def analysis_opportunities(asked: Annotated[OfWindow, Query()], context: Context) -> Response:
    """Each with its saving a month, its interval, what doing it costs, how sure it is, and what it stands on.

    The interval holds how much the loss varied over the window, and how much of it can be had back.
    """
    after = decode_cursor(asked.cursor, "after") - 1 if asked.cursor else -1
    found = await findings.read(
        context.database.engine, opportunities.KIND, round(parse_duration(asked.window).total_seconds()), "fleet",
        after=after, limit=asked.limit + 1,
    )  # fmt: skip
    shown = found[: asked.limit]
    return page(
        [each.body for each in shown], more=len(found) > asked.limit, last_id=shown[-1].place + 1 if shown else 0,
        **about(found),
    )  # fmt: skip


_PAIR = {
    "type": "object",
    "properties": {
        "load": TEXT, "performance": TEXT, "rank_correlation": NUMBER, "low": NUMBER, "high": NUMBER, "level": NUMBER,
        "is_clear": {"type": "boolean"}, "bins": {"type": "integer"}, "load_mean": NUMBER, "performance_mean": NUMBER,
    },
}  # fmt: skip


@router.get(
    "/analysis/correlation",
    **operation(
        "analysis_correlation", "Throughput per GPU, watt and dollar; latency against utilisation", scope="read",
        answer=listed(
            {
                "type": "object",
                "properties": {
                    "model": TEXT, "servers": {"type": "integer"}, "gpu_model": MAYBE_TEXT, "reading": MAYBE_TEXT,
                    **dict.fromkeys((*PER_RESOURCE, "mfu_ratio", "mbu_ratio", "attained_ratio"), MAYBE_NUMBER),
                    "pairs": {"type": "array", "items": _PAIR}, "evidence": EVIDENCE, "unknown": UNKNOWN,
                },
            },
            **_WHEN,
        ),
    ),
)  # fmt: skip
async def analysis_correlation(asked: Annotated[OfModels, Query()], context: Context) -> Response:
    """By model: what came out for GPUs, energy and money, and which load its latency and throughput go up with.

    Rank correlation (Spearman) of five minutes, of hours from 7d on, with an interval; it says what moves together and
    not what causes it.
    """
    after = decode_cursor(asked.cursor, "after") - 1 if asked.cursor else -1
    found = await findings.read(
        context.database.engine, correlation.KIND, round(parse_duration(asked.window).total_seconds()), "model",
        subjects=asked.model or None, after=after, limit=asked.limit + 1,
    )  # fmt: skip
    shown = found[: asked.limit]
    return page(
        [each.body for each in shown], more=len(found) > asked.limit, last_id=shown[-1].place + 1 if shown else 0,
        **about(found),
    )  # fmt: skip
