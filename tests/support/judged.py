"""A database in which everything that is due has been done: rolled up, summed up, judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from control_plane.stages.analysis import AnalysisJob
from control_plane.storage.rollups.job import RollupJob
from control_plane.storage.session import Database


async def do_all(database: Database, now: Callable[[], datetime]) -> None:
    """This will do all that is due at this moment, in a thread as the process does."""
    await asyncio.to_thread(_do_all, database, now)


def _do_all(database: Database, now: Callable[[], datetime]) -> None:
    rollups = RollupJob(database, holder="test", now=now)
    analysis = AnalysisJob(database, holder="test", now=now, hours_kept=timedelta(days=400))
    try:
        for job in (rollups, analysis):
            for _ in range(10_000):
                if not job.work().more:
                    break
            else:
                raise AssertionError("there is no end to it")
    finally:
        rollups.close()
        analysis.close()
