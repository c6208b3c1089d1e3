"""Which container, pod or unit a process is in, from the paths of its control groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from node_agent.untrusted import clean_text

# dcgm-exporter's rule (pidmapper.go): after "pod", hexadecimal with - or _, and as long as a UUID without dashes.
_POD = re.compile(r"(?:^|[/-])pod([0-9a-f][0-9a-f_-]{30,34}[0-9a-f])(?:\.slice)?(?=[/:]|$)")
# The scope's prefix names the runtime (cri-containerd-, crio-, docker-, libpod-); with cgroupfs there is none.
_CONTAINER = re.compile(r"(?:^|[/:-])([0-9a-f]{64})(?:\.scope)?(?=/|$)")
_SLURM = re.compile(r"/job_(\d{1,10})(?:/step_([A-Za-z0-9_]{1,32}))?")
_UNIT = re.compile(r"/([^/]{1,200}\.(?:service|scope))(?=/|$)")
_MOST_BYTES = 64 * 1024  # version 1 has a dozen lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a process runs. Everything None: straight on the host, in no group that says more."""

    container_id: str | None = None  # 64 hexadecimal digits
    pod_uid: str | None = None  # with dashes, as the API writes it; a static pod's has none
    unit: str | None = None  # systemd's service or scope
    slurm_job: str | None = None  # "1234" or "1234.0"


def parse_cgroup(text: str) -> Place:
    """This will read the content of /proc/<pid>/cgroup, version 2 or 1, of any driver and runtime.

    Inside a cgroup namespace a path may begin with /../..; only what follows counts.
    """
    paths = [line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2]
    pod = _first(_POD, paths)
    container = _first_of_innermost(paths)
    slurm = next((found for path in paths if (found := _SLURM.search(path))), None)
    job = None if slurm is None else slurm[1] + (f".{slurm[2]}" if slurm[2] else "")
    unit = None if container or pod else next((units[-1] for path in paths if (units := _UNIT.findall(path))), None)
    return Place(
        container_id=container,
        pod_uid=None if pod is None else pod.replace("_", "-"),
        unit=None if unit is None else clean_text(unit) or None,
        slurm_job=job,
    )


def read_place(proc_root: Path, pid: int) -> Place | None:
    """This will say where a process runs, None when it is not (or no longer) in this /proc."""
    try:
        with (proc_root / str(pid) / "cgroup").open(encoding="utf-8", errors="replace") as file:
            return parse_cgroup(file.read(_MOST_BYTES))
    except OSError:
        return None


def live_containers(proc_root: Path) -> frozenset[str]:
    """This will give the ids of all containers that have a process now."""
    try:
        pids = [int(entry.name) for entry in proc_root.iterdir() if entry.name.isdecimal()]
    except OSError:
        return frozenset()
    places = (read_place(proc_root, pid) for pid in pids)
    return frozenset(place.container_id for place in places if place is not None and place.container_id is not None)


def _first(pattern: re.Pattern[str], paths: Iterable[str]) -> str | None:
    return next((found[1] for path in paths if (found := pattern.search(path))), None)


def _first_of_innermost(paths: Iterable[str]) -> str | None:
    """This will give the deepest container: docker in a pod is a container in a container."""
    return next((found[-1] for path in paths if (found := _CONTAINER.findall(path))), None)
