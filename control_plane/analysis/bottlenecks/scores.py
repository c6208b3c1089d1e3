"""How strongly the facts of a window speak for each bottleneck: 0 not at all, 1 beyond doubt.

Each score is a product of conditions that must all hold, each a ramp between "clearly not" and
"clearly". Multiplied conditions cannot outvote one that fails, as added ones would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from control_plane.analysis.bottlenecks.facts import EngineHistory, EngineWindow, GpuWindow
from control_plane.model.bottleneck import Bottleneck


def ramp(value: float, low: float, high: float) -> float:
    """This will map `value` to 0 at `low` and 1 at `high`, either way round, and clamp."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What several scores need; the ratios that are not measured but follow."""

    asked: bool  # anything ran, waited or came out in the window
    busy: float | None  # 0..1: share of the window in which the engine was stepping
    prefill_share: float | None  # 0..1: share of the busy time that prompts took
    queued: float | None  # 0..1: how much waits, against what runs
    at_limit: float | None  # 0..1: how near the requests at work are to the most that may run at once
    kv_places: float | None  # requests of the usual length that the KV cache can hold
    slowed: float | None  # time per token against what the engine reaches with a small batch, >= 1


def derive(window: EngineWindow, history: EngineHistory) -> Derived:
    """This will work out the ratios."""
    running, waiting = window.running, window.waiting
    tokens = (window.output_tokens or 0.0) + (window.prompt_tokens or 0.0)
    concurrent = _concurrent(window)
    limit = history.max_num_seqs or history.most_running
    best = history.best_pace()
    places = None
    if history.kv_capacity_tokens and history.request_tokens:
        places = history.kv_capacity_tokens / history.request_tokens
    return Derived(
        asked=bool(tokens or running or waiting),
        busy=_busy(window),
        prefill_share=_prefill_share(window, history),
        # Half as many waiting as running is a queue by any measure; WVA and llm-d's gateway call five one.
        queued=None if waiting is None else ramp(waiting, 0.0, max(1.0, min(5.0, 0.5 * (running or 0.0)))),
        at_limit=None if not limit or concurrent is None else ramp(concurrent / limit, 0.6, 0.85),
        kv_places=places,
        slowed=None if not best or window.inter_token_seconds is None else max(1.0, window.inter_token_seconds / best),
    )


def _concurrent(window: EngineWindow) -> float | None:
    """This will give the requests at work while there was work.

    Looks are rare and may fall between two batches, and a window may begin or end without load: so the
    highest of what was seen and what the tokens tell.
    """
    decoding, busy = window.decoding, _busy(window)
    if decoding is not None and window.steps is not None and busy:
        decoding /= busy
    known = [value for value in (window.running_most, decoding) if value is not None]
    return max(known, default=None)


def _busy(window: EngineWindow) -> float | None:
    """This will give the share of the time in which the engine was stepping: the higher of two estimates.

    Steps that only read prompts show in no token's time, so counting steps sees too little of them. The
    requests in the engine (Little's law) tell how likely one was there: 1 - exp(-n), as of Poisson arrivals.
    """
    if window.seconds <= 0:
        return None
    estimates = []
    if window.steps is not None and window.inter_token_seconds is not None:
        estimates.append(window.steps * window.inter_token_seconds / window.seconds)
    if window.decoding is not None:
        reading_prompts = (window.first_tokens or 0.0) * (window.ttft_seconds or 0.0) / window.seconds
        inside = window.decoding + max(0.0, reading_prompts - (window.waiting or 0.0))
        estimates.append(1.0 - math.exp(-inside))
    return min(1.0, max(estimates)) if estimates else None


def _prefill_share(window: EngineWindow, history: EngineHistory) -> float | None:
    """This will give the share of the busy time that prompts took: the median of what can be estimated.

    No engine says it, and each estimate fails somewhere: what a decoded token costs depends on the batch,
    an engine whose every step holds a piece of a prompt has no calm step to compare with, and a few tokens
    of a prompt make a step wide but not long. They do not fail together.
    """
    busy = _busy(window)
    if not busy:
        return None
    estimates = [_prefill_by_tokens(window), window.disturbed_share]
    if window.prefill_stage_seconds is not None:  # an engine whose prefill has steps of its own
        stage = window.prefill_stage_seconds / window.seconds
        estimates.append(min(1.0, stage / max(busy, stage, 1e-9)))  # too high: each request of a batch counts all
    if window.narrow_steps is not None and window.steps:
        at_once = 0.5 * (window.decoding or 0.0)
        calm = min((p for p in (window.calm_step_seconds, history.best_pace(at_least=at_once)) if p), default=None)
        if calm is not None:  # what is left when steps of decoding alone have had their time
            estimates.append(max(0.0, 1.0 - window.narrow_steps * calm / (busy * window.seconds)))
    known = [estimate for estimate in estimates if estimate is not None]
    return median(known) if known else None


