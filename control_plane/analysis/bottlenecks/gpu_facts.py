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


# NVML's clocks-event reasons (nvml.h): hardware slowdown, thermal (software, hardware), power brake; power cap.
HEAT_REASONS, POWER_CAP_REASON = 0x08 | 0x20 | 0x40 | 0x80, 0x04
# PCIe 4.0 x16, one direction: GPUs with more are rarer, and a link that is half full there is busy here.
PCIE_BYTES_PER_SECOND = 31.5e9
STORED = (
    "gpu_utilization_ratio", "sm_active_ratio", "tensor_active_ratio", "dram_active_ratio",
    "pcie_transmit_bytes_per_second", "pcie_receive_bytes_per_second", "nvlink_transmit_bytes_per_second",
    "nvlink_receive_bytes_per_second", "sm_clock_megahertz", "clock_event_reasons_bits", "power_draw_watts",
)  # fmt: skip


def look_of(
    gpu: str, values: Mapping[str, float | None], *, highest_clock: float | None, nvlink_bytes_per_second: float | None
) -> GpuLook:
    """This will make a look of a stored sample's fields (`STORED`).

    `highest_clock` is the highest SM clock seen of it, in MHz; `nvlink_bytes_per_second` what all its links carry in
    one direction.
    """
    clock, reasons = values.get("sm_clock_megahertz"), values.get("clock_event_reasons_bits")
    bits = None if reasons is None else int(reasons)
    link, capacity = _busier_link(values, nvlink_bytes_per_second)
    return GpuLook(
        gpu=gpu,
        classic_utilization=values.get("gpu_utilization_ratio"),
        sm_active=values.get("sm_active_ratio"),
        tensor_active=values.get("tensor_active_ratio"),
        dram_active=values.get("dram_active_ratio"),
        link_bytes_per_second=link,
        link_capacity_bytes_per_second=capacity,
        sm_clock_share=None if clock is None or not highest_clock else clock / highest_clock,
        slowed_by_heat=None if bits is None else bool(bits & HEAT_REASONS),
        at_power_cap=None if bits is None else bool(bits & POWER_CAP_REASON),
        power_watts=values.get("power_draw_watts"),
    )


def _busier_link(
    values: Mapping[str, float | None], nvlink_capacity: float | None
) -> tuple[float | None, float | None]:
    """This will give the busier link's bytes per second in its busier direction, and what it can carry."""

    def of(link: str) -> float | None:
        ways = [values.get(f"{link}_{way}_bytes_per_second") for way in ("transmit", "receive")]
        return max((way for way in ways if way is not None), default=None)

    pcie, nvlink = of("pcie"), of("nvlink")
    if nvlink is not None and nvlink > (pcie or 0.0):
        return nvlink, nvlink_capacity
    return (None, None) if pcie is None else (pcie, PCIE_BYTES_PER_SECOND)


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
