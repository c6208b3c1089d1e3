"""From an engine's readings to the facts of a window and of its history."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from control_plane.analysis.bottlenecks.facts import EngineHistory, EngineWindow
from control_plane.analysis.distributions import increase, mean
from control_plane.model.sample import Distribution, Reading

# A step that holds at most twice the tokens that decoding explains is a decoding step: speculative
# decoding asks for a few tokens a request, a chunk of a prompt brings hundreds.
NARROW_STEP_FACTOR = 2.0
# Fewer make no mean worth comparing with.
ENOUGH_TOKENS = 20


def engine_window(first: Reading, last: Reading) -> EngineWindow:
    """This will give what happened between two readings of one server."""
    seconds = (last.taken_at - first.taken_at).total_seconds()
    inter_token = _grown(first, last, "inter_token_latency_seconds")
    steps = _grown(first, last, "iteration_tokens")
    ttft = _grown(first, last, "ttft_seconds")
    queue, prefill = _grown(first, last, "queue_seconds"), _grown(first, last, "prefill_seconds")
    decoding = None if inter_token is None or inter_token.sum is None or seconds <= 0 else inter_token.sum / seconds
    running = [v for r in (first, last) if (v := _value(r, "requests_running_count")) is not None]
    waiting = [v for r in (first, last) if (v := _value(r, "requests_waiting_count")) is not None]
    usage = [v for r in (first, last) if (v := _value(r, "kv_cache_usage_ratio")) is not None]
    return EngineWindow(
        seconds=seconds,
        running=sum(running) / len(running) if running else None,
        running_most=max(running, default=None),
        waiting=sum(waiting) / len(waiting) if waiting else None,
        waiting_least=min(waiting, default=None),
        kv_usage=max(usage, default=None),
        preemptions=_growth(first, last, "preemptions_total"),
        prompt_tokens=_live(first, last, "prompt_tokens"),
        output_tokens=_output(first, last, inter_token, ttft),
        steps=None if steps is None else float(sum(steps.counts)),
        step_tokens=None if steps is None else mean(steps),
        narrow_steps=_narrow(steps, max(*running, decoding or 0.0, 0.0)),
        decoding=decoding,
        inter_token_seconds=None if inter_token is None else mean(inter_token),
        first_tokens=None if ttft is None else float(sum(ttft.counts)),
        ttft_seconds=None if ttft is None else mean(ttft),
        queue_seconds=None if queue is None else mean(queue),
        prefill_stage_seconds=prefill.sum if prefill is not None and steps is None else None,
        cache_queries=_growth(first, last, "prefix_cache_queries_total"),
        cache_hits=_growth(first, last, "prefix_cache_hits_total"),
        finished=_growth(first, last, "requests_finished_total"),
        aborted=_growth(first, last, "requests_aborted_total"),
        failed=_growth(first, last, "requests_failed_total"),
    )


def engine_history(
    readings: Sequence[Reading],
    recent: Sequence[Reading],
    *,
    max_num_seqs: float | None = None,
    prefix_caching: bool | None = None,
) -> EngineHistory:
    """This will give what `readings` (oldest first) say of the engine's limits, and `recent` of its last minute."""
    if not readings:
        return EngineHistory(max_num_seqs=max_num_seqs, prefix_caching=prefix_caching)
    newest = readings[-1]
    crowded = [
        running
        for reading in readings
        if (running := _value(reading, "requests_running_count")) is not None
        and (_value(reading, "requests_waiting_count") or 0.0) >= 1.0
    ]
    return EngineHistory(
        most_running=max(crowded, default=None),
        max_num_seqs=max_num_seqs,
        kv_capacity_tokens=_value(newest, "kv_cache_capacity_tokens"),
        request_tokens=_request_tokens(newest),
        best_inter_token_seconds=_best_inter_token(readings),
        prefix_caching=prefix_caching,
        cache_hit_ratio=_hit_ratio(recent),
        prompt_tokens_per_second=_prompt_rate(recent),
    )


