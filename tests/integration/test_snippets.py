"""What stands in the documents works as it stands: each command and program is run against a whole control plane."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.support import snippets
from tests.support.snippets import REPOSITORY, Snippet
from tests.support.up import Up, clean_environment, folder_for_postgres, running

pytestmark = pytest.mark.slow
DATA = REPOSITORY / "tests" / "data"
GPU = "GPU-d79aa688-b247-151f-5428-f3e2e990b544"  # of the recording that the README plays
# What a reader puts his own in place of.
IN_PLACE = (
    (r"\bDIR\b", str(DATA / "engine-recordings" / "vllm-h200-max-num-seqs-8")),
    (r"GPU-…", GPU),
    (r"nodes/gpu-7/", "nodes/h200-a/"),
    (r"incident\.rec\b", "incident.rec"),
    (r"--seconds 300", "--seconds 1"),
    (r"\bNAME\b", "h200-a"),
    (r"(?<= )tests/data/", f"{DATA}/"),
    (r"^\.venv/bin/", ""),
    (r"https://hooks\.example/…", "http://127.0.0.1:9/hook"),
    (r"whsec_…", "whsec_0123456789abcdef0123456789abcdef"),
)
# What is not run here, and where it is instead. A command that matches none of these is run and has to succeed.
NOT_RUN = (
    (r"^optiinfra (up|agent)\b", "tests/integration/test_up.py, test_rest_door.py: runs until it is stopped"),
    (r"^optiinfra [a-z]+$|VERB", "the name of a verb in a sentence"),
    (r"^optiinfra keys (create|list|revoke( ID)?)$", "the name of a verb in a sentence"),
    (r"^optiinfra record incident\.rec$", "runs until it is stopped; with --seconds it is run"),
    (r"^optiinfra replay incident\.rec( --speed 10| --keep-times)?$", "takes as long as the recording, or is too old"),
    (r"^optiinfra join-token$", "tests/integration/test_trust.py: needs a door that asks for certificates"),
    (r"^optiinfra explain", "tests/unit/control_plane/terminal/test_advice.py: needs a recommendation"),
    (r"^optiinfra load", "tests/integration/trials: needs an inference server"),
    (r"^curl -N", "tests/integration/api/test_api_alerts.py: a stream without end"),
    (r"CONTROL_PLANE", "tests/integration/test_rest_door.py: needs a certificate"),
    (r"^curl -X DELETE", "tests/integration/api: what is run after it needs the node"),
    (r"^optiinfra storage move", "tests/integration/test_storage_operations.py: needs a second Postgres"),
    (r"/rollout/", "tests/integration/api/test_api_rollouts.py: needs a target that the operator has named"),
    (r"/nodes/h200-a/config|/nodes/gpu-7/config", "tests/integration/test_configuration.py: needs an agent that stays"),
    (r"^optiinfra predict .*(\.gz|--measured)", "tests/unit/control_plane: needs the reader's own measurements"),
)
# People have these in scripts since before this repository.
PUBLISHED = (
    "curl localhost:8003/gpu/metrics", "curl localhost:8003/health/detailed", "curl localhost:8002/metrics/latency",
    "curl localhost:8003/analysis/waste", "curl localhost:8003/slo/status",
    "curl -X POST localhost:8003/analysis/utilization",
)  # fmt: skip


@pytest.fixture(scope="module")
def fleet() -> Iterator[Up]:
    """A control plane on which the README's recordings were played."""
    with folder_for_postgres() as folder, running(Up(folder, "--sampling-interval-seconds=0.5")) as up:
        for name in ("h200-loads.rec", "h200-vllm.rec"):
            played = _run(up, f"optiinfra replay {DATA / 'recordings' / name} --speed 0")
            assert played.returncode == 0, played.stderr
        (up.folder / "rows.csv").write_text(
            "model,system,gpu_count,isl,osl,concurrency\nmeta-llama/Llama-3.1-8B-Instruct,h200_sxm,1,1000,1000,16\n"
        )
        yield up


def _run(up: Up, command: str) -> subprocess.CompletedProcess[str]:
    tools = up.folder / "bin"
    if not tools.exists():
        tools.mkdir()
        program = tools / "optiinfra"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m control_plane "$@"\n')
        curl = tools / "curl"
        curl.write_text('#!/bin/sh\nexec /usr/bin/curl --fail-with-body --silent --show-error --max-time 30 "$@"\n')
        for file in (program, curl):
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
    local = command.replace("127.0.0.1:8003", f"localhost:{up.port}").replace("localhost:8003", f"localhost:{up.port}")
    environment = clean_environment(
        PATH=f"{tools}{os.pathsep}{os.environ['PATH']}", OPTIINFRA_DATA_DIR=str(up.data_dir),
        OPTIINFRA_PORT=str(up.port), OPTIINFRA_SERVER=f"127.0.0.1:{up.grpc_port}",
    )  # fmt: skip
    return subprocess.run(
        ["bash", "-c", local.replace("localhost:8002", f"localhost:{up.port}")],
        cwd=up.folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def _reason_not_to_run(command: str) -> str | None:
    return next((reason for pattern, reason in NOT_RUN if re.search(pattern, command)), None)


def test_every_command_in_the_documents_does_what_it_says(fleet: Up) -> None:
    failed = []
    run = 0
    for snippet in [*snippets.commands(), *(Snippet("published", text) for text in PUBLISHED)]:
        command = re.split(r"\s{3,}(?=[#\w])", snippet.text)[0] if "\n" not in snippet.text else snippet.text
        for pattern, own in IN_PLACE:
            command = re.sub(pattern, own, command)
        if _reason_not_to_run(command) is not None:
            continue
        run += 1
        done = _run(fleet, command)
        if done.returncode != 0:
            failed.append(
                f"{snippet.document}: {command}\n    exit code {done.returncode}: {done.stderr}{done.stdout[:500]}"
            )
    assert not failed, "\n".join(failed)
    assert run > 25, "the documents are not read as they are written any more"


@pytest.mark.parametrize("snippet", snippets.programs(), ids=lambda snippet: snippet.document)
def test_every_program_in_the_documents_runs(fleet: Up, snippet: Snippet) -> None:
    text = snippet.text.replace("localhost:8003", f"localhost:{fleet.port}")
    if find_spec("pandas") is None:
        text = re.sub(r".*\.frame\(\).*", "", text)
    done = subprocess.run(
        [sys.executable, "-c", text], env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
