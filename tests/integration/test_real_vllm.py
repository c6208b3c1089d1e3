"""A real vLLM under a little load, watched by a whole `optiinfra up`. Needs OPTIINFRA_TEST_VLLM (make test-engine)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.up import Up, eventually, folder_for_postgres, running
from tests.support.vllm import MARKS, serving

pytestmark = MARKS
REQUESTS, CONCURRENCY, OUTPUT_TOKENS = 60, 4, 24
INTERVAL_SECONDS = 2.0


@pytest.fixture(scope="module")
def vllm() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A vLLM that serves on a free port: its address, and its process."""
    with serving() as served:
        yield served


async def _one(client: httpx2.AsyncClient, model: str, number: int) -> tuple[float, float]:
    """This will send one streaming request and give the seconds to its first token and to its end."""
    body = {
        "model": model, "prompt": [300 + (number * 37 + i) % 3000 for i in range(64)],
        "max_tokens": OUTPUT_TOKENS, "ignore_eos": True, "stream": True,
    }  # fmt: skip
    started, first = time.perf_counter(), None
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and first is None:
                first = time.perf_counter()
    assert first is not None
    return first - started, time.perf_counter() - started


async def _load(base: str) -> list[tuple[float, float]]:
    """This will run a closed loop of a few clients and give what each request took."""
    async with httpx2.AsyncClient(base_url=base, timeout=60) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]
        waiting = iter(range(REQUESTS))
        measured: list[tuple[float, float]] = []

        async def worker() -> None:
            for number in waiting:
                measured.append(await _one(client, model, number))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENCY):
                tasks.create_task(worker())
    return measured


def _within(found: dict[str, Any], value: float) -> bool:
    """A client's clock starts before the server's: milliseconds of slack below, and above for the way back."""
    return bool(found["low"] - 0.001 <= value <= found["high"] * 1.25 + 0.005)


def test_a_real_vllm_is_found_measured_and_seen_to_go(vllm: tuple[str, subprocess.Popen[bytes]]) -> None:
    base, process = vllm
    with (
        folder_for_postgres() as folder,
        running(Up(folder, "--sampling-interval-seconds", str(INTERVAL_SECONDS))) as up,
    ):
        up.wait_for_samples()
        found = eventually(lambda: _server(up, base, "up"), what="the server")
        assert found["engine"] == "vllm"
        assert found["version"] == httpx2.get(f"{base}/version").json()["version"]
        assert found["model"] == httpx2.get(f"{base}/v1/models").json()["data"][0]["id"]
        assert found["config"]["num_gpu_blocks"] > 0

        measured = asyncio.run(_load(base))
        latency = eventually(lambda: _all_counted(up, found["server_id"]), what="the last request")
        for field, column in (("ttft_seconds", 0), ("end_to_end_seconds", 1)):
            exact = sorted(times[column] for times in measured)[len(measured) // 2]
            assert _within(latency[field]["p50"], exact), (field, exact, latency[field])
        assert latency["inter_token_latency_seconds"]["count"] >= REQUESTS * (OUTPUT_TOKENS - 1) * 0.9

        stopped = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        gone = eventually(lambda: _server(up, base, "gone"), what="the end")
        assert time.monotonic() - stopped < 2 * INTERVAL_SECONDS + 15  # vLLM's own shutdown takes a while
        assert gone["load"]["requests_running_count"] is None
        assert gone["load"]["unknown"]["requests_running_count"] == "server_gone"


def _server(up: Up, base: str, state: str) -> Any:
    items = up.get("/inference/servers")["items"]
    return next((item for item in items if item["url"] == base and item["state"] == state and item["version"]), None)


def _all_counted(up: Up, server_id: int) -> Any:
    item = up.get(f"/metrics/latency?since=10m&server={server_id}")["items"][0]
    return item if (item["ttft_seconds"] or {}).get("count") == REQUESTS else None
