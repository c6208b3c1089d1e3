"""Where demand and resources go, and what will come, with how such forecasts came out so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from control_plane.analysis.trends import trends
from control_plane.api import scope
from control_plane.api.answers import page, timestamp
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, Step, decode_cursor, parse_duration
from control_plane.api.resources.waste import EVIDENCE, MAYBE_NUMBER, NUMBER
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.errors import InvalidRequest
from control_plane.model.finding import Finding
from control_plane.storage import findings

router = APIRouter(tags=["analysis"])

# By what is kept: bins of five minutes up to an hour, of an hour beyond.
MINUTES, HOURS, SERVERS = "forecast_minutes", "forecast_hours", "forecast_servers"
FURTHEST_BY_MINUTES = timedelta(hours=1)


class OfTrends(Paged):
    """Trends over a window that is kept ready."""

    window: Literal["24h", "7d", "30d"] = Field("7d", description="what the trends are of")
    by: Literal["fleet", "model", "node"] = Field("fleet", description="what each item is about")
    model: list[Name] = Field(default_factory=list, max_length=100, description="model name; may be repeated")
    node: list[Name] = Field(default_factory=list, max_length=100, description="node name; may be repeated")


class OfForecasts(Paged):
    """Forecasts of demand."""

    horizon: Step | None = Field(None, description="how far ahead, such as 15m or 6h; default: every one that is kept")
    model: list[Name] = Field(default_factory=list, max_length=100, description="model name; may be repeated")
    server: list[Name] = Field(default_factory=list, max_length=100, description="server id or URL; may be repeated")


FORECAST = {
    "type": "object",
    "properties": {
        "horizon_seconds": {"type": "number", "description": "from the newest bin to the end of the one that is meant"},
        "expected": {"type": "number", "description": "as likely too high as too low"},
        "at_most": {"type": "number", "description": "exceeded in 1 - level of all cases: provision by it"},
        "level": NUMBER,
        "forecasts_judged": {"type": "integer", "description": "of this series at this horizon, each after the fact"},
        "accuracy": {"type": ["number", "null"], "description": "1 - sum of |errors| / sum of what came (1-WAPE)"},
        "bias_ratio": MAYBE_NUMBER,
        "coverage_ratio": {"type": ["number", "null"], "description": "share that stayed within at_most"},
        "skill_over_last_value": {"type": ["number", "null"], "description": "1 - error / that of the last value"},
        "mean_per_bin": MAYBE_NUMBER,
        "best_possible_accuracy": {"type": ["number", "null"], "description": "if arrivals are random (Poisson)"},
        "note": MAYBE_TEXT,
        "unknown": UNKNOWN,
    },
}  # fmt: skip
_SERIES = {"series": TEXT, "unit": TEXT, "unknown": UNKNOWN}
_ABOUT = {"fleet": MAYBE_TEXT, "model": MAYBE_TEXT, "node": MAYBE_TEXT, "server": MAYBE_TEXT, "bin_seconds": NUMBER}


@router.get(
    "/analysis/trends",
    **operation(
        "analysis_trends",
        "Trend, seasons and changes of demand and resources, with what is forecast", scope="read",
        errors=(404, 422, 503),
        answer=listed(
            {
                "type": "object",
                "properties": {
                    **_ABOUT,
                    "series": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                **_SERIES, "bins_known": {"type": "integer"}, "mean": MAYBE_NUMBER,
                                "trend": {"type": ["object", "null"]}, "daily_season_strength": MAYBE_NUMBER,
                                "weekly_season_strength": MAYBE_NUMBER, "changes": {"type": "array"}, "summary": TEXT,
                                "forecasts": {"type": "array", "items": FORECAST},
                            },
                        },
                    },
                    "evidence": EVIDENCE,
                },
            },
            found_at=TIME, note=MAYBE_TEXT,
        ),
    ),
)  # fmt: skip
async def analysis_trends(asked: Annotated[OfTrends, Query()], context: Context) -> Response:
    """Growth per day with its interval (Theil and Sen), how much comes again daily and weekly, and steps of the level.

    Series of demand carry their forecasts, with the record of that very series at that very horizon.
    """
    names = asked.model if asked.by == "model" else asked.node if asked.by == "node" else []
    after = decode_cursor(asked.cursor, "after") - 1 if asked.cursor else -1
    found = await findings.read(
        context.database.engine, trends.KIND, round(parse_duration(asked.window).total_seconds()), asked.by,
        subjects=names or None, after=after, limit=asked.limit + 1,
    )  # fmt: skip
    said = await _forecast_of(context, asked.by, [each.subject for each in found])
    items = [_with_forecasts(each, said.get(each.subject, {})) for each in found[: asked.limit]]
    return page(
        items, more=len(found) > asked.limit, last_id=found[: asked.limit][-1].place + 1 if found else 0,
        **_about(found),
    )  # fmt: skip


def _about(found: Sequence[Finding]) -> dict[str, Any]:
    if found:
        return {"found_at": timestamp(found[0].found_at), "note": None, "unknown": {}}
    note = "nothing is found yet: the first five minutes are summed up a minute or two after they end"
    return {"found_at": None, "note": note, "unknown": {"found_at": "nothing_found_yet"}}


async def _forecast_of(
    context: ApiContext, kind: str, names: Sequence[str]
) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """This will give each subject's forecasts by series, of both widths of bins."""
    out: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    if kind == "node" or not names:
        return out
    for plan in (MINUTES, HOURS):
        for each in await findings.read(context.database.engine, plan, 0, kind, subjects=names, limit=len(names)):
            for series in each.body["series"]:
                of = out.setdefault(each.subject, {}).setdefault(series["series"], [])
                of += [{**forecast, "bin_seconds": each.body["bin_seconds"]} for forecast in series["forecasts"]]
    return out


