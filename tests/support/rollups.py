"""Samples put where ingest would put them, and rollups looked at from outside of the code that makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import psycopg

from control_plane.model.reason import Reason
from control_plane.model.sample import KNOWN, HistogramColumn, SampleBlock
from control_plane.storage import moments
from control_plane.storage.partitions import ensure_days
from control_plane.storage.rollups import marks
from control_plane.storage.rollups.cells import Cells, laid_out
from control_plane.storage.rollups.fields import numbers
from control_plane.storage.rollups.job import RollupJob
from control_plane.storage.rollups.store import FieldBook, Level, look
from control_plane.storage.samples import SampleWriter
from control_plane.storage.session import Database
from optiinfra.catalogue import TABLES

# Of ten fields is enough for any rule; the others were not sent.
Value = float | Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of one entity: the fields that were sent."""

    entity: int
    at: datetime
    values: Mapping[str, Value]
    buckets: Mapping[str, Sequence[int]] | None = None


BOUNDS = (0.1, 0.5, 1.0)


def block(table: str, rows: Sequence[Row], *, node: int = 1) -> SampleBlock:
    """This will make a block of rows."""
    spec = TABLES[table]
    codes = np.full((len(rows), len(spec.fields)), int(Reason.NOT_SENT), np.uint8)
    columns = {f.name: np.zeros(len(rows), np.float32 if f.type == "real" else np.float64) for f in spec.scalars}
    histograms = {}
    for index, field in enumerate(spec.fields):
        if field.type == "histogram":
            counts = np.array([(row.buckets or {}).get(field.name, (0,) * (len(BOUNDS) + 1)) for row in rows], np.int64)
            codes[[field.name in (row.buckets or {}) for row in rows], index] = KNOWN
            histograms[field.name] = HistogramColumn(bounds=BOUNDS, counts=counts, sums=counts.sum(axis=1) * 0.25)
        for place, row in enumerate(rows):
            value = row.values.get(field.name)
            if isinstance(value, Reason):
                codes[place, index] = int(value)
            elif value is not None:
                codes[place, index] = KNOWN
                columns[field.name][place] = value
    sent = {name for row in rows for name in row.values}
    return SampleBlock(
        table=spec,
        node_ids=np.full(len(rows), node, np.int32),
        entity_ids=np.array([row.entity for row in rows], np.int32),
        taken_at_us=np.array([moments.to_us(row.at) for row in rows], np.int64),
        codes=codes,
        columns={name: values for name, values in columns.items() if name in sent},
        histograms=histograms,
    )


class RollupWorld:
    """A database with samples, and the job that rolls them up."""

    def __init__(self, database: Database, start: datetime) -> None:
        """The clock stands at `start` until it is moved."""
        self.database = database
        self.now = start
        self._jobs: list[RollupJob] = []
        self.job = self.another_job("first")

    def another_job(self, holder: str) -> RollupJob:
        """This will make the job of another replica."""
        self._jobs.append(RollupJob(self.database, holder=holder, now=lambda: self.now))
        return self._jobs[-1]

    def close(self) -> None:
        """This will close what the jobs hold open."""
        for job in self._jobs:
            job.close()

    def store(self, *blocks: SampleBlock) -> None:
        """This will commit blocks as ingest does: late ones leave marks."""
        days = {moments.to_datetime(int(us)).date() for b in blocks for us in b.taken_at_us}
        with self.database.connect(autocommit=True) as connection:
            ensure_days(connection, days)
        writer = SampleWriter()
        with self.database.connect() as connection:
            closed = marks.hold_open(connection)
            writer.write(connection, blocks)
            marks.note_late(connection, blocks, closed)

    def entities(self, *ids: int, node: int = 1, kind: int = 2) -> None:
        """This will make a node and entities of its own."""
        with self.database.connect(autocommit=True) as connection:
            connection.execute(
                "INSERT INTO node (node_id, agent_id, name, agent_version, replayed, attributes, first_seen_at, "
                "connected_at) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, '0', false, '{}', now(), now()) "
                "ON CONFLICT DO NOTHING",
                (node, f"agent-{node}", f"node-{node}"),
            )
            for number in ids:
                connection.execute(
                    "INSERT INTO entity (entity_id, node_id, kind, key, attributes, first_seen_at, last_seen_at, "
                    "state_since) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, '{}', now(), now(), now())",
                    (number, node, kind, f"thing-{number}"),
                )

    def advance(self, **duration: float) -> None:
        """This will let time pass and do all that becomes due."""
        self.now += timedelta(**duration)
        self.work()

    def work(self) -> None:
        """This will do all that is due."""
        for _ in range(1000):
            if not self.job.work().more:
                return
        raise AssertionError("there is no end to it")

    async def cells(self, level: Level, table: str, name: str, since: datetime, units: int) -> Cells | None:
        """This will give everything that is stored of one field over some units; None where there is nothing.

        The table may be that of a scope, such as gpu@node.
        """
        since_us = moments.to_us(since)
        with self.database.connect() as connection:
            book = FieldBook(numbers(connection))
            found = look(
                connection, level, book, [book.number(table, name)],
                since_us=since_us, until_us=since_us + units * level.unit_us,
            )  # fmt: skip
        if not found:
            return None
        entity_ids = np.unique(np.concatenate([f.cells.entity_ids for f in found])).astype(np.int32)
        assert sum(int((f.cells.samples > 0).sum()) for f in found) == len(
            {(f.cells.layout_id, int(e), int(s)) for f in found for e, s in _present(f.cells)}
        ), "no cell is stored twice"
        return laid_out([f.cells for f in found], start_us=since_us, units=units, entity_ids=entity_ids)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """This will ask the database."""
        with psycopg.connect(self.database.url, autocommit=True, options="-c timezone=UTC") as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]  # a test's own


def _present(cells: Cells) -> list[tuple[int, int]]:
    entity = np.repeat(cells.entity_ids, cells.units)
    has = cells.samples > 0
    return list(zip(entity[has].tolist(), cells.unit_starts_us[has].tolist(), strict=True))
