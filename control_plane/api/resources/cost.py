"""What GPUs cost, for how many hours, and the prices that this stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from control_plane.analysis.findings import opportunities, savings, serving
from control_plane.api import uses
from control_plane.api.answers import answer, page, timestamp
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, OfUse, Parameters, parse_duration
from control_plane.api.recommendations import line_of
from control_plane.api.resources.waste import EVIDENCE, GROUP, ITEM, MAYBE_NUMBER, MONEY, NUMBER, picked
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.decisions import ledger
from control_plane.model.decision import RecommendationState
from control_plane.model.errors import InvalidRequest
from control_plane.model.finding import Finding
from control_plane.storage import findings, nodes, prices, recommendations

router = APIRouter(tags=["cost"])

SUMMARY = (*GROUP, *MONEY, "kilowatt_hours", "energy_usd", "confidence", "evidence")
# Of a model's tokens; docs/cost.md has the formulas.
TOKEN_COSTS = (
    "model", "servers", "gpu_model", "requests", "output_tokens", "usd", "usd_per_million_tokens_allocation",
    "usd_per_million_tokens_usage", "usd_per_million_output_tokens_allocation",
    "usd_per_million_output_tokens_usage", "output_tokens_per_usd", "output_tokens_per_joule", "gpu_busy_ratio",
    "reading", "evidence",
)  # fmt: skip
MODEL_COST = {
    "type": "object",
    "properties": {
        "model": TEXT, "servers": {"type": "integer"}, "gpu_model": MAYBE_TEXT, "reading": MAYBE_TEXT,
        **dict.fromkeys(TOKEN_COSTS[3:-2], MAYBE_NUMBER), "evidence": EVIDENCE, "unknown": UNKNOWN,
    },
}  # fmt: skip


@router.get(
    "/cost/summary",
    **operation(
        "cost_summary",
        "What was paid, what of it was waste, and what a million tokens cost", scope="read",
        errors=(404, 422, 503),
        answer=listed(
            {
                "type": "object",
                "properties": {
                    **ITEM["properties"], "kilowatt_hours": NUMBER, "energy_usd": MAYBE_NUMBER,  # type: ignore[dict-item]
                },
            },
            models={"type": "array", "items": MODEL_COST},
            **uses.WINDOW_SCHEMA,
        ),
    ),
)  # fmt: skip
async def cost_summary(asked: Annotated[OfUse, Query()], context: Context) -> Response:
    """Money by `by` (default: the whole fleet), and for each model the cost of a million tokens on two bases.

    `models` is found on schedule, for the windows that are kept ready: 1h, 24h (default), 7d, 30d.
    """
    found = await uses.answer(context, asked)
    return page(
        [picked(each.body, SUMMARY) for each in found.found],
        more=found.more,
        last_id=found.found[-1].place + 1 if found.found else 0,
        by=asked.by,
        models=[shown(each.body, TOKEN_COSTS) for each in await _models(context, asked)],
        **found.around(),
    )


class OfSavings(Parameters):
    """Savings as found over a window."""

    window: Literal["24h", "7d", "30d"] = Field("24h", description="what they were found from")


async def _models(context: ApiContext, asked: OfUse) -> Sequence[Finding]:
    length = uses.kept_window(asked)
    if length is None:
        return []
    return await findings.read(
        context.database.engine, serving.KIND, length // timedelta(seconds=1), "model",
        subjects=asked.model or None, limit=asked.limit,
    )  # fmt: skip


def shown(body: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """This will take some figures of a finding, with the reasons of those that are unknown."""
    unknown = {name: why for name, why in body["unknown"].items() if name in names}
    return {name: body[name] for name in names if name in body} | {"unknown": unknown}


@router.get(
    "/cost/gpu-hours",
    **operation(
        "cost_gpu_hours",
        "GPU-hours, by what they went into",
        scope="read",
        errors=(404, 422, 503),
        answer=listed(ITEM, **uses.WINDOW_SCHEMA),
    ),
)
async def cost_gpu_hours(asked: Annotated[OfUse, Query()], context: Context) -> Response:
    """Paid GPU-hours and their classes by `by`: node, namespace, model, … The same as /analysis/waste, hours first."""
    found = await uses.answer(context, asked)
    return page(
        [picked(each.body, (*GROUP, "classes", *MONEY, "confidence", "evidence")) for each in found.found],
        more=found.more,
        last_id=found.found[-1].place + 1 if found.found else 0,
        by=asked.by,
        **found.around(),
    )


_AMOUNTS = {
    "usd_per_month": MAYBE_NUMBER, "usd_per_month_low": MAYBE_NUMBER, "usd_per_month_high": MAYBE_NUMBER,
    "gpu_hours_per_month": MAYBE_NUMBER,
}  # fmt: skip
_REALISED = {**_AMOUNTS, "promised_usd_per_month": MAYBE_NUMBER, "unknown": UNKNOWN}
_SAVINGS = {
    "type": "object",
    "properties": {
        "promised": {
            "type": "object",
            "description": "the sum of all opportunities that do not overlap",
            "properties": {"opportunities": {"type": "integer"}, "without_a_price": {"type": "integer"}, **_AMOUNTS},
        },
        "realised": {
            "type": "object",
            "description": "of what was carried out: what it promised, and what was measured since",
            "properties": {
                "executions": {"type": "integer"},
                "method": {"type": "string", "description": "what it is compared with"},
                "accuracy": {
                    "type": "array", "items": {"type": "object"},
                    "description": "by kind: how many, how far off, and how many within the interval",
                },
                "measured": {"type": "integer"},
                **_REALISED,
                "items": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "execution": TEXT, "kind": TEXT, "about": TEXT, "carried_out_at": TIME,
                            "measured_until": {"type": ["string", "null"], "format": "date-time"}, **_REALISED,
                        },
                    },
                },
            },
        },
        "found_at": TIME,
        "unknown": UNKNOWN,
    },
}  # fmt: skip


@router.get(
    "/cost/savings", **operation("cost_savings", "What could be saved, and what was", scope="read", answer=_SAVINGS)
)
async def cost_savings(asked: Annotated[OfSavings, Query()], context: Context) -> Response:
    """Promised is what opportunities say of the window; realised is what was carried out and then measured."""
    length = round(parse_duration(asked.window).total_seconds())
    found = await findings.read(context.database.engine, opportunities.KIND, length, "fleet", limit=10_000)
    found_at = found[0].found_at if found else None
    return answer({
        "promised": savings.promised([each.body for each in found]),
        "realised": await _realised(context),
        "found_at": _stamp(found_at),
        "unknown": {} if found_at else {"found_at": "nothing_found_yet"},
    })  # fmt: skip


async def _realised(context: ApiContext) -> dict[str, Any]:
    """This will add up what was carried out, and say by kind how what was promised came out."""
    done = await recommendations.find(context.database.engine, states=[RecommendationState.EXECUTED], limit=10_000)
    measured = [(k.kind, k.body, k.realised) for k in done if k.realised is not None]
    lines = [line for k in done if (line := line_of(k)) is not None]
    return savings.realised(lines) | {"method": ledger.METHOD, "accuracy": ledger.accuracy(measured)}


# -- prices -----------------------------------------------------------------------------------------


class Price(BaseModel):
    """What GPUs cost for an hour: of one node, of one kind, or both. What is more special comes first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: Name | None = Field(None, description="name of a node; null: any")
    gpu_model: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="what the driver's name of the GPU contains, such as H200; null: any",
    )
    per_gpu_hour: float = Field(ge=0, le=1e6, allow_inf_nan=False)


