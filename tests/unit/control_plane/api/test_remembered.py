"""Answers of a moment ago: shared, never longer kept than said, and never across a write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from control_plane.api import remembered
from control_plane.api.remembered import KEPT_SECONDS, Remembered
from tests.fakes.clock import FakeClock


class App:
    """Answers with how often it was asked."""

    def __init__(self, *, status: int = 200, size: int = 0) -> None:
        self.asked, self.status, self.size = 0, status, size
        self.gate: asyncio.Event | None = None
        self.fails: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        mine = self.asked
        if self.gate is not None:
            await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % mine + b"x" * self.size})


async def ask(answers: Remembered, app: App, query: str = "", change: Callable[[Message], Any] | None = None) -> bytes:
    got: list[Message] = []

    async def send(message: Message) -> None:
        if change is not None:
            change(message)
        got.append(message)

    scope = {"type": "http", "path": "/x", "query_string": query.encode()}
    await answers.answer(app, scope, lambda: asyncio.sleep(0), send)  # type: ignore[arg-type]
    assert [m["type"] for m in got] == ["http.response.start", "http.response.body"]
    return bytes(got[1]["body"])


async def test_the_same_is_answered_for_half_a_second(clock: FakeClock) -> None:
    answers, app = Remembered(clock), App()
    assert [await ask(answers, app), await ask(answers, app), await ask(answers, app, "a=1")] == [b"1", b"1", b"2"]
    clock.advance(KEPT_SECONDS + 0.01)
    assert await ask(answers, app) == b"3"


async def test_who_asks_together_waits_for_one_answer(clock: FakeClock) -> None:
    answers, app = Remembered(clock), App()
    app.gate = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(ask(answers, app)) for _ in range(20)]
        await asyncio.sleep(0)
        app.gate.set()
    assert {task.result() for task in asking} == {b"1"}


async def test_a_write_is_seen_by_who_asks_after_it_even_if_an_answer_was_being_made(clock: FakeClock) -> None:
    answers, app = Remembered(clock), App()
    await ask(answers, app)
    answers.forget()
    assert await ask(answers, app) == b"2"
    answers.forget()
    app.gate = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        before = tasks.create_task(ask(answers, app))
        await asyncio.sleep(0)
        answers.forget()
        app.gate.set()
    assert before.result() == b"3"
    assert await ask(answers, app) == b"4"


async def test_a_refusal_is_never_kept_and_a_failure_hurts_only_who_met_it(clock: FakeClock) -> None:
    answers, app = Remembered(clock), App(status=404)
    assert [await ask(answers, app), await ask(answers, app)] == [b"1", b"2"]
    app.fails = RuntimeError("broken")
    with pytest.raises(RuntimeError):
        await ask(answers, app)
    app.fails, app.status = None, 200
    assert await ask(answers, app) == b"4"


async def test_what_one_caller_is_told_beside_reaches_no_other(clock: FakeClock) -> None:
    answers, app = Remembered(clock), App()

    def mark(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["headers"] == []
            message["headers"].append((b"ratelimit", b"mine"))

    await ask(answers, app, change=mark)
    await ask(answers, app, change=mark)


async def test_its_memory_has_an_end(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 1000)
    answers, app = Remembered(clock), App(size=300)
    for n in range(20):
        await ask(answers, app, str(n))
    assert answers._bytes == sum(len(a.body) for a in answers._answers.values()) <= 1000
    assert len(answers._answers) == 3
    small = App()
    for n in range(remembered.MOST_ANSWERS + 50):
        await ask(answers, small, f"n={n}")
    assert len(answers._answers) <= remembered.MOST_ANSWERS
