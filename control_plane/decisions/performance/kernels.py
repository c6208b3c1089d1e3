"""Laws of single kernels: how long a multiplication, experts, attention and an all-reduce take.

Each is launch + the slower of moving its bytes and doing its arithmetic, at the shares of the peaks that measured
kernels reach (control_plane/catalogue/README.md says how the shares were found).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from control_plane.decisions.performance.setup import Numbers
from control_plane.model.architecture import NumberFormat
from control_plane.model.machine import KernelKind, KernelRate, Machine

# Bytes of a weight, scales included: MXFP4 has 8 bits to 32 weights, NVFP4 8 bits to 16, group-wise INT4 16 to 128.
WEIGHT_BYTES = {
    NumberFormat.BF16: 2.0, NumberFormat.FP8: 1.0, NumberFormat.FP8_BLOCK: 1.0, NumberFormat.INT8: 1.0,
    NumberFormat.INT4: 0.53, NumberFormat.MXFP4: 0.53125, NumberFormat.NVFP4: 0.5625,
}  # fmt: skip
SMALLEST_TILE = 16  # rows that a tensor core multiplies at once; fewer take as long
# What stands in for a kernel that was not measured, the nearest first.
STAND_INS = {
    NumberFormat.FP8: (NumberFormat.FP8_BLOCK, NumberFormat.BF16),
    NumberFormat.FP8_BLOCK: (NumberFormat.FP8, NumberFormat.BF16),
    NumberFormat.INT8: (NumberFormat.FP8, NumberFormat.BF16),
    NumberFormat.INT4: (NumberFormat.MXFP4, NumberFormat.BF16),
    NumberFormat.MXFP4: (NumberFormat.NVFP4, NumberFormat.INT4, NumberFormat.BF16),
    NumberFormat.NVFP4: (NumberFormat.MXFP4, NumberFormat.INT4, NumberFormat.BF16),
}
ANY_RATE = KernelRate(launch_seconds=10e-6, bandwidth_share=0.75, compute_share=0.5, sharpness=1.5)
BLACKWELL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How an engine's kernels differ from those that were measured alone."""

    speed: Numbers = 1.0  # factor on the time of moving and computing
    launch: Numbers = 1.0  # factor on the launch


def rate_of(machine: Machine, kind: KernelKind, number_format: NumberFormat) -> KernelRate:
    """This will give what kernels of this kind reach here."""
    for candidate in (number_format, *STAND_INS.get(number_format, ())):
        found = machine.rates.get((kind, candidate))
        if found is not None:
            return found
    return machine.rates.get((kind, NumberFormat.BF16), ANY_RATE)


def multiplied_in(machine: Machine, number_format: NumberFormat) -> NumberFormat:
    """This will say in which format tensor cores multiply weights that are stored so."""
    if number_format is NumberFormat.MXFP4 and machine.architecture_code >= BLACKWELL:
        return NumberFormat.FP8 if NumberFormat.FP8 in machine.flops else NumberFormat.BF16
    if number_format in (NumberFormat.INT4, NumberFormat.MXFP4):
        return NumberFormat.BF16
    return number_format if number_format in machine.flops else NumberFormat.BF16


def activation_bytes(machine: Machine, number_format: NumberFormat) -> float:
    """This will give the bytes of one activation that is multiplied with weights of this format."""
    return WEIGHT_BYTES[multiplied_in(machine, number_format)]


def together(memory: Numbers, compute: Numbers, sharpness: float) -> Numbers:
    """This will give the time of two things that overlap more (high sharpness) or less (1)."""
    larger = np.maximum(np.maximum(memory, compute), 1e-12)
    return larger * ((memory / larger) ** sharpness + (compute / larger) ** sharpness) ** (1.0 / sharpness)


def gemm(
    machine: Machine, number_format: NumberFormat, tuning: Tuning, *, tokens: Numbers, rows: Numbers, columns: Numbers
) -> Numbers:
    """This will give the seconds of multiplying the tokens of a step by a matrix of rows × columns."""
    rate = rate_of(machine, KernelKind.GEMM, number_format)
    weights = rows * columns * WEIGHT_BYTES[number_format]
    activations = tokens * rows * activation_bytes(machine, number_format) + tokens * columns * 2.0
    memory = (weights + activations) / (rate.bandwidth_share * machine.bandwidth)
    peak = machine.flops[multiplied_in(machine, number_format)]
    compute = 2.0 * np.maximum(tokens, SMALLEST_TILE) * rows * columns / (rate.compute_share * peak)
    return rate.launch_seconds * tuning.launch + together(memory, compute, rate.sharpness) * tuning.speed


def experts(
    machine: Machine,
    number_format: NumberFormat,
    tuning: Tuning,
    *,
    chosen: Numbers,
    touched: Numbers,
    hidden: Numbers,
    width: Numbers,
    matrices: int,
) -> Numbers:
    """This will give the seconds of a layer's experts on one GPU.

    `chosen`: pairs of token and expert that are computed here; `touched`: experts whose weights are read for that.
    """
    rate = rate_of(machine, KernelKind.EXPERTS, number_format)
    weights = matrices * hidden * width
    moved = chosen * (hidden + width) * (2.0 + activation_bytes(machine, number_format))
    memory = (touched * weights * WEIGHT_BYTES[number_format] + moved) / (rate.bandwidth_share * machine.bandwidth)
    peak = machine.flops[multiplied_in(machine, number_format)]
    computed = np.maximum(chosen, touched * SMALLEST_TILE)
    compute = 2.0 * computed * weights / (rate.compute_share * peak)
    return rate.launch_seconds * tuning.launch + together(memory, compute, rate.sharpness) * tuning.speed


def all_reduce(machine: Machine, *, message: Numbers, gpus: Numbers) -> Numbers:
    """This will give the seconds in which so many GPUs add up a message of so many bytes; 0 for one GPU."""
    sizes = np.log(machine.all_reduce_sizes)
    wanted = np.log(np.clip(message, machine.all_reduce_sizes[0], machine.all_reduce_sizes[-1]))
    beyond = np.maximum(np.asarray(message) / machine.all_reduce_sizes[-1], 1.0)
    counts = sorted(machine.all_reduce_seconds)
    curves = [np.exp(np.interp(wanted, sizes, np.log(machine.all_reduce_seconds[n]))) * beyond for n in counts]
    number = np.broadcast_to(np.asarray(gpus, dtype=np.float64), np.broadcast_shapes(np.shape(gpus), np.shape(message)))
    seconds = np.zeros(number.shape)
    for place, count in enumerate(counts):
        lower = counts[place - 1] if place else 1
        seconds = np.where((number > lower) & (number <= count), curves[place], seconds)
    # More than a measured group: latency grows with the hops of a tree, bandwidth stays.
    more = curves[-1] * (1.0 + 0.5 * np.log2(np.maximum(number / counts[-1], 1.0)))
    return np.where(number > counts[-1], more, seconds)
