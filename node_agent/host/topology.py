"""How the machine is wired: NUMA nodes, and where on PCIe its GPUs and network devices sit.

It does not change while the machine runs, so it is read once. What cannot be read is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from node_agent.host.procfs import text_of

# Far more than any host has: 16 NUMA nodes (8 sockets in two parts), 16 GPUs and as many adapters, with functions.
_MOST_NODES, _MOST_DEVICES = 64, 64
_NVIDIA = "0x10de"
_DISPLAY, _NETWORK = "0x03", "0x02"  # PCI base classes; 0x0207 is an InfiniBand adapter
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")


def read_topology(sys_root: Path) -> Mapping[str, Any]:
    """This will describe the wiring in values that JSON can hold.

    `numa_nodes`: number, cpus (a list in the kernel's short form, "0-31,64-95"), memory_total_bytes, distances.
    `gpus` and `network_devices`: pci_bus_id, numa_node, pcie_path (from the root port to the device), names of
    their interfaces. Two devices whose paths share more than the root port meet at a switch, not at the CPU.
    """
    nodes = list(_numa_nodes(sys_root / "devices" / "system" / "node"))[:_MOST_NODES]
    gpus, adapters = _pci_devices(sys_root)
    found = {"numa_nodes": nodes, "gpus": gpus[:_MOST_DEVICES], "network_devices": adapters[:_MOST_DEVICES]}
    return {name: listed for name, listed in found.items() if listed}


def _numa_nodes(root: Path) -> Iterator[Mapping[str, Any]]:
    numbers = sorted(int(name[4:]) for name in _names(root) if re.fullmatch(r"node\d+", name))
    for number in numbers:
        path = root / f"node{number}"
        described = {
            "node": number,
            "cpus": _line(path / "cpulist"),
            "memory_total_bytes": _memory_bytes(path / "meminfo"),
            "distances": _numbers(path / "distance"),
        }
        yield {name: value for name, value in described.items() if value is not None}


def _memory_bytes(path: Path) -> int | None:
    found = re.search(r"MemTotal:\s+(\d+) kB", _line(path) or "")
    return int(found[1]) * 1024 if found else None


def _numbers(path: Path) -> list[int] | None:
    parts = (_line(path) or "").split()[:_MOST_NODES]
    return [int(part) for part in parts] if parts and all(part.isdecimal() for part in parts) else None


def _pci_devices(sys_root: Path) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    gpus: list[Mapping[str, Any]] = []
    adapters: list[Mapping[str, Any]] = []
    root = sys_root / "bus" / "pci" / "devices"
    for address in _names(root):
        kind = _line(root / address / "class") or ""
        if kind.startswith(_DISPLAY) and _line(root / address / "vendor") == _NVIDIA:
            gpus.append(_device(root / address, ()))
        elif kind.startswith(_NETWORK):
            adapters.append(_device(root / address, ("net", "infiniband")))
    return gpus, adapters


def _device(path: Path, interfaces: Sequence[str]) -> Mapping[str, Any]:
    described: dict[str, Any] = {"pci_bus_id": path.name, "pcie_path": _pcie_path(path)}
    node = _line(path / "numa_node")
    if node is not None and node.isdecimal():  # -1: the firmware does not say
        described["numa_node"] = int(node)
    names = [name for folder in interfaces for name in _names(path / folder)] or _names_below_virtio(path)
    if names and interfaces:
        described["interfaces"] = names
    return described


def _names_below_virtio(path: Path) -> list[str]:
    """A virtual machine's adapter carries its interface one level down."""
    return [name for part in _names(path) if part.startswith("virtio") for name in _names(path / part / "net")]


def _pcie_path(path: Path) -> list[str]:
    """The addresses on the way from the root complex to the device, itself included."""
    return [part for part in os.path.realpath(path).split("/") if _PCI_ADDRESS.match(part)]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  (names only)
    except OSError:
        return []


def _line(path: Path) -> str | None:
    try:
        return text_of(path).strip() or None
    except OSError:
        return None