def _prefill_by_tokens(window: EngineWindow) -> float | None:
    prompt, output = window.prompt_tokens, window.output_tokens
    if prompt is None or output is None:
        return None
    computed = max(0.0, prompt - (window.cache_hits or 0.0))
    if computed + output <= 0:
        return None
    # A prompt's token costs about a fiftieth of a decoded one (8B on an H200: 28 µs against 1.8 ms at
    # batch 8, 0.2 ms at 96).
    return computed / (computed + 50.0 * output)


def scores(window: EngineWindow | None, history: EngineHistory, gpu: GpuWindow | None) -> Mapping[Bottleneck, float]:
    """This will give the score of every class that the facts can speak to; what is left out cannot be told."""
    out: dict[Bottleneck, float] = {}
    if gpu is not None:
        out |= _of_gpu(gpu)
    if window is None:
        return out
    derived = derive(window, history)
    out[Bottleneck.IDLE] = 0.0 if derived.asked else 1.0
    if not derived.asked:
        return out
    out[Bottleneck.HUNG_ENGINE] = _hung(window)
    out[Bottleneck.KV_CAPACITY_BOUND] = _kv(window, derived)
    prefill = _prefill(window, derived, gpu)
    miss = _cache_miss(history)
    out[Bottleneck.PREFIX_CACHE_MISS] = prefill * miss
    out[Bottleneck.PREFILL_BOUND] = prefill
    out[Bottleneck.BATCH_LIMITED] = _batch(window, derived, gpu)
    out[Bottleneck.NETWORK_OR_CLIENT] = _client(window, derived)
    out[Bottleneck.QUEUE_BOUND] = _queue(window, derived)
    out |= _of_both(window, derived, gpu)
    return out


def stands_still(window: EngineWindow) -> bool:
    """This will say whether requests ran and nothing at all came of it; False where that is not known."""
    if not window.running or window.running < 1.0:
        return False
    moved = [window.steps, window.output_tokens, window.prompt_tokens, window.first_tokens, window.finished]
    return any(value is not None for value in moved) and not any(moved)


def _hung(window: EngineWindow) -> float:
    # A step of 32k tokens takes seconds on a slow device; a worker that lost a wake-up comes back after
    # five (vLLM's shared-memory ring): twice that is hung.
    return ramp(window.seconds, 5.0, 10.0) if stands_still(window) else 0.0


def _kv(window: EngineWindow, derived: Derived) -> float:
    waits = derived.queued or 0.0
    thrown_back = 1.0 if window.preemptions else 0.0
    # 0.80 is where WVA and llm-d's gateway call a replica saturated; engines stop admitting at 0.9 to 1.
    full = 0.0 if window.kv_usage is None else ramp(window.kv_usage, 0.70, 0.90)
    reserved = 0.0
    concurrent = _concurrent(window)
    if derived.kv_places is not None and concurrent is not None and derived.kv_places >= 1.0:
        # Engines that reserve a request's whole length stop admitting long before the cache looks full.
        reserved = ramp(concurrent / derived.kv_places, 0.5, 0.8)
    return max(full * max(waits, thrown_back), reserved * waits, thrown_back * ramp(window.kv_usage or 0.0, 0.3, 0.7))


def _prefill(window: EngineWindow, derived: Derived, gpu: GpuWindow | None) -> float:
    if derived.prefill_share is None or derived.busy is None:
        return 0.0
    score = ramp(derived.prefill_share, 0.45, 0.65) * ramp(derived.busy, 0.65, 0.9)
    if (by_tokens := _prefill_by_tokens(window)) is not None:
        score *= ramp(by_tokens, 0.1, 0.3)  # what little there is to read cannot be what binds
    if gpu is not None and gpu.tensor_active is not None and gpu.sm_active is not None:
        # Prompts of a size that matters work the tensor cores: 83 % on an H200, and 4 % while it decodes.
        score *= ramp(max(gpu.tensor_active, 0.6 * gpu.sm_active), 0.10, 0.30)
    return score


def _cache_miss(history: EngineHistory) -> float:
    """Prompts repeat, and the cache has turned over before they came again."""
    ratio, rate, capacity = history.cache_hit_ratio, history.prompt_tokens_per_second, history.kv_capacity_tokens
    if history.prefix_caching is False or ratio is None or rate is None or not capacity:
        return 0.0
    turned_over = ramp(60.0 * rate / capacity, 0.5, 1.0)
    # Below two in a hundred it is chat templates and chance; nothing says that the prompts repeat at all.
    return ramp(ratio, 0.01, 0.02) * ramp(ratio, 0.7, 0.5) * turned_over


def _batch(window: EngineWindow, derived: Derived, gpu: GpuWindow | None) -> float:
    if derived.queued is None or derived.at_limit is None:
        return 0.0
    free_cache = 1.0 if window.kv_usage is None else ramp(window.kv_usage, 0.85, 0.65)
    score = derived.queued * derived.at_limit * free_cache * (1.0 - _kv(window, derived))
    score *= 1.0 - ramp(derived.prefill_share or 0.0, 0.6, 0.85)
    return score * _room(derived, gpu)


