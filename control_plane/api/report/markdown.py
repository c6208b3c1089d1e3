"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.api.report.content import CAUSE_WORDS, CLASS_WORDS, period
from control_plane.model.use import UseClass


def write(content: Mapping[str, Any]) -> str:
    """This will write the report; what is unknown is a dash."""
    parts = [
        f"# {content['title']}",
        f"{period(content)}. Found {content['found_at']}.",
        "\n".join(f"- {plain(sentence)}" for sentence in content["headline"]),
        _classes(content),
        _opportunities(content["opportunities"]),
        _nodes(content["nodes"]),
        _models(content["models"]),
        _trends(content["trends"]),
        _forecast(content["forecast"]),
        _footing(content),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: object) -> str:
    """This will keep what an agent or an engine calls itself from being markup."""
    cleaned = str(text).replace("\\", "\\\\")
    for mark in "|`*_<>[]":
        cleaned = cleaned.replace(mark, f"\\{mark}")
    return " ".join(cleaned.split())


def money(value: float | None) -> str:
    """This will write dollars; cents of hundreds would be more than anybody knows."""
    return "—" if value is None else f"${value:,.0f}" if abs(value) >= 100 else f"${value:,.2f}"


def number(value: float | None, digits: int = 1) -> str:
    """This will write a number."""
    return "—" if value is None else f"{value:,.{digits}f}"


def short(value: float | None) -> str:
    """This will write a number of any size in a few characters."""
    if value is None:
        return "—"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):,.1f}{letter}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def share(value: float | None) -> str:
    """This will write a share as percent."""
    return "—" if value is None else f"{value:.0%}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """This will write a table, names to the left and numbers to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def causes(each: Mapping[str, Any]) -> str:
    """This will name what a class is made of, the largest first."""
    found = sorted(each["causes"], key=lambda cause: -cause["gpu_hours"])
    return ", ".join(f"{CAUSE_WORDS[c['cause']]} {number(c['gpu_hours'], 2)}" for c in found)


def _classes(content: Mapping[str, Any]) -> str:
    rows = [
        [
            CLASS_WORDS[UseClass(each["class"])], number(each["gpu_hours"], 2), share(each["ratio"]),
            number(each["kilowatt_hours"], 2), money(each["usd"]), causes(each),
        ]
        for each in content["classes"]
    ]  # fmt: skip
    return "## Where it went\n\n" + table(("", "GPU-hours", "share", "kWh", "cost", "of these"), rows)


def _opportunities(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return ""
    rows = [
        [
            f"{each['rank']}. {plain(each['title'])}: {plain(each['about']['name'])}",
            money(each["saving"]["usd_per_month"]),
            f"{money(each['saving']['usd_per_month_low'])} to {money(each['saving']['usd_per_month_high'])}",
            number(each["saving"]["gpu_hours_per_month"]), each["effort"], each["confidence"]["level"],
            f"{plain(each['remedy'])}. It costs: {plain(each['to_do'])}",
        ]
        for each in found
    ]  # fmt: skip
    head = ("What could be done", "a month", "95 %", "GPU-hours", "effort", "confidence", "how")
    return "## What to do about it\n\n" + table(head, rows)


def _nodes(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [
        [
            plain(each["name"]), str(each["gpus"]), number(each["paid_gpu_hours"]), share(each["busy_ratio"]),
            share(each["roofline_ratio"]), money(each["usd"]), money(each["waste_usd"]),
        ]
        for each in rows
    ]  # fmt: skip
    return "## By node\n\n" + table(("node", "GPUs", "GPU-hours", "busy", "of its limit", "cost", "waste"), lines)


def _models(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [
        [
            plain(each["model"]), str(each["servers"]), number(each["output_tokens"], 0), money(each["usd"]),
            money(each["usd_per_million_tokens_allocation"]), money(each["usd_per_million_tokens_usage"]),
            number(each["output_tokens_per_joule"], 3), plain(each["reading"] or "—"),
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
        "reading",
    )
    return "## By model\n\n" + table(head, lines)


def _trends(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [[each["series"].replace("_", " "), short(each["mean"]), each["unit"], each["summary"]] for each in rows]
    return "## Trends\n\n" + table(("series", "mean", "unit", ""), lines)


def _forecast(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [
            each["series"], f"{f['horizon_seconds'] / 60:g} min", number(f["expected"]), number(f["at_most"]),
            share(f["accuracy"]), share(f["coverage_ratio"]), f["note"] or "",
        ]
        for each in rows
        for f in each["forecasts"]
    ]  # fmt: skip
    head = ("demand", "ahead", "expected", "at most (95 %)", "accuracy so far", "within", "")
    return "## What will come\n\n" + table(head, lines) if lines else ""


def _footing(content: Mapping[str, Any]) -> str:
    because = "; ".join(content["confidence"]["because"])
    lines = [f"- Confidence: {content['confidence']['level']}{': ' + because if because else ''}"]
    for price in content["prices"]:
        if price["usd_per_gpu_hour"] is None:
            lines.append(f"- {plain(price['gpu_model'])}: no price is known; its hours are not in the money")
        else:
            lines.append(
                f"- {plain(price['gpu_model'])}: {money(price['usd_per_gpu_hour'])} an hour ({price['basis']}, "
                f"{plain(price['provider'])}, as of {price['as_of']})"
            )
    return "## What this stands on\n\n" + "\n".join(lines)
