"""From how a server ran to the facts that flags are recommended from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

from control_plane.analysis.bottlenecks.engine_facts import engine_history, engine_window
from control_plane.analysis.bottlenecks.facts import EngineWindow
from control_plane.analysis.bottlenecks.gpu_facts import gpu_window
from control_plane.analysis.bottlenecks.timeline import Judged, Recorded, timeline
from control_plane.decisions.tuning.facts import ServerFacts
from control_plane.model.bottleneck import Bottleneck
from control_plane.model.sample import Reading

# A bottleneck that held a fifth of the time with load is worth a change, whatever came after.
WORTH = 0.2
QUIET = (Bottleneck.IDLE, Bottleneck.MISSING_DATA)


def server_facts(recorded: Recorded, *, engine: str | None, config: Mapping[str, object]) -> ServerFacts:
    """This will gather what bound the server for most of its busy time, and how it ran meanwhile."""
    judged = timeline(recorded)
    bottleneck = binding(judged)
    spans = [each for each in judged if each.verdict.bottleneck is bottleneck]
    windows = windows_of(recorded.readings, spans)
    history = engine_history(recorded.readings, recorded.readings)
    seconds = sum(w.seconds for w in windows)
    looks = [look for at, look in recorded.gpu_looks if any(s.since <= at < s.until for s in spans)]
    gpus = gpu_window(looks) if looks else None
    firsts, tokens = total_of(windows, "first_tokens"), total_of(windows, "output_tokens")
    return ServerFacts(
        engine=engine or "unknown",
        bottleneck=bottleneck,
        evidence=tuple(spans[len(spans) // 2].verdict.evidence) if spans else (),
        running=mean_of(windows, "running"),
        running_most=history.most_running,
        waiting=mean_of(windows, "waiting"),
        demand=busy_level([w.running + w.waiting for w in windows if w.running is not None and w.waiting is not None]),
        requests_per_second=firsts / seconds if firsts and seconds else None,
        output_tokens=tokens / firsts if tokens and firsts else None,
        request_tokens=history.request_tokens,
        inter_token_seconds=mean_of(windows, "inter_token_seconds"),
        kv_capacity_tokens=history.kv_capacity_tokens,
        kv_usage=max((w.kv_usage for w in windows if w.kv_usage is not None), default=None),
        block_tokens=number_of(config.get("block_size")),
        blocks_override=number_of(config.get("num_gpu_blocks_override")),
        memory_share=number_of(config.get("gpu_memory_utilization") or config.get("mem_fraction_static")),
        kv_format=str(config["kv_cache_dtype"]) if config.get("kv_cache_dtype") else None,
        on_gpu=gpus is not None,
        dram_active=gpus.dram_active if gpus else None,
        tensor_active=gpus.tensor_active if gpus else None,
    )


def binding(judged: Sequence[Judged]) -> Bottleneck:
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


def windows_of(readings: Sequence[Reading], spans: Sequence[Judged]) -> list[EngineWindow]:
    """This will give what happened between readings within spans."""
    found = []
    for first, last in pairwise(readings):
        if any(s.since <= first.taken_at and last.taken_at <= s.until for s in spans):
            found.append(engine_window(first, last))
    # The first and the last window hold the beginning and the end of the load.
    return found[1:-1] if len(found) > 3 else found


def mean_of(windows: Sequence[EngineWindow], name: str) -> float | None:
    """This will average what is known of one fact over windows; None when nothing is."""
    values = [value for window in windows if (value := getattr(window, name)) is not None]
    return sum(values) / len(values) if values else None


def busy_level(values: Sequence[float]) -> float | None:
    """This will give what three in four values do not exceed: a load that begins or ends is less than itself."""
    ordered = sorted(values)
    return ordered[(3 * (len(ordered) - 1) + 3) // 4] if ordered else None


def total_of(windows: Sequence[EngineWindow], name: str) -> float | None:
    """This will add up what is known of one fact over windows; None when nothing is."""
    values = [value for window in windows if (value := getattr(window, name)) is not None]
    return float(sum(values)) if values else None


def number_of(value: object) -> float | None:
    """This will give a number that a configuration holds; None for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