def _room(derived: Derived, gpu: GpuWindow | None) -> float:
    """Whether more requests at once would bring more: the hardware has room."""
    if gpu is not None and gpu.sm_active is not None:
        used = max(gpu.dram_active or 0.0, gpu.tensor_active or 0.0)
        return ramp(used, 0.75, 0.55)
    if derived.slowed is None:
        return 1.0
    # Without GPU metrics: when each token takes several times the engine's best, batching is at its end.
    return ramp(derived.slowed, 6.0, 3.0)


def _client(window: EngineWindow, derived: Derived) -> float:
    ended = (window.finished or 0.0) + (window.aborted or 0.0) + (window.failed or 0.0)
    if not ended or window.aborted is None:
        return 0.0
    return ramp(window.aborted / ended, 0.1, 0.3) * (1.0 - (derived.queued or 0.0))


def _queue(window: EngineWindow, derived: Derived) -> float:
    if derived.queued is None:
        return 0.0
    steady = 1.0 if window.waiting_least is None else ramp(window.waiting_least, 0.0, 1.0)
    waited = 0.0
    if window.queue_seconds is not None and window.ttft_seconds:
        waited = ramp(window.queue_seconds / window.ttft_seconds, 0.1, 0.3)  # 20 % of TTFT: WVA
    return derived.queued * max(steady, waited) * 0.9


def _of_gpu(gpu: GpuWindow) -> dict[Bottleneck, float]:
    out: dict[Bottleneck, float] = {}
    if gpu.thermal_share is not None:
        slow = 1.0 if gpu.sm_clock_share is None else ramp(gpu.sm_clock_share, 0.95, 0.85)
        out[Bottleneck.FAULTY_GPU] = ramp(gpu.thermal_share, 0.2, 0.6) * slow
    if gpu.classic_utilization is not None and gpu.sm_active is not None and gpu.sm_active_spread is not None:
        # Spinning kernels: busy by the classic figure, an SM share that does not move by a thousandth,
        # no memory and no link traffic. Recorded: 18.182 % and 0.758 % for minutes on two H200s.
        still = math.prod(
            (
                ramp(gpu.classic_utilization, 0.8, 0.95),
                ramp(gpu.sm_active_spread, 0.005, 0.002),
                ramp(gpu.dram_active or 0.0, 0.02, 0.005),
                ramp(gpu.tensor_active or 0.0, 0.02, 0.005),
                ramp(gpu.link_bytes_per_second or 0.0, 1e9, 1e8),
                ramp(gpu.samples / gpu.gpus, 1.0, 3.0),
            )
        )
        out[Bottleneck.STUCK_COLLECTIVE] = still
    return out


def _of_both(window: EngineWindow, derived: Derived, gpu: GpuWindow | None) -> dict[Bottleneck, float]:
    """The classes that need to know what the GPU did; without it, decoding is told by its concurrency alone."""
    busy = 0.0 if derived.busy is None else ramp(derived.busy, 0.65, 0.9)
    decode = 1.0 - ramp(derived.prefill_share or 0.0, 0.45, 0.65)
    concurrent = _concurrent(window) or 0.0
    if gpu is None or (gpu.sm_active is None and gpu.dram_active is None):
        # A dozen requests at once, all the time, and nothing else that binds: every step reads the
        # weights and all their caches. Fewer is a service at its ease.
        alone = busy * decode * ramp(concurrent, 6.0, 12.0) * (1.0 - (derived.queued or 0.0))
        return {Bottleneck.DECODE_BANDWIDTH_BOUND: 0.8 * alone}
    out: dict[Bottleneck, float] = {}
    sm, dram, tensor = gpu.sm_active or 0.0, gpu.dram_active or 0.0, gpu.tensor_active or 0.0
    out[Bottleneck.DECODE_BANDWIDTH_BOUND] = busy * ramp(dram, 0.45, 0.65) * ramp(tensor, 0.6, 0.4)
    out[Bottleneck.COMPUTE_BOUND] = busy * max(ramp(tensor, 0.45, 0.6), ramp(sm, 0.75, 0.9) * ramp(dram, 0.6, 0.4))
    if gpu.gpus > 1 and gpu.link_share is not None:
        low = ramp(dram, 0.6, 0.4) * ramp(tensor, 0.5, 0.35)
        out[Bottleneck.COMMUNICATION_BOUND] = busy * low * ramp(gpu.link_share, 0.3, 0.5)
    # Below 0.4 of the SMs and of the bandwidth the GPU is not what the requests wait for.
    pressed = max(derived.queued or 0.0, ramp(concurrent, 10.0, 20.0))
    out[Bottleneck.HOST_BOUND] = busy * ramp(max(sm, dram, tensor), 0.45, 0.35) * pressed
    return out
