"""A process that drives rollouts and can be killed: `python -m tests.support.rollout_driver DATABASE_URL`."""

from __future__ import annotations

import asyncio
import sys

from control_plane.storage.rollouts import RolloutStore
from control_plane.storage.session import Database
from control_plane.workflows.driving import Driver
from tests.support.rollout_stage import CLOCK, runner


async def main(url: str) -> None:
    store = RolloutStore(Database(url).engine)
    await Driver(store=store, clock=CLOCK, runner_for=lambda s: runner(store, dict(s.settings))).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
