"""The SLO history job: a new objective is counted back over the samples that are there, hour by hour.

Each hour is counted in one transaction with the note of how far back that goes: who takes over begins at the next one.
Looks a minute apart say what happened in between as well as all of them do; only the minute of an engine's start is
lost, and what a restart took along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Reading
from control_plane.model.slo import Slo
from control_plane.runtime.jobs import Report
from control_plane.slo.history import WITHOUT_HISTORY, tallied
from control_plane.slo.scope import matches
from control_plane.slo.watching import Tally
from control_plane.storage import entities, inference, partitions, slo_events, slos
from control_plane.storage.leading import LeadingJob
from control_plane.storage.leases import Lease
from control_plane.storage.readings import Dictionaries
from control_plane.storage.session import Database, SyncConnection
from control_plane.storage.slo_events import MINUTES_KEPT, SERVER_HOURS_KEPT

NAME = "slo-history"
LEASE_LIFETIME = timedelta(seconds=60)
STEP = timedelta(minutes=1)
# An hour of a server is 60 looks of some kilobytes each.
SERVERS_AT_ONCE = 50
# An hour ends before the next begins: the look at that moment is the next one's.
_MOMENT = timedelta(microseconds=1)


class SloHistoryJob(LeadingJob):
    """Counts back. Owned by one thread at a time."""

    name, lease_lifetime = NAME, LEASE_LIFETIME

    def _step(self, connection: SyncConnection, lease: Lease, now: datetime) -> Report:
        oldest = partitions.oldest_day(connection)
        servers = entities.every(connection, EntityKind.INFERENCE_SERVER)
        due = [(slo, start) for slo in slos.every(connection) if (start := _due(slo, servers, oldest, now)) is not None]
        if due:
            # The newest hours of all first: those are what the short windows are made of.
            slo, start = max(due, key=lambda found: found[1])
            self._count(connection, lease, slo, servers, start, now)
        return Report(leading=True, more=len(due) > 0, figures={"objectives_behind": float(len(due))})

    def _count(
        self, connection: SyncConnection, lease: Lease, slo: Slo, servers: Sequence[Entity], start: datetime,
        now: datetime,
    ) -> None:  # fmt: skip
        end = slo.covered_since if slo.history_since is None else slo.covered_since - _MOMENT
        of = [
            server.entity_id
            for server in servers
            if matches(slo.definition.scope, server) and server.last_seen_at >= start
        ]
        tally = Tally()
        for begin in range(0, len(of), SERVERS_AT_ONCE):
            some = of[begin : begin + SERVERS_AT_ONCE]
            tallied(slo, asyncio.run(_looks(self._database.url, some, start, end)), into=tally)
        with self._under(connection, lease):
            if not slos.note_history(connection, slo, start):
                return  # it was changed or deleted meanwhile
            slo_events.add(connection, "slo_hour", tally.hours)
            kept = {key: events for key, events in tally.minutes.items() if key[1] >= now - MINUTES_KEPT}
            slo_events.add(connection, "slo_minute", kept)
            for hour, counts in tally.server_hours.items():
                if hour >= now - SERVER_HOURS_KEPT:
                    slo_events.add_server_hours(connection, hour, counts)


def _due(slo: Slo, servers: Sequence[Entity], oldest: datetime | None, now: datetime) -> datetime | None:
    """This will give the beginning of the next hour to count, going back; None where there is nothing left.

    Time in which no server in scope was known is not covered by having been counted.
    """
    known_since = min((s.first_seen_at for s in servers if matches(slo.definition.scope, s)), default=None)
    if slo.definition.indicator in WITHOUT_HISTORY or oldest is None or known_since is None:
        return None
    reach = max(oldest, known_since, now - timedelta(days=slo.definition.window_days))
    if slo.covered_since <= reach:
        return None
    this_hour = (slo.covered_since - _MOMENT).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return max(this_hour, reach)


async def _looks(url: str, entity_ids: Sequence[int], since: datetime, until: datetime) -> list[Reading]:
    database = Database(url, pool_size=1)
    try:
        found = await inference.stepped(
            database.engine, Dictionaries(database.engine), entity_ids, since=since, until=until, step=STEP
        )
    finally:
        await database.close()
    return sorted((reading for _, reading in found), key=lambda reading: reading.taken_at)
