"""`optiinfra recommend`: flags for an inference server, from a folder of saved /metrics of a run alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from control_plane.analysis.bottlenecks.engine_facts import engine_history, engine_window
from control_plane.analysis.bottlenecks.facts import EngineWindow
from control_plane.analysis.bottlenecks.gpu_facts import gpu_window
from control_plane.analysis.bottlenecks.timeline import Judged, timeline
from control_plane.decisions.tuning.choice import recommend
from control_plane.decisions.tuning.facts import ServerFacts
from control_plane.diagnose import Folder, ReadExposition, load
from control_plane.model.bottleneck import Bottleneck
from control_plane.model.errors import InvalidRequest
from control_plane.model.recommendation import Interval, Recommendation
from control_plane.model.sample import Reading
from control_plane.model.scaling import NoAction

# A bottleneck that held a fifth of the time with load is worth a change, whatever came after.
WORTH = 0.2
QUIET = (Bottleneck.IDLE, Bottleneck.MISSING_DATA)


def recommended(path: Path, read_exposition: ReadExposition) -> tuple[ServerFacts, Recommendation | NoAction]:
    """This will read a folder and recommend. Raises InvalidRequest when it holds nothing to judge."""
    folder = load(path, read_exposition)
    if folder.engine is None:
        raise InvalidRequest(f"{path} holds no /metrics of an engine; flags are recommended from those")
    newest = sorted(path.glob("*.prom*"))[-1]
    config = (read_exposition(newest) or {}).get("config", {})
    facts = server_facts(folder, config)
    return facts, recommend(facts)


def server_facts(folder: Folder, config: dict[str, object]) -> ServerFacts:
    """This will gather what bound the server for most of its busy time, and how it ran meanwhile."""
    judged = timeline(folder.recorded)
    bottleneck = _binding(judged)
    spans = [each for each in judged if each.verdict.bottleneck is bottleneck]
    windows = _windows(folder.recorded.readings, spans)
    history = engine_history(folder.recorded.readings, folder.recorded.readings)
    seconds = sum(w.seconds for w in windows)
    looks = [look for at, look in folder.recorded.gpu_looks if any(s.since <= at < s.until for s in spans)]
    gpus = gpu_window(looks) if looks else None
    firsts, tokens = _total(windows, "first_tokens"), _total(windows, "output_tokens")
    return ServerFacts(
        engine=folder.engine or "unknown",
        bottleneck=bottleneck,
        evidence=tuple(spans[len(spans) // 2].verdict.evidence) if spans else (),
        running=_mean(windows, "running"),
        running_most=history.most_running,
        waiting=_mean(windows, "waiting"),
        demand=_busy([w.running + w.waiting for w in windows if w.running is not None and w.waiting is not None]),
        requests_per_second=firsts / seconds if firsts and seconds else None,
        output_tokens=tokens / firsts if tokens and firsts else None,
        request_tokens=history.request_tokens,
        inter_token_seconds=_mean(windows, "inter_token_seconds"),
        kv_capacity_tokens=history.kv_capacity_tokens,
        kv_usage=max((w.kv_usage for w in windows if w.kv_usage is not None), default=None),
        block_tokens=_number(config.get("block_size")),
        blocks_override=_number(config.get("num_gpu_blocks_override")),
        memory_share=_number(config.get("gpu_memory_utilization") or config.get("mem_fraction_static")),
        kv_format=str(config["kv_cache_dtype"]) if config.get("kv_cache_dtype") else None,
        on_gpu=gpus is not None,
        dram_active=gpus.dram_active if gpus else None,
        tensor_active=gpus.tensor_active if gpus else None,
    )


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
    firsts, pace = _total(busy, "first_tokens"), _mean(busy, "inter_token_seconds")
    tokens = _total(busy, "output_tokens")
    if not firsts or not pace or not tokens:
        raise InvalidRequest("the recording holds no traffic to compare")
    return Overall(requests_per_second=firsts / sum(w.seconds for w in busy), inter_token_seconds=pace)


def _binding(judged: Sequence[Judged]) -> Bottleneck:
    """This will name what bound for longest while there was load, if that was long enough."""
    spent: Counter[Bottleneck] = Counter()
    for each in judged:
        spent[each.verdict.bottleneck] += round((each.until - each.since) / timedelta(milliseconds=1))
    busy = {b: ms for b, ms in spent.items() if b not in QUIET}
    total = sum(busy.values())
    worth = {b: ms for b, ms in busy.items() if b is not Bottleneck.HEALTHY and ms >= WORTH * total}
    for candidates in (worth, busy, spent):
        if candidates:
            return max(candidates, key=lambda b: candidates[b])
    return Bottleneck.MISSING_DATA


def _windows(readings: Sequence[Reading], spans: Sequence[Judged]) -> list[EngineWindow]:
    found = []
    for first, last in pairwise(readings):
        if any(s.since <= first.taken_at and last.taken_at <= s.until for s in spans):
            found.append(engine_window(first, last))
    # The first and the last window hold the beginning and the end of the load.
    return found[1:-1] if len(found) > 3 else found


def _mean(windows: Sequence[EngineWindow], name: str) -> float | None:
    values = [value for window in windows if (value := getattr(window, name)) is not None]
    return sum(values) / len(values) if values else None


def _busy(values: Sequence[float]) -> float | None:
    """This will give what three in four values do not exceed: a load that begins or ends is less than itself."""
    ordered = sorted(values)
    return ordered[(3 * (len(ordered) - 1) + 3) // 4] if ordered else None


def _total(windows: Sequence[EngineWindow], name: str) -> float | None:
    values = [value for window in windows if (value := getattr(window, name)) is not None]
    return float(sum(values)) if values else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


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
