"""Work that would hold up the event loop, done beside it, for as long as its caller has time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
Argument = TypeVar("Argument")

_THREADS = 2  # one page that is made to take long must not be in the way of the next large one


class Aside:
    """A few threads. What nobody waits for any more ends by itself: what it may take is bounded where it is done."""

    def __init__(self) -> None:
        """This will start no thread before there is work."""
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="engine-page")

    async def run(self, work: Callable[[Argument], Result], argument: Argument, *, timeout_seconds: float) -> Result:
        """This will give the result; raises TimeoutError when it is not there in time."""
        async with asyncio.timeout(timeout_seconds):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, argument)

    def close(self) -> None:
        """This will begin nothing more, and wait for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)
