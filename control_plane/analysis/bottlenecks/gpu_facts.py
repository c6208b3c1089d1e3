"""From samples of an engine's GPUs to the facts of a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from control_plane.analysis.bottlenecks.facts import GpuWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLook:
    """One sample of one GPU, as far as a verdict needs it. None is unknown."""

    gpu: str
    classic_utilization: float | None = None  # 0..1
    sm_active: float | None = None
    tensor_active: float | None = None
    dram_active: float | None = None
    link_bytes_per_second: float | None = None  # the busier direction of NVLink, or of PCIe
    link_capacity_bytes_per_second: float | None = None  # of that link, one direction
    sm_clock_share: float | None = None
    slowed_by_heat: bool | None = None  # thermal slowdown or power brake
    at_power_cap: bool | None = None
    power_watts: float | None = None


def gpu_window(looks: Sequence[GpuLook]) -> GpuWindow | None:
    """This will give the facts of all looks at an engine's GPUs in one window; None when there were none.

    Means run over all GPUs: tensor ranks work in step. Faults and links are those of the worst GPU:
    one slow rank slows all.
    """
    if not looks:
        return None
    by_gpu: dict[str, list[GpuLook]] = {}
    for look in looks:
        by_gpu.setdefault(look.gpu, []).append(look)
    return GpuWindow(
        gpus=len(by_gpu),
        samples=len(looks),
        classic_utilization=_mean(looks, lambda look: look.classic_utilization),
        sm_active=_mean(looks, lambda look: look.sm_active),
        sm_active_spread=max((spread for own in by_gpu.values() if (spread := _spread(own)) is not None), default=None),
        tensor_active=_mean(looks, lambda look: look.tensor_active),
        dram_active=_mean(looks, lambda look: look.dram_active),
        link_bytes_per_second=_worst(by_gpu, lambda look: look.link_bytes_per_second),
        link_share=_worst(by_gpu, _link_share),
        sm_clock_share=_mean(looks, lambda look: look.sm_clock_share),
        thermal_share=_worst(by_gpu, lambda look: _flag(look.slowed_by_heat)),
        power_cap_share=_worst(by_gpu, lambda look: _flag(look.at_power_cap)),
        power_watts=_mean(looks, lambda look: look.power_watts),
    )


def _known(looks: Sequence[GpuLook], read: Callable[[GpuLook], float | None]) -> list[float]:
    return [value for look in looks if (value := read(look)) is not None]


def _mean(looks: Sequence[GpuLook], read: Callable[[GpuLook], float | None]) -> float | None:
    values = _known(looks, read)
    return sum(values) / len(values) if values else None


def _worst(by_gpu: Mapping[str, Sequence[GpuLook]], read: Callable[[GpuLook], float | None]) -> float | None:
    means = [mean for looks in by_gpu.values() if (mean := _mean(looks, read)) is not None]
    return max(means, default=None)


def _spread(looks: Sequence[GpuLook]) -> float | None:
    values = _known(looks, lambda look: look.sm_active)
    return max(values) - min(values) if len(values) >= 2 else None


def _link_share(look: GpuLook) -> float | None:
    if look.link_bytes_per_second is None or not look.link_capacity_bytes_per_second:
        return None
    return look.link_bytes_per_second / look.link_capacity_bytes_per_second


def _flag(value: bool | None) -> float | None:
    return None if value is None else float(value)
