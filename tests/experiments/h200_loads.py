"""Runs known loads on GPU 0, one after the other, so that a recording can be checked against them.

Stand-alone: needs only torch. One JSON line per phase goes to standard output when it ends:
{"phase", "start_unix_seconds", "end_unix_seconds", "repetitions"}.

    python tests/experiments/h200_loads.py --seconds 10
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

GIB = 1024**3
Step = Callable[[], None]


def idle(_: Any) -> Step:
    """This will do nothing: the context alone keeps the clocks up."""
    return lambda: time.sleep(0.01)


def bf16_matmul(torch: Any) -> Step:
    """This will keep the tensor cores busy: expect SM and tensor activity above 0.9 and a power cap."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=out)


def memory_copy(torch: Any) -> Step:
    """This will stream device memory: expect DRAM activity near 0.9 and no tensor activity."""
    source = torch.ones(8 * GIB, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def decode_like_matvec(torch: Any) -> Step:
    """This will multiply one token's vector with big matrices: expect DRAM bound, classic utilisation near 1."""
    weights = [torch.randn(16384, 16384, device="cuda", dtype=torch.bfloat16) for _ in range(8)]
    token = torch.randn(16384, 1, device="cuda", dtype=torch.bfloat16)

    def step() -> None:
        for weight in weights:
            torch.matmul(weight, token)

    return step


def host_to_device_copy(torch: Any) -> Step:
    """This will copy pinned host memory: expect PCIe receive near the link's rate, SMs idle, classic near 1."""
    source = torch.empty(GIB, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(GIB, device="cuda", dtype=torch.uint8)
    return lambda: target.copy_(source, non_blocking=True)


PHASES: list[tuple[str, Callable[[Any], Step]]] = [
    ("idle", idle),
    ("bf16_matmul", bf16_matmul),
    ("memory_copy", memory_copy),
    ("decode_like_matvec", decode_like_matvec),
    ("host_to_device_copy", host_to_device_copy),
    ("idle_again", idle),
]


def run_phase(torch: Any, name: str, build: Callable[[Any], Step], seconds: float) -> dict[str, object]:
    """This will set a load up, run it for the time given and free its memory."""
    step = build(torch)
    step()
    torch.cuda.synchronize()
    start, repetitions = time.time(), 0
    while time.time() - start < seconds:
        for _ in range(4):  # enough queued work to leave no gap between two synchronisations
            step()
        torch.cuda.synchronize()
        repetitions += 4
    end = time.time()
    del step
    torch.cuda.empty_cache()
    return {"phase": name, "start_unix_seconds": start, "end_unix_seconds": end, "repetitions": repetitions}


def main() -> None:
    """This will run every phase once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each phase")
    seconds = parser.parse_args().seconds
    torch = importlib.import_module("torch")
    torch.cuda.init()
    for name, build in PHASES:
        sys.stdout.write(json.dumps(run_phase(torch, name, build, seconds)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
