"""Introduces agents that wait at the door, all at once.

A transaction for each would cost the fleet a minute after every restart, and hold every connection that readers need.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.model.errors import StorageRefused
from control_plane.runtime.clock import Clock
from control_plane.storage import introductions
from control_plane.storage.bulk import BulkThread
from control_plane.storage.introductions import Caller, Introduced
from control_plane.storage.session import Database, SyncConnection, storage_errors

# One transaction's share: some ten milliseconds.
MOST_AT_ONCE = 256

_Answer = Introduced | Exception | None


@dataclass(frozen=True, slots=True)
class _Waiting:
    caller: Caller
    answer: asyncio.Future[Introduced | None]


class Reception:
    """The queue at the door, and the thread that serves it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """The thread and its connection begin with the first caller, and last until `close`."""
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._thread = BulkThread(database, "ingest-reception", autocommit=True)

    def close(self) -> None:
        """This will close the connection; nobody is introduced any more."""
        self._thread.close()

    async def introduce(self, caller: Caller) -> Introduced | None:
        """This will store who it is; None when its enrolment is not in force.

        Raises StorageUnavailable, and StorageRefused when what it says of itself cannot be stored.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(caller, loop.create_future())
        self._waiting.append(waiting)
        self._thread.executor.submit(self._serve, loop)  # whoever comes first serves all
        return await waiting.answer

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs on the reception's thread."""
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
            answers: Sequence[_Answer]
            try:
                with storage_errors():
                    connection = self._thread.connection()
                answers = self._introduced(connection, [waiting.caller for waiting in some])
            except Exception as error:  # boundary: each caller hears of it, and the next ones are served
                self._thread.disconnect()
                answers = [error] * len(some)
            loop.call_soon_threadsafe(_answer, some, answers)

    def _introduced(self, connection: SyncConnection, callers: Sequence[Caller]) -> Sequence[_Answer]:
        try:
            with storage_errors():
                return introductions.introduce(connection, callers, self._clock.now())
        except StorageRefused as error:
            if len(callers) == 1:
                return [error]
        return [answer for caller in callers for answer in self._introduced(connection, [caller])]


def _answer(some: Sequence[_Waiting], answers: Sequence[_Answer]) -> None:
    for waiting, answer in zip(some, answers, strict=True):
        if waiting.answer.done():  # it has left meanwhile
            continue
        if isinstance(answer, Exception):
            waiting.answer.set_exception(answer)
        else:
            waiting.answer.set_result(answer)