def _with_forecasts(found: Finding, said: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, Any]:
    series = [
        {**each, **({"forecasts": said[each["series"]]} if each["series"] in said else {})}
        for each in found.body["series"]
    ]
    return {**found.body, "series": series}


@router.get(
    "/analysis/forecast",
    **operation(
        "analysis_forecast",
        "Demand that will come, at most how much, and how far to believe it", scope="read",
        errors=(404, 422, 503),
        answer=listed(
            {
                "type": "object",
                "properties": {
                    **_ABOUT,
                    "series": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                **_SERIES, "forecasts": {"type": "array", "items": FORECAST}, "note": MAYBE_TEXT,
                            },
                        },
                    },
                    "evidence": EVIDENCE,
                },
            },
            found_at=TIME, note=MAYBE_TEXT,
        ),
    ),
)  # fmt: skip
async def analysis_forecast(asked: Annotated[OfForecasts, Query()], context: Context) -> Response:
    """Requests, requests of the busiest minute, prompt and output tokens; of the fleet, or of models or servers.

    Up to an hour ahead in bins of five minutes, up to a day in bins of an hour. A horizon in between is rounded up to
    one that is kept, so that its record is of that very horizon.
    """
    plan, kind, names = HOURS if _is_far(asked) else MINUTES, "fleet", None
    if asked.server:
        if _is_far(asked):
            raise InvalidRequest("a server's demand is forecast up to 1h ahead; ask for its model")
        ids = await scope.server_ids(context, asked.server) or []
        plan, kind, names = SERVERS, "server", [str(server_id) for server_id in ids]
    elif asked.model:
        kind, names = "model", asked.model
    after = decode_cursor(asked.cursor, "after") - 1 if asked.cursor else -1
    found = list(
        await findings.read(context.database.engine, plan, 0, kind, subjects=names, after=after, limit=asked.limit + 1)
    )
    items = [_narrowed(each.body, asked) for each in found[: asked.limit]]
    last_id = found[: asked.limit][-1].place + 1 if found else 0
    return page(items, more=len(found) > asked.limit, last_id=last_id, **_about(found))


def _is_far(asked: OfForecasts) -> bool:
    return asked.horizon is not None and parse_duration(asked.horizon) > FURTHEST_BY_MINUTES


def _narrowed(body: Mapping[str, Any], asked: OfForecasts) -> Mapping[str, Any]:
    """This will leave the horizon that was asked for, rounded up to one that is kept. Raises InvalidRequest."""
    if asked.horizon is None:
        return body
    wanted = parse_duration(asked.horizon).total_seconds()
    kept = sorted({f["horizon_seconds"] for series in body["series"] for f in series["forecasts"]})
    chosen = next((horizon for horizon in kept if horizon >= wanted), None)
    if chosen is None and kept:
        raise InvalidRequest(f"demand is forecast up to {kept[-1] / 3600:g} hours ahead")
    series = [
        {**each, "forecasts": [f for f in each["forecasts"] if f["horizon_seconds"] == chosen]}
        for each in body["series"]
    ]
    return {**body, "series": series}
