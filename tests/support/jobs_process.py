"""Rollups and packing in a process of their own, for tests that kill it."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta

from control_plane.storage.packing.job import PackingJob
from control_plane.storage.rollups.job import RollupJob
from control_plane.storage.session import Database


def main(url: str, now: str, holder: str) -> None:
    """This will do what is due at `now` until it is killed."""
    database, moment = Database(url), datetime.fromisoformat(now)
    rollups = RollupJob(database, holder=holder, now=lambda: moment)
    packing = PackingJob(database, holder=holder, now=lambda: moment, after=timedelta(days=1))
    _say("begins")
    while True:
        if not (rollups.work().more or packing.work().more):
            time.sleep(0.05)


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
