"""What the machine is: the facts that rarely change, for the greeting and the node's page."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from node_agent.host.procfs import read_cpu_ticks, read_memory, text_of
from node_agent.untrusted import clean_mapping

# Marks that container runtimes leave, in the order of how much they say.
_CONTAINER_MARKS = (
    ("kubernetes", Path("/var/run/secrets/kubernetes.io")),
    ("podman", Path("/run/.containerenv")),
    ("docker", Path("/.dockerenv")),
)


def node_attributes(proc_root: Path = Path("/proc")) -> Mapping[str, object]:
    """This will describe the machine in values that JSON can hold; what is not known is left out.

    Keys: hostname, os, kernel, architecture, cpu_model, cpu_logical_count, cpu_physical_count,
    memory_total_bytes, boot_id, container ("kubernetes", "podman", "docker"). Inside a container
    the host name is the container's, and the operating system is read below the folder that
    `proc_root` is in (/host/etc/os-release), as the container's own says nothing about the machine.
    """
    system = os.uname()
    described: dict[str, object] = {
        "hostname": system.nodename,
        "os": _os_name(_os_release(proc_root)),
        "kernel": system.release,
        "architecture": system.machine,
        "cpu_model": _cpu_model(proc_root),
        "cpu_logical_count": _cpu_count(proc_root),
        "cpu_physical_count": physical_cpu_count(Path("/sys")),  # a container sees all of the machine's
        "memory_total_bytes": _memory_total_bytes(proc_root),
        "boot_id": _line(proc_root / "sys" / "kernel" / "random" / "boot_id"),
        "container": _container(os.environ),
    }
    return clean_mapping(described)


def _os_release(proc_root: Path) -> Path:
    return Path("/etc/os-release") if proc_root == Path("/proc") else proc_root.parent / "etc" / "os-release"


def _os_name(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return None


def _cpu_model(proc_root: Path) -> str | None:
    """x86 names the model in cpuinfo; Arm gives numbers only, of which the platform makes nothing either."""
    try:
        text = (proc_root / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or None


def _cpu_count(proc_root: Path) -> int | None:
    try:
        return len(read_cpu_ticks(proc_root).cores)
    except (OSError, ValueError):
        return None


def physical_cpu_count(sys_root: Path) -> int | None:
    """This will count cores, not hardware threads; None where the kernel does not say.

    Hardware threads of one core name the same siblings (Documentation/ABI/stable/sysfs-devices-system-cpu).
    """
    for name in ("core_cpus_list", "thread_siblings_list"):  # the second is what kernels before 5.3 call it
        try:
            cores = {text_of(path) for path in (sys_root / "devices/system/cpu").glob(f"cpu[0-9]*/topology/{name}")}
        except OSError:  # a CPU went away meanwhile
            return None
        if cores:
            return len(cores)
    return None


def _memory_total_bytes(proc_root: Path) -> int | None:
    try:
        return read_memory(proc_root).sizes.get("MemTotal")
    except (OSError, ValueError):
        return None


def _line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _container(environment: Mapping[str, str]) -> str | None:
    """A hint, not a proof: it explains readings that are a container's."""
    if "KUBERNETES_SERVICE_HOST" in environment:
        return "kubernetes"
    for name, mark in _CONTAINER_MARKS:
        if mark.exists():
            return name
    return None
