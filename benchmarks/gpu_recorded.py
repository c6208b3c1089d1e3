"""What the agent costs a GPU that works, as it was measured on a GPU host; this machine has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Result

FOLDER = Path(__file__).parent / "recorded"
OF_THE_ENGINE = (
    ("requests", "requests/s", "requests_per_second"),
    ("TTFT p99", "s", "ttft_p99_seconds"),
    ("time per output token p99", "s", "tpot_p99_seconds"),
    ("time per output token p50", "s", "tpot_p50_seconds"),
)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return found


def _lines(name: str) -> list[str]:
    return (FOLDER / name).read_text(encoding="utf-8").strip().splitlines()


def _difference(paired: dict[str, float]) -> str:
    return f"{paired['difference_percent']:+.2f} % ± {paired['half_width_percent']:.2f} (95 %, {paired['pairs']} pairs)"


def _pair(name: str, unit: str, without: list[float], with_agent: list[float]) -> list[Figure]:
    floor = f"{name}, without"
    return [
        Figure(name=floor, unit=unit, values=without),
        Figure(name=f"{name}, with the agent", unit=unit, values=with_agent, floor=floor),
    ]


def measure(*, quick: bool) -> Result:
    """This will read the figures that a GPU host gave."""
    del quick  # nothing is run
    matmul, engine = _read("gpu_host_matmul.json"), _read("gpu_host_engine.json")
    figures = _pair("bf16 matmul", matmul["unit"], matmul["rates"]["without"], matmul["rates"]["with"])
    for name, unit, key in OF_THE_ENGINE:
        runs = engine["runs"]
        figures += _pair(name, unit, [r[key] for r in runs["without"]], [r[key] for r in runs["with"]])
    return Result(
        name="gpu_recorded",
        title="Beside a GPU that works",
        explanation=(
            "With and without the agent at 1 s, in turn (ABBA), on one NVIDIA H200 (driver 580.159.04): a loop of bf16 "
            "products of 8192 × 8192 matrices, and vLLM 0.26.0 with CUDA graphs and an 8B Llama of random weights "
            "under 12 requests/s. The figures were printed there by `python -m benchmarks.gpu_host` and `python -m "
            "benchmarks.gpu_sample` and are kept in `benchmarks/recorded`; the command below only renders them."
        ),
        figures=figures,
        notes=[
            f"Matmul, by pairs: {_difference(matmul['products_per_second'])}.",
            *(f"{name}, by pairs: {_difference(engine[key])}." for name, _, key in OF_THE_ENGINE),
            "TTFT's p99 is the third worst of 237 requests: it says only that no effect beyond its spread was seen.",
            *(line for line in _lines("gpu_sample.txt") if not line.startswith("  ")),  # without each function's own
        ],
    )
