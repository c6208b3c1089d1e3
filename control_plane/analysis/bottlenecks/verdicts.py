"""From scores to a verdict: what binds, what would bind next, and what could not be told apart."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.analysis.bottlenecks.evidence import evidence
from control_plane.analysis.bottlenecks.facts import EngineHistory, EngineWindow, GpuWindow
from control_plane.analysis.bottlenecks.remedies import REMEDIES
from control_plane.analysis.bottlenecks.scores import derive, scores
from control_plane.model.bottleneck import Bottleneck, Verdict

# A verdict needs this much to be given, and this much less to be kept: what hovers does not flap.
ENTER, KEEP = 0.5, 0.35
# Less than this is no runner-up.
WORTH_NAMING = 0.15

_NEEDS_GPU = "needs the GPU's metrics: SM, tensor and memory activity, links, clocks"
_NEEDS_ENGINE = "needs the engine's metrics"


def judge(
    window: EngineWindow | None,
    history: EngineHistory,
    gpu: GpuWindow | None,
    *,
    before: Bottleneck | None = None,
) -> Verdict:
    """This will say what binds in a window; `before` is what bound in the one before.

    Without engine and GPU it says "missing data", with a score of 1: not knowing is certain.
    """
    if window is not None and _says_nothing(window):
        window = None
    if window is None and (gpu is None or gpu.classic_utilization is gpu.sm_active is None):
        return Verdict(
            bottleneck=Bottleneck.MISSING_DATA,
            score=1.0,
            runner_up=None,
            runner_up_score=0.0,
            evidence=(),
            remedies=REMEDIES[Bottleneck.MISSING_DATA],
            cannot_tell=dict.fromkeys(set(Bottleneck) - {Bottleneck.MISSING_DATA}, "needs any metrics at all"),
        )
    found = dict(scores(window, history, gpu))
    if window is None and gpu is not None:
        found |= _of_gpu_alone(gpu)
    first = _binding(found, before)
    score = found.get(first, _health(found))
    rest = {name: value for name, value in found.items() if name is not first and value >= WORTH_NAMING}
    runner_up = max(rest, key=lambda name: rest[name], default=None)
    if runner_up is None and first not in (Bottleneck.HEALTHY, Bottleneck.IDLE):
        runner_up = Bottleneck.HEALTHY
    return Verdict(
        bottleneck=first,
        score=round(score, 3),
        runner_up=runner_up,
        runner_up_score=0.0 if runner_up is None else round(found.get(runner_up, _health(found)), 3),
        evidence=evidence(first, window, history, gpu, None if window is None else derive(window, history)),
        remedies=REMEDIES[first],
        cannot_tell=_cannot_tell(found, window, gpu),
    )


def _says_nothing(window: EngineWindow) -> bool:
    """This will say whether not even idleness can be told: not knowing is not "nothing was asked"."""
    return window.running is window.waiting is window.output_tokens is window.prompt_tokens is None


def _binding(found: Mapping[Bottleneck, float], before: Bottleneck | None) -> Bottleneck:
    """This will give the first class, in the enum's order, whose score is enough."""
    for bottleneck in Bottleneck:
        if found.get(bottleneck, 0.0) >= (KEEP if bottleneck is before else ENTER):
            return bottleneck
    return Bottleneck.HEALTHY


def _health(found: Mapping[Bottleneck, float]) -> float:
    return 1.0 - max(found.values(), default=0.0)


def _of_gpu_alone(gpu: GpuWindow) -> Mapping[Bottleneck, float]:
    """This will judge where no engine is seen, only its GPUs: what they do, not why."""
    sm = gpu.sm_active
    if sm is None:
        classic = gpu.classic_utilization or 0.0
        return {Bottleneck.IDLE: 1.0 if classic < 0.02 else 0.0}
    dram, tensor, link = gpu.dram_active or 0.0, gpu.tensor_active or 0.0, gpu.link_share or 0.0
    quiet = max(sm, dram, tensor) < 0.02 and link < 0.01
    return {
        Bottleneck.IDLE: 1.0 if quiet and (gpu.classic_utilization or 0.0) < 0.5 else 0.0,
        Bottleneck.COMMUNICATION_BOUND: (1.0 if link >= 0.4 else 0.0) if max(dram, tensor) < 0.5 else 0.0,
        Bottleneck.DECODE_BANDWIDTH_BOUND: 1.0 if dram >= 0.6 and tensor < 0.5 else 0.0,
        Bottleneck.COMPUTE_BOUND: 1.0 if tensor >= 0.5 else 0.0,
    }


def _cannot_tell(
    found: Mapping[Bottleneck, float], window: EngineWindow | None, gpu: GpuWindow | None
) -> Mapping[Bottleneck, str]:
    gpu_only = (
        Bottleneck.STUCK_COLLECTIVE,
        Bottleneck.FAULTY_GPU,
        Bottleneck.COMMUNICATION_BOUND,
        Bottleneck.DECODE_BANDWIDTH_BOUND,
        Bottleneck.COMPUTE_BOUND,
        Bottleneck.HOST_BOUND,
    )
    out: dict[Bottleneck, str] = {}
    if gpu is None or gpu.sm_active is None:
        out |= dict.fromkeys((name for name in gpu_only if not found.get(name)), _NEEDS_GPU)
    if window is None:
        engine_only = set(Bottleneck) - set(gpu_only) - {Bottleneck.MISSING_DATA, Bottleneck.IDLE, Bottleneck.HEALTHY}
        out |= dict.fromkeys(sorted(engine_only), _NEEDS_ENGINE)
    return out
