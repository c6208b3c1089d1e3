"""Storing and reading samples on a real Postgres: dictionaries stay bounded, reasons stay true, growth is counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import psycopg
import pytest
from sqlalchemy import text

from control_plane.model.errors import StorageRefused, StorageUnavailable
from control_plane.model.reason import Reason
from control_plane.model.sample import KNOWN, HistogramColumn, Reading, SampleBlock
from control_plane.storage import readings
from control_plane.storage.dictionaries import RowDictionary, unknown_sets
from control_plane.storage.latest import DAY_US, newest
from control_plane.storage.partitions import ensure_days
from control_plane.storage.samples import SampleWriter, null_patterns
from control_plane.storage.schema import SAMPLE_TABLES
from control_plane.storage.session import Database, SyncConnection, storage_errors
from optiinfra.catalogue import TABLES
from tests.fakes.clock import START
from tests.support.postgres import with_database

START_US = round(START.timestamp() * 1e6)


@pytest.fixture
def connection(database_url: str) -> Iterator[SyncConnection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        ensure_days(connection, [START.date()])
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        yield connection


def block(watts: list[float | Reason], *, entity: int = 1) -> SampleBlock:
    """One GPU's power draw, a row each second; every other field was not sent."""
    spec = TABLES["gpu"]
    index = [f.name for f in spec.fields].index("power_draw_watts")
    codes = np.full((len(watts), len(spec.fields)), int(Reason.NOT_SENT), np.uint8)
    codes[:, index] = [int(w) if isinstance(w, Reason) else KNOWN for w in watts]
    return SampleBlock(
        table=spec,
        node_ids=np.ones(len(watts), np.int32),
        entity_ids=np.full(len(watts), entity, np.int32),
        taken_at_us=START_US + np.arange(len(watts), dtype=np.int64) * 1_000_000,
        codes=codes,
        columns={"power_draw_watts": np.array([0 if isinstance(w, Reason) else w for w in watts], np.float32)},
    )


def histogram_block(bounds: tuple[float, ...]) -> SampleBlock:
    spec = TABLES["inference"]
    codes = np.full((1, len(spec.fields)), int(Reason.NOT_SENT), np.uint8)
    codes[0, [f.name for f in spec.fields].index("ttft_seconds")] = KNOWN
    column = HistogramColumn(bounds=bounds, counts=np.ones((1, len(bounds) + 1), np.int64), sums=np.ones(1))
    return SampleBlock(
        table=spec,
        node_ids=np.ones(1, np.int32),
        entity_ids=np.ones(1, np.int32),
        taken_at_us=np.array([START_US], np.int64),
        codes=codes,
        columns={},
        histograms={"ttft_seconds": column},
    )


# -- dictionaries -------------------------------------------------------------------------------


def test_the_same_entry_has_one_id_in_every_process_and_scope_tells_entries_apart(connection: SyncConnection) -> None:
    one, two = unknown_sets(), unknown_sets()
    number = one.id_of(connection, {"a": "error", "b": "error"}, scope="gpu")
    assert two.id_of(connection, {"b": "error", "a": "error"}, scope="gpu") == number
    assert one.id_of(connection, {"a": "error", "b": "error"}, scope="host") != number


def test_an_entry_of_a_transaction_that_was_rolled_back_is_made_again(connection: SyncConnection) -> None:
    dictionary = unknown_sets()
    dictionary.id_of(connection, {"a": "error"}, scope="gpu")
    connection.rollback()
    dictionary.rolled_back()
    number = dictionary.id_of(connection, {"a": "error"}, scope="gpu")
    connection.commit()
    dictionary.committed()
    rows = connection.execute("SELECT unknown_set_id FROM unknown_set").fetchall()
    assert rows == [(number,)]


def test_a_full_dictionary_still_knows_its_entries_and_takes_no_new_one(connection: SyncConnection) -> None:
    dictionary = RowDictionary("unknown_set", "unknown_set_id", "reasons", most=2)
    for name in ("a", "b"):
        assert dictionary.takes({name: "error"}, scope="gpu")
        dictionary.id_of(connection, {name: "error"}, scope="gpu")
    assert dictionary.takes({"a": "error"}, scope="gpu")
    assert not dictionary.takes({"c": "error"}, scope="gpu")


async def test_when_the_dictionary_is_full_known_reasons_stay_true_and_new_ones_read_as_error(
    connection: SyncConnection, database: Database
) -> None:
    writer = SampleWriter()
    writer._unknown_sets = RowDictionary("unknown_set", "unknown_set_id", "reasons", most=1)
    for part in (block([Reason.DEVICE_LOST], entity=1), block([Reason.TIMED_OUT], entity=2), block([5.0], entity=3)):
        writer.write(connection, [part])
    writer.write(connection, [block([Reason.DEVICE_LOST], entity=4)])
    connection.commit()
    found = {r.entity_id: r for r in await stored(database)}
    assert {e: r.unknown.get("power_draw_watts") for e, r in found.items()} == {
        1: "device_lost", 2: "error", 3: None, 4: "device_lost",
    }  # fmt: skip
    assert found[3].values["power_draw_watts"] == 5.0
    assert "power_draw_watts" not in found[3].unknown, "a known value has no reason to be unknown"
    assert connection.execute("SELECT count(*) FROM unknown_set").fetchone() == (2,)


