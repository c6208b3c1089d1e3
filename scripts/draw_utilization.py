"""Draws docs/images/h200-utilization.svg from a running control plane's REST answers.

    make run                                              # in one terminal
    .venv/bin/optiinfra replay tests/data/recordings/h200-loads.rec --speed 0
    .venv/bin/python scripts/draw_utilization.py

What ran when comes from tests/data/recordings/h200-loads.phases.jsonl, moved to where the replay put it.
"""

from __future__ import annotations

import json
import sys
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from node_agent.uplink import recording

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "images" / "h200-utilization.svg"
RECORDING = ROOT / "tests" / "data" / "recordings" / "h200-loads.rec"
PHASES = ROOT / "tests" / "data" / "recordings" / "h200-loads.phases.jsonl"
NODE = "h200-a"
# Field, what it is called, the value at the top of its row, and whether it is the classic figure.
ROWS = (
    ("gpu_utilization_ratio", "GPU utilisation (the classic figure)", 1.0, True),
    ("sm_active_ratio", "SM active", 1.0, False),
    ("tensor_active_ratio", "tensor pipes active", 1.0, False),
    ("dram_active_ratio", "DRAM bandwidth", 1.0, False),
    ("pcie_receive_bytes_per_second", "PCIe receive, of 64 GB/s", 64e9, False),
)
WIDTH, ROW, GAP, LEFT, TOP = 860, 56, 14, 12, 40


def ask(base: str, path: str, **parameters: object) -> Any:
    """This will GET a question and give its answer."""
    query = urllib.parse.urlencode(parameters, doseq=True)
    with urllib.request.urlopen(f"{base}{path}?{query}", timeout=10) as answer:  # noqa: S310 - http, by the caller
        return json.loads(answer.read())


def shifted_phases(base: str) -> list[tuple[str, datetime, datetime]]:
    """This will give what ran when, where the replay has put it."""
    phases = [json.loads(line) for line in PHASES.read_text().splitlines()]
    newest = datetime.fromisoformat(ask(base, "/gpu/metrics", node=NODE)["items"][0]["taken_at"])
    shift = newest - datetime.fromtimestamp(recording.load(RECORDING).ticks[-1].unix_us / 1e6, UTC)
    return [
        (
            phase["phase"].replace("_", " "),
            datetime.fromtimestamp(phase["start_unix_seconds"], UTC) + shift,
            datetime.fromtimestamp(phase["end_unix_seconds"], UTC) + shift,
        )
        for phase in phases
    ]


def draw(base: str) -> str:
    """This will give the drawing."""
    phases = shifted_phases(base)
    since, until = phases[0][1], phases[-1][2] + timedelta(seconds=1)
    span = (until - since).total_seconds()

    def x(moment: datetime) -> float:
        return round(LEFT + (WIDTH - 2 * LEFT) * (moment - since).total_seconds() / span, 1)

    answer = ask(
        base, "/gpu/metrics/history", node=NODE, field=[row[0] for row in ROWS], step="1s",
        since=since.isoformat(), until=until.isoformat(),
    )  # fmt: skip
    points = {item["field"]: item["points"] for item in answer["items"]}
    height = TOP + len(ROWS) * (ROW + GAP + 14) + 8
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, (name, start, end) in enumerate(phases):
        fill = "#f1f5f9" if number % 2 else "#ffffff"
        out.append(f'<rect x="{x(start)}" y="0" width="{x(end) - x(start):.1f}" height="{height}" fill="{fill}"/>')
        out.append(f'<text x="{(x(start) + x(end)) / 2:.1f}" y="18" text-anchor="middle" fill="#334155">{name}</text>')
    for number, (field, label, top, classic) in enumerate(ROWS):
        base_y = TOP + (number + 1) * (ROW + GAP + 14) - GAP
        colour = "#b91c1c" if classic else "#0f766e"
        known = [(datetime.fromisoformat(p["at"]), p["mean"]) for p in points[field] if p["mean"] is not None]
        path = " ".join(f"{x(at)},{base_y - ROW * min(1.0, value / top):.1f}" for at, value in known)
        out.append(
            f'<polygon fill="{colour}" fill-opacity="0.18" '
            f'points="{x(known[0][0])},{base_y} {path} {x(known[-1][0])},{base_y}"/>'
        )
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
        out.append(
            f'<line x1="{LEFT}" x2="{WIDTH - LEFT}" y1="{base_y}" y2="{base_y}" stroke="#94a3b8" stroke-width="0.5"/>'
        )
        out.append(f'<text x="{LEFT}" y="{base_y - ROW - 4}" fill="{colour}" font-weight="bold">{label}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(draw(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8003"))
    sys.stdout.write(f"{TARGET} written\n")
