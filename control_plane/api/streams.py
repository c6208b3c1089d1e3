"""Server-sent events: what changed, as it changes. A stream asks the database for it, so there are only so many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from fastapi import Request, Response
from starlette.responses import StreamingResponse

from control_plane.api.answers import timestamp
from control_plane.model.errors import TooManyRequests

EVENT_STREAM = "text/event-stream"
LOOK_SECONDS, KEEPALIVE_SECONDS = 1.0, 15.0
# Over all that stream in this process; each asks the database about once a second.
MOST_STREAMS = 64
# In this order: a browser that lost its stream asks again after this.
_BEGIN = b"retry: 3000\n\n"
_QUIET = b": nothing changed\n\n"
_open: set[int] = set()

# Gives what is new, and whether more of it waits already.
Look = Callable[[], Awaitable[tuple[Sequence[bytes], bool]]]


def event(kind: str, data: Mapping[str, Any], event_id: str | None = None) -> bytes:
    """This will write one event. `event_id` is what a client sends as Last-Event-ID to go on after it."""
    head = f"event: {kind}\n" if event_id is None else f"id: {event_id}\nevent: {kind}\n"
    return f"{head}data: ".encode() + orjson.dumps(data, _plain, orjson.OPT_PASSTHROUGH_DATETIME) + b"\n\n"


def stream(request: Request, look: Look, *, every_seconds: float = LOOK_SECONDS) -> Response:
    """This will answer with what `look` gives, again and again, until the client goes. Raises TooManyRequests."""
    if len(_open) >= MOST_STREAMS:
        raise TooManyRequests(f"{MOST_STREAMS} streams are open; close one", retry_after_seconds=KEEPALIVE_SECONDS)
    return StreamingResponse(
        _events(request, look, every_seconds), media_type=EVENT_STREAM, headers={"Cache-Control": "no-store"}
    )


async def _events(request: Request, look: Look, every_seconds: float) -> AsyncIterator[bytes]:
    _open.add(id(request))
    quiet_seconds = 0.0
    try:
        yield _BEGIN
        while True:
            found, more = await look()
            for one in found:
                yield one
            quiet_seconds = 0.0 if found else quiet_seconds + every_seconds
            if quiet_seconds >= KEEPALIVE_SECONDS:
                quiet_seconds = 0.0
                yield _QUIET
            if not more:
                await asyncio.sleep(every_seconds)
    finally:
        _open.discard(id(request))


def _plain(value: object) -> str:
    return timestamp(value) if isinstance(value, datetime) else str(value)
