"""What a GPU could do at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpec:
    """Peak rates of one kind of GPU, dense (without sparsity), with their source."""

    gpu: str
    system: str  # how tables of measurements name it, such as "h100_sxm"
    architecture_code: int  # NVIDIA's compute capability, 90 for 9.0; AMD's gfx number
    memory_bytes: float
    name_pattern: str  # a regular expression, searched for in the driver's name
    memory_bandwidth_bytes_per_second: float
    bf16_flops: float  # per second
    fp8_flops: float | None  # None: its tensor cores know no FP8
    fp4_flops: float | None
    int8_flops: float | None
    gpus_per_host: int  # that the fastest link joins
    link_bytes_per_second: float  # the fastest link, one direction
    power_watts: float
    source: str
