"""A fleet's past, put into the database as the jobs would have left it: weeks of rollups, and the newest samples.

One day is generated sample by sample and rolled up by the product's own code. Earlier days are that day again: what
a question costs does not depend on the numbers. Weeks of raw samples would fill this machine and are read by none of
the questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from psycopg import sql

from benchmarks.history import Ticks, block_of, in_time_order
from control_plane.storage import migrations, moments, partitions
from control_plane.storage.rollups import fields, marks, store
from control_plane.storage.rollups.blocks import FieldCells
from control_plane.storage.rollups.cells import Cells, laid_out
from control_plane.storage.rollups.closing import gathered, hours_of
from control_plane.storage.rollups.minutes import Predecessors, grid_of, rolled_field
from control_plane.storage.rollups.scopes import NodesOf, Together
from control_plane.storage.rollups.store import DAY_US, HOUR, HOUR_US, MINUTE, FieldBook
from control_plane.storage.sample_rows import SampleRows
from control_plane.storage.samples import SampleWriter
from control_plane.storage.session import Database, SyncConnection
from optiinfra.catalogue import TABLES

GPUS_PER_NODE = 8
# Fields that questions name: gauges with many digits and with few, and a counter.
FIELDS = (
    "gpu_utilization_ratio", "sm_active_ratio", "power_draw_watts", "temperature_gpu_celsius", "memory_used_bytes",
    "energy_joules_total",
)  # fmt: skip
ENTITIES_AT_ONCE = 200
TICKS_PER_HOUR = 720


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How much there is: `nodes` of eight GPUs, `days` of rollups before `until`, samples from then to `now`."""

    nodes: int
    days: int
    now: datetime

    @property
    def until(self) -> datetime:
        """This will give the hour up to which all is rolled up."""
        return self.now.replace(minute=0, second=0, microsecond=0)

    @property
    def gpus(self) -> range:
        """This will give the ids of the GPUs."""
        return range(1, self.nodes * GPUS_PER_NODE + 1)


def node_of(gpu: int) -> int:
    """This will give the node of a GPU."""
    return (gpu - 1) // GPUS_PER_NODE + 1


