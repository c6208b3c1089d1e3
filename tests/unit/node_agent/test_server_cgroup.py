"""The control group of a server: found in the machine's tree from wherever we look, and read without guessing."""

from __future__ import annotations

from pathlib import Path

import pytest

from node_agent.collectors.server_cgroup import ServerGroup, Status, server_cgroup
from node_agent.host.cgroup import NoLimit
from node_agent.host.cgroup_tree import CgroupTree
from node_agent.model import Reason, Value
from optiinfra.catalogue import TABLES

POD = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice"
SERVER = f"{POD}/cri-containerd-{'3f' * 32}.scope"
AGENT = f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podffff.slice/cri-containerd-{'a0' * 32}.scope"
PID = 4242


def pressure(some: int, full: int) -> str:
    shares = (("some", some), ("full", full))
    return "".join(f"{name} avg10=1.00 avg60=0.50 avg300=0.10 total={total}\n" for name, total in shares)


# In the form of Documentation/admin-guide/cgroup-v2.rst.
FILES = {
    "cpu.max": "400000 100000\n",
    "cpu.stat": "usage_usec 7000000\nuser_usec 6000000\nsystem_usec 1000000\n"
    "nr_periods 120\nnr_throttled 30\nthrottled_usec 2500000\nnr_bursts 0\nburst_usec 0\n",
    "memory.max": "68719476736\n",
    "memory.current": "42949672960\n",
    "memory.stat": "anon 10737418240\nfile 32212254720\ninactive_file 21474836480\nactive_file 10737418240\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
    "cpu.pressure": pressure(1_500_000, 500_000),
    "memory.pressure": pressure(20, 10),
    "io.pressure": pressure(4_000_000, 3_000_000),
}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with a server in a pod, an agent in another, and nothing else."""
    root = tmp_path / "sys"
    for name in (SERVER, AGENT, "system.slice/vllm.service"):
        (root / name).mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory io\n")
    for name, text in FILES.items():
        (root / SERVER / name).write_text(text)
    (tmp_path / "proc" / str(PID)).mkdir(parents=True)
    return tmp_path


def place(machine: Path, path: str) -> None:
    (machine / "proc" / str(PID) / "cgroup").write_text(f"0::{path}\n")


def tree(machine: Path, *, own: str = "") -> CgroupTree:
    return CgroupTree(machine / "proc", machine / "sys", own_root=machine / "sys" / own)


def look(machine: Path, *, own: str = "") -> tuple[str | None, dict[str, Value]]:
    found = seen(machine, own=own)
    assert found.sample.values.keys() == {spec.name for spec in TABLES["server_cgroup"].fields}
    return found.path, dict(found.sample.values)


def seen(machine: Path, *, own: str = "") -> ServerGroup:
    return server_cgroup(tree(machine, own=own), "http://127.0.0.1:8000", PID)


def test_everything_of_a_group_is_read_in_the_catalogues_units(machine: Path) -> None:
    place(machine, f"/{SERVER}")
    path, values = look(machine)
    assert path == f"/{SERVER}"
    assert values == {
        "cpu_limit_cores": 4.0,
        "cpu_seconds_total": 7.0,
        "cpu_periods_total": 120,
        "cpu_throttled_periods_total": 30,
        "cpu_throttled_seconds_total": 2.5,
        "memory_limit_bytes": 64 * 2**30,
        "memory_used_bytes": 40 * 2**30,
        "memory_working_set_bytes": 20 * 2**30,
        "oom_kills_total": 2,
        "pressure_cpu_some_seconds_total": 1.5,
        "pressure_cpu_full_seconds_total": 0.5,
        "pressure_memory_some_seconds_total": 2e-5,
        "pressure_memory_full_seconds_total": 1e-5,
        "pressure_io_some_seconds_total": 4.0,
        "pressure_io_full_seconds_total": 3.0,
    }


@pytest.mark.parametrize(
    ("own", "written"),
    [
        ("", f"/{SERVER}"),  # on the host, or in a container that keeps the host's cgroup namespace
        (AGENT, f"/../../../../{SERVER}"),
        (AGENT, f"/../../../{SERVER.partition('/')[2]}"),  # all pods are below kubepods.slice
        (POD, f"/{SERVER.rpartition('/')[2]}"),  # our namespace begins above the server
        (SERVER, "/"),
    ],
)
def test_the_group_is_found_whatever_namespace_the_path_is_written_for(machine: Path, own: str, written: str) -> None:
    place(machine, written)
    assert tree(machine, own=own).find(PID) == machine / "sys" / SERVER


def test_systemds_mount_of_version_2_beside_version_1_is_used(machine: Path) -> None:
    (machine / "sys" / "cgroup.controllers").unlink()
    group = machine / "sys" / "unified" / "vllm.slice"
    group.mkdir(parents=True)
    (machine / "proc" / str(PID) / "cgroup").write_text("4:memory:/elsewhere\n0::/vllm.slice\n")
    assert tree(machine).find(PID) == group


def test_the_smallest_limit_on_the_way_up_is_the_one_that_counts(machine: Path) -> None:
    place(machine, f"/{SERVER}")
    (machine / "sys" / POD / "cpu.max").write_text("150000 100000\n")
    (machine / "sys" / POD / "memory.max").write_text("max\n")
    (machine / "sys" / "kubepods.slice" / "memory.max").write_text("1073741824\n")
    _, values = look(machine)
    assert (values["cpu_limit_cores"], values["memory_limit_bytes"]) == (1.5, 2**30)


def test_without_any_limit_there_is_none_and_the_use_is_known(machine: Path) -> None:
    place(machine, f"/{SERVER}")
    for name, text in {"cpu.max": "max 100000\n", "memory.max": "max\n"}.items():
        (machine / "sys" / SERVER / name).write_text(text)
    _, values = look(machine)
    assert (values["cpu_limit_cores"], values["memory_limit_bytes"]) == (Reason.UNSUPPORTED, Reason.UNSUPPORTED)
    assert (values["cpu_seconds_total"], values["memory_used_bytes"]) == (7.0, 40 * 2**30)


def test_what_no_controller_counts_is_unsupported_and_the_rest_is_known(machine: Path) -> None:
    place(machine, "/system.slice/vllm.service")
    group = machine / "sys" / "system.slice" / "vllm.service"
    (group / "cpu.stat").write_text("usage_usec 10\nuser_usec 5\nsystem_usec 5\n")
    path, values = look(machine)
    assert path == "/system.slice/vllm.service"
    assert values.pop("cpu_seconds_total") == 1e-5
    assert set(values.values()) == {Reason.UNSUPPORTED}


@pytest.mark.parametrize(
    ("written", "own", "reason", "status"),
    [
        ("/", "", Reason.UNSUPPORTED, Status.ROOT_GROUP),
        ("/../../../..", AGENT, Reason.UNSUPPORTED, Status.ROOT_GROUP),
        ("/../../kubepods.slice/x", "", Reason.NO_PERMISSION, Status.NOT_MOUNTED),
        ("/gone.slice", "", Reason.NO_PERMISSION, Status.NOT_MOUNTED),
    ],
)
def test_a_group_that_cannot_be_looked_at_is_unknown_with_its_reason(
    machine: Path, written: str, own: str, reason: Reason, status: Status
) -> None:
    place(machine, written)
    path, values = look(machine, own=own)
    assert (path, seen(machine, own=own).status) == (None, status)
    assert set(values.values()) == {reason}


def test_an_own_group_outside_of_what_is_mounted_is_said_to_need_the_mount(machine: Path, tmp_path: Path) -> None:
    place(machine, "/x")
    elsewhere = tmp_path / "own"
    elsewhere.mkdir()
    with pytest.raises(PermissionError, match="our own control group"):
        CgroupTree(machine / "proc", machine / "sys", own_root=elsewhere).find(PID)


VERSION_1 = "4:memory:/x\n3:cpu,cpuacct:/x\n1:name=systemd:/x\n"


@pytest.mark.parametrize("unified", ["", "0::/\n"])
def test_on_a_host_of_version_1_one_status_says_so(machine: Path, unified: str) -> None:
    (machine / "proc" / str(PID) / "cgroup").write_text(VERSION_1 + unified)
    found = seen(machine)
    assert (found.status, found.path) == (Status.VERSION_1, None)
    assert found.status == "cgroup_v1_host"
    assert set(found.sample.values.values()) == {Reason.UNSUPPORTED}
    if not unified:
        with pytest.raises(NoLimit, match="version 2"):
            tree(machine).find(PID)


def test_what_version_2_counts_beside_version_1_is_known_and_the_status_says_why_no_limit_is(machine: Path) -> None:
    (machine / "proc" / str(PID) / "cgroup").write_text(f"{VERSION_1}0::/{SERVER}\n")
    for name in ("cpu.max", "memory.max", "memory.current", "memory.stat", "memory.events"):
        (machine / "sys" / SERVER / name).unlink()
    found = seen(machine)
    assert (found.status, found.path) == (Status.VERSION_1, f"/{SERVER}")
    assert found.sample.values["cpu_seconds_total"] == 7.0
    assert found.sample.values["cpu_limit_cores"] is Reason.UNSUPPORTED


@pytest.mark.parametrize("others", ["", "1:name=systemd:/x\n2:freezer,pids:/\n", "nonsense\n"])
def test_hierarchies_without_limits_make_no_host_of_version_1(machine: Path, others: str) -> None:
    (machine / "proc" / str(PID) / "cgroup").write_text(f"{others}0::/{SERVER}\n")
    assert seen(machine).status is Status.FOUND


def test_a_process_that_is_gone_took_its_group_along(machine: Path) -> None:
    _, values = look(machine)
    assert set(values.values()) == {Reason.SERVER_GONE}
    assert seen(machine).status is Status.SERVER_GONE


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("cpu.max", "memory.max")])
def test_nonsense_in_one_file_is_an_error_of_its_values_only(machine: Path, name: str) -> None:
    place(machine, f"/{SERVER}")
    (machine / "sys" / SERVER / name).write_text("nonsense here\n")
    _, values = look(machine)
    assert Reason.ERROR in values.values()
    assert sum(not isinstance(value, Reason) for value in values.values()) >= 11


def test_a_cache_that_is_larger_than_all_memory_for_a_moment_makes_no_negative_working_set(machine: Path) -> None:
    place(machine, f"/{SERVER}")
    (machine / "sys" / SERVER / "memory.current").write_text("1\n")
    assert look(machine)[1]["memory_working_set_bytes"] == 0
