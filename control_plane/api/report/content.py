"""What the report says, gathered from what stages found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from control_plane.analysis.findings import gpu_use, opportunities, serving, timeline
from control_plane.analysis.findings.figures import WASTE
from control_plane.analysis.trends import trends
from control_plane.api.answers import timestamp
from control_plane.model.finding import Finding
from control_plane.model.use import UseClass
from control_plane.storage import findings
from control_plane.storage.session import Database

TITLE = "Where the GPUs' time and money went"
MOST_ROWS = 10
CLASS_WORDS = {
    UseClass.USEFUL: "useful work",
    UseClass.INEFFICIENT: "busy, but held back",
    UseClass.STRANDED: "memory held, no work",
    UseClass.ALLOCATED_IDLE: "given to pods, idle",
    UseClass.UNALLOCATED: "GPUs that nobody has",
    UseClass.UNKNOWN: "down or unknown",
}
CAUSE_WORDS = {
    "work": "work", "busy_unspecified": "busy (GPM missing)", "slowed": "clocked down",
    "host_starved": "waiting for the CPU", "copying": "copying",
    "underused": "far below its limits", "stuck": "stuck collective", "stalled": "stalled",
    "memory_held": "idle weights or caches", "allocated_unused": "held by a pod, unused",
    "unallocated": "empty and given to nobody", "not_judged": "cannot be told", "no_samples": "no samples",
}  # fmt: skip


async def gather(database: Database, length: timedelta) -> dict[str, Any] | None:
    """This will give the report's content; None when nothing is found yet."""
    seconds, engine = length // timedelta(seconds=1), database.engine

    async def read(kind: str, subject: str, window: int = seconds) -> Sequence[Finding]:
        return await findings.read(engine, kind, window, subject, limit=MOST_ROWS)

    fleet = await read(gpu_use.KIND, "fleet")
    if not fleet:
        return None
    whole = fleet[0]
    models = [each.body for each in await read(serving.KIND, "model")]
    ranked = [each.body for each in await read(opportunities.KIND, "fleet")]
    described = await read(trends.KIND, "fleet")
    forecast = await read("forecast_minutes", "fleet", 0)
    return {
        "title": TITLE,
        "since": timestamp(whole.since),
        "until": timestamp(whole.until),
        "found_at": timestamp(whole.found_at),
        "headline": headline(whole.body, ranked),
        "fleet": _row(whole.body, "the fleet"),
        "classes": whole.body["classes"],
        "prices": whole.body["prices"],
        "confidence": whole.body["confidence"],
        "nodes": [_row(each.body, each.body["node"]) for each in await read(gpu_use.KIND, "node")],
        "models": [_model(body) for body in models],
        "opportunities": ranked,
        "trends": [_trend(series) for series in (described[0].body["series"] if described else [])],
        "forecast": [_forecast(series) for series in (forecast[0].body["series"] if forecast else [])],
        "timeline": next((each.body for each in await read(timeline.KIND, "fleet")), None),
        "unknown": {} if described else {"timeline": "of a day and more only"},
    }


def period(content: Mapping[str, Any]) -> str:
    """This will say of when the report is, and from when on anything is known."""
    since, until = (datetime.fromisoformat(content[name]) for name in ("since", "until"))
    said = f"{since:%d %b %Y %H:%M} to {until:%d %b %Y %H:%M} UTC"
    at = content["timeline"]["at"] if content["timeline"] else []
    if at and (begun := datetime.fromisoformat(at[0])) > since:
        said += (
            f"; known from {begun:%H:%M} on" if begun.date() == until.date() else f"; known from {begun:%d %b %H:%M} on"
        )
    return said


def headline(body: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]]) -> list[str]:
    """This will say the most important things in sentences."""
    hours = {each["class"]: each for each in body["classes"]}
    paid = body["paid_gpu_hours"]
    if not paid:
        return ["No GPU was paid for in this window."]
    useful = hours[UseClass.USEFUL]
    spent = "" if body["usd"] is None else f"; ${body['usd']:,.2f} were spent, ${body['waste_usd']:,.2f} of it on waste"
    out = [f"{body['gpus']} GPUs, {paid:,.1f} GPU-hours paid: {useful['ratio']:.0%} of that was useful work{spent}."]
    worst = max((hours[c] for c in WASTE), key=lambda each: each["gpu_hours"])
    if worst["gpu_hours"] > 0:
        causes = max(worst["causes"], key=lambda cause: cause["gpu_hours"])
        out.append(
            f"The largest waste is {CLASS_WORDS[UseClass(worst['class'])]}: {worst['gpu_hours']:,.1f} GPU-hours "
            f"({worst['ratio']:.0%}), mostly {CAUSE_WORDS[causes['cause']]}."
        )
    if ranked and ranked[0]["saving"]["usd_per_month"]:
        first, sure = ranked[0]["saving"], ranked[0]["confidence"]
        doubt = f" Confidence is low: {'; '.join(sure['because'])}." if sure["level"] == "low" else ""
        out.append(
            f"The first thing to do would save ${first['usd_per_month']:,.0f} a month "
            f"(${first['usd_per_month_low']:,.0f} to ${first['usd_per_month_high']:,.0f}): "
            f"{ranked[0]['title'][0].lower()}{ranked[0]['title'][1:]} ({ranked[0]['about']['name']}).{doubt}"
        )
    unknown = hours[UseClass.UNKNOWN]["ratio"]
    if unknown >= 0.05:
        out.append(f"{unknown:.0%} of the time is unknown: nothing is said about it.")
    return out


def _row(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    names = ("gpus", "paid_gpu_hours", "usd", "waste_usd", "waste_gpu_hours", "busy_ratio", "roofline_ratio",
             "observed_ratio", "classes")  # fmt: skip
    return {"name": name} | {n: body[n] for n in names} | {"unknown": _reasons(body, names)}


def _reasons(body: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    return {name: why for name, why in body["unknown"].items() if name in names}


def _model(body: Mapping[str, Any]) -> dict[str, Any]:
    names = ("model", "servers", "requests", "output_tokens", "usd", "usd_per_million_tokens_allocation",
             "usd_per_million_tokens_usage", "output_tokens_per_joule", "ttft_seconds_mean", "reading")  # fmt: skip
    return {n: body[n] for n in names} | {"unknown": _reasons(body, names)}


def _trend(series: Mapping[str, Any]) -> dict[str, Any]:
    names = ("series", "unit", "mean", "summary")
    return {n: series[n] for n in names} | {"unknown": _reasons(series, names)}


def _forecast(series: Mapping[str, Any]) -> dict[str, Any]:
    return {"series": series["series"], "unit": series["unit"], "forecasts": series["forecasts"]}