def fill(database: Database, past: Past) -> None:
    """This will make the schema and all of the past."""
    migrations.upgrade(database.url)
    with database.connect(autocommit=True) as connection:
        _introduce(connection, past)
        days = [(past.until - timedelta(days=n)).date() for n in range(past.days + 2)]
        partitions.ensure_rollups(connection, days)
        partitions.ensure_days(
            connection, [past.until.date() - timedelta(days=1), *partitions.days_ahead(past.until.date())]
        )
        _roll_one_day(connection, past)
        _repeat(connection, past)
        for name in ("minute", "hour", marks.CLOSED):
            marks.advance(connection, name, moments.to_us(past.until))
        marks.advance(connection, "day", moments.to_us(past.until) // DAY_US * DAY_US)
        connection.execute("ANALYZE rollup_minute")
        connection.execute("ANALYZE rollup_hour")
    _store_samples(database, past)


def _introduce(connection: SyncConnection, past: Past) -> None:
    connection.execute(
        "INSERT INTO node (node_id, agent_id, name, agent_version, replayed, attributes, first_seen_at, connected_at) "
        "OVERRIDING SYSTEM VALUE SELECT n, 'agent-' || n, 'node-' || lpad(n::text, 4, '0'), '0', false, '{}', %s, %s "
        "FROM generate_series(1, %s) n",
        (past.until - timedelta(days=past.days), past.now, past.nodes),
    )
    connection.execute(
        "INSERT INTO entity (entity_id, node_id, kind, key, attributes, first_seen_at, last_seen_at, state_since) "
        "OVERRIDING SYSTEM VALUE SELECT g, (g - 1) / 8 + 1, 2, 'GPU-' || lpad(g::text, 6, '0'), "
        "jsonb_build_object('index', (g - 1) %% 8, 'name', 'NVIDIA H200'), %s, %s, %s FROM generate_series(1, %s) g",
        (past.until, past.now, past.until, len(past.gpus)),
    )


def _cells(
    past: Past, gpus: Sequence[int], hour_us: int, before: dict[str, Predecessors]
) -> Iterator[tuple[str, Cells]]:
    """This will roll one hour of some GPUs up, field by field."""
    ticks = Ticks(start_us=hour_us, count=TICKS_PER_HOUR)
    blocks = [block_of(TABLES["gpu"], node=node_of(g), entity=g, ticks=ticks, only=FIELDS) for g in gpus]
    rows = SampleRows(
        table="gpu",
        entity_ids=np.concatenate([block.entity_ids for block in blocks]),
        taken_at_us=np.concatenate([block.taken_at_us for block in blocks]),
        unknown_set_ids=np.zeros(len(gpus) * TICKS_PER_HOUR, np.int32),
        columns={name: np.concatenate([block.columns[name] for block in blocks]) for name in FIELDS},
    )
    grid = grid_of(rows, start_us=hour_us, units=60)
    for name in FIELDS:
        known = before.setdefault(name, Predecessors())
        yield name, rolled_field(rows, grid, TABLES["gpu"].field(name), known, lambda _: {})


def _roll_one_day(connection: SyncConnection, past: Past) -> None:
    """This will make the last whole day of hours before `until`, minutes and hours, of GPUs, nodes and the fleet."""
    book = FieldBook(fields.numbers(connection))
    nodes_of, hours = NodesOf(), []
    begin_us = moments.to_us(past.until) - DAY_US
    for hour_us in range(begin_us, begin_us + DAY_US, HOUR_US):
        together = Together(book, nodes_of, "gpu")
        parts: dict[str, list[Cells]] = {}
        for first in range(0, len(past.gpus), ENTITIES_AT_ONCE):
            for name, cells in _cells(past, past.gpus[first : first + ENTITIES_AT_ONCE], hour_us, {}):
                parts.setdefault(name, []).append(cells)
        ids = np.array(past.gpus, np.int32)
        found = []
        for name, mine in parts.items():
            cells = laid_out(mine, start_us=hour_us, units=60, entity_ids=ids)
            number = book.number("gpu", name)
            found.append(FieldCells(field_id=number, exact=book.exact(number), cells=cells))
        together.add(connection, found)
        found += [*together.of_nodes(), *together.of_fleet()]
        with connection.transaction():
            store.insert(connection, MINUTE, found)
        hours += list(hours_of(found))
    with connection.transaction():
        store.insert(connection, HOUR, gathered(hours, HOUR))


def _repeat(connection: SyncConnection, past: Past) -> None:
    """This will put the same day before itself, as often as there are days."""
    for level in (MINUTE, HOUR):
        columns = sql.SQL(", ").join(sql.Identifier(name) for name in store.COLUMNS if name != "start")
        for days in range(1, past.days):
            connection.execute(
                sql.SQL(
                    "INSERT INTO {table} (start, {columns}) SELECT start - %s, {columns} FROM {table} WHERE start >= %s"
                ).format(table=sql.Identifier(level.table), columns=columns),
                (timedelta(days=days), past.until - timedelta(days=1, hours=23)),
            )


def _store_samples(database: Database, past: Past) -> None:
    """This will store the samples since `until`, and with them the newest row of each GPU."""
    writer = SampleWriter()
    seconds = (past.now - past.until).total_seconds()
    for table in ("gpu", "gpu_health"):
        interval = 5 if table == "gpu" else 60
        ticks = Ticks(
            start_us=moments.to_us(past.until), count=max(1, int(seconds / interval)), interval_us=interval * 1_000_000
        )
        for first in range(0, len(past.gpus), ENTITIES_AT_ONCE):
            gpus = past.gpus[first : first + ENTITIES_AT_ONCE]
            blocks = [block_of(TABLES[table], node=node_of(g), entity=g, ticks=ticks) for g in gpus]
            with database.connect() as connection:
                for block in in_time_order(blocks, 60_000_000):
                    writer.write(connection, [block])
            writer.committed()


def of_now() -> datetime:
    """This will give the present."""
    return datetime.now(UTC)
