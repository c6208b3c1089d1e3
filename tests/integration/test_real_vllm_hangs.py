"""A real vLLM that is stopped while it works, goes on, and is killed. Needs OPTIINFRA_TEST_VLLM (make test-engine)."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from node_agent.collectors.engines.progress import LEAST_PATIENCE_SECONDS
from tests.support.up import Up, descendants, eventually, folder_for_postgres, running
from tests.support.vllm import MARKS, serving

_log = logging.getLogger(__name__)
pytestmark = MARKS
INTERVAL_SECONDS = 2.0
LONG_ANSWER_TOKENS = 1500  # some seconds of work


@pytest.fixture(scope="module")
def vllm() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A vLLM of this file's own: it does not survive."""
    with serving() as served:
        yield served


class LongRequest:
    """One streaming request in a thread, whose tokens are counted as they come."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.tokens = 0
        self.is_whole = False

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        body = {
            "model": httpx2.get(f"{self._base}/v1/models").json()["data"][0]["id"],
            "prompt": list(range(300, 364)), "max_tokens": LONG_ANSWER_TOKENS, "ignore_eos": True, "stream": True,
        }  # fmt: skip
        with httpx2.stream("POST", f"{self._base}/v1/completions", json=body, timeout=300) as answer:
            for line in answer.iter_lines():
                self.tokens += line.startswith("data: {")
                self.is_whole |= line == "data: [DONE]"


def test_a_real_vllm_whose_engine_is_stopped_is_hung_and_up_when_it_goes_on_and_gone_when_it_is_killed(
    vllm: tuple[str, subprocess.Popen[bytes]],
) -> None:
    base, process = vllm
    (core,) = [pid for pid in descendants(process.pid) if _name(pid).startswith("VLLM::Engine")]
    with (
        folder_for_postgres() as folder,
        running(Up(folder, "--sampling-interval-seconds", str(INTERVAL_SECONDS))) as up,
    ):
        up.wait_for_samples()
        eventually(lambda: _server(up, base, "up"), what="the server")

        request = LongRequest(base)
        request.start()
        eventually(lambda: request.tokens > 20, what="the first tokens")
        os.kill(core, signal.SIGSTOP)
        stopped = time.monotonic()
        hung = eventually(
            lambda: _server(up, base, "hung"), within_seconds=LEAST_PATIENCE_SECONDS + 60, what="the hang"
        )
        _tell("SIGSTOP of the engine to hung", stopped)
        assert not request.is_whole
        assert httpx2.get(f"{base}/health", timeout=5).status_code == 200  # it has not noticed
        assert "1 requests run on rank 0" in hung["state_detail"]
        assert "/health does not object" in hung["state_detail"]
        assert hung["load"]["requests_running_count"] == 1  # what it says is still shown

        os.kill(core, signal.SIGCONT)
        continued = time.monotonic()
        eventually(lambda: _server(up, base, "up"), what="the next token")
        _tell("SIGCONT to up", continued)
        eventually(lambda: request.is_whole, within_seconds=120, what="the rest of the answer")

        os.killpg(process.pid, signal.SIGSTOP)  # all of it: then nobody is left who could answer
        frozen = time.monotonic()
        silent = eventually(lambda: _server(up, base, "unreachable"), what="the silence")
        _tell("SIGSTOP of every process to unreachable", frozen)
        assert silent["load"]["unknown"]["requests_running_count"] == "timed_out"
        os.killpg(process.pid, signal.SIGCONT)
        eventually(lambda: _server(up, base, "up"), what="the answer after the silence")

        os.killpg(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        gone = eventually(lambda: _server(up, base, "gone"), what="the end")
        _tell("SIGKILL to gone", killed)
        assert gone["load"]["requests_running_count"] is None
        assert gone["load"]["unknown"]["requests_running_count"] == "server_gone"


def _server(up: Up, base: str, state: str) -> Any:
    items = up.get("/inference/servers")["items"]
    return next((item for item in items if item["url"] == base and item["state"] == state and item["version"]), None)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _tell(what: str, since: float) -> None:
    """Seen with --log-cli-level=INFO; no rule is about it."""
    _log.info("%s: %.1f s", what, time.monotonic() - since)
