"""Container, pod and unit from /proc/<pid>/cgroup, in the shapes that drivers, runtimes and namespaces give it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.host.container import Place, live_containers, parse_cgroup, read_place
from node_agent.host.container_names import ContainerName, container_names, parse_link

ID = "3f" * 32
UID = "0a1b2c3d-1111-2222-3333-444455556666"
SYSTEMD_UID = UID.replace("-", "_")
KUBEPODS = "/kubepods.slice/kubepods-burstable.slice"
IN_POD = Place(container_id=ID, pod_uid=UID)

SHAPES = {
    "systemd, containerd": (
        f"0::{KUBEPODS}/kubepods-burstable-pod{SYSTEMD_UID}.slice/cri-containerd-{ID}.scope", IN_POD,
    ),
    "systemd, cri-o": (f"0::{KUBEPODS}/kubepods-burstable-pod{SYSTEMD_UID}.slice/crio-{ID}.scope", IN_POD),
    "systemd, cri-o's inner group": (
        f"0::{KUBEPODS}/kubepods-burstable-pod{SYSTEMD_UID}.slice/crio-{ID}.scope/container", IN_POD,
    ),
    "systemd, docker": (f"0::{KUBEPODS}/kubepods-burstable-pod{SYSTEMD_UID}.slice/docker-{ID}.scope", IN_POD),
    "systemd, guaranteed": (f"0::/kubepods.slice/kubepods-pod{SYSTEMD_UID}.slice/cri-containerd-{ID}.scope", IN_POD),
    "cgroupfs": (f"0::/kubepods/burstable/pod{UID}/{ID}", IN_POD),
    "cgroupfs, version 1": (
        f"12:memory:/kubepods/besteffort/pod{UID}/{ID}\n1:name=systemd:/kubepods/pod{UID}/{ID}", IN_POD,
    ),
    "containerd's version 1 with systemd": (
        f"11:cpu:/system.slice/containerd.service/kubepods-burstable-pod{SYSTEMD_UID}.slice:cri-containerd:{ID}",
        IN_POD,
    ),
    "a cgroup namespace": (
        f"0::/../../kubepods-burstable-pod{SYSTEMD_UID}.slice/cri-containerd-{ID}.scope", IN_POD,
    ),
    "a static pod, whose uid is a hash": (
        f"0::/kubepods/pod{'ab' * 16}/{ID}", Place(container_id=ID, pod_uid="ab" * 16),
    ),
    "plain docker": (f"0::/system.slice/docker-{ID}.scope", Place(container_id=ID)),
    "docker with cgroupfs": (f"0::/docker/{ID}", Place(container_id=ID)),
    "podman": (f"0::/machine.slice/libpod-{ID}.scope/container", Place(container_id=ID)),
    "rootless podman": (
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", Place(container_id=ID),
    ),
    "a service": ("0::/system.slice/vllm.service", Place(unit="vllm.service")),
    "a login": ("0::/user.slice/user-0.slice/session-3.scope", Place(unit="session-3.scope")),
    "a slurm step, version 2": (
        "0::/system.slice/slurmstepd.scope/job_1234/step_0/user/task_0",
        Place(unit="slurmstepd.scope", slurm_job="1234.0"),
    ),
    "a slurm job, version 1": ("4:devices:/slurm/uid_1000/job_77/step_batch", Place(slurm_job="77.batch")),
    "the root": ("0::/", Place()),
    "nothing": ("", Place()),
}  # fmt: skip


@pytest.mark.parametrize(("text", "place"), SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_of_a_path_gives_its_place(text: str, place: Place) -> None:
    assert parse_cgroup(text + "\n") == place


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser_and_no_pod_is_made_up(text: str) -> None:
    place = parse_cgroup(text)
    assert place.pod_uid is None or place.pod_uid.replace("-", "_") in text.replace("-", "_")
    assert place.container_id is None or place.container_id in text


def test_this_process_has_a_place_and_one_that_does_not_exist_has_none() -> None:
    assert read_place(Path("/proc"), 2**30) is None
    assert read_place(Path("/proc"), 1) is not None


def test_containers_that_have_a_process_are_live(tmp_path: Path) -> None:
    for pid, text in (("7", SHAPES["cgroupfs"][0]), ("8", "0::/"), ("self", "0::/")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(text)
    assert live_containers(tmp_path) == {ID}


def test_a_log_link_names_pod_namespace_and_container() -> None:
    named = ContainerName(pod="llm-0.a", namespace="team-a", container="vllm-server")
    assert parse_link(f"llm-0.a_team-a_vllm-server-{ID}.log") == (ID, named)


@pytest.mark.parametrize(
    "name", ["", "x.log", f"a_b_c-{ID}", f"a_b-{ID}.log", f"a_b_c-{ID[:-1]}.log", f"A_b_c-{ID}.log"]
)
def test_what_is_no_log_link_names_nobody(name: str) -> None:
    assert parse_link(name) is None


def test_without_the_folder_there_are_no_names(tmp_path: Path) -> None:
    assert container_names(tmp_path / "none") == ({}, 0)
