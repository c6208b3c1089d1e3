"""The rollup job: one bounded step at a time, under a lease, each in transactions of its own.

What is due follows from what is stored: how far each step has come, and the marks of late samples. A
replica that dies in a step leaves no trace of it; the next one does that step again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import LiteralString

from control_plane.model.entity import EntityKind
from control_plane.runtime.jobs import Report
from control_plane.storage import moments, partitions
from control_plane.storage.leading import ONE_SNAPSHOT, LeadingJob
from control_plane.storage.leases import Lease
from control_plane.storage.rollups import closing, fields, marks, store
from control_plane.storage.rollups.blocks import FieldCells
from control_plane.storage.rollups.fields import FLEET, NODE, SCOPED, scoped
from control_plane.storage.rollups.lookups import Lookups
from control_plane.storage.rollups.minutes import LOOKBACK_US
from control_plane.storage.rollups.patching import replace_cells
from control_plane.storage.rollups.rolling import Roller
from control_plane.storage.rollups.scopes import NodesOf, Together, of_fleet
from control_plane.storage.rollups.store import DAY_US, HOUR, HOUR_US, MINUTE, MINUTE_US, FieldBook
from control_plane.storage.session import Database, SyncConnection
from optiinfra.catalogue import TABLES

NAME = "rollups"
# A replica that dies is replaced after this; a step that takes longer is protected by its row lock.
LEASE_LIFETIME = timedelta(seconds=30)
# After a minute has ended, samples of it are still on their way: scrape, batch, network, commit.
SETTLING_US = 10_000_000
# What comes later than that is late, and cheap to add until the hour's rows are written.
HOUR_SETTLING_US = 5 * MINUTE_US
# One step's share of late minutes.
MOST_MARKS = 2_000
# An hour of samples of so many entities is some 100 MB.
ENTITIES_AT_ONCE = 256

# Before the snapshot is taken: samples that are packed meanwhile are neither missed nor met twice.
PACKED_FIRST: LiteralString = "LOCK TABLE ONLY packed_sample IN ACCESS SHARE MODE"
ROLLED, HOURS, DAYS = "minute", "hour", "day"


class RollupJob(LeadingJob):
    """Rolls up what is due. Owned by one thread at a time."""

    name, lease_lifetime = NAME, LEASE_LIFETIME

    def __init__(self, database: Database, *, holder: str, now: Callable[[], datetime]) -> None:
        """`holder` names this replica; `now` is the control plane's clock."""
        super().__init__(database, holder=holder, now=now)
        self._book: FieldBook | None = None
        self._roller: Roller | None = None
        self._nodes_of: NodesOf | None = None
        self._token: int | None = None
        self._days: set[date] = set()

    def _connected(self, connection: SyncConnection) -> None:
        numbers = fields.numbers(connection)
        self._book = FieldBook(numbers)
        self._nodes_of = NodesOf()
        self._roller = Roller(self._book, numbers, Lookups())
        self._token = None
        self._days.clear()

    def _step(self, connection: SyncConnection, lease: Lease, now: datetime) -> Report:
        assert self._roller is not None
        if lease.token != self._token:
            self._roller.forget()
            self._token = lease.token
        come = dict(marks.progress(connection))
        if ROLLED not in come:
            come |= self._begin(connection, now)
        more = (
            self._roll_minutes(connection, lease, come, moments.to_us(now))
            or self._roll_late(connection, lease, come)
            or self._roll_late_fleet(connection, lease, come)
            or self._close_hour(connection, lease, come)
            or self._close_day(connection, lease, come)
        )
        come = dict(marks.progress(connection))
        return Report(leading=True, more=more, figures=self._figures(connection, come, moments.to_us(now)))

    def _figures(self, connection: SyncConnection, come: dict[str, int], now_us: int) -> dict[str, float | str | None]:
        row = connection.execute("SELECT count(*) FROM rollup_due").fetchone()
        return {
            "rolled_up_until": moments.to_datetime(come[ROLLED]).isoformat(),
            "behind_seconds": max(0.0, (now_us - come[ROLLED]) / 1e6),
            "late_marks_due": float(row[0]) if row else 0.0,
        }

    def _begin(self, connection: SyncConnection, now: datetime) -> dict[str, int]:
        """This will settle where to begin: at the oldest day that samples are kept of."""
        oldest = partitions.oldest_day(connection)
        start = moments.to_us(oldest) if oldest is not None else moments.to_us(now) // HOUR_US * HOUR_US
        for name in (ROLLED, HOURS, DAYS):
            marks.advance(connection, name, start // DAY_US * DAY_US if name == DAYS else start)
        return {ROLLED: start, HOURS: start, DAYS: start // DAY_US * DAY_US}

    def _roll_minutes(self, connection: SyncConnection, lease: Lease, come: dict[str, int], now_us: int) -> bool:
        """This will roll the minutes up that have settled: one usually, up to an hour's when behind."""
        assert self._roller is not None
        start = come[ROLLED]
        settled = (now_us - SETTLING_US) // MINUTE_US * MINUTE_US
        end = min(settled, (start // HOUR_US + 1) * HOUR_US)
        if end <= start:
            return False
        marks.close_until(connection, end)
        self._ensure_partitions(connection, start, end)
        with self._under(connection, lease):
            for table in TABLES:
                units = (end - start) // MINUTE_US
                together = self._together(table)
                for found in self._roller.all_entities(connection, table, start_us=start, units=units):
                    store.insert(connection, MINUTE, found)
                    if together is not None:
                        together.add(connection, found)
                if together is not None:
                    store.insert(connection, MINUTE, [*together.of_nodes(), *together.of_fleet()])
            marks.advance(connection, ROLLED, end)
        partitions.summarize(connection, moments.to_datetime(start).date())
        return True

    def _roll_late(self, connection: SyncConnection, lease: Lease, come: dict[str, int]) -> bool:
        """This will make the minutes again for which samples came late: those of the oldest hour that has any."""
        found = marks.due(connection, before_us=come[ROLLED], limit=MOST_MARKS)
        if not found:
            return False
        hour = moments.to_us(found[0].minute) // HOUR_US * HOUR_US
        mine = [mark for mark in found if moments.to_us(mark.minute) < hour + HOUR_US]
        first, last = moments.to_us(mine[0].minute), moments.to_us(mine[-1].minute)
        # The growth of what follows begins at the last sample before: that one may be new.
        since, until = first, min(last + MINUTE_US + LOOKBACK_US, hour + HOUR_US, come[ROLLED])
        closed = hour < come[HOURS]
        if closed:
            since, until = hour, hour + HOUR_US
        self._ensure_partitions(connection, since, until)
        with self._under(connection, lease, ONE_SNAPSHOT, PACKED_FIRST):
            self._remake(connection, sorted({m.node_id for m in mine}), since, until, hours_too=closed)
            if last + MINUTE_US + LOOKBACK_US > hour + HOUR_US and hour + HOUR_US < come[ROLLED]:
                marks.set_due(connection, {(m.node_id, (hour + HOUR_US) // MINUTE_US) for m in mine})
            marks.set_fleet_due(connection, hour)
            marks.done(connection, mine)
        return True

    def _remake(
        self, connection: SyncConnection, node_ids: list[int], since_us: int, until_us: int, *, hours_too: bool
    ) -> None:
        assert self._roller is not None
        assert self._book is not None
        for table, spec in TABLES.items():
            kind = int(EntityKind[spec.entity.upper()])
            rows = connection.execute(
                "SELECT entity_id FROM entity WHERE node_id = ANY(%s) AND kind = %s ORDER BY entity_id",
                (node_ids, kind),
            ).fetchall()
            together = self._together(table)
            for begin in range(0, len(rows), ENTITIES_AT_ONCE):
                ids = [entity_id for (entity_id,) in rows[begin : begin + ENTITIES_AT_ONCE]]
                units = (until_us - since_us) // MINUTE_US
                found = self._roller.some_entities(connection, table, ids, start_us=since_us, units=units)
                self._replace(connection, table, found, ids, since_us, until_us, hours_too=hours_too)
                if together is not None:
                    together.add(connection, found)
            if together is not None:
                self._replace(
                    connection, scoped(table, NODE), list(together.of_nodes()), node_ids, since_us, until_us,
                    hours_too=hours_too,
                )  # fmt: skip

    def _replace(
        self,
        connection: SyncConnection,
        table: str,
        found: Sequence[FieldCells],
        ids: Sequence[int],
        since_us: int,
        until_us: int,
        *,
        hours_too: bool,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """This will make `found` all that is stored of these entities in a stretch, and of its hour if that is over."""
        assert self._book is not None
        made = {MINUTE: found, HOUR: list(closing.hours_of(found)) if hours_too else None}
        for level, new in made.items():
            if new is not None:
                replace_cells(
                    connection, level, self._book, table, new,
                    entity_ids=ids, since_us=since_us, until_us=until_us, numbers=numbers,
                )  # fmt: skip

    def _together(self, table: str) -> Together | None:
        assert self._book is not None
        assert self._nodes_of is not None
        return Together(self._book, self._nodes_of, table) if table in SCOPED else None

    def _roll_late_fleet(self, connection: SyncConnection, lease: Lease, come: dict[str, int]) -> bool:
        """This will make an hour of the fleet again, once no node of it is due any more."""
        assert self._book is not None
        found = marks.fleet_due(connection, before_us=come[ROLLED])
        if not found:
            return False
        hour = moments.to_us(found[0].minute) // HOUR_US * HOUR_US
        until = min(hour + HOUR_US, come[ROLLED])
        with self._under(connection, lease):
            for table in SCOPED:
                for numbers in closing.batches(connection, self._book, scoped(table, NODE), MINUTE):
                    nodes = store.look(connection, MINUTE, self._book, numbers, since_us=hour, until_us=until)
                    fleet = [of_fleet(self._book, table, of_nodes) for of_nodes in closing.gathered(nodes, MINUTE)]
                    self._replace(
                        connection, scoped(table, FLEET), fleet, [marks.FLEET_ID], hour, until,
                        hours_too=hour < come[HOURS], numbers=[f.field_id for f in fleet],
                    )  # fmt: skip
            marks.done(connection, found)
        return True

    def _close_hour(self, connection: SyncConnection, lease: Lease, come: dict[str, int]) -> bool:
        """This will write an hour's rows once its minutes have settled."""
        hour = come[HOURS] // HOUR_US * HOUR_US
        if hour + HOUR_US + HOUR_SETTLING_US > come[ROLLED]:
            return False
        self._ensure_partitions(connection, hour, hour + HOUR_US)
        assert self._book is not None
        for table in self._book.tables:
            for numbers in closing.batches(connection, self._book, table, MINUTE):
                with self._under(connection, lease):
                    closing.close_hour(connection, self._book, numbers, hour)
        with self._under(connection, lease):
            marks.advance(connection, HOURS, hour + HOUR_US)
        return True

    def _close_day(self, connection: SyncConnection, lease: Lease, come: dict[str, int]) -> bool:
        """This will gather a day's hours once the last of them is written."""
        day = come[DAYS]
        if day + DAY_US > come[HOURS]:
            return False
        assert self._book is not None
        for table in self._book.tables:
            for numbers in closing.batches(connection, self._book, table, HOUR):
                with self._under(connection, lease):
                    closing.close_day(connection, self._book, numbers, day)
        with self._under(connection, lease):
            marks.advance(connection, DAYS, day + DAY_US)
        return True

    def _ensure_partitions(self, connection: SyncConnection, since_us: int, until_us: int) -> None:
        days = {moments.to_datetime(since_us).date(), moments.to_datetime(until_us - 1).date()} - self._days
        if days:
            partitions.ensure_rollups(connection, days)
            self._days |= days
