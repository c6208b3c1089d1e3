"""From an engine's readings to the facts of a window and of its history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from control_plane.analysis.bottlenecks.facts import EngineHistory, EngineWindow
from control_plane.analysis.distributions import increase, mean, quantile
from control_plane.model.sample import Distribution, Reading

# A step that holds at most twice the tokens that decoding explains is a decoding step: speculative
# decoding asks for a few tokens a request, a chunk of a prompt brings hundreds.
NARROW_STEP_FACTOR = 2.0
# A step with a prompt in it takes tens of times a calm one; what varies by less is the batch.
DISTURBED_FACTOR = 3.0
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
        calm_step_seconds=_calm(inter_token),
        disturbed_share=_disturbed(inter_token),
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
        paces=_paces(readings),
        prefix_caching=prefix_caching,
        cache_hit_ratio=_hit_ratio(recent),
        prompt_tokens_per_second=_prompt_rate(recent),
    )


def _paces(readings: Sequence[Reading]) -> tuple[tuple[float, float], ...]:
    """This will give, between readings, how many requests decoded and the mean time per token.

    Means are exact where quantiles are not: all of a fast engine's tokens lie in its histogram's first bucket.
    """
    out = []
    for first, last in pairwise(readings):
        grown = _grown(first, last, "inter_token_latency_seconds")
        seconds = (last.taken_at - first.taken_at).total_seconds()
        if grown is None or sum(grown.counts) < ENOUGH_TOKENS or not grown.sum or seconds <= 0:
            continue
        out.append((grown.sum / seconds, grown.sum / sum(grown.counts)))
    return tuple(out)


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


def _calm(inter_token: Distribution | None) -> float | None:
    if inter_token is None:
        return None
    found, average = quantile(inter_token, 0.25), mean(inter_token)
    if found is None or average is None:
        return None
    # Within the first bucket nothing tells where it lies: the mean is the nearest that is known.
    return average if found.low <= 0.0 else found.value


def _disturbed(inter_token: Distribution | None) -> float | None:
    """This will give the share of the tokens' time that lies in steps far longer than a calm one."""
    calm = _calm(inter_token)
    if inter_token is None or not inter_token.sum or not calm:
        return None
    fast = _up_to(inter_token, DISTURBED_FACTOR * calm)
    return min(1.0, max(0.0, 1.0 - fast * calm / inter_token.sum))


def _narrow(steps: Distribution | None, concurrent: float) -> float | None:
    """This will count the steps whose tokens decoding alone explains."""
    if steps is None:
        return None
    return _up_to(steps, max(NARROW_STEP_FACTOR * concurrent, 2.0))


def _up_to(distribution: Distribution, limit: float) -> float:
    """This will count the observations up to `limit`, the bucket it falls into in proportion."""
    count, low = 0.0, 0.0
    for bound, here in zip((*distribution.bounds, math.inf), distribution.counts, strict=True):
        if bound <= limit:
            count += here
        elif low < limit and bound != math.inf:
            count += here * (limit - low) / (bound - low)
        low = bound
    return count


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
