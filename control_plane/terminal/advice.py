"""`optiinfra recommend` and `explain`: what a running control plane recommends, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from control_plane.settings import Settings
from control_plane.terminal.rest import Rest

KINDS = ("batch", "kv-cache", "quantize", "parallelism", "scale-up", "scale-down", "consolidate")


def run(settings: Settings, arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """This will run `recommend` or `explain` and give the exit code. Raises NoAnswer."""
    rest = Rest(settings, arguments.url)
    if arguments.verb == "explain":
        found = _open(rest) if arguments.recommendation_id is None else _one(rest, arguments.recommendation_id)
        say(json.dumps(found, indent=1) if arguments.json else explained(found))
        return 0
    answers = {kind: rest.ask(f"/optimize/{kind}", method="POST", body={}) for kind in arguments.kind or KINDS}
    say(json.dumps(answers, indent=1) if arguments.json else "\n".join(_said(answers)))
    return 0


def _open(rest: Rest) -> list[Any]:
    return list(rest.ask("/optimize/recommendations")["items"])


def _one(rest: Rest, recommendation_id: int) -> list[Any]:
    return [rest.ask(f"/optimize/recommendations/{recommendation_id}")]


def explained(found: Sequence[Mapping[str, Any]]) -> str:
    """This will explain recommendations to people."""
    if not found:
        return "nothing is recommended; `optiinfra recommend` asks anew"
    return "\n\n".join(
        f"{each['recommendation_id']} {each['recommendation']['kind']} ({each['state']})\n{each['explanation']}"
        for each in found
    )


def _said(answers: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind, told in answers.items():
        for item in told["items"]:
            if item["outcome"] == "recommendation":
                kept = item["recommendation"]
                saved = kept["saved_usd_per_month"]
                money = "" if saved is None else f", saves {saved:,.0f} $ a month" if saved > 0 else ""
                lines.append(f"{kept['recommendation_id']:>4} {kind} {item['subject']}{money}")
                lines.append(f"     {kept['explanation'].partition('. ')[0]}.")
            else:
                lines.append(f"   - {kind} {item['subject']}: {item['no_action']['because']}")
    return lines or ["no inference server is known here"]
