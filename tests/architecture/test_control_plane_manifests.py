"""The control plane's manifests and the units for bare hosts: hardened, whole, with settings that the programs know."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane import settings
from node_agent import settings as agent_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "control-plane"
UNITS = DEPLOY / "systemd"
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def documents() -> list[dict[str, Any]]:
    found = [d for path in sorted(FOLDER.glob("*.yaml")) for d in yaml.safe_load_all(path.read_text()) if d is not None]
    return [document for document in found if document["kind"] != "Kustomization"]


def only(kind: str) -> dict[str, Any]:
    (found,) = (document for document in documents() if document["kind"] == kind)
    return found


def pods() -> list[dict[str, Any]]:
    return [only(kind)["spec"]["template"]["spec"] for kind in ("Deployment", "Job")]


def beyond_restricted(pod: dict[str, Any]) -> Iterator[str]:
    """What the Pod Security Standard "restricted" does not allow, as it is written for Kubernetes 1.32 and newer."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", []):
        if not (volume.keys() - {"name"}) <= VOLUMES:
            yield f"volume {volume['name']}"
    whole = pod.get("securityContext", {})
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        own = whole | container.get("securityContext", {})
        checks = {
            "privileged": not own.get("privileged", False),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "runAsNonRoot": own.get("runAsNonRoot") is True,
            "runAsUser": own.get("runAsUser", 1) != 0,
            "seccompProfile": own.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "drop": own.get("capabilities", {}).get("drop") == ["ALL"],
            "add": set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
            "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
        }
        yield from (f"{container['name']}: {name}" for name, is_good in checks.items() if not is_good)


def test_pods_keep_to_the_restricted_standard_that_their_namespace_enforces() -> None:
    assert only("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert [list(beyond_restricted(pod)) for pod in pods()] == [[], []]


def test_the_check_finds_what_is_beyond_it() -> None:
    pod = {"hostPID": True, "volumes": [{"name": "x", "hostPath": {}}], "containers": [{"name": "c"}]}
    assert len(list(beyond_restricted(pod))) == 6


def test_every_file_is_applied_and_everything_lies_in_one_namespace() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert {FOLDER / name for name in kustomization["resources"]} == set(FOLDER.glob("*.yaml")) - {
        FOLDER / "kustomization.yaml"
    }
    for document in documents():
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == kustomization["namespace"]
    assert not any("Role" in document["kind"] for document in documents())


def test_the_control_plane_accepts_the_environment_that_it_is_given(tmp_path: Path) -> None:
    lines = (FOLDER / "control-plane.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    for variable in only("Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]:
        given[variable["name"]] = "postgresql://somebody@db/optiinfra" if "DATABASE" in variable["name"] else "x" * 64
    accepted = settings.load({}, given, tmp_path / ".env")
    mounts = {m["mountPath"] for m in only("Deployment")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert {str(accepted.data_dir), str(accepted.data_dir / "authority")} <= mounts
    assert accepted.tls_cert_file is not None
    assert str(accepted.tls_cert_file.parent) in mounts
    ports = {
        p["name"]: p["containerPort"] for p in only("Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert ports == {"rest": accepted.port, "agents": accepted.grpc_port, "enrolment": accepted.enrolment_port}


def test_what_is_mounted_and_referred_to_is_there() -> None:
    readme = (FOLDER / "README.md").read_text()
    for pod in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"].keys() == {"requests", "limits"}
            secrets = [e["valueFrom"]["secretKeyRef"]["name"] for e in container["env"]]
            secrets += [volume["secret"]["secretName"] for volume in volumes.values() if "secret" in volume]
            for secret in secrets:
                assert f"`{secret}`" in readme, f"nobody is told to make {secret}"
    labels = only("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for kind, at in (("Service", ("selector",)), ("PodDisruptionBudget", ("selector", "matchLabels"))):
        selector = only(kind)["spec"]
        for step in at:
            selector = selector[step]
        assert selector.items() <= labels
    probes = only("Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert probes["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert probes["readinessProbe"]["httpGet"]["path"] == "/health/ready"


@pytest.mark.parametrize("folder", ["control-plane", "daemonset"])
def test_kustomize_builds_it(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here to build it with")
    built = subprocess.run([kubectl, "kustomize", DEPLOY / folder], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    names = re.findall(r"configMapRef:\s+name: (\S+)", built.stdout)
    assert names
    for name in names:
        assert f"  name: {name}\n" in built.stdout


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda unit: unit.name)
def test_units_are_understood_and_start_what_there_is(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    (program,) = re.findall(r"^ExecStart=/opt/optiinfra/bin/(.+)$", text, re.MULTILINE)
    assert program in ("optiinfra-agent run", "optiinfra up")
    given = dict(re.findall(r"^Environment=(\w+)=(.+)$", text, re.MULTILINE))
    if program.startswith("optiinfra-agent"):
        agent_settings.load(argparse.Namespace(), given, dotenv=tmp_path / ".env")
    else:
        settings.load({}, given, tmp_path / ".env")
    assert "NoNewPrivileges=true" in text
    assert "ProtectSystem=strict" in text
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd here to verify it with")
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/opt/optiinfra/bin/", "/bin/true /"))
    verified = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)
    ours = [line for line in verified.stderr.splitlines() if unit.name in line and "nknown" in line]
    assert ours == []
