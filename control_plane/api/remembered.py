"""Answers of the last moment, for everybody who asks the same: the newest values change every few seconds, and a page
that ten people have open asks for them ten times as often.

Only what is the same for every caller may be kept here, and nothing longer than a moment. A write forgets everything,
so that who changed something sees it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.runtime.clock import Clock

# Samples come every 5 s and are committed every quarter; an `age_seconds` is off by no more than this.
KEPT_SECONDS = 0.5
MOST_BYTES = 64 * 1024 * 1024
MOST_ANSWERS = 256


@dataclass(frozen=True, slots=True)
class _Answer:
    start: Message
    body: bytes
    made_at: float  # monotonic


class Remembered:
    """The answers, by what was asked. Who asks what is being made already waits for that."""

    def __init__(self, clock: Clock) -> None:
        """Nothing has been asked yet."""
        self._clock = clock
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._bytes = 0
        self._making: dict[str, asyncio.Event] = {}
        self._writes = 0

    def forget(self) -> None:
        """This will forget everything: something was changed."""
        self._answers.clear()
        self._bytes = 0
        self._writes += 1

    async def answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """This will answer as `app` does, or as it did a moment ago."""
        asked = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
        while asked in self._making:
            await self._making[asked].wait()
        found = self._answers.get(asked)
        if found is None or self._clock.monotonic() - found.made_at > KEPT_SECONDS:
            found = await self._made(asked, lambda sent: app(scope, receive, sent), send)
        if found is not None:
            headers = list(found.start["headers"])
            await send({**found.start, "headers": headers})  # whoever adds to them adds to his own
            await send({"type": "http.response.body", "body": found.body})

    async def _made(self, asked: str, make: Callable[[Send], Awaitable[None]], send: Send) -> _Answer | None:
        """This will make an answer and keep it; None: it was sent as it came, and is nothing to keep."""
        writes, done = self._writes, asyncio.Event()
        self._making[asked] = done
        began = self._clock.monotonic()
        start: Message | None = None
        parts: list[bytes] = []

        async def sent(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] == 200:
                start = message
            elif start is None:
                await send(message)
            else:
                parts.append(message.get("body", b""))

        try:
            await make(sent)
        finally:
            del self._making[asked]
            done.set()
        if start is None:
            return None
        found = _Answer(start, b"".join(parts), began)
        if writes == self._writes:
            self._keep(asked, found)
        return found

    def _keep(self, asked: str, found: _Answer) -> None:
        old = self._answers.pop(asked, None)
        self._bytes += len(found.body) - (len(old.body) if old else 0)
        self._answers[asked] = found
        while self._answers and (self._bytes > MOST_BYTES or len(self._answers) > MOST_ANSWERS):
            _, dropped = self._answers.popitem(last=False)
            self._bytes -= len(dropped.body)
