"""GPUs as a model of speed sees them: peak rates, and what kernels really reach of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from control_plane.model.architecture import NumberFormat


class KernelKind(StrEnum):
    """Kernels whose speed has a law of its own."""

    GEMM = "gemm"  # a matrix by the tokens of a step
    EXPERTS = "experts"  # all chosen experts of a layer in one grouped kernel
    ATTENTION = "attention"  # over keys and values; compute share: of prefill
    LATENT = "latent"  # over compressed vectors (MLA)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRate:
    """time = launch + (memory time ^ sharpness + compute time ^ sharpness) ^ (1 / sharpness)."""

    launch_seconds: float
    bandwidth_share: float  # of the peak
    compute_share: float  # of the peak of the format that is multiplied in
    sharpness: float  # high: the slower of both counts; 1: both add up


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One kind of GPU, and what joins several of them."""

    name: str
    architecture_code: int
    memory_bytes: float
    bandwidth: float  # bytes a second
    flops: Mapping[NumberFormat, float]  # what tensor cores multiply natively, dense
    link_bytes_per_second: float
    gpus_per_host: int
    rates: Mapping[tuple[KernelKind, NumberFormat], KernelRate]
    all_reduce_sizes: tuple[float, ...]  # bytes, ascending
    all_reduce_seconds: Mapping[int, tuple[float, ...]]  # GPUs → one for each size
    listed: bool = True  # False: its rates are guessed
    rates_measured: bool = True  # False: kernels of another generation stand in
    power_watts: float | None = None
