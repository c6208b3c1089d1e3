"""Objectives over the small fleet, judged as the job does."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from control_plane.model.slo import Indicator, SloDefinition, SloScope
from control_plane.stages.slo import SloJob
from control_plane.storage import slos
from control_plane.storage.session import Database
from tests.support import fleet

TTFT = SloDefinition(
    name="llama-ttft", indicator=Indicator.TTFT, target_ratio=0.95, window_days=30, threshold_seconds=0.25,
    scope=SloScope(model=fleet.LLAMA), route="chat", labels={"team": "chat"},
)  # fmt: skip
UP = SloDefinition(name="llama-up", indicator=Indicator.AVAILABILITY, target_ratio=0.999, window_days=7)


async def fill(url: str) -> None:
    """This will store the objectives as if they were ten minutes old, and count the fleet's events."""
    database = Database(url)
    await slos.write(database.engine, [TTFT, UP], fleet.NOW - timedelta(minutes=10))
    await asyncio.to_thread(_work, database)
    await database.close()


def _work(database: Database) -> None:
    # A step every so often, as it would have been done; the last one is now.
    for seconds in (20, 15, 10, 5, 0):
        job = SloJob(database, holder="tests", now=lambda ago=seconds: fleet.NOW - timedelta(seconds=ago))
        while job.work().more:
            pass
        job.close()
