"""Runs more known loads on GPU 0 and records NVML and GPM beside them, to hold judgements against.

Stand-alone: needs torch, cupy and nvidia-ml-py. One JSON line every half a second goes to the file, in NVML's own units
and with the load's name in `phase`, as tests/data/nvml/README.md describes.

    python tests/experiments/h200_more_loads.py --seconds 8 --file more.jsonl
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GIB = 1024**3
Step = Callable[[], None]
GPM = {
    1: "graphics_util", 2: "sm_util", 3: "sm_occupancy", 4: "integer_util", 5: "any_tensor_util", 10: "dram_bw_util",
    11: "fp64_util", 12: "fp32_util", 13: "fp16_util", 20: "pcie_tx_per_sec", 21: "pcie_rx_per_sec",
    60: "nvlink_total_rx_per_sec", 61: "nvlink_total_tx_per_sec",
}  # fmt: skip
SPIN = r"""
extern "C" __global__ void spin(long long cycles, long long* out) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
    out[blockIdx.x] = clock64();
}
"""


def _matmul(torch: Any, dtype: Any, size: int) -> Step:
    a, b = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=out)


def _duty(step: Step, torch: Any, on: float, off: float) -> Step:
    def part() -> None:
        end = time.time() + on
        while time.time() < end:
            step()
            torch.cuda.synchronize()
        time.sleep(off)

    return part


def loads(torch: Any, cupy: Any) -> list[tuple[str, Callable[[], Step]]]:
    """This will name the loads, each with what makes it."""

    def copy_out() -> Step:
        source = torch.empty(GIB, device="cuda", dtype=torch.uint8)
        target = torch.empty(GIB, dtype=torch.uint8, pin_memory=True)
        return lambda: target.copy_(source, non_blocking=True)

    def tiny(pause: float) -> Callable[[], Step]:
        def build() -> Step:
            values = torch.ones(1024, device="cuda")

            def step() -> None:
                values.add_(1.0)
                if pause:
                    time.sleep(pause)

            return step

        return build

    def spinning(blocks: int) -> Callable[[], Step]:
        def build() -> Step:
            kernel, out = cupy.RawKernel(SPIN, "spin"), cupy.zeros(blocks, dtype=cupy.int64)

            def step() -> None:
                kernel((blocks,), (64,), (2_000_000_000, out))
                cupy.cuda.Stream.null.synchronize()

            return step

        return build

    def streaming() -> Step:
        a, b = (torch.ones(GIB, device="cuda") for _ in range(2))
        return lambda: torch.add(a, 1.0, out=b)

    small = 1024
    return [
        ("idle", lambda: lambda: time.sleep(0.01)),
        ("fp32_matmul", lambda: _matmul(torch, torch.float32, 8192)),
        ("fp64_matmul", lambda: _matmul(torch, torch.float64, 8192)),
        ("fp16_matmul", lambda: _matmul(torch, torch.float16, 8192)),
        ("elementwise_stream", streaming),
        ("pcie_d2h", copy_out),
        ("tiny_kernels_back_to_back", tiny(0.0)),
        ("tiny_kernels_every_millisecond", tiny(0.001)),
        ("spin_on_24_sms", spinning(24)),
        ("quarter_duty_matmul", lambda: _duty(_matmul(torch, torch.bfloat16, 8192), torch, 0.1, 0.3)),
        ("slow_half_duty_matmul", lambda: _duty(_matmul(torch, torch.bfloat16, 8192), torch, 1.5, 1.5)),
        ("small_matmul", lambda: _matmul(torch, torch.bfloat16, small)),
        ("idle_again", lambda: lambda: time.sleep(0.01)),
    ]


class Recorder:
    """Looks at GPU 0 every half a second, in a thread of its own."""

    def __init__(self, nvml: Any, file: Any) -> None:
        """`file` gets the lines."""
        self.phase = "set_up"
        self._nvml, self._file, self._stop = nvml, file, threading.Event()
        nvml.nvmlInit()
        self._device = nvml.nvmlDeviceGetHandleByIndex(0)
        self._samples = [nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()]
        nvml.nvmlGpmSampleGet(self._device, self._samples[0])
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Recorder:
        time.sleep(0.5)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._file.write(json.dumps(self._look()) + "\n")
            due += 0.5
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _look(self) -> dict[str, object]:
        n, device = self._nvml, self._device
        phase, now = self.phase, time.time()
        use, memory = n.nvmlDeviceGetUtilizationRates(device), n.nvmlDeviceGetMemoryInfo(device)
        row: dict[str, object] = {
            "t": now, "phase": phase, "util_gpu": use.gpu, "util_mem": use.memory, "mem_used": memory.used,
            "mem_total": memory.total, "power_mw": n.nvmlDeviceGetPowerUsage(device),
            "energy_mj": n.nvmlDeviceGetTotalEnergyConsumption(device),
            "sm_mhz": n.nvmlDeviceGetClockInfo(device, n.NVML_CLOCK_SM),
            "reasons": n.nvmlDeviceGetCurrentClocksEventReasons(device),
        }  # fmt: skip
        old, new = self._samples
        n.nvmlGpmSampleGet(device, new)
        asked = n.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = n.NVML_GPM_METRICS_GET_VERSION, len(GPM)
        asked.sample1, asked.sample2 = old, new
        for place, number in enumerate(GPM):
            asked.metrics[place].metricId = number
        n.nvmlGpmMetricsGet(asked)
        for place, name in enumerate(GPM.values()):
            row[name] = round(asked.metrics[place].value, 3) if asked.metrics[place].nvmlReturn == 0 else None
        self._samples = [new, old]
        return row


def main() -> int:
    """This will run every load and write the recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--file", type=Path, required=True)
    arguments = parser.parse_args()
    torch, cupy, nvml = (importlib.import_module(name) for name in ("torch", "cupy", "pynvml"))
    torch.backends.cuda.matmul.allow_tf32 = False
    with arguments.file.open("w", encoding="utf-8") as file, Recorder(nvml, file) as recorder:
        for name, build in loads(torch, cupy):
            recorder.phase = "set_up"
            step = build()
            step()
            torch.cuda.synchronize()
            recorder.phase = name
            end = time.time() + arguments.seconds
            while time.time() < end:
                for _ in range(4 if "duty" not in name else 1):
                    step()
                torch.cuda.synchronize()
            sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
