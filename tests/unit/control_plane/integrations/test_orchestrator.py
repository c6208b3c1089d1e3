"""Attendance at an orchestrator that is well, and at ones that are not: nothing is disturbed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.integrations import orchestrator
from control_plane.integrations.orchestrator import Attendance, Introduction
from control_plane.model.registration import Role
from control_plane.runtime import outbound
from tests.fakes.clock import FakeClock
from tests.fakes.orchestrator import Orchestrator, http, running_orchestrator


@pytest.fixture
async def fake() -> AsyncIterator[Orchestrator]:
    async with running_orchestrator() as orchestrator:
        yield orchestrator


def attendance(port: int, clock: FakeClock, *, health: str = "healthy") -> Attendance:
    async def healthy() -> str:
        return health

    said = Introduction(
        role=Role.RESOURCE, name="optiinfra", host="h", port=8003, capabilities=["gpu_metrics"], version="1",
        metadata={"a": 1},
    )  # fmt: skip
    return Attendance(said, url=f"http://127.0.0.1:{port}/", interval_seconds=30, health=healthy, clock=clock)


async def test_it_introduces_itself_and_is_heard(fake: Orchestrator, clock: FakeClock) -> None:
    attending = attendance(fake.port, clock, health="degraded")
    assert await attending.turn() == 30
    assert await attending.turn() == 30
    (path, said), (beat, status) = fake.heard
    assert path == "/agents/register"
    assert said == {
        "name": "optiinfra", "type": "resource", "host": "h", "port": 8003, "capabilities": ["gpu_metrics"],
        "version": "1", "metadata": {"a": 1},
    }  # fmt: skip
    assert beat == "/agents/agent%2F1/heartbeat"
    assert status == {"status": "degraded", "metadata": {}}
    state = attending.state
    assert (state.agent_id, state.registered_at, state.last_heartbeat_at) == ("agent/1", clock.now(), clock.now())


async def test_one_that_is_forgotten_registers_again_at_once(fake: Orchestrator, clock: FakeClock) -> None:
    attending = attendance(fake.port, clock)
    await attending.turn()
    fake.agents.clear()
    assert await attending.turn() == 0
    await attending.turn()
    assert attending.state.agent_id == "agent/3"
    assert attending.state.last_error is None


async def test_one_that_ends_says_goodbye(fake: Orchestrator, clock: FakeClock) -> None:
    attending = attendance(fake.port, clock)
    running = asyncio.get_running_loop().create_task(attending.run())
    while not fake.agents:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert fake.agents == {}
    assert fake.heard[-1][0] == "/agents/agent%2F1/unregister"


@pytest.mark.parametrize(
    ("asked", "kept"),
    [(7, 7), (0.001, 1), (1e9, 300), (-1, 30), (0, 30), ("5", 30), (None, 30), (True, 30), (float("nan"), 30)],
)
async def test_how_often_it_wants_to_hear_is_believed_within_reason(
    fake: Orchestrator, clock: FakeClock, asked: object, kept: float
) -> None:
    fake.interval = asked
    assert await attendance(fake.port, clock).turn() == kept


UNWELL = {
    "an error": http(500, {}),
    "a redirect": b"HTTP/1.1 302 x\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "nothing": b"",
    "no JSON": b"HTTP/1.1 201 x\r\nContent-Length: 5\r\n\r\nhello",
    "another JSON": http(201, ["agent"]),
    "no id": http(201, {"agent_id": None}),
    "an id without end": http(201, {"agent_id": "x" * 10_000}),
    "an id that is true": http(201, {"agent_id": True}),
    "deep JSON": b"HTTP/1.1 201 x\r\n\r\n" + b"[" * 100_000,
    "too much": b"HTTP/1.1 201 x\r\n\r\n" + b"x" * 400_000,
}


@pytest.mark.parametrize("kind", UNWELL)
async def test_one_that_is_wrong_is_told_of_and_asked_again_more_and_more_rarely(
    fake: Orchestrator, clock: FakeClock, kind: str
) -> None:
    attending = attendance(fake.port, clock)
    fake.answer = UNWELL[kind]
    pauses = [await attending.turn() for _ in range(5)]
    assert attending.state.last_error
    assert attending.state.failures_in_a_row == 5
    for failures, pause in enumerate(pauses, 1):
        longest = min(orchestrator.LONGEST_PAUSE_SECONDS, orchestrator.FIRST_PAUSE_SECONDS * 2**failures)
        assert longest / 2 <= pause <= longest
    fake.answer = None
    assert await attending.turn() == 30
    assert (attending.state.last_error, attending.state.failures_in_a_row) == (None, 0)


@pytest.mark.parametrize("kind", UNWELL)
async def test_a_heartbeat_that_is_answered_wrongly_raises_nothing(
    fake: Orchestrator, clock: FakeClock, kind: str
) -> None:
    attending = attendance(fake.port, clock)
    await attending.turn()
    fake.answer = UNWELL[kind]
    await attending.turn()
    assert attending.state.agent_id == "agent/1"


async def test_one_that_is_absent_or_hangs_is_waited_for_no_longer_than_a_moment(
    fake: Orchestrator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = attendance(1, clock)
    await absent.turn()
    assert absent.state.last_error
    real = outbound.ask
    monkeypatch.setattr(orchestrator.outbound, "ask", lambda *a, **k: real(*a, **k | {"seconds": 0.05}))
    fake.hangs = True
    hanging = attendance(fake.port, clock)
    await hanging.turn()
    assert "did not answer within" in str(hanging.state.last_error)


async def test_a_url_that_leads_nowhere_is_an_error_like_any_other(clock: FakeClock) -> None:
    attending = attendance(1, clock)
    attending._url = "http://user:hunter2@h"
    await attending.turn()
    assert "hunter2" not in str(attending.state.last_error)
