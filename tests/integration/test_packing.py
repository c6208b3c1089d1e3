"""Packing on a real Postgres: every bit is there afterwards, once, at every moment, and in plain SQL too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from benchmarks.history import Ticks, block_of, joined, take_rows
from control_plane.model.sample import SampleBlock
from control_plane.storage import moments, partitions, sample_rows
from control_plane.storage.packing import store
from control_plane.storage.packing.blocks import packed_columns
from control_plane.storage.packing.job import PackingJob
from control_plane.storage.rollups import fields, marks
from control_plane.storage.rollups.cells import Cells
from control_plane.storage.rollups.store import HOUR, MINUTE
from control_plane.storage.sample_rows import SampleRows, Stretch
from control_plane.storage.session import Database
from optiinfra.catalogue import TABLES
from tests.fakes.clock import START
from tests.support.postgres import PostgresForTests
from tests.support.rollups import RollupWorld

DAY = date(2026, 3, 4)
BEGIN = datetime(2026, 3, 4, 9, 40, tzinfo=START.tzinfo)
TICKS = 100  # a minute apart: an hour boundary and more
ENTITIES = {"gpu": (2, [1, 2, 3]), "host": (1, [4]), "inference": (6, [5, 6]), "gpu_process": (11, [7])}


class PackingWorld(RollupWorld):
    """A database whose days become old."""

    def __init__(self, database: Database, start: datetime) -> None:
        super().__init__(database, start)
        self.packing = PackingJob(database, holder="first", now=lambda: self.now, after=timedelta(days=1))
        for kind, ids in ENTITIES.values():
            self.entities(*ids, kind=kind)

    def close(self) -> None:
        """This will close what the jobs hold open."""
        super().close()
        self.packing.close()

    def later(self, **duration: float) -> None:
        """This will let time pass, with rollups made of all of it as far as packing can see."""
        self.now += timedelta(**duration)
        with self.database.connect(autocommit=True) as connection:
            until = moments.to_us(self.now) // 3_600_000_000 * 3_600_000_000
            for name in (marks.CLOSED, "minute", "hour"):
                marks.advance(connection, name, until)

    def pack(self, most: int = 10_000) -> int:
        """This will do all packing that is due, at most so many steps, and give their number."""
        for step in range(most):
            if not self.packing.work().more:
                return step
        return most

    def everything(self, table: str) -> SampleRows:
        """This will read all samples of a table, wherever they lie, in order."""
        scalars = [n for n, kind in packed_columns(table).items() if not kind.endswith("[]") and n != "unknown_set_id"]
        since = moments.to_us(BEGIN - timedelta(days=2))
        stretch = Stretch(since_us=since, until_us=since + 10 * 86_400_000_000)
        with self.database.connect() as connection:
            return store.read_all(connection, table, scalars, fields.numbers(connection), stretch)

    def loose(self, table: str) -> int:
        """This will count the samples that are not packed."""
        ((count,),) = self.rows(f"SELECT count(*) FROM {table}_sample")
        return int(str(count))


@pytest.fixture
def world(database: Database) -> Iterator[PackingWorld]:
    world = PackingWorld(database, BEGIN)
    world.work()
    yield world
    world.close()


def blocks(table: str, entities: Sequence[int], *, start: datetime = BEGIN, ticks: int = TICKS) -> SampleBlock:
    unsupported = [f.name for f in TABLES[table].fields][3:9:2]
    when = Ticks(start_us=moments.to_us(start), count=ticks, interval_us=60_000_000)
    return joined([
        block_of(TABLES[table], node=1, entity=e, ticks=when, without=unsupported if e % 2 else ()) for e in entities
    ])  # fmt: skip


def some_unknown(block: SampleBlock) -> SampleBlock:
    """Makes values unknown here and there."""
    chance = np.random.default_rng(5)
    codes = block.codes.copy()
    codes[chance.random(codes.shape) < 0.03] = 4
    return SampleBlock(
        table=block.table, node_ids=block.node_ids, entity_ids=block.entity_ids, taken_at_us=block.taken_at_us,
        codes=codes, columns=block.columns, histograms=block.histograms, extra=block.extra,
    )  # fmt: skip


def same(left: SampleRows, right: SampleRows) -> None:
    np.testing.assert_array_equal(left.entity_ids, right.entity_ids)
    np.testing.assert_array_equal(left.taken_at_us, right.taken_at_us)
    np.testing.assert_array_equal(left.unknown_set_ids, right.unknown_set_ids)
    assert left.columns.keys() == right.columns.keys()
    for name, values in left.columns.items():
        np.testing.assert_array_equal(values, right.columns[name], err_msg=name)


def arrays_of(url: str, table: str) -> list[tuple[Any, ...]]:
    """Every array of every loose row, by entity and time."""
    names = [n for n, kind in packed_columns(table).items() if kind.endswith("[]")]
    if not names:
        return []
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            f"SELECT {', '.join(names)} FROM {table}_sample ORDER BY entity_id, taken_at"  # type: ignore[arg-type]
        ).fetchall()
    single = dict(packed_columns(table))
    return [
        tuple(
            np.array(cell, np.float32).tolist() if cell is not None and single[name] == "real[]" else cell
            for name, cell in zip(names, row, strict=True)
        )
        for row in rows
    ]


def packed_arrays_of(world: PackingWorld, table: str) -> list[tuple[Any, ...]]:
    """The same of packed rows."""
    names = [n for n, kind in packed_columns(table).items() if kind.endswith("[]")]
    since = moments.to_us(BEGIN)
    stretch = Stretch(since_us=since, until_us=since + 86_400_000_000)
    found = []
    with world.database.connect() as connection:
        for part in store.read(connection, table, names, fields.numbers(connection), stretch):
            for row in range(len(part)):
                cells = [part.columns[n][row].tolist() if n in part.columns else None for n in names]
                plain = tuple(None if c is None or np.isnan(c).any() else c for c in cells)
                found.append((part.entity_ids[row], part.taken_at_us[row], plain))
    return [cells for _, _, cells in sorted(found, key=lambda row: row[:2])]


@pytest.mark.parametrize("table", ENTITIES)
def test_every_bit_of_a_packed_day_is_what_it_was(world: PackingWorld, table: str) -> None:
    world.store(some_unknown(blocks(table, ENTITIES[table][1])))
    before, arrays = world.everything(table), arrays_of(world.database.url, table)
    world.later(days=2, hours=1)
    world.pack()
    assert world.loose(table) == 0
    same(world.everything(table), before)
    if arrays:
        assert packed_arrays_of(world, table) == arrays


@pytest.mark.slow
@pytest.mark.parametrize("table", ENTITIES)
def test_plain_sql_unpacks_to_the_same_numbers(world: PackingWorld, table: str) -> None:
    world.store(some_unknown(blocks(table, ENTITIES[table][1])))
    before = world.everything(table)
    world.later(days=2, hours=1)
    world.pack()
    with world.database.connect() as connection:
        numbers = fields.numbers(connection)
        for name, values in before.columns.items():
            rows = connection.execute(
                "SELECT entity_id, (at.hour + at.unpacked[i] * interval '1 microsecond'), v[(e - 1) * p.samples + i] "
                "FROM (SELECT p.*, optiinfra_unpacked(p) AS v FROM packed_sample p WHERE field_id = %s) p "
                "JOIN (SELECT p.*, optiinfra_unpacked(p) AS unpacked FROM packed_sample p WHERE field_id = %s) at "
                "USING (hour, node_id, block), unnest(p.entity_ids) WITH ORDINALITY AS of(entity_id, e), "
                "generate_series(1, p.samples) AS i ORDER BY 1, 2",
                (numbers[table, name], numbers[table, "taken_at"]),
            ).fetchall()
            found = {(entity, moments.to_us(at)): value for entity, at, value in rows if value is not None}
            known = ~np.isnan(values)
            keys = zip(before.entity_ids[known].tolist(), before.taken_at_us[known].tolist(), strict=True)
            expected = dict(zip(keys, values[known].tolist(), strict=True))
            assert found.keys() == expected.keys(), name
            single = values.dtype == np.float32
            for key, value in found.items():
                assert (float(np.float32(value)) if single else value) == expected[key], name


def test_a_day_is_packed_when_it_has_been_over_for_a_day_and_not_before(world: PackingWorld) -> None:
    world.store(blocks("gpu", [1, 2]))
    world.later(days=1, hours=14)  # the day has been over for less
    assert world.pack() == 0
    world.later(hours=1)
    assert world.pack() > 0
    assert world.loose("gpu") == 0


@pytest.mark.slow
def test_until_the_last_step_nothing_changes_for_readers(world: PackingWorld) -> None:
    world.store(blocks("gpu", [1, 2]), blocks("host", [4]))
    before = world.everything("gpu")
    world.later(days=2, hours=1)
    steps = 0
    while world.packing.work().more and world.loose("gpu"):
        steps += 1
        if steps % 40 == 0:
            same(world.everything("gpu"), before)
    assert steps > 100
    same(world.everything("gpu"), before)


def test_samples_that_come_while_their_day_is_packed_are_neither_lost_nor_doubled(world: PackingWorld) -> None:
    early = blocks("gpu", [1, 2])
    world.store(early)
    world.later(days=2, hours=1)
    assert world.pack(most=150) == 150, "in the midst of it"
    world.store(blocks("gpu", [3]), blocks("gpu", [1], start=BEGIN + timedelta(hours=5), ticks=7))
    before = world.everything("gpu")
    assert len(before) == len(early) + TICKS + 7
    world.pack()
    assert world.loose("gpu") == 0
    same(world.everything("gpu"), before)


def test_samples_that_come_for_a_packed_day_are_packed_beside_it(world: PackingWorld) -> None:
    world.store(blocks("gpu", [1, 2]))
    world.later(days=2, hours=1)
    world.pack()
    world.store(blocks("gpu", [3]), blocks("host", [4]))
    before = world.everything("gpu")
    assert world.loose("gpu") == TICKS
    assert len(before) == 3 * TICKS
    world.pack()
    assert (world.loose("gpu"), world.loose("host")) == (0, 0)
    same(world.everything("gpu"), before)
    assert world.rows("SELECT count(*) FROM packing_due") == [(0,)]


def test_a_step_that_died_is_done_again_and_nothing_is_there_twice(
    world: PackingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store(blocks("gpu", [1, 2]))
    before = world.everything("gpu")
    world.later(days=2, hours=1)
    advance, dies = store.insert, iter(range(10_000))

    def insert(*arguments: Any) -> int:
        count = advance(*arguments)
        if next(dies) % 7 == 3:
            raise ZeroDivisionError
        return count

    monkeypatch.setattr(store, "insert", insert)
    for _ in range(2000):
        try:
            if not world.packing.work().more:
                break
        except ZeroDivisionError:
            continue
    assert world.loose("gpu") == 0
    same(world.everything("gpu"), before)


@pytest.mark.slow
def test_a_reader_of_packed_samples_is_let_finish(world: PackingWorld) -> None:
    world.store(blocks("gpu", [1, 2]))
    world.later(days=2, hours=1)
    with world.database.connect() as reader:
        reader.execute("LOCK TABLE packed_sample IN ACCESS SHARE MODE")
        world.pack()
        assert world.loose("gpu") == 2 * TICKS
        reader.commit()
    world.pack()
    assert world.loose("gpu") == 0


def test_a_packed_day_is_dropped_when_retention_ends(world: PackingWorld) -> None:
    from control_plane.storage.partitions import drop_before

    world.store(blocks("gpu", [1, 2]))
    world.later(days=2, hours=1)
    world.pack()
    with world.database.connect(autocommit=True) as connection:
        assert store.partition_name(DAY) in drop_before(connection, DAY + timedelta(days=1))
    assert len(world.everything("gpu")) == 0


def test_arrays_of_several_lengths_in_an_hour_are_kept_apart(world: PackingWorld) -> None:
    one = blocks("host", [4], ticks=30)
    fewer = SampleBlock(
        table=one.table, node_ids=one.node_ids, entity_ids=one.entity_ids,
        taken_at_us=one.taken_at_us + 1_000_000, codes=one.codes,
        columns={**one.columns, "cpu_core_busy_ratio": one.columns["cpu_core_busy_ratio"][:, :3]}, extra=one.extra,
    )  # fmt: skip
    world.store(one, fewer)
    arrays = arrays_of(world.database.url, "host")
    world.later(days=2, hours=1)
    world.pack()
    assert packed_arrays_of(world, "host") == arrays
    assert {len(row[0]) for row in arrays} == {64, 3}


def test_reading_says_when_a_row_is_not_as_long_as_it_should_be(world: PackingWorld) -> None:
    world.store(blocks("host", [4], ticks=3))
    since = moments.to_us(BEGIN)
    stretch = Stretch(since_us=since, until_us=since + 3_600_000_000)
    with world.database.connect() as connection, pytest.raises(ValueError, match="another length"):
        sample_rows.read(connection, "host", ["cpu_core_busy_ratio"], stretch, widths={"cpu_core_busy_ratio": 5})


@pytest.fixture
async def simple_world(postgres_server: PostgresForTests) -> AsyncIterator[PackingWorld]:
    """Another database, for the same samples on a simpler way."""
    url = postgres_server.migrated()
    database = Database(url)
    world = PackingWorld(database, BEGIN)
    world.work()
    yield world
    world.close()
    await database.close()
    postgres_server.drop(url)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["gpu", "inference"])
async def test_rollups_of_a_packed_hour_are_made_of_packed_and_late_samples(
    world: PackingWorld, simple_world: PackingWorld, table: str
) -> None:
    """The same samples give the same rollups, whether all came in time, or some when the others had been packed."""
    every = blocks(table, ENTITIES[table][1])
    late = np.arange(len(every)) % 5 == 3
    simple_world.store(every)
    simple_world.advance(hours=4)
    world.store(take_rows(every, np.flatnonzero(~late)))
    world.advance(hours=4)
    world.later(days=2)
    world.pack()
    assert world.loose(table) == 0
    world.store(take_rows(every, np.flatnonzero(late)))
    world.work()
    for name in [f.name for f in TABLES[table].fields if f.type != "real[]"][::3]:
        for level, units in ((MINUTE, 140), (HOUR, 2)):
            since = BEGIN.replace(minute=0)
            found = await world.cells(level, table, name, since, units)
            truth = await simple_world.cells(level, table, name, since, units)
            assert described(found) == described(truth), (name, level.name)


def described(cells: Cells | None) -> list[object]:
    """All that cells say, in a form that can be compared."""
    if cells is None:
        return []
    numbers = {name: np.nan_to_num(values, nan=-1).round(6).tolist() for name, values in cells.statistics.items()}
    buckets = None if cells.buckets is None else cells.buckets.tolist()
    return [cells.entity_ids.tolist(), cells.samples.tolist(), cells.known.tolist(), numbers, buckets]


def test_a_day_may_be_partitioned_further(world: PackingWorld) -> None:
    """As docs/history-scaling.md has it lie on several servers; here its parts are tables of this one."""
    day, next_day = BEGIN.date(), BEGIN.date() + timedelta(days=1)
    name = partitions.partition_name("gpu", day)
    with world.database.connect(autocommit=True) as connection:
        for statement in (
            f"DROP TABLE IF EXISTS {name}",
            f"CREATE TABLE {name} (LIKE gpu_sample) PARTITION BY HASH (node_id)",
            f"CREATE TABLE {name}_0 PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
            f"CREATE TABLE {name}_1 PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
            f"ALTER TABLE gpu_sample ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{next_day}')",
        ):
            connection.execute(statement.encode())
        world.store(blocks("gpu", ENTITIES["gpu"][1]))
        partitions.summarize(connection, day)
        assert partitions.oldest_day(connection) == partitions.midnight(day)
        world.advance(hours=2)
        before = world.everything("gpu")
        assert len(before) == 3 * TICKS
        world.later(days=2)
        world.pack()
        assert world.loose("gpu") == 0
        same(world.everything("gpu"), before)
        assert name in partitions.drop_before(connection, next_day)
        assert connection.execute("SELECT to_regclass(%s)", (f"{name}_0",)).fetchone() == (None,)
