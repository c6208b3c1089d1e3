"""Recordings of a real H200, played through the real door into a real Postgres and asked about over REST."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.ingest.listening import start_server, stop_server
from control_plane.ingest.server import LinkService
from control_plane.runtime.clock import SystemClock
from control_plane.storage.session import Database
from node_agent import recordings
from node_agent.uplink import recording
from tests.support.rest import Api, client_of, context_of

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
# What each load is, by what the parts of the GPU do; the label itself is never looked at by the product.
EXPECTED = {
    "idle": "idle",
    "bf16_matmul": "compute_bound",
    "memory_copy": "memory_bound",
    "decode_like_matvec": "memory_bound",
    "host_to_device_copy": "copying",
    "idle_again": "idle",
}


class Replayed:
    """One recording in a database, and where its times have gone."""

    def __init__(self, api: Api, played: recording.Recording) -> None:
        self.api = api
        self.recording = played
        self._shift = timedelta(0)

    async def find_shift(self, path: str) -> None:
        """This will compare the newest stored stamp with the recorded one."""
        newest = datetime.fromisoformat((await self.api.items(path))[0]["taken_at"])
        self._shift = newest - datetime.fromtimestamp(self.recording.ticks[-1].unix_us / 1e6, UTC)

    def at(self, recorded_unix_seconds: float) -> str:
        """This will give where a recorded moment lies now."""
        return (datetime.fromtimestamp(recorded_unix_seconds, UTC) + self._shift).isoformat()


@asynccontextmanager
async def replayed(database: Database, name: str, *, until_unix_seconds: float = math.inf) -> AsyncIterator[Replayed]:
    """This will play a recording, or its beginning, as fast as it goes and open the API over what was stored."""
    clock = SystemClock()
    service = LinkService(database, clock, retention_days=14)
    server, port = await start_server(service, "127.0.0.1:0")
    whole = recording.load(RECORDINGS / name)
    played = replace(whole, ticks=tuple(t for t in whole.ticks if t.unix_us / 1e6 <= until_unix_seconds))
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(service.run())
        try:
            acknowledged = await recordings.replay(
                played, f"127.0.0.1:{port}", speed=0, keep_times=False, node_name=None, progress=lambda _: None
            )
            assert acknowledged == len(played.ticks)
            async with client_of(context_of(database, clock, service)) as api:  # type: ignore[arg-type]  # any clock
                world = Replayed(api, played)
                await world.find_shift("/gpu/metrics")
                yield world
        finally:
            await stop_server(service, server)
            writing.cancel()
    service.close()


def _phases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDINGS / "h200-loads.phases.jsonl").read_text().splitlines()]


async def test_utilisation_tells_known_loads_on_an_h200_apart(database: Database) -> None:
    async with replayed(database, "h200-loads.rec") as world:
        for phase in _phases():
            # One second in from each end: a sample covers the second before it.
            since, until = world.at(phase["start_unix_seconds"] + 1.2), world.at(phase["end_unix_seconds"] - 0.2)
            gpu = (await world.api.items("/gpu/utilization", since=since, until=until))[0]
            expected = EXPECTED[phase["phase"]]
            assert gpu["activity"] == expected, phase["phase"]
            assert gpu["activity_shares"][expected] > 0.85, phase["phase"]


async def test_classic_utilisation_is_full_during_a_mere_copy_and_sm_activity_is_not(database: Database) -> None:
    async with replayed(database, "h200-loads.rec") as world:
        copy = next(phase for phase in _phases() if phase["phase"] == "host_to_device_copy")
        gpu = (
            await world.api.items(
                "/gpu/utilization",
                since=world.at(copy["start_unix_seconds"] + 2),
                until=world.at(copy["end_unix_seconds"] - 1),
            )
        )[0]
        assert gpu["gpu_utilization_ratio"] > 0.95
        assert gpu["sm_active_ratio"] < 0.05
        assert gpu["honest_signal"] == "pcie_receive_bytes_per_second"


async def test_a_replayed_node_is_plainly_marked_as_replayed(database: Database) -> None:
    async with replayed(database, "h200-loads.rec") as world:
        node = (await world.api.items("/nodes"))[0]
        assert node["replayed"] is True
        assert node["lost_ticks"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("truth", "first"), [("h200-vllm.healthy.json", True), ("h200-vllm.queue.json", False)])
async def test_latencies_of_real_vllm_on_an_h200_agree_with_the_load_generator(
    database: Database, truth: str, first: bool
) -> None:
    measured = json.loads((RECORDINGS / truth).read_text())
    async with replayed(database, "h200-vllm.rec") as world:
        restarted = world.at(_first_gone_unix_seconds(world.recording))
        window = {"since": "30m", "until": restarted} if first else {"since": restarted}
        item = (await world.api.items("/metrics/latency", **window))[0]
        assert item["end_to_end_seconds"]["count"] == measured["completed"]
        # Queueing is measured by the server from the request's arrival there; the client's own clock
        # starts earlier, when it sends, which adds milliseconds on loopback.
        for field, name in (("ttft_seconds", "ttft"), ("end_to_end_seconds", "e2e")):
            for quantile in ("p50", "p95"):
                found = item[field][quantile]
                assert found["low"] * 0.95 <= measured[name][quantile] <= found["high"] * 1.05, (field, quantile)


FAULTS = json.loads((RECORDINGS / "h200-vllm-faults.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("until", "state", "uses_the_gpu"),
    [
        pytest.param(FAULTS["stopped"], "up", True, id="under-load"),
        # SIGSTOP: the server goes on to answer /health with 200, and nothing moves while requests run.
        pytest.param(FAULTS["continued"], "hung", True, id="stopped-for-80-s"),
        pytest.param(FAULTS["killed"], "up", True, id="continued"),
        pytest.param(FAULTS["end"], "gone", False, id="killed"),
    ],
)
async def test_a_real_engine_that_hangs_and_dies_on_an_h200_is_seen_as_such(
    database: Database, until: float, state: str, uses_the_gpu: bool
) -> None:
    assert FAULTS["health_while_stopped"] is True
    async with replayed(database, "h200-vllm-faults.rec", until_unix_seconds=until) as world:
        (server,) = await world.api.items("/inference/servers")
        assert server["state"] == state
        (gpu,) = await world.api.items("/gpu/attribution")
        users = [(user["pid"], user["server"], user["role"]) for user in gpu["attribution"]["used_by"]]
        expected = [(FAULTS["engine_core_pid"], "http://127.0.0.1:8000", "enginecore")]
        assert users == (expected if uses_the_gpu else [])
        assert [held["pid"] for held in server["attribution"]["gpus"]] == [pid for pid, _, _ in users]


def _first_gone_unix_seconds(played: recording.Recording) -> float:
    """This will give when the first of the two servers was seen to be gone, in recorded time."""
    for tick in played.ticks:
        for entity in tick.outgoing.announce.entities if tick.outgoing.announce is not None else ():
            if json.loads(entity.attributes_json).get("state") == "gone":
                return tick.unix_us / 1e6
    raise AssertionError("the recording holds a server that goes")
