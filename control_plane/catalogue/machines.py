"""Machines out of the tables: peak rates, kernels' rates and all-reduce times of one kind of GPU."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import cache

from control_plane.catalogue.tables import GIGA, gpu_of_system, gpu_specs, rows
from control_plane.model.architecture import NumberFormat
from control_plane.model.gpu_spec import GpuSpec
from control_plane.model.machine import KernelKind, KernelRate, Machine

MICRO = 1e-6
NVLINK_FROM = 100 * GIGA  # bytes a second in one direction: PCIe 5.0 has 64, the slowest NVLink here 150
PCIE_5_FROM = 48 * GIGA
# Generations with measured kernels; others take those of the nearest by name of architecture.
MEASURED = (80, 89, 90, 100, 103, 120)
AMD_FROM = 900  # architecture codes of AMD's GPUs: gfx numbers


@cache
def machine(system: str, engine: str) -> Machine:
    """This will give the GPU that goes by this name, as this engine uses it; a guessed one when it is not listed."""
    spec = gpu_of_system(system)
    return machine_of(spec, engine) if spec is not None else unlisted(system, engine)


@cache
def machine_of(spec: GpuSpec, engine: str) -> Machine:
    """This will join what the tables say of a listed GPU."""
    code = spec.architecture_code
    flops = {NumberFormat.BF16: spec.bf16_flops}
    if spec.fp8_flops is not None:
        flops |= {NumberFormat.FP8: spec.fp8_flops, NumberFormat.FP8_BLOCK: spec.fp8_flops}
    if spec.fp4_flops is not None:
        flops[NumberFormat.NVFP4] = spec.fp4_flops
    if spec.int8_flops is not None:
        flops[NumberFormat.INT8] = spec.int8_flops
    sizes, seconds = _all_reduce(spec, engine)
    return Machine(
        name=spec.gpu,
        architecture_code=code,
        memory_bytes=spec.memory_bytes,
        bandwidth=spec.memory_bandwidth_bytes_per_second,
        flops=flops,
        link_bytes_per_second=spec.link_bytes_per_second,
        gpus_per_host=spec.gpus_per_host,
        rates=_kernel_rates(nearest_generation(code)),
        all_reduce_sizes=sizes,
        all_reduce_seconds=seconds,
        rates_measured=code in MEASURED,
        power_watts=spec.power_watts,
    )


def nearest_generation(code: int) -> int:
    """This will give the generation whose kernels stand in for those of this one."""
    if code in MEASURED:
        return code
    if code >= AMD_FROM:
        return 90  # the same year and class; no table of kernels is published
    return min(MEASURED, key=lambda known: abs(known - code))


def unlisted(system: str, engine: str) -> Machine:
    """This will guess a GPU that is not listed: the middle of those that are. Its interval is as wide."""
    specs = [spec for spec in gpu_specs() if spec.architecture_code >= MEASURED[0]]

    def middle(of: Callable[[GpuSpec], float | None]) -> float:
        return math.exp(statistics.median(math.log(value) for spec in specs if (value := of(spec))))

    guess = GpuSpec(
        gpu=system, system=system, architecture_code=90, name_pattern="", source="the middle of listed GPUs",
        memory_bytes=middle(lambda s: s.memory_bytes), bf16_flops=middle(lambda s: s.bf16_flops),
        memory_bandwidth_bytes_per_second=middle(lambda s: s.memory_bandwidth_bytes_per_second),
        fp8_flops=middle(lambda s: s.fp8_flops), fp4_flops=None, int8_flops=middle(lambda s: s.int8_flops),
        link_bytes_per_second=middle(lambda s: s.link_bytes_per_second), gpus_per_host=8,
        power_watts=middle(lambda s: s.power_watts),
    )  # fmt: skip
    known = machine_of(guess, engine)
    return Machine(**{**{name: getattr(known, name) for name in Machine.__slots__}, "listed": False})


@cache
def _kernel_rates(code: int) -> dict[tuple[KernelKind, NumberFormat], KernelRate]:
    return {
        (KernelKind(row["kind"]), NumberFormat(row["format"])): KernelRate(
            launch_seconds=float(row["launch_microseconds"]) * MICRO,
            bandwidth_share=float(row["bandwidth_share"]),
            compute_share=float(row["compute_share"]),
            sharpness=float(row["sharpness"]),
        )
        for row in rows("kernel_rates.csv")
        if int(row["architecture_code"]) == code
    }


def _all_reduce(spec: GpuSpec, engine: str) -> tuple[tuple[float, ...], dict[int, tuple[float, ...]]]:
    table = rows("all_reduce_times.csv")
    sizes = tuple(float(name[3:-1]) * 1024 for name in table[0] if name.startswith("us_"))
    code = spec.architecture_code
    if spec.link_bytes_per_second >= NVLINK_FROM:
        link = "nvlink-80" if code < 90 else "nvlink-90" if code < 100 or code >= AMD_FROM else "nvlink-100"
    else:
        link = "pcie-5" if spec.link_bytes_per_second >= PCIE_5_FROM else "pcie-4"
    known = engine if any(row["engine"] == engine for row in table) else "vllm"
    seconds = {
        int(row["gpus"]): tuple(float(value) * MICRO for name, value in row.items() if name.startswith("us_"))
        for row in table
        if row["link"] == link and row["engine"] == known
    }
    return sizes, seconds


def systems() -> Sequence[str]:
    """This will list the GPUs that are known, as tables of measurements name them."""
    return tuple(spec.system for spec in gpu_specs())
