"""`optiinfra recommend`: flags for an inference server, from a folder of saved /metrics of a run alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from control_plane.analysis.bottlenecks.engine_facts import engine_window
from control_plane.decisions.tuning.choice import recommend
from control_plane.decisions.tuning.facts import ServerFacts
from control_plane.diagnose import Folder, ReadExposition, load
from control_plane.model.errors import InvalidRequest
from control_plane.model.recommendation import Interval, Recommendation
from control_plane.model.scaling import NoAction
from control_plane.stages.server_facts import mean_of, server_facts, total_of


def recommended(path: Path, read_exposition: ReadExposition) -> tuple[ServerFacts, Recommendation | NoAction]:
    """This will read a folder and recommend. Raises InvalidRequest when it holds nothing to judge."""
    folder = load(path, read_exposition)
    if folder.engine is None:
        raise InvalidRequest(f"{path} holds no /metrics of an engine; flags are recommended from those")
    newest = sorted(path.glob("*.prom*"))[-1]
    config = (read_exposition(newest) or {}).get("config", {})
    facts = server_facts(folder.recorded, engine=folder.engine, config=config)
    return facts, recommend(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overall:
    """How a server ran while it was busy."""

    requests_per_second: float
    inter_token_seconds: float


def overall(folder: Folder) -> Overall:
    """This will say how a server ran in the busier half of a recording. Raises InvalidRequest if it never was busy."""
    windows = [engine_window(first, last) for first, last in pairwise(folder.recorded.readings)]
    most = max((w.output_tokens / w.seconds for w in windows if w.output_tokens and w.seconds > 0), default=0.0)
    busy = [w for w in windows if w.output_tokens and w.seconds > 0 and w.output_tokens / w.seconds >= most / 2]
    firsts, pace = total_of(busy, "first_tokens"), mean_of(busy, "inter_token_seconds")
    tokens = total_of(busy, "output_tokens")
    if not firsts or not pace or not tokens:
        raise InvalidRequest("the recording holds no traffic to compare")
    return Overall(requests_per_second=firsts / sum(w.seconds for w in busy), inter_token_seconds=pace)


def as_json(facts: ServerFacts, found: Recommendation | NoAction) -> str:
    """This will give the answer for programs."""
    kind = "no_action" if isinstance(found, NoAction) else "recommendation"
    return json.dumps({"bottleneck": facts.bottleneck, kind: asdict(found)}, indent=1)


def as_text(facts: ServerFacts, found: Recommendation | NoAction) -> str:
    """This will give the answer for people."""
    if isinstance(found, NoAction):
        return f"{facts.engine}: {facts.bottleneck}\n  no change ({found.because}): {found.explanation}"
    lines = [f"{found.engine}: {found.because}"]
    for flag in found.flags:
        lines.append(f"  set {flag.name} {flag.value} (now {flag.was or 'unknown'})")
    effect = found.effect
    lines += [
        f"  requests a second  × {_shown(effect.requests_ratio)}",
        f"  time per token     × {_shown(effect.token_time_ratio)}",
        *([f"  running at once      {_shown(effect.running)}"] if effect.running else []),
        f"  cost      {found.cost}",
        f"  risk      {found.risk}",
        f"  rollback  {found.rollback}",
        "  because",
    ]
    lines += [f"    {e.name} {e.value:.4g} {e.unit}: {e.means}" for e in found.evidence]
    lines += [f"  not {lost.what}: {lost.why}" for lost in found.lost]
    return "\n".join(lines)


def _shown(interval: Interval) -> str:
    return f"{interval.expected:.3g} ({interval.low:.3g} to {interval.high:.3g}, nine in ten)"