class Prices(BaseModel):
    """All prices that hold from a day on, in place of those that held."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: date = Field(
        description="the day (UTC) from which on these prices hold; time before it keeps those that held then"
    )
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="of all amounts here")
    usd_per_unit: float | None = Field(
        None, gt=0, le=1e6, allow_inf_nan=False, description="US dollars for one unit of the currency; not for USD"
    )
    prices: list[Price] = Field(default_factory=list, max_length=10_000)
    per_kwh: float | None = Field(
        None, ge=0, le=1e3, allow_inf_nan=False, description="of electricity that is paid on top of the hour"
    )
    provider: str | None = Field(
        None,
        max_length=100,
        description="whose list prices hold for GPUs without a price here; null: their median",
    )
    use_list_prices: bool = Field(True, description="false: a GPU without a price here has none")


_PRICES = {
    "type": "object",
    "properties": {
        "entered_at": TIME,
        "entered": {"type": ["object", "null"]},
        "providers": {"type": "array", "items": TEXT},
        "listed": {"type": "array", "items": {"type": "object"}},
        "unknown": UNKNOWN,
    },
}


@router.get("/cost/prices", **operation("cost_prices", "The prices that hold", scope="read", answer=_PRICES))
async def cost_prices(asked: Annotated[Parameters, Query()], context: Context) -> Response:
    """What was entered, and the list prices that hold for what was not, with their source and date."""
    del asked
    return answer(await _shown_prices(context))


@router.put(
    "/cost/prices",
    **operation("cost_prices_enter", "Let other prices hold", scope="admin", answer=_PRICES, errors=(404, 422, 503)),
)
async def enter(body: Prices, asked: Annotated[Parameters, Query()], context: Context) -> Response:
    """Everything that is kept is found again with them within a minute; what held before stays in the database."""
    del asked
    if (body.currency == "USD") != (body.usd_per_unit is None):
        raise InvalidRequest("usd_per_unit says what one unit of another currency than USD is worth")
    providers = sorted({price.provider for price in prices.book_of(None).listed})
    if body.provider is not None and body.provider not in providers:
        raise InvalidRequest(f"there are no list prices of {body.provider[:64]!r}; there are of {', '.join(providers)}")
    known = {node.name for node in await nodes.find(context.database.engine)}
    missing = sorted({price.node for price in body.prices if price.node is not None} - known)
    if missing:
        raise InvalidRequest(f"there is no node {missing[0][:64]!r}; GET /nodes lists those there are")
    entered = body.model_dump(mode="json") | {"usd_per_unit": body.usd_per_unit or 1.0}
    await prices.enter(context.database.engine, entered, context.clock.now())
    return answer(await _shown_prices(context))


async def _shown_prices(context: ApiContext) -> dict[str, Any]:
    entered, entered_at = await prices.entered(context.database.engine)
    book = prices.book_of(entered)
    listed_now = [
        {
            "gpu": price.gpu, "provider": price.provider, "usd_per_gpu_hour": price.usd_per_gpu_hour,
            "as_of": price.as_of.isoformat(), "source": price.source,
        }
        for price in book.listed
    ]  # fmt: skip
    nothing = "nobody_has_entered_prices"
    return {
        "entered_at": _stamp(entered_at),
        "entered": None if entered is None else _said(entered),
        "providers": sorted({price.provider for price in book.listed}),
        "listed": listed_now,
        "unknown": {} if entered is not None else {"entered": nothing, "entered_at": nothing},
    }


def _said(entered: Mapping[str, Any]) -> dict[str, Any]:
    """This will leave out what was not said."""
    rows = [{name: value for name, value in price.items() if value is not None} for price in entered["prices"]]
    return {name: value for name, value in entered.items() if value is not None} | {"prices": rows}


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)
