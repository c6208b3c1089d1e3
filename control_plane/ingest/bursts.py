"""Lets gRPC wake the event loop a few times a second instead of once for every message.

A wake-up costs more than the message that causes it: caches are cold, and another thread has to be run. While there is
much to do, what has arrived is taken in bursts; the first message after a pause is never held back.
"""

from __future__ import annotations

import asyncio, fcntl, termios, sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Well below the time for which commits gather, so that it is not felt; with a thousand nodes it holds ten messages.
BURST_SECONDS = 0.05


class _Bursts:
    """Calls `handle` when the socket is readable, but not again before `seconds` have passed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, add: Callable[..., None], seconds: float) -> None:
        self._loop, self._add, self._seconds = loop, add, seconds
        self._last = 0.0

    def watch(self, source: Any, handle: Callable[..., None], *arguments: Any) -> None:
        """This will take the place of the loop's add_reader."""

        def readable() -> None:
            early = self._last + self._seconds - self._loop.time()
            if early <= 0:
                run()
            else:
                self._loop.remove_reader(source)
                self._loop.call_later(early, again)

        def run() -> None:
            self._last = self._loop.time()
            waiting = fcntl.ioctl(source, termios.FIONREAD, b"\0\0\0\0")
            count = int.from_bytes(waiting, sys.byteorder)
            if count > 1: source.recv(count - 1)
            handle(*arguments)

        def again() -> None:
            self._add(source, readable)
            run()

        self._add(source, readable)


@contextmanager
def in_bursts(loop: asyncio.AbstractEventLoop, seconds: float = BURST_SECONDS) -> Iterator[None]:
    """This will let what registers a socket meanwhile be called in bursts."""
    add = loop.add_reader
    loop.add_reader = _Bursts(loop, add, seconds).watch  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop.add_reader = add  # type: ignore[method-assign]
