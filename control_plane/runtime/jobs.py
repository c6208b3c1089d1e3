"""Work that comes back: every so often, in pieces, with what came of it kept for who asks."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.model.errors import OptiInfraError
from control_plane.runtime.clock import Clock, thread_seconds

log = logging.getLogger(__name__)

# A job that looks at a whole fleet takes the longer the larger it is: it then looks less often, and at most so much
# less, for that it leaves a core to what must not wait.
SHARE_OF_A_CORE = 0.02
LONGEST_PAUSE_SECONDS = 15.0


class Standing(StrEnum):
    """How a job fares in this process."""

    STARTING = "starting"
    LEADING = "leading"  # this replica does it
    FOLLOWING = "following"  # another replica does it
    FAILED = "failed"  # the last piece failed; it is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one piece of work says of itself."""

    leading: bool
    more: bool  # there is more to do at once
    figures: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class JobState:
    """A job as it may be shown."""

    name: str
    standing: Standing = Standing.STARTING
    last_success_at: datetime | None = None
    last_error: str | None = None
    figures: Mapping[str, float | str | None] = field(default_factory=dict)


class Job:
    """Calls `work` every `every_seconds`, in a thread, and at once again while there is more.

    What takes long is called less often.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Report],
        *,
        every_seconds: float,
        clock: Clock,
        end: Callable[[], None] | None = None,
    ) -> None:
        """`work` must come back within seconds: the process waits for it when it ends. `end` tidies up after it."""
        self.state = JobState(name=name)
        self._work = work
        self._every_seconds = every_seconds
        self._clock = clock
        self._end = end
        self._used_seconds = 0.0  # of CPU, since the last pause
        self._idle = threading.Lock()  # held while a piece is under way, which outlives a cancelled task

    async def run(self) -> None:
        """This will work until cancelled."""
        while True:
            if not await self.once():
                await asyncio.sleep(self.pause_seconds())
                self._used_seconds = 0.0

    def pause_seconds(self) -> float:
        """This will say how long to wait after all that was to be done is done."""
        return max(self._every_seconds, min(self._used_seconds / SHARE_OF_A_CORE, LONGEST_PAUSE_SECONDS))

    def close(self) -> None:
        """This will wait for a piece that is under way, and tidy up; call it when `run` has ended."""
        with self._idle:
            if self._end is not None:
                self._end()

    def _piece(self) -> Report:
        with self._idle:
            began = thread_seconds()
            try:
                return self._work()
            finally:
                self._used_seconds += thread_seconds() - began

    async def once(self) -> bool:
        """This will do one piece, note what came of it, and say whether there is more to do at once."""
        state = self.state
        try:
            report = await asyncio.to_thread(self._piece)
        except Exception as error:  # boundary: a job that fails must be tried again, and must not end the process
            if isinstance(error, OptiInfraError):
                log.warning("%s waits: %s", state.name, error)
            else:
                log.exception("%s failed; it is tried again", state.name)
            state.standing = Standing.FAILED
            state.last_error = f"{type(error).__name__}: {error}".splitlines()[0]
            return False
        state.standing = Standing.LEADING if report.leading else Standing.FOLLOWING
        state.last_error, state.last_success_at = None, self._clock.now()
        state.figures = report.figures
        return report.more
