"""An event loop in which waiting takes no time, and the clock that belongs to it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from node_agent.clock import Instant

T = TypeVar("T")
START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


class _JumpingSelector(selectors.BaseSelector):
    """Instead of sleeping it moves the time to when the sleep would have ended."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._selector = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._selector.select(0)
        if not ready:
            assert timeout is not None, "everything waits for something that will never come"
            self.seconds += max(0.0, timeout)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.modify(fileobj, events, data)

    def close(self) -> None:
        self._selector.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        found = self._selector.get_map()
        assert found is not None
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For code without threads and without the outside: there is nothing to wait for but time."""

    def __init__(self, *, start_seconds: float = 0.0) -> None:
        self._jumping = _JumpingSelector()
        self._jumping.seconds = start_seconds
        super().__init__(self._jumping)

    def time(self) -> float:
        """This will give the virtual time."""
        return self._jumping.seconds


class LoopClock:
    """Both of a node's clocks, as the running virtual loop has them."""

    def now(self) -> Instant:
        """This will read the loop's time."""
        seconds = asyncio.get_running_loop().time()
        return Instant(wall=START + timedelta(seconds=seconds), monotonic_seconds=seconds)


def run_virtually(work: Coroutine[Any, Any, T], *, start_seconds: float = 0.0) -> T:
    """This will run `work` to its end in virtual time."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start_seconds=start_seconds)) as runner:
        return runner.run(work)
