"""The analysis job: one bounded step at a time, under a lease, each in a transaction of its own.

What is due follows from what is stored, as in the rollup job: a replica that dies in a step leaves no trace of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from control_plane.runtime.jobs import Report
from control_plane.stages import findings, hosts
from control_plane.stages import use as summing
from control_plane.stages.forecasts import PLANS, Keeper
from control_plane.storage import findings as kept
from control_plane.storage import moments, partitions, use
from control_plane.storage.leading import LeadingJob
from control_plane.storage.leases import Lease
from control_plane.storage.rollups import marks
from control_plane.storage.session import Database, SyncConnection

NAME = "analysis"
LEASE_LIFETIME = timedelta(seconds=60)
# Where a fresh installation, or the first release that has stages, begins to sum up.
FIRST_LOOK_BACK = timedelta(days=1)
# Slots of servers are what forecasts learn from.
GPU_SLOTS_KEPT, SERVER_SLOTS_KEPT = timedelta(days=3), timedelta(days=35)
# An hour is only made again of all of its slots.
LATE_UNTIL = GPU_SLOTS_KEPT - timedelta(hours=1)
_MICROSECOND, DAY_US = timedelta(microseconds=1), 86_400_000_000
USE, BEGAN = use.USE, "use began"


class AnalysisJob(LeadingJob):
    """Does what is due. Owned by one thread at a time."""

    name, lease_lifetime = NAME, LEASE_LIFETIME

    def __init__(self, database: Database, *, holder: str, now: Callable[[], datetime], hours_kept: timedelta) -> None:
        """`holder` names this replica; `now` is the control plane's clock; hours of use are kept for `hours_kept`."""
        super().__init__(database, holder=holder, now=now)
        self._hours_kept = hours_kept
        self._keepers = [Keeper(plan) for plan in PLANS]
        self._token: int | None = None

    def _step(self, connection: SyncConnection, lease: Lease, now: datetime) -> Report:
        come = use.progress(connection)
        if USE not in come:
            come = self._begin(connection, now)
        more = (
            self._sum_up(connection, lease, come[USE], now)
            or self._sum_up_again(connection, lease, come[USE], now)
            or self._find_out(connection, lease, come, now)
            or self._forecast(connection, lease, come, now)
        )
        until = use.progress(connection)[USE]
        figures: dict[str, float | str | None] = {
            "summed_up_until": moments.to_datetime(until).isoformat(),
            "behind_seconds": max(0.0, (moments.to_us(now) - until) / 1e6),
        }
        return Report(leading=True, more=more, figures=figures)

    def _begin(self, connection: SyncConnection, now: datetime) -> dict[str, int]:
        oldest = partitions.oldest_day(connection)
        start = max(oldest, now - FIRST_LOOK_BACK) if oldest is not None else now
        loose = marks.progress(connection).get(marks.PACKING, 0)
        begin = max(moments.to_us(start) // use.HOUR_US * use.HOUR_US, loose)
        for name in (USE, BEGAN):
            use.advance(connection, name, begin)
        return use.progress(connection)

    def _sum_up(self, connection: SyncConnection, lease: Lease, start_us: int, now: datetime) -> bool:
        """This will sum the next slot up, once it is a minute old and no commit to it is under way."""
        end_us = start_us + use.SLOT_US
        closed = marks.progress(connection).get(marks.CLOSED)
        if closed is None or end_us + summing.AFTER_US > closed:
            return False
        with self._under(connection, lease):
            summing.sum_up(connection, start_us)
            if end_us % use.HOUR_US == 0:
                for of in ("gpu", "server"):
                    use.close_hour(connection, of, end_us - use.HOUR_US)
                self._drop(connection, now)
            use.advance(connection, USE, end_us)
        return True

    def _sum_up_again(self, connection: SyncConnection, lease: Lease, until_us: int, now: datetime) -> bool:
        """This will sum up the oldest slot of which samples came late, of the nodes that they came from."""
        found = use.due(connection, before_us=until_us)
        if found is None:
            return False
        hour_us = found.start_us // use.HOUR_US * use.HOUR_US
        # What is packed, or about to be, is left as it was summed up.
        loose = marks.progress(connection).get(marks.PACKING, 0)
        with self._under(connection, lease):
            if moments.to_datetime(found.start_us) >= now - LATE_UNTIL and found.start_us >= loose + summing.BEFORE_US:
                summing.sum_up(connection, found.start_us, found.node_ids)
                if hour_us + use.HOUR_US <= until_us:
                    for of in ("gpu", "server"):
                        use.close_hour(connection, of, hour_us, found.node_ids)
            use.done(connection, found)
        return True

    def _find_out(self, connection: SyncConnection, lease: Lease, come: Mapping[str, int], now: datetime) -> bool:
        """This will judge one of the windows whose findings are old."""
        for window, refresh in findings.REFRESH.items():
            name, until_us = kept.step_of(window), come[USE]
            age_us = until_us - come.get(BEGAN, 0)
            # On its first day each slot adds much to every window, and there is little to add up.
            due_us = use.SLOT_US if age_us < DAY_US else refresh / _MICROSECOND
            if age_us > 0 and until_us - come.get(name, 0) >= due_us:
                until = moments.to_datetime(until_us)
                hosts_of = hosts.load(self._database, until - window, until)
                with self._under(connection, lease):
                    findings.find_out(connection, window, until_us=until_us, now=now, hosts=hosts_of)
                    use.advance(connection, name, until_us)
                return True
        return False

    def _forecast(self, connection: SyncConnection, lease: Lease, come: Mapping[str, int], now: datetime) -> bool:
        """This will tell a forecaster what it has not been told yet, and keep what it says then."""
        if lease.token != self._token:
            for keeper in self._keepers:
                keeper.forget()
            self._token = lease.token
        if come[USE] <= come.get(BEGAN, 0):
            return False
        for keeper in self._keepers:
            found, more = keeper.step(connection, come[USE])
            if found is not None:
                with self._under(connection, lease):
                    kept.replace(
                        connection, f"forecast_{keeper.plan.name}", 0, found, found_at=now,
                        since=now - keeper.plan.history, until=moments.to_datetime(come[USE]),
                    )  # fmt: skip
            if more or found is not None:
                return True
        return False

    def _drop(self, connection: SyncConnection, now: datetime) -> None:
        """This will drop what is past retention."""
        use.drop_before(connection, "gpu", "slot", now - GPU_SLOTS_KEPT)
        use.drop_before(connection, "server", "slot", now - SERVER_SLOTS_KEPT)
        for of in ("gpu", "server"):
            use.drop_before(connection, of, "hour", now - self._hours_kept)
