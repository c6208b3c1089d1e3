"""The packing job: days that are over become packed samples, and their loose ones go, in one instant for all readers.

A day is packed beside the table, hour by hour; then one transaction makes it a part of the table and empties the
day's loose partitions. Samples that come for the day meanwhile leave a mark, and their nodes are packed once more;
those that come afterwards are packed additionally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta

from psycopg import errors, sql

from control_plane.model.entity import EntityKind
from control_plane.runtime.jobs import Report
from control_plane.storage import moments, partitions
from control_plane.storage.leading import ONE_SNAPSHOT, LeadingJob
from control_plane.storage.leases import Lease
from control_plane.storage.packing import store
from control_plane.storage.packing.blocks import HOUR_US, MOMENT
from control_plane.storage.packing.packer import MOST_ROWS, packed_hour
from control_plane.storage.rollups import fields, marks
from control_plane.storage.rollups.fields import FieldNumbers
from control_plane.storage.sample_rows import Stretch
from control_plane.storage.session import Database, SyncConnection
from optiinfra.catalogue import TABLES

NAME = "packing"
LEASE_LIFETIME = timedelta(minutes=2)
# Readers of packed samples wait while the locks are waited for; who reads for longer is let finish first.
LOCK_TIMEOUT = "2s"
USUAL_ROWS_PER_HOUR = 720
HOURS_OF_A_DAY = 24


class PackingJob(LeadingJob):
    """Packs what is due, a bounded step at a time. Owned by one thread at a time."""

    name, lease_lifetime = NAME, LEASE_LIFETIME

    def __init__(self, database: Database, *, holder: str, now: Callable[[], datetime], after: timedelta) -> None:
        """A day is packed once it has been over for `after`."""
        super().__init__(database, holder=holder, now=now)
        self._after = after
        self._numbers: FieldNumbers = {}

    def _connected(self, connection: SyncConnection) -> None:
        self._numbers = fields.numbers(connection)

    def _step(self, connection: SyncConnection, lease: Lease, now: datetime) -> Report:
        come = marks.progress(connection)
        more = self._pack_late(connection, lease, come) or self._pack_day(connection, lease, dict(come))
        come = marks.progress(connection)
        packed = come.get(marks.PACKED)
        until = None if packed is None else moments.to_datetime(packed).date().isoformat()
        return Report(leading=True, more=more, figures={"packed_until": until})

    def _pack_day(self, connection: SyncConnection, lease: Lease, come: dict[str, int]) -> bool:
        """This will take the oldest day that is not packed one step further."""
        if marks.PACKED not in come:
            oldest = partitions.oldest_day(connection)
            if oldest is None:
                return False
            come[marks.PACKED] = moments.to_us(oldest)
            marks.advance(connection, marks.PACKED, come[marks.PACKED])
        day = moments.to_datetime(come[marks.PACKED]).date()
        end_us = come[marks.PACKED] + HOURS_OF_A_DAY * HOUR_US
        due = moments.to_us(self._now() - self._after) >= end_us
        # Rollups read loose samples faster; a day of which they want something yet can wait.
        if not due or come.get("hour", 0) < end_us:
            return False
        if come.get(marks.PACKING, 0) < end_us:
            marks.begin_packing(connection, end_us)
            self._make_staging(connection, day)
        for table in TABLES:
            key = f"{marks.PACKING}:{table}"
            hour_us = max(come.get(key, 0), come[marks.PACKED])
            if hour_us < end_us:
                self._pack_hour(connection, lease, table, hour_us, key)
                return True
        if self._repack_marked(connection, lease, day):
            return True
        return self._switch(connection, lease, day, end_us)

    def _make_staging(self, connection: SyncConnection, day: date) -> None:
        first, end = partitions.midnight(day), partitions.midnight(day + timedelta(days=1))
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (LIKE {} INCLUDING INDEXES, CHECK (hour >= {} AND hour < {}))"
            ).format(
                sql.Identifier(store.partition_name(day)), sql.Identifier(store.PARENT),
                sql.Literal(first.isoformat()), sql.Literal(end.isoformat()),
            )
        )  # fmt: skip

    def _pack_hour(self, connection: SyncConnection, lease: Lease, table: str, hour_us: int, key: str) -> None:
        target = store.partition_name(moments.to_datetime(hour_us).date())
        mine = [number for (name, _), number in self._numbers.items() if name == table]
        with self._under(connection, lease):
            connection.execute(  # of a try before this one
                sql.SQL("DELETE FROM {} WHERE hour = {} AND field_id = ANY({})").format(
                    sql.Identifier(target), moments.literal(hour_us), sql.Literal(mine)
                )
            )
            next_block: dict[int, int] = {}
            for nodes in self._node_ranges(connection, table):
                stretch = Stretch(since_us=hour_us, until_us=hour_us + HOUR_US, nodes=nodes)
                for _, rows in packed_hour(connection, table, self._numbers, stretch, next_block):
                    store.insert(connection, target, rows)
            marks.advance(connection, key, hour_us + HOUR_US)

    def _node_ranges(self, connection: SyncConnection, table: str) -> Iterator[tuple[int, int]]:
        """This will cut the nodes into ranges with some MOST_ROWS rows of an hour each."""
        rows = connection.execute(
            f"SELECT node_id, count(*) FROM {table}_latest GROUP BY node_id ORDER BY node_id"  # noqa: S608
        ).fetchall()
        begin, gathered = 0, 0
        for node_id, entities in rows:
            if gathered and gathered + entities * USUAL_ROWS_PER_HOUR > MOST_ROWS:
                yield begin, node_id
                begin, gathered = node_id, 0
            gathered += entities * USUAL_ROWS_PER_HOUR
        yield begin, 2**31 - 1

    def _repack_marked(self, connection: SyncConnection, lease: Lease, day: date) -> bool:
        """This will pack nodes once more of which samples came while their day was being packed."""
        found = marks.packing_due(connection, since=day, before=day + timedelta(days=1))
        target = store.partition_name(day)
        for late in found:
            with self._under(connection, lease):
                connection.execute(
                    sql.SQL("DELETE FROM {} WHERE node_id = {}").format(
                        sql.Identifier(target), sql.Literal(late.node_id)
                    )
                )
                self._pack_node(connection, day, late.node_id, target, {})
                marks.packing_done(connection, late)
        return bool(found)

    def _pack_node(
        self, connection: SyncConnection, day: date, node_id: int, target: str, first_blocks: dict[int, int]
    ) -> int:
        """This will pack one node's loose samples of a day and give their number."""
        start_us, count = moments.to_us(partitions.midnight(day)), 0
        for table, spec in TABLES.items():
            ids = connection.execute(
                "SELECT entity_id FROM entity WHERE node_id = %s AND kind = %s",
                (node_id, int(EntityKind[spec.entity.upper()])),
            ).fetchall()
            if not ids:
                continue
            for hour_us in range(start_us, start_us + HOURS_OF_A_DAY * HOUR_US, HOUR_US):
                stretch = Stretch(
                    since_us=hour_us, until_us=hour_us + HOUR_US, entity_ids=[entity_id for (entity_id,) in ids]
                )
                next_block = {node_id: first_blocks.get(hour_us, 0)}
                for rows, packed in packed_hour(connection, table, self._numbers, stretch, next_block):
                    store.insert(connection, target, packed)
                    count += len(rows)
        return count

    def _switch(self, connection: SyncConnection, lease: Lease, day: date, end_us: int) -> bool:
        """This will make a packed day a part of the table, and empty its loose partitions, in one transaction."""
        loose = [partitions.partition_name(table, day) for table in TABLES]
        try:
            with self._under(connection, lease):
                connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                # First what every reader of packed samples holds: it finishes, and the next one sees what will be.
                connection.execute("LOCK TABLE ONLY packed_sample IN ACCESS EXCLUSIVE MODE")
                existing = [name for name in loose if _exists(connection, name)]
                for name in existing:
                    connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(name)))
                if marks.packing_due(connection, since=day, before=day + timedelta(days=1)):
                    return True  # they came in the meantime
                connection.execute(
                    sql.SQL("ALTER TABLE packed_sample ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                        sql.Identifier(store.partition_name(day)),
                        sql.Literal(partitions.midnight(day).isoformat()),
                        sql.Literal(partitions.midnight(day + timedelta(days=1)).isoformat()),
                    )
                )
                if existing:
                    names = sql.SQL(", ").join(map(sql.Identifier, existing))
                    connection.execute(sql.SQL("TRUNCATE {}").format(names))
                marks.advance(connection, marks.PACKED, end_us)
        except errors.LockNotAvailable:
            return False  # somebody reads; the next pass tries again
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(store.partition_name(day))))
        return True

    def _pack_late(self, connection: SyncConnection, lease: Lease, come: Mapping[str, int]) -> bool:
        """This will pack what came for a day that was packed already, beside what is packed of it."""
        packed = come.get(marks.PACKED)
        if packed is None:
            return False
        before = moments.to_datetime(packed).date()
        found = marks.packing_due(connection, since=date.min, before=before, limit=1)
        if not found:
            return False
        day, node_id = found[0].day, found[0].node_id
        partitions.ensure_packed(connection, [day])
        with self._under(connection, lease, ONE_SNAPSHOT):
            self._pack_node(
                connection, day, node_id, store.partition_name(day), self._used_blocks(connection, day, node_id)
            )
            for table in TABLES:
                connection.execute(
                    sql.SQL("DELETE FROM {} WHERE node_id = %s AND taken_at >= %s AND taken_at < %s").format(
                        sql.Identifier(f"{table}_sample")
                    ),
                    (node_id, partitions.midnight(day), partitions.midnight(day + timedelta(days=1))),
                )
            marks.packing_done(connection, found[0])
        return True

    def _used_blocks(self, connection: SyncConnection, day: date, node_id: int) -> dict[int, int]:
        """This will give, by hour, the number that a node's next block gets."""
        moment_fields = [self._numbers[table, MOMENT] for table in TABLES]
        rows = connection.execute(
            "SELECT hour, max(block) + 1 FROM packed_sample WHERE field_id = ANY(%s) AND node_id = %s "
            "AND hour >= %s AND hour < %s GROUP BY hour",
            (moment_fields, node_id, partitions.midnight(day), partitions.midnight(day + timedelta(days=1))),
        ).fetchall()
        return {moments.to_us(hour): number for hour, number in rows}


def _exists(connection: SyncConnection, name: str) -> bool:
    return connection.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,)