def test_histogram_bounds_without_end_are_refused_and_not_stored(connection: SyncConnection) -> None:
    writer = SampleWriter()
    writer._layouts = RowDictionary("histogram_layout", "layout_id", "bounds", most=1)
    writer.write(connection, [histogram_block((1.0,))])
    with pytest.raises(StorageRefused):
        writer.write(connection, [histogram_block((2.0,))])


async def stored(database: Database) -> list[Reading]:
    cache = readings.Dictionaries(database.engine)
    async with database.engine.connect() as reading:
        rows = (await reading.execute(SAMPLE_TABLES["gpu"].select())).all()
    await cache.load({row.unknown_set_id for row in rows}, set())
    maker = readings.ReadingMaker(rows, TABLES["gpu"], cache)
    return [maker.reading(row) for row in rows]


# -- blocks -------------------------------------------------------------------------------------


def test_rows_are_grouped_by_what_they_lack_and_every_row_is_in_one_group() -> None:
    found = block([1.0, Reason.ERROR, 2.0, Reason.TIMED_OUT, Reason.ERROR])
    groups = {tuple(rows.tolist()) for _, rows in null_patterns(found.codes)}
    assert groups == {(0, 2), (1, 4), (3,)}


def test_the_newest_moment_of_each_entity_is_found_whatever_the_order() -> None:
    ids, moments = newest(np.array([8, 7, 8, 7], np.int32), np.array([5, 1, 3, 2], np.int64))
    assert (ids.tolist(), moments.tolist()) == ([7, 8], [2, 5])


def latest_rows(connection: SyncConnection) -> dict[int, float]:
    return dict(connection.execute("SELECT entity_id, power_draw_watts FROM gpu_latest").fetchall())


def test_the_newest_row_of_an_entity_is_kept_over_writes_and_days_and_an_older_one_changes_nothing(
    connection: SyncConnection,
) -> None:
    writer = SampleWriter()
    first, later, older = block([1.0, 2.0]), block([3.0], entity=2), block([9.0])
    later.taken_at_us[:] = START_US + DAY_US
    older.taken_at_us[:] = START_US - 5_000_000
    with psycopg.connect(connection.info.dsn, password=connection.info.password, autocommit=True) as other:
        ensure_days(other, [START.date() + timedelta(days=1)])
    writer.write(connection, [first, later])
    assert latest_rows(connection) == {1: 2.0, 2: 3.0}
    writer.write(connection, [older, block([4.0], entity=3)])
    assert latest_rows(connection) == {1: 2.0, 2: 3.0, 3: 4.0}
    again = block([5.0])
    again.taken_at_us[:] = START_US + DAY_US
    writer.write(connection, [again])
    assert latest_rows(connection) == {1: 5.0, 2: 3.0, 3: 4.0}


def test_two_rows_of_one_entity_and_moment_do_not_stop_its_newest_row(connection: SyncConnection) -> None:
    SampleWriter().write(connection, [block([1.0]), block([1.0])])
    assert latest_rows(connection) == {1: 1.0}


# -- growth of counters -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "growth"),
    [
        ([0, 10, 30], 30.0),
        ([0, 10, None, 100, 110], 110.0),  # what grew while the value was unknown has grown all the same
        ([None, 5, None, 8, None], 3.0),
        ([50, 60, 5, 7], 17.0),  # a reset: counted from zero
        ([5], None),
        ([None, None], None),
    ],
)
async def test_a_counter_s_growth_counts_all_that_is_known_and_nothing_else(
    values: list[float | None], growth: float | None, database: Database, connection: SyncConnection
) -> None:
    for second, value in enumerate(values):
        connection.execute(
            "INSERT INTO gpu_sample (taken_at, node_id, entity_id, energy_joules_total) VALUES (%s, 1, 1, %s)",
            (START + timedelta(seconds=second), value),
        )
    connection.commit()
    field = TABLES["gpu"].field("energy_joules_total")
    (bucket,) = await readings.history(
        database.engine, "gpu", field, [1], since=START, until=START + timedelta(hours=1), step=timedelta(hours=1)
    )
    assert bucket.increase == growth
    assert (bucket.samples, bucket.known) == (len(values), len([v for v in values if v is not None]))


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT 1/0", StorageRefused),
        ("SELECT 'x'::jsonb", StorageRefused),
        ("INSERT INTO ingest_cursor VALUES (999, 'e', 1, now())", StorageRefused),
        ("SELECT * FROM there_is_none", StorageUnavailable),
        ("SET TRANSACTION READ ONLY; INSERT INTO gpu_latest (entity_id) VALUES (1)", StorageUnavailable),
        ("SET statement_timeout = 1; SELECT pg_sleep(1)", StorageUnavailable),
        ("SELECT pg_terminate_backend(pg_backend_pid())", StorageUnavailable),
    ],
)
def test_only_what_is_wrong_with_the_data_refuses_it_all_else_makes_it_wait(
    statement: str, kind: type[Exception], connection: SyncConnection
) -> None:
    with pytest.raises(kind), storage_errors():
        connection.execute(statement)


async def test_an_error_of_the_pool_is_judged_like_the_driver_s(database: Database, database_url: str) -> None:
    with pytest.raises(StorageRefused), storage_errors():
        async with database.engine.connect() as reading:
            await reading.execute(text("SELECT 1/0"))
    gone = Database(with_database(database_url, "optiinfra_there_is_none"))
    with pytest.raises(StorageUnavailable), storage_errors():
        await gone.ping()
    await gone.close()
