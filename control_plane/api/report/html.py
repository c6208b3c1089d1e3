"""The report as one page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from control_plane.api.report import plots
from control_plane.api.report.content import CLASS_WORDS, period
from control_plane.api.report.markdown import causes, money, number, share, short
from control_plane.model.use import UseClass

STYLE = (files("control_plane.api.report") / "style.css").read_text(encoding="utf-8") + "".join(
    f".key .{each}{{background:{colour}}}" for each, colour in plots.COLOURS.items()
)
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
# The page's own style, and nothing else.
POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; frame-ancestors 'none'"


def write(content: Mapping[str, Any]) -> str:
    """This will write the page."""
    body = "".join((
        f"<h1>{escape(content['title'])}</h1>",
        f'<p class="when">{escape(period(content))}</p>',
        '<div class="say">' + "".join(f"<p>{escape(sentence)}</p>" for sentence in content["headline"]) + "</div>",
        _tiles(content),
        _went(content),
        _over_time(content),
        _to_do(content["opportunities"]),
        _nodes(content["nodes"]),
        _models(content["models"]),
        _demand(content),
        _trends(content["trends"]),
        _footing(content),
    ))  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{escape(content["title"])}</title>'
        f"<style>{STYLE}</style></head><body>{body}</body></html>"
    )


def _tiles(content: Mapping[str, Any]) -> str:
    fleet = content["fleet"]
    useful = next(each["ratio"] for each in content["classes"] if each["class"] == UseClass.USEFUL)
    tiles = (
        (share(useful), "of the paid time was useful work"),
        (money(fleet["usd"]), "spent"),
        (money(fleet["waste_usd"]), "of it wasted"),
        (share(fleet["busy_ratio"]), "of the time any work ran"),
        (share(fleet["roofline_ratio"]), "used of the nearest hardware limit"),
    )
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in tiles
    ) + "</div>"  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = ()) -> str:
    """This will write a table whose cells are HTML already; the columns `text` read from the left."""

    def cell(tag: str, number: int, value: str) -> str:
        return f"<{tag}{' class=text' if number in text else ''}>{value}</{tag}>"

    lines = ["<tr>" + "".join(cell("th", n, escape(h)) for n, h in enumerate(head)) + "</tr>"]
    lines += ["<tr>" + "".join(cell("td", n, c) for n, c in enumerate(row)) + "</tr>" for row in rows]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _went(content: Mapping[str, Any]) -> str:
    shares = [(UseClass(each["class"]), each["ratio"]) for each in content["classes"]]
    rows = [
        [
            escape(CLASS_WORDS[UseClass(each["class"])]), number(each["gpu_hours"], 2), share(each["ratio"]),
            number(each["kilowatt_hours"], 2), money(each["usd"]), escape(causes(each)),
        ]
        for each in content["classes"]
    ]  # fmt: skip
    return (
        "<h2>Where it went</h2>" + plots.bar(shares, CLASS_WORDS)
        + _table(("", "GPU-hours", "share", "kWh", "cost", "of these, in GPU-hours"), rows, text=(5,))
    )  # fmt: skip


def _over_time(content: Mapping[str, Any]) -> str:
    timeline = content["timeline"]
    if timeline is None:
        return ""
    layers = [(each, timeline["gpus_by_class"][each.value]) for each in UseClass]
    return (
        "<h2>GPUs over time</h2>" + plots.areas(timeline["at"], layers, CLASS_WORDS)
        + f'<p class="foot">{plots.legend(CLASS_WORDS)}</p>'
    )  # fmt: skip


def _to_do(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return ""
    rows = [
        [
            f"{each['rank']}. {escape(each['title'])}<small>{escape(each['about']['kind'])} "
            f"{escape(str(each['about']['name']))}</small>",
            money(each["saving"]["usd_per_month"])
            + f"<small>{' to '.join(money(each['saving'][f'usd_per_month_{end}']) for end in ('low', 'high'))}</small>",
            number(each["saving"]["gpu_hours_per_month"]),
            escape(each["effort"]),
            escape(each["confidence"]["level"]),
            f"{escape(each['remedy'])}<small>it costs: {escape(each['to_do'])}</small>",
        ]
        for each in found
    ]
    head = ("", "a month (95 %)", "GPU-hours", "effort", "confidence", "how")
    return "<h2>What to do about it</h2>" + _table(head, rows, text=(5,))


def _nodes(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [
        [
            escape(str(each["name"])), str(each["gpus"]), number(each["paid_gpu_hours"]), share(each["busy_ratio"]),
            share(each["roofline_ratio"]), money(each["usd"]), money(each["waste_usd"]),
        ]
        for each in rows
    ]  # fmt: skip
    head = ("node", "GPUs", "GPU-hours", "busy", "of its limit", "cost", "waste")
    return "<h2>By node</h2>" + _table(head, lines)


def _models(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [
        [
            escape(str(each["model"])) + f"<small>{escape(each['reading'] or '')}</small>", str(each["servers"]),
            short(each["output_tokens"]), money(each["usd"]), money(each["usd_per_million_tokens_allocation"]),
            money(each["usd_per_million_tokens_usage"]), number(each["output_tokens_per_joule"], 3),
            number(each["ttft_seconds_mean"], 3),
        ]
        for each in rows
    ]  # fmt: skip
    head = (
        "model",
        "servers",
        "output tokens",
        "cost",
        "per million, paid",
        "per million, used",
        "tokens/J",
        "TTFT, s",
    )
    return "<h2>By model</h2>" + _table(head, lines)


def _demand(content: Mapping[str, Any]) -> str:
    timeline = content["timeline"]
    if timeline is None:
        return ""
    out = []
    step = timeline["step_seconds"]
    said = {each["series"]: each["forecasts"] for each in content["forecast"]}
    for series, words in (("requests", "Requests"), ("output_tokens", "Output tokens")):
        values = timeline["demand"].get(series, [])
        # Forecasts are of five minutes; a plot of longer steps shows what that would be in one of them.
        factor = step / 300
        ahead = [
            (f["horizon_seconds"] / step, f["expected"] * factor, f["at_most"] * factor) for f in said.get(series, ())
        ]
        drawn = plots.line(timeline["at"], values, words, ahead)
        if drawn:
            out.append(f"<h2>{words} in {step / 60:g} minutes, and what will come</h2>{drawn}")
    rows = [
        [
            escape(each["series"].replace("_", " ")), f"{f['horizon_seconds'] / 60:g} min", short(f["expected"]),
            short(f["at_most"]), share(f["accuracy"]), share(f["coverage_ratio"]), escape(f["note"] or ""),
        ]
        for each in content["forecast"]
        for f in each["forecasts"]
        if f["horizon_seconds"] in (300, 1800, 3600)
    ]  # fmt: skip
    if rows:
        head = ("in 5 minutes", "ahead", "expected", "at most (95 %)", "accuracy so far", "within", "")
        out.append(_table(head, rows, text=(6,)))
    return "".join(out)


def _trends(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [
        [
            escape(each["series"].replace("_", " ")),
            short(each["mean"]),
            escape(each["unit"]),
            escape(each["summary"]),
        ]
        for each in rows
    ]  # fmt: skip
    return "<h2>Trends</h2>" + _table(("series", "mean", "unit", ""), lines, text=(2, 3))


def _footing(content: Mapping[str, Any]) -> str:
    because = "; ".join(content["confidence"]["because"])
    lines = [f"Confidence: {content['confidence']['level']}{' — ' + because if because else ''}."]
    for price in content["prices"]:
        name = price["gpu_model"]
        lines.append(
            f"{name}: no price is known; its hours are not in the money." if price["usd_per_gpu_hour"] is None else
            f"{name}: {money(price['usd_per_gpu_hour'])} an hour ({price['basis']}, {price['provider']}, as of "
            f"{price['as_of']})."
        )  # fmt: skip
    lines.append(f"Found {content['found_at']}. Every figure can be checked with the history endpoints.")
    return "<h2>What this stands on</h2>" + "".join(f'<p class="foot">{escape(text)}</p>' for text in lines)
