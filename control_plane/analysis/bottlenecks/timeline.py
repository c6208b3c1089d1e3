"""Verdicts over time: windows between readings, each with the engine's history around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from statistics import median

from control_plane.analysis.bottlenecks.engine_facts import engine_history, engine_window
from control_plane.analysis.bottlenecks.facts import EngineHistory, EngineWindow
from control_plane.analysis.bottlenecks.gpu_facts import GpuLook, gpu_window
from control_plane.analysis.bottlenecks.scores import stands_still
from control_plane.analysis.bottlenecks.verdicts import judge
from control_plane.model.bottleneck import Bottleneck, Verdict
from control_plane.model.sample import Reading

# Habits, such as how often prompts repeat, are those of the last minute.
RECENT = timedelta(seconds=60)
# Three times the usual distance between two readings is a gap: what happened in it is not known.
GAP_FACTOR = 3.0
# GPUs without an engine are judged in windows of this length.
GPU_WINDOW = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One window with its verdict."""

    since: datetime
    until: datetime
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What is known of one engine over some time: its readings, oldest first, and its GPUs' samples."""

    readings: Sequence[Reading]
    gpu_looks: Sequence[tuple[datetime, GpuLook]] = ()
    max_num_seqs: float | None = None
    prefix_caching: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    since: datetime
    until: datetime
    window: EngineWindow | None


def timeline(recorded: Recorded) -> list[Judged]:
    """This will judge every window between two readings of a recording.

    The whole recording is the engine's history: its limits and its best are known from all of it, as a
    running control plane knows them from the days before. A standstill is judged by its whole length,
    from its beginning: a single window of seconds cannot tell it from a stall that passes.
    """
    readings = recorded.readings
    history = engine_history(
        readings, readings, max_num_seqs=recorded.max_num_seqs, prefix_caching=recorded.prefix_caching
    )
    out: list[Judged] = []
    before: Bottleneck | None = None
    for span in _with_standstills(_spans(recorded)):
        looks = [look for at, look in recorded.gpu_looks if span.since <= at < span.until]
        around = _around(history, readings, span.until)
        verdict = judge(span.window, around, gpu_window(looks), before=before)
        before = verdict.bottleneck
        out.append(Judged(since=span.since, until=span.until, verdict=verdict))
    return out


def _spans(recorded: Recorded) -> list[_Span]:
    readings = recorded.readings
    if len(readings) < 2:
        return _gpu_spans(recorded.gpu_looks)
    usual = median((b.taken_at - a.taken_at).total_seconds() for a, b in pairwise(readings))
    spans = []
    for first, last in pairwise(readings):
        gap = (last.taken_at - first.taken_at).total_seconds() > GAP_FACTOR * usual
        down = any(reading.values.get("up_flag", 1.0) == 0 for reading in (first, last))
        window = None if gap or down else engine_window(first, last)
        spans.append(_Span(since=first.taken_at, until=last.taken_at, window=window))
    return spans


def _gpu_spans(looks: Sequence[tuple[datetime, GpuLook]]) -> list[_Span]:
    if not looks:
        return []
    begin, end = looks[0][0], looks[-1][0]
    count = max(1, round((end - begin) / GPU_WINDOW))
    return [_Span(since=begin + GPU_WINDOW * n, until=begin + GPU_WINDOW * (n + 1), window=None) for n in range(count)]


def _with_standstills(spans: Sequence[_Span]) -> list[_Span]:
    """This will give every window of a standstill the standstill's length."""
    out: list[_Span] = []
    for still, group in groupby(spans, key=lambda span: span.window is not None and stands_still(span.window)):
        spell = list(group)
        if still:
            length = (spell[-1].until - spell[0].since).total_seconds()
            spell = [replace(s, window=s.window and replace(s.window, seconds=length)) for s in spell]
        out += spell
    return out


def _around(history: EngineHistory, readings: Sequence[Reading], now: datetime) -> EngineHistory:
    """This will give the history with the habits around `now`.

    In a recording both sides are known. What came after counts as well, or the first minute of a
    recording would have no habits.
    """
    near = [r for r in readings if now - RECENT / 2 <= r.taken_at <= now + RECENT / 2]
    habits = engine_history(near, near)
    return replace(
        history,
        cache_hit_ratio=habits.cache_hit_ratio,
        prompt_tokens_per_second=habits.prompt_tokens_per_second,
    )
