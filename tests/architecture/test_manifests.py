"""What is deployed asks for no more than it explains, and for nothing that the agent does not know."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from node_agent import settings

DEPLOY = Path(__file__).parents[2] / "deploy"
DAEMONSET = DEPLOY / "daemonset"
MANIFESTS = sorted(DAEMONSET.glob("*.yaml"))
CONTAINERFILES = sorted(DEPLOY.glob("*.Containerfile"))
# The runtime's own, not the agent's.
RUNTIME_NAMES = {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}
# Lines that give access to the host: each has to say what for, on it or above it.
ACCESS = re.compile(
    r"hostPID:|hostNetwork:|runAsUser: 0|- SYS_|- DAC_|- NET_|runtimeClassName:|mountPath:|priorityClassName:"
)


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def all_documents() -> list[dict[str, Any]]:
    return [document for path in MANIFESTS for document in documents(path)]


def pod() -> dict[str, Any]:
    (found,) = (document for document in all_documents() if document["kind"] == "DaemonSet")
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def containers() -> list[dict[str, Any]]:
    return [*pod()["containers"], *pod().get("initContainers", [])]


def agent_environment() -> dict[str, str]:
    lines = [line for line in (DAEMONSET / "agent.env").read_text().splitlines() if line and not line.startswith("#")]
    environment = dict(line.split("=", 1) for line in lines)
    for variable in containers()[0]["env"]:
        environment[variable["name"]] = variable.get("value", "a-node")
    return environment


def test_every_manifest_is_named_by_the_kustomization_and_exists() -> None:
    (kustomization,) = documents(DAEMONSET / "kustomization.yaml")
    named = {DAEMONSET / name for name in kustomization["resources"]}
    assert named == set(MANIFESTS) - {DAEMONSET / "kustomization.yaml"}
    for generator in kustomization["configMapGenerator"]:
        assert all((DAEMONSET / name).is_file() for name in generator["envs"])
    for document in all_documents():
        assert {"apiVersion", "kind"} <= document.keys()
        if document["kind"] not in ("Kustomization", "Namespace"):
            assert document["metadata"]["namespace"] == kustomization["namespace"]


def test_the_settings_that_the_manifests_name_are_in_the_configmap_that_is_made() -> None:
    (kustomization,) = documents(DAEMONSET / "kustomization.yaml")
    made = {generator["name"] for generator in kustomization["configMapGenerator"]}
    assert {source["configMapRef"]["name"] for source in containers()[0]["envFrom"]} == made


def test_the_agent_accepts_the_environment_that_it_is_given() -> None:
    environment = {name: value for name, value in agent_environment().items() if name not in RUNTIME_NAMES}
    accepted = settings.load(argparse.Namespace(), environment, dotenv=Path("/nonexistent"))
    assert accepted.node_name == "a-node"
    mounted = {mount["mountPath"] for mount in containers()[0]["volumeMounts"] if not mount.get("readOnly")}
    assert {str(accepted.state_dir)} == mounted, "the agent's folder is the only one that it may write to"
    assert str(accepted.host_proc) in {mount["mountPath"] for mount in containers()[0]["volumeMounts"]}


def test_a_service_in_the_namespace_cannot_put_names_into_the_environment() -> None:
    assert pod()["enableServiceLinks"] is False


@pytest.mark.parametrize("container", containers(), ids=lambda container: str(container["name"]))
def test_every_container_is_bounded_and_hardened(container: dict[str, Any]) -> None:
    for kind in ("requests", "limits"):
        assert container["resources"][kind].keys() == {"cpu", "memory"}
    security = container["securityContext"]
    assert security["privileged"] is False
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"]["drop"] == ["ALL"]
    assert security["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["livenessProbe"]["exec"]["command"] == ["optiinfra-agent", "healthy"]


@pytest.mark.parametrize("container", containers(), ids=lambda container: str(container["name"]))
def test_looking_at_gpus_never_reserves_one(container: dict[str, Any]) -> None:
    for kind in ("requests", "limits"):
        assert not [name for name in container["resources"][kind] if "gpu" in name]


def assert_pinned(image: str) -> None:
    name, _, tag = image.partition("@")[0].rpartition(":")
    assert name, f"{image} has no tag"
    assert tag not in ("", "latest"), image
    assert "." not in image.split("/")[0] or "/" not in image, f"{image} names a registry's host"


def test_images_are_pinned_and_name_no_registry() -> None:
    for container in containers():
        assert_pinned(container["image"])
    for path in CONTAINERFILES:
        for image in re.findall(r"^FROM (\S+)", path.read_text(), re.MULTILINE):
            assert_pinned(image)


def test_the_agent_has_no_token_and_no_role() -> None:
    assert pod()["automountServiceAccountToken"] is False
    for document in all_documents():
        assert "Role" not in document["kind"]
        if document["kind"] == "ServiceAccount":
            assert document["automountServiceAccountToken"] is False


def test_what_is_mounted_of_the_host_is_read_only_but_for_the_state() -> None:
    for mount in containers()[0]["volumeMounts"]:
        assert mount.get("readOnly") is True or mount["name"] == "state"


def test_every_access_to_the_host_says_what_it_is_for() -> None:
    lines = (DAEMONSET / "daemonset.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if ACCESS.search(line) and not line.strip().startswith("#"):
            above = " ".join(lines[max(0, number - 3) : number])
            assert "#" in line or "#" in above, f"line {number + 1} gives no reason: {line.strip()}"


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)
def test_images_hold_locked_packages_only_and_run_as_an_ordinary_user(path: Path) -> None:
    text = path.read_text()
    (locked,) = re.findall(r"--require-hashes -r (\S+)", text)
    assert (DEPLOY.parent / locked).is_file()
    assert "index-url" not in text
    assert int(re.findall(r"^USER (\d+)", text, re.MULTILINE)[-1]) > 0
    assert text.count("\nFROM ") + text.startswith("FROM ") == 2
