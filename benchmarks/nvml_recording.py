"""Recordings of NVML under known loads, as looks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from control_plane.analysis.utilization.looks import Looks

FOLDER = Path(__file__).parents[1] / "tests" / "data" / "nvml"
MEBIBYTE = 1024 * 1024
# Our field → the recording's, and what its unit is in ours.
NAMES: Mapping[str, tuple[str, float]] = {
    "gpu_utilization_ratio": ("util_gpu", 0.01),
    "memory_controller_utilization_ratio": ("util_mem", 0.01),
    "graphics_active_ratio": ("graphics_util", 0.01),
    "sm_active_ratio": ("sm_util", 0.01),
    "tensor_active_ratio": ("any_tensor_util", 0.01),
    "fp64_active_ratio": ("fp64_util", 0.01),
    "fp32_active_ratio": ("fp32_util", 0.01),
    "fp16_active_ratio": ("fp16_util", 0.01),
    "dram_active_ratio": ("dram_bw_util", 0.01),
    "pcie_transmit_bytes_per_second": ("pcie_tx_per_sec", MEBIBYTE),
    "pcie_receive_bytes_per_second": ("pcie_rx_per_sec", MEBIBYTE),
    "nvlink_transmit_bytes_per_second": ("nvlink_total_tx_per_sec", MEBIBYTE),
    "nvlink_receive_bytes_per_second": ("nvlink_total_rx_per_sec", MEBIBYTE),
    "memory_used_bytes": ("mem_used", 1.0),
    "power_draw_watts": ("power_mw", 0.001),
    "energy_joules_total": ("energy_mj", 0.001),
    "clock_event_reasons_bits": ("reasons", 1.0),
}

Row = Mapping[str, float]


def rows(path: Path) -> list[dict[str, float]]:
    """This will give the rows of a recording (.jsonl, .jsonl.gz), by GPU and time. ValueError when it is none."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found = [json.loads(line) for line in data.splitlines() if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if not found or not all(isinstance(row, dict) and isinstance(row.get("t"), int | float) for row in found):
        raise ValueError(f"{path}: expected one JSON object a line, each with its time t in seconds")
    return sorted(found, key=lambda row: (row.get("gpu", 0), row["t"]))


def looks_of(found: Sequence[Row], *, without: Sequence[str] = ()) -> Looks:
    """This will give rows, in the order of GPU and time, as looks; `without` names fields that are left out."""
    columns = {}
    for name, (theirs, scale) in NAMES.items():
        if name not in without:
            values = [np.nan if row.get(theirs) is None else row[theirs] * scale for row in found]
            columns[name] = np.array(values, np.float64)
    return Looks(
        gpu_ids=np.array([row.get("gpu", 0) for row in found], np.int64),
        taken_at_us=np.array([round(row["t"] * 1e6) for row in found], np.int64),
        columns=columns,
    )


def thinned(found: Sequence[Row], every: int) -> list[dict[str, float]]:
    """This will give what a slower sampler had seen of one GPU: means of what GPM averages, the last of the rest."""
    averaged = {theirs for name, (theirs, _) in NAMES.items() if name.endswith(("active_ratio", "per_second"))}
    out = []
    for begin in range(0, len(found) - every + 1, every):
        part = found[begin : begin + every]
        row = dict(part[-1])
        for name in averaged & row.keys():
            row[name] = sum(p[name] for p in part) / every
        out.append(row)
    return out
