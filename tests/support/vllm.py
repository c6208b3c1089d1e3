"""A real vLLM for a test, started by the command in OPTIINFRA_TEST_VLLM."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from tests.support.up import eventually, free_ports

COMMAND = os.environ.get("OPTIINFRA_TEST_VLLM")
MARKS = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(COMMAND is None, reason="NEEDS A REAL vLLM: set OPTIINFRA_TEST_VLLM, or run `make test-engine`"),
]


@contextmanager
def serving(*more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """This will serve on a free port with `more` flags, and give the address and the process; nothing is left of it."""
    assert COMMAND is not None
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [*shlex.split(COMMAND.replace("{port}", str(port))), *more],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(base, process), within_seconds=240, what="vLLM")
        yield base, process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what a stopped or killed server leaves behind
        process.wait()


def _answers(base: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"vLLM ended with {process.returncode}; try the command by hand"
    try:
        return httpx2.get(f"{base}/health", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False
