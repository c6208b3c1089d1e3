"""`optiinfra diagnose` without a recording: what binds every server now, as the control plane says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from control_plane.terminal.rest import Rest

AT_EASE = ("idle", "healthy")


def load(rest: Rest) -> Sequence[Mapping[str, Any]]:
    """This will ask for servers, and for GPUs that none has. Raises NoAnswer."""
    return [item for of in ("server", "gpu") for item in rest.ask("/analysis/bottlenecks", of=of)["items"]]


def as_text(items: Sequence[Mapping[str, Any]]) -> str:
    """This will give the verdicts for people, with evidence and remedies where something binds."""
    if not items:
        return "nothing to judge: no inference server and no GPU was seen; `optiinfra doctor` says why"
    return "\n".join(line for item in items for line in _lines(item))


def _lines(item: Mapping[str, Any]) -> Iterator[str]:
    name = item["url"] or item["gpu"]
    about = " ".join(str(word) for word in (item["engine"], item["model"]) if word)
    where = f"{name} on {item['node']}" + (f" ({about})" if about else "")
    if item["bottleneck"] is None:
        yield f"{where}: no verdict: {item['unknown'].get('bottleneck', 'unknown').replace('_', ' ')}"
        return
    runner_up = f", then {item['runner_up']} {item['runner_up_score']:.2f}" if item["runner_up"] else ""
    yield f"{where}: {item['bottleneck']} {item['score']:.2f}{runner_up}, since {item['since']}"
    if item["bottleneck"] in AT_EASE:
        return
    for number, said in item["evidence"]["numbers"].items():
        yield f"    {number} {said['value']:.4g} {said['unit']}: {said['means']}"
    for remedy in item["remedies"]:
        yield f"    → {remedy}"
    if item["cannot_tell"]:
        yield f"    cannot be told apart here: {', '.join(sorted(item['cannot_tell']))}"
