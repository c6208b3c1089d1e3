"""How a load goes, told while it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from control_plane.runtime.groups import one_error
from control_plane.trials.load.generator import Generator, Progress


@asynccontextmanager
async def telling(
    tell: Callable[[Progress], None], *, every_seconds: float
) -> AsyncIterator[Callable[[Generator], None]]:
    """This will give what takes the generator to watch, and tell how that one goes until the block ends."""
    watched: list[Generator] = []

    async def again_and_again() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            if watched:
                tell(watched[0].progress())

    with one_error():
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(again_and_again())
            try:
                yield watched.append
            finally:
                task.cancel()
