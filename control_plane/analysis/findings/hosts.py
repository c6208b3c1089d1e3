"""What the hosts' CPUs, memory, disks and networks did in a window, with pressure beside percentages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from control_plane.analysis.findings import verdicts
from control_plane.analysis.findings.verdicts import Judgement
from control_plane.model.finding import Draft

KIND = "host_use"
# Fields of `host`: means and, of counters, growth per second.
MEANS = ("cpu_busy_ratio", "memory_available_bytes", "memory_total_bytes")
RATES = (
    "pressure_cpu_some_seconds_total", "pressure_memory_some_seconds_total", "pressure_io_some_seconds_total",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One node: its own figures, and the shares of its disks and links by name. What is missing is unknown."""

    node_id: int
    node: str
    figures: Mapping[str, float]
    disk_busy: Mapping[str, float] = field(default_factory=dict)  # 0..1
    link_use: Mapping[str, float] = field(default_factory=dict)  # 0..1 of the link's speed, the busier direction


def drafts(hosts: Sequence[Host], *, since: datetime, until: datetime) -> list[Draft]:
    """This will judge each host's resources."""
    out = []
    for host in hosts:
        body = {"node": host.node, "resources": _resources(host), "evidence": {
            "series": [*MEANS, *RATES, "busy_seconds_total", "received_bytes_total", "transmitted_bytes_total",
                       "link_speed_bytes_per_second"],
            "since": since, "until": until, "numbers": {n: float(f"{v:.6g}") for n, v in host.figures.items()},
        }}  # fmt: skip
        out.append(Draft(kind=KIND, subject_kind="node", subject=str(host.node_id), body=body, node_id=host.node_id))
    return out


def _resources(host: Host) -> list[dict[str, Any]]:
    get = host.figures.get
    busy, total, available = get("cpu_busy_ratio"), get("memory_total_bytes"), get("memory_available_bytes")
    cpu, memory, io = (get(name) for name in RATES)
    left = available / total if available is not None and total else None
    disk, link = max(host.disk_busy.values(), default=None), max(host.link_use.values(), default=None)
    return [
        _resource("cpu", busy, cpu, verdicts.of_cpu(busy, cpu), None),
        _resource("memory", None if left is None else 1 - left, memory, verdicts.of_memory(left, memory), None),
        _resource("disk", disk, io, verdicts.of_disk(disk, io), _first(host.disk_busy)),
        _resource("network", link, None, verdicts.of_network(link), _first(host.link_use)),
    ]


def _first(shares: Mapping[str, float]) -> str | None:
    return max(shares, key=lambda name: shares[name]) if shares else None


def _resource(
    name: str, used: float | None, pressure: float | None, judged: Judgement, busiest: str | None
) -> dict[str, Any]:
    figures = {
        "used_ratio": None if used is None else round(used, 4),
        "pressure_ratio": None if pressure is None else round(pressure, 4),
        "busiest": busiest,
    }
    why = {
        "used_ratio": "never_known_in_window",
        "pressure_ratio": "the kernel has none for it" if name == "network" else "not_exposed_by_the_kernel",
        "busiest": "there is one of it" if name in ("cpu", "memory") else "none_is_known",
    }
    return {
        "resource": name,
        "verdict": judged.verdict,
        "because": list(judged.because),
        **figures,
        "unknown": {n: why[n] for n, value in figures.items() if value is None},
    }
