"""Lets gRPC wake the event loop a few times a second, instead of once or twice for every message.

grpc.aio hands events from its own thread to the loop through a socket, a byte for each event, and reads one byte a
time (_cython/_cygrpc/aio/completion_queue.pyx.pxi): with many streams the loop wakes up for bytes whose events were
taken long ago. A wake-up costs more than what most messages need: caches are cold, and another thread has to stop. So
bytes are taken together here, and with many streams not before a moment has passed since the last time.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _Bursts:
    """Stands in for a loop's add_reader."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pause: Callable[[], float]) -> None:
        self._loop = loop
        self._add = loop.add_reader
        self._pause = pause

    def watch(self, source: Any, handle: Callable[..., None], *arguments: Any) -> None:
        """This will call `handle` when there is something to read, but not again before the pause is over."""
        if not isinstance(source, socket.socket):
            self._add(source, handle, *arguments)
            return
        last = 0.0

        def readable() -> None:
            early = last + self._pause() - self._loop.time()
            if early <= 0:
                take()
                return
            self._loop.remove_reader(source)
            self._loop.call_later(early, again)

        def again() -> None:
            if source.fileno() >= 0:  # it may have been closed meanwhile
                self._add(source, readable)
                take()

        def take() -> None:
            nonlocal last
            last = self._loop.time()
            _leave_one_byte(source)
            handle(*arguments)

        self._add(source, readable)


def _leave_one_byte(source: socket.socket) -> None:
    """This will take all bytes but the one that the handler reads; it takes every event all the same."""
    waiting = int.from_bytes(fcntl.ioctl(source, termios.FIONREAD, bytes(4)), sys.byteorder)
    if waiting > 1:
        source.recv(waiting - 1)


@contextmanager
def in_bursts(loop: asyncio.AbstractEventLoop, pause: Callable[[], float]) -> Iterator[None]:
    """This will let what is registered with the loop meanwhile be called in bursts.

    `pause` says how many seconds have to lie between two of them at the moment.
    """
    own = loop.add_reader
    loop.add_reader = _Bursts(loop, pause).watch  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        loop.add_reader = own  # type: ignore[method-assign]
