"""Workflows driven in a process of its own, for tests that kill it: its steps do nothing but take their time."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from control_plane.runtime.clock import SystemClock
from control_plane.storage.session import Database
from control_plane.workflows.optimise_driver import WorkflowDriver


class SlowWork:
    """Work whose every step takes a moment, so that a process is killed in all of them."""

    def __init__(self, seconds: float) -> None:
        """`seconds` is what each step takes."""
        self._seconds = seconds

    async def _rest(self) -> None:
        await asyncio.sleep(self._seconds)

    async def collect(self, asked: dict[str, Any]) -> dict[str, Any]:
        """This will find one server."""
        await self._rest()
        return {"servers": 1}

    async def analyse(self, asked: dict[str, Any]) -> dict[str, Any]:
        """This will find nothing that binds."""
        await self._rest()
        return {}

    async def find(self, asked: dict[str, Any]) -> list[int]:
        """This will recommend what was asked for."""
        await self._rest()
        return [asked["number"]]

    async def predict(self, found: list[int]) -> dict[str, Any]:
        """This will promise nothing."""
        await self._rest()
        return {}

    async def rank(self, found: list[int]) -> list[int]:
        """This will keep the order."""
        await self._rest()
        return found

    async def execute(self, recommendation_id: int) -> dict[str, Any]:
        """This will say that it was done."""
        await self._rest()
        return {"did": recommendation_id}

    async def watch(self, recommendation_id: int, number: int) -> dict[str, Any]:
        """This will see nothing."""
        await self._rest()
        return {"look": number}

    async def record(self, recommendation_id: int, verdict: str) -> dict[str, Any]:
        """This will write the verdict down."""
        await self._rest()
        return {"verdict": verdict}


async def main(url: str, seconds: float) -> None:
    """This will drive workflows until it is killed."""
    driver = WorkflowDriver(Database(url), SystemClock(), SlowWork(seconds))
    sys.stdout.write("drives\n")
    sys.stdout.flush()
    while True:
        if not await driver.once():
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