def _best_inter_token(readings: Sequence[Reading]) -> float | None:
    """This will give the lowest mean time per token between two readings.

    Means are exact where quantiles are not: all of a fast engine's tokens lie in its histogram's first bucket.
    """
    best: float | None = None
    for first, last in pairwise(readings):
        grown = _grown(first, last, "inter_token_latency_seconds")
        if grown is None or sum(grown.counts) < ENOUGH_TOKENS:
            continue
        average = mean(grown)
        if average is not None and average > 0:
            best = average if best is None else min(best, average)
    return best


def _value(reading: Reading, name: str) -> float | None:
    value = reading.values.get(name)
    return float(value) if isinstance(value, int | float) else None


def _growth(first: Reading, last: Reading, name: str) -> float | None:
    """This will give how much a counter grew; a fall means that it began anew."""
    start, end = _value(first, name), _value(last, name)
    if end is None:
        return None
    if start is None:
        # Engines expose a counter with its first event: before, it stood at zero.
        return end if first.unknown.get(name) == "not_exposed" else None
    return end - start if end >= start else end


def _grown(first: Reading, last: Reading, name: str) -> Distribution | None:
    end = last.distributions.get(name)
    if end is None:
        return None
    start = first.distributions.get(name)
    if start is None and first.unknown.get(name) not in (None, "not_exposed"):
        return None
    try:
        return increase(start, end)
    except ValueError:
        return None  # other bounds: another version of the engine answers now


def _live(first: Reading, last: Reading, name: str) -> float | None:
    """This will prefer the counter that moves with the steps to the one that waits for a request's end."""
    live = _growth(first, last, f"{name}_live_total")
    return live if live is not None else _growth(first, last, f"{name}_total")


def _output(first: Reading, last: Reading, inter_token: Distribution | None, ttft: Distribution | None) -> float | None:
    """This will give the tokens that came out, as they did."""
    if inter_token is not None and ttft is not None:
        return float(sum(inter_token.counts) + sum(ttft.counts))
    return _live(first, last, "generation_tokens")


def _narrow(steps: Distribution | None, concurrent: float) -> float | None:
    """This will count the steps whose tokens decoding alone explains."""
    if steps is None:
        return None
    limit = max(NARROW_STEP_FACTOR * concurrent, 2.0)
    # A bucket counts when all of it lies within the limit, and so does the one that the limit falls into
    # as far as it reaches: bounds are powers of two.
    narrow, low = 0.0, 0.0
    for bound, count in zip((*steps.bounds, float("inf")), steps.counts, strict=True):
        if bound <= limit:
            narrow += count
        elif low < limit and bound != float("inf"):
            narrow += count * (limit - low) / (bound - low)
        low = bound
    return narrow


def _request_tokens(reading: Reading) -> float | None:
    """This will give the mean length of finished requests, prompt and output."""
    lengths = [reading.distributions.get(name) for name in ("prompt_length_tokens", "output_length_tokens")]
    if all(lengths):
        means = [mean(d) for d in lengths if d is not None]
        return None if None in means else sum(m for m in means if m is not None)
    finished = _value(reading, "requests_finished_total")
    prompt, output = _value(reading, "prompt_tokens_total"), _value(reading, "generation_tokens_total")
    if not finished or prompt is None or output is None:
        return None
    return (prompt + output) / finished


def _hit_ratio(recent: Sequence[Reading]) -> float | None:
    if len(recent) < 2:
        return None
    queries = _growth(recent[0], recent[-1], "prefix_cache_queries_total")
    hits = _growth(recent[0], recent[-1], "prefix_cache_hits_total")
    return None if hits is None or not queries else hits / queries


def _prompt_rate(recent: Sequence[Reading]) -> float | None:
    if len(recent) < 2:
        return None
    tokens = _live(recent[0], recent[-1], "prompt_tokens")
    seconds = (recent[-1].taken_at - recent[0].taken_at).total_seconds()
    return None if tokens is None or seconds <= 0 else tokens / seconds
