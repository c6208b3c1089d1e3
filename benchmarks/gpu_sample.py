"""What one whole look at the GPUs costs beside the bare NVML calls that it makes.

Run by `python -m benchmarks.gpu_sample` on a host with an NVIDIA GPU; elsewhere it says that there is none.
Both figures come from the same looks: the time inside NVML is what the calls of `node_agent/host/nvml*.py` into
nvidia-ml-py took, the whole is `GpuCollector.collect`, its thread and its report included.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import pynvml

from node_agent.clock import SystemClock
from node_agent.collectors.gpu import GpuCollector
from node_agent.host.nvml import PynvmlDriver
from node_agent.host.nvml_protocol import NvmlUnavailable

LOOKS = 60
INTERVAL_SECONDS = 1.0  # the cadence that the target is stated for
FIRST_LOOKS = 3  # they open NVML, probe what is supported and start GPM


class Meter:
    """Adds up the time inside nvidia-ml-py."""

    def __init__(self) -> None:
        """Every function of the library is measured from now on, GPM's included."""
        self.seconds = 0.0
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
                setattr(pynvml, name, self._measured(function))

    def _measured(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if self._inside:  # one function of the library calling another
                return function(*arguments, **named)
            self._inside = True
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - began
                self.calls += 1
                self._inside = False

        return call


async def measure() -> list[tuple[float, float, int]]:
    """This will give (whole seconds, seconds inside NVML, calls) of each look."""
    clock, meter = SystemClock(), Meter()
    collector = GpuCollector(PynvmlDriver())
    out = []
    for number in range(FIRST_LOOKS + LOOKS):
        inside, calls, began = meter.seconds, meter.calls, time.perf_counter()
        await collector.collect(clock.now())
        whole = time.perf_counter() - began
        if number >= FIRST_LOOKS:
            out.append((whole, meter.seconds - inside, meter.calls - calls))
        await asyncio.sleep(INTERVAL_SECONDS)
    await collector.close()
    return out


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
    ratios = sorted(whole / inside for whole, inside, _ in looks)
    wholes, insides = sorted(w for w, _, _ in looks), sorted(i for _, i, _ in looks)
    sys.stdout.write(
        f"{count} × {name}, {len(looks)} looks {INTERVAL_SECONDS:g} s apart, {looks[-1][2]} NVML calls each\n"
        f"whole look    median {statistics.median(wholes) * 1e3:.2f} ms, worst {wholes[-1] * 1e3:.2f} ms\n"
        f"inside NVML   median {statistics.median(insides) * 1e3:.2f} ms, worst {insides[-1] * 1e3:.2f} ms\n"
        f"whole/inside  median {statistics.median(ratios):.3f}, from {ratios[0]:.3f} to {ratios[-1]:.3f} (target 1.3)\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
