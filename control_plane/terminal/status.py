"""`optiinfra status` and `optiinfra top`: the fleet, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.terminal.rest import Rest
from control_plane.terminal.tables import gibibytes, percent, plain, table

# What a script can tell apart: 0 well, 3 degraded, 4 unhealthy; 1 is no answer, 2 wrong usage.
EXIT_CODES = {"healthy": 0, "degraded": 3, "unhealthy": 4}
GPU_FIELDS = (
    "gpu_utilization_ratio", "sm_active_ratio", "memory_used_bytes", "memory_total_bytes", "power_draw_watts",
    "temperature_gpu_celsius",
)  # fmt: skip
CLEAR = "\x1b[H\x1b[2J"
MOST_ROWS = 1000


def load(rest: Rest) -> Mapping[str, Any]:
    """This will ask what `status` shows. Raises NoAnswer."""
    return {
        "health": rest.ask("/health/detailed"),
        "nodes": rest.ask("/nodes", limit=MOST_ROWS)["items"],
        "gpus": rest.ask("/gpu/metrics", limit=MOST_ROWS, field=GPU_FIELDS)["items"],
        "servers": rest.ask("/inference/servers", limit=MOST_ROWS)["items"],
    }


def exit_code(found: Mapping[str, Any]) -> int:
    """This will give the code that a script can tell health from."""
    return EXIT_CODES.get(found["health"]["status"], 4)


def as_text(found: Mapping[str, Any], url: str) -> str:
    """This will show how the control plane and its fleet are."""
    health = found["health"]
    lines = [f"OptiInfra {health['version']} at {url}: {health['status']}"]
    for name, part in health["parts"].items():
        if part["state"] not in ("ok", "not_configured"):
            lines.append(f"  {name}: {part['state']}: {plain(part.get('error') or part.get('counts') or '')}")
    lines += ["", _nodes(found["nodes"])]
    if found["gpus"]:
        lines += ["", gpu_table(found["gpus"])]
    if found["servers"]:
        lines += ["", _servers(found["servers"])]
    return "\n".join(lines)


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> str:
    if not nodes:
        return "no node yet; start an agent on a GPU host: optiinfra agent --server HOST:8004"
    rows = []
    for node in nodes:
        bad = [c for c in node["collectors"] if c["outcome"] not in ("ok", "absent", "not_collected")]
        trouble = "; ".join(f"{c['collector']}: {c['outcome']} {c['detail']}".strip() for c in bad)
        rows.append(
            [node["name"], node["state"], node["age_seconds"], node["lag_seconds"], node["agent_version"], trouble]
        )
    return table(["NODE", "STATE", "AGE s", "LAG s", "AGENT", ""], rows)


def gpu_table(gpus: Sequence[Mapping[str, Any]]) -> str:
    """This will show what each GPU does."""
    rows = [
        [
            gpu["node"], gpu["index"], gpu["name"], percent(gpu["gpu_utilization_ratio"]),
            percent(gpu["sm_active_ratio"]), gibibytes(gpu["memory_used_bytes"]), gibibytes(gpu["memory_total_bytes"]),
            gpu["power_draw_watts"], gpu["temperature_gpu_celsius"], gpu["age_seconds"],
        ]
        for gpu in gpus
    ]  # fmt: skip
    return table(["NODE", "GPU", "NAME", "BUSY", "SM", "USED GiB", "OF", "W", "°C", "AGE s"], rows)


def _servers(servers: Sequence[Mapping[str, Any]]) -> str:
    rows = [[s["node"], s["url"], s["engine"], s["model"], s["state"]] for s in servers]
    return table(["NODE", "SERVER", "ENGINE", "MODEL", "STATE"], rows)
