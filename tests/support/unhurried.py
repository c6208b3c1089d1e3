"""A store whose calls are seen through: who is cancelled in the middle of one leaves no connection half open.

A cancelled call to Postgres may leave its connection to the garbage collector, which warns; and warnings are errors.
"""

from __future__ import annotations

import asyncio
from typing import Any


class Unhurried:
    """Everything that a store can do."""

    def __init__(self, store: Any) -> None:
        """`store` has coroutine methods."""
        self._store = store
        self._calls: set[asyncio.Task[Any]] = set()

    def __getattr__(self, name: str) -> Any:
        """This will give a method that ends even when nobody waits for it any more."""
        method = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            task = asyncio.get_running_loop().create_task(method(*arguments, **named))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            return await asyncio.shield(task)

        return call

    async def ended(self) -> None:
        """This will wait for whatever is still asked."""
        while self._calls:
            await asyncio.wait(set(self._calls))
