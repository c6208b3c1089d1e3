"""What one whole look at the GPUs costs beside the bare NVML calls that it makes.

Run by `python -m benchmarks.gpu_sample` on a host with an NVIDIA GPU; elsewhere it says that there is none.
Both figures come from the same looks: the time inside NVML is what the calls of `node_agent/host/nvml*.py` into
nvidia-ml-py took, the whole is `GpuCollector.collect`, its thread and its report included. Looks that read the slow
tier too (one in ten at 1 s) are told apart from those that do not, and each function of NVML is told by itself.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pynvml

from node_agent.clock import SystemClock
from node_agent.collectors.gpu import GpuCollector
from node_agent.host.nvml import PynvmlDriver
from node_agent.host.nvml_protocol import NvmlUnavailable

LOOKS = 120
INTERVAL_SECONDS = 1.0  # the cadence that the target is stated for
FIRST_LOOKS = 3  # they open NVML, probe what is supported and start GPM
DEAREST = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look, in seconds."""

    whole: float
    inside: float
    calls: int
    is_slow: bool  # it read the slow tier too
    by_function: dict[str, float]


class Meter:
    """Adds up the time inside nvidia-ml-py, by function."""

    def __init__(self) -> None:
        """Every function of the library is measured from now on, GPM's included."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls = 0
        self._inside = False
        for name in dir(pynvml):
            function = getattr(pynvml, name)
            if (
                name.startswith("nvml")
                and name[4:5].isupper()
                and callable(function)
                and not isinstance(function, type)
            ):
                setattr(pynvml, name, self._measured(name, function))

    def taken(self) -> tuple[dict[str, float], int]:
        """This will give what was spent since the call before, and by how many calls."""
        spent, calls = dict(self.seconds), self.calls
        self.seconds.clear()
        self.calls = 0
        return spent, calls

    def _measured(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if self._inside:  # one function of the library calling another
                return function(*arguments, **named)
            self._inside = True
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] += time.perf_counter() - began
                self.calls += 1
                self._inside = False

        return call


async def measure() -> list[Look]:
    """This will look again and again."""
    clock, meter = SystemClock(), Meter()
    collector = GpuCollector(PynvmlDriver())
    out = []
    for number in range(FIRST_LOOKS + LOOKS):
        meter.taken()
        began = time.perf_counter()
        collected = await collector.collect(clock.now())
        whole = time.perf_counter() - began
        spent, calls = meter.taken()
        if number >= FIRST_LOOKS:
            is_slow = any(sample.table == "gpu_health" for sample in collected.samples)
            out.append(Look(whole=whole, inside=sum(spent.values()), calls=calls, is_slow=is_slow, by_function=spent))
        await asyncio.sleep(INTERVAL_SECONDS)
    await collector.close()
    return out


def summary(title: str, looks: Sequence[Look]) -> str:
    """This will sum up one kind of looks."""
    wholes, insides = [look.whole * 1e3 for look in looks], [look.inside * 1e3 for look in looks]
    ratios = [look.whole / look.inside for look in looks]
    return (
        f"{title}: {len(looks)} looks, {statistics.median(look.calls for look in looks):g} NVML calls each\n"
        f"whole look    median {statistics.median(wholes):.2f} ms, worst {max(wholes):.2f} ms (target 8)\n"
        f"inside NVML   median {statistics.median(insides):.2f} ms, worst {max(insides):.2f} ms\n"
        f"whole/inside  median {statistics.median(ratios):.3f} (target 1.3), {min(ratios):.3f} to {max(ratios):.3f}\n"
    )


def dearest(looks: Sequence[Look]) -> str:
    """This will name the functions that cost most, by the median of the looks that call them."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for look in looks:
        for name, seconds in look.by_function.items():
            by_name[name].append(seconds * 1e3)
    costs = sorted(((statistics.median(spent), name) for name, spent in by_name.items()), reverse=True)
    return "".join(f"  {name:<44} median {cost:.3f} ms\n" for cost, name in costs[:DEAREST])


def main() -> int:
    """This will measure and print, or say that there is no GPU."""
    driver = PynvmlDriver()
    try:
        count = driver.open()
        name = driver.identity(0).name if count else None
    except NvmlUnavailable as unavailable:
        sys.stdout.write(f"no GPU to measure: {unavailable}\n")
        return 0
    finally:
        driver.close()
    if not count:
        sys.stdout.write("no GPU to measure: the driver shows none\n")
        return 0
    looks = asyncio.run(measure())
    sys.stdout.write(f"{count} × {name}, a look every {INTERVAL_SECONDS:g} s\n")
    for title, is_slow in (("every tick", False), ("with the slow tier", True)):
        some = [look for look in looks if look.is_slow is is_slow]
        if some:
            sys.stdout.write(summary(title, some) + dearest(some))
    sys.stdout.write(summary("all of them", looks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
