"""What SQL users may build on, read as the role that they get: the views and functions of docs/history.md."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row

from control_plane.model.reason import Reason
from control_plane.storage import sql_contract
from control_plane.storage.rollups.blocks import quantile_bins
from control_plane.storage.rollups.sketches import values_of
from control_plane.storage.rollups.store import HOUR, MINUTE, Level
from control_plane.storage.session import Database
from tests.integration.test_packing import BEGIN, ENTITIES, PackingWorld, blocks, some_unknown
from tests.support.rollups import Row, block

WATTS, JOULES = "power_draw_watts", "energy_joules_total"
SINCE, UNTIL = BEGIN.replace(minute=0), BEGIN.replace(minute=0) + timedelta(hours=3)


@pytest.fixture
def world(database: Database) -> Iterator[PackingWorld]:
    world = PackingWorld(database, BEGIN)
    world.work()
    yield world
    world.close()


@pytest.fixture
def reader(world: PackingWorld) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """Somebody with the role and nothing else."""
    with psycopg.connect(world.database.url, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("SET ROLE optiinfra_reader")
        connection.execute("SET timezone = 'UTC'")
        yield connection


def fill(world: PackingWorld) -> None:
    chance = random.Random(2)
    rows = [
        Row(entity=e, at=BEGIN + timedelta(seconds=20 * n), values={
            WATTS: Reason.TIMED_OUT if chance.random() < 0.1 else float(np.float32(200 + 50 * chance.random())),
            JOULES: 100.0 * n, "clock_event_reasons_bits": float(chance.choice((0, 4))),
        })
        for e in (1, 2) for n in range(240)
    ]  # fmt: skip
    world.store(block("gpu", rows), *(blocks(table, ENTITIES[table][1]) for table in ("host", "inference")))
    world.advance(hours=4)


def test_every_view_can_be_read_and_says_what_its_table_says(
    world: PackingWorld, reader: psycopg.Connection[dict[str, Any]]
) -> None:
    fill(world)
    for name, (columns, _) in sql_contract.views().items():
        found = reader.execute(f"SELECT * FROM {name}")  # type: ignore[arg-type]
        assert [column.name for column in found.description or ()] == list(columns)
    (newest,) = reader.execute("SELECT * FROM optiinfra_gpu_latest WHERE gpu = 'thing-1'").fetchall()
    assert (newest["node"], newest[JOULES]) == ("node-1", 23_900.0)
    ((every, known),) = world.rows("SELECT count(*), count(power_draw_watts) FROM gpu_sample")
    query = "SELECT count(*) AS every, count(power_draw_watts) AS known FROM optiinfra_gpu_samples"
    assert reader.execute(query).fetchall() == [{"every": every, "known": known}]
    (why,) = reader.execute(
        "SELECT DISTINCT unknown->>'power_draw_watts' AS why FROM optiinfra_gpu_samples WHERE power_draw_watts IS NULL"
    ).fetchall()
    assert why == {"why": "timed_out"}


@pytest.mark.parametrize("statement", [
    "SELECT * FROM gpu_sample", "SELECT * FROM enrolment", "DELETE FROM optiinfra_gpu_latest",
    "SELECT * FROM optiinfra_rolled_up('rollup_hour', '1h', '1d', 'power_draw_watts', now(), now(), 'gpu', NULL)",
    "CREATE TABLE mine (n int)", "INSERT INTO optiinfra_fields VALUES ('a', 'b')",
])  # fmt: skip
def test_the_role_reads_the_contract_and_nothing_else(
    reader: psycopg.Connection[dict[str, Any]], statement: str
) -> None:
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
        reader.execute(statement)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("level", "function", "units"), [(MINUTE, "optiinfra_minutes", 120), (HOUR, "optiinfra_hours", 3)]
)
@pytest.mark.parametrize("of", ["gpu", "gpu@node", "gpu@fleet"])
async def test_rollups_in_sql_are_the_api_s(
    world: PackingWorld, reader: psycopg.Connection[dict[str, Any]], level: Level, function: str, units: int, of: str
) -> None:
    fill(world)
    for name in (WATTS, JOULES) if "@" in of else (WATTS, JOULES, "clock_event_reasons_bits"):
        cells = await world.cells(level, of, name, SINCE, units)
        assert cells is not None
        p95 = values_of(quantile_bins(cells, 0.95)) if name == WATTS else None
        rows = reader.execute(
            f"SELECT * FROM {function}(%s, %s, %s, %s) ORDER BY id, start",
            (name, SINCE, SINCE + timedelta(hours=units), of),  # type: ignore[arg-type]
        ).fetchall()
        there = np.flatnonzero(cells.samples > 0)
        assert len(rows) == len(there) > 1
        for row, cell in zip(rows, there, strict=True):
            assert row["id"] == cells.entity_ids[cell // cells.units]
            assert (row["samples"], row["known"]) == (cells.samples[cell], cells.known[cell])
            assert row["gpus"] == (None if cells.entities is None else cells.entities[cell])
            for statistic, values in cells.statistics.items():
                if statistic in row:
                    assert alike(row[statistic], values[cell]), (name, statistic)
            if p95 is not None and cells.known[cell]:
                assert row["p95"] == pytest.approx(p95[cell])
        expected = {"gpu": ("node-1", "thing-1"), "gpu@node": ("node-1", None), "gpu@fleet": (None, None)}[of]
        assert (rows[0]["node"], rows[0]["key"]) == expected


def alike(value: float | None, expected: float) -> bool:
    return value is None if np.isnan(expected) else value == pytest.approx(expected, rel=1e-6)


def test_a_stretch_and_some_things_can_be_picked(
    world: PackingWorld, reader: psycopg.Connection[dict[str, Any]]
) -> None:
    fill(world)
    since, until = BEGIN + timedelta(minutes=10), BEGIN + timedelta(minutes=13)
    rows = reader.execute(
        "SELECT id, start FROM optiinfra_minutes(%s, %s, %s, ids => ARRAY[2]) ORDER BY start", (WATTS, since, until)
    ).fetchall()
    assert [(row["id"], row["start"]) for row in rows] == [(2, since + timedelta(minutes=n)) for n in range(3)]
    for function in ("optiinfra_minutes", "optiinfra_hours"):
        for name in (WATTS, JOULES):
            asked = (name, SINCE, SINCE + timedelta(hours=3))
            every = reader.execute(f"SELECT * FROM {function}(%s, %s, %s) ORDER BY start", asked).fetchall()  # type: ignore[arg-type]
            picked = reader.execute(
                f"SELECT * FROM {function}(%s, %s, %s, ids => ARRAY[9, 2]) ORDER BY start",
                asked,  # type: ignore[arg-type]
            ).fetchall()
            assert picked == [row for row in every if row["id"] == 2] != []
    plan = "\n".join(str(line) for line in world.rows(
        f"SELECT * FROM optiinfra_samples('{WATTS}', '{since.isoformat()}', '{until.isoformat()}') LIMIT 3"
    ))  # fmt: skip
    assert "thing-1" in plan


@pytest.mark.parametrize(("table", "name"), [("gpu", WATTS), ("gpu", JOULES), ("host", "cpu_busy_ratio")])
def test_samples_in_sql_are_the_same_before_and_after_their_day_is_packed(
    world: PackingWorld, reader: psycopg.Connection[dict[str, Any]], table: str, name: str
) -> None:
    world.store(some_unknown(blocks(table, ENTITIES[table][1])))
    question = "SELECT * FROM optiinfra_samples(%s, %s, %s, %s) ORDER BY id, taken_at"
    asked = (name, BEGIN + timedelta(minutes=7), BEGIN + timedelta(minutes=83), table)
    before = reader.execute(question, asked).fetchall()
    assert len(before) > 60
    world.later(days=2, hours=1)
    world.pack()
    assert world.loose(table) == 0
    assert same(reader.execute(question, asked).fetchall(), before)


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """A float4 made a float8 in another way may differ in the last bit of it."""

    def plain(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return [
            (r["id"], r["node"], r["key"], r["taken_at"], None if r["value"] is None else float(np.float32(r["value"])))
            for r in rows
        ]  # fmt: skip

    return plain(found) == plain(expected)


def test_what_does_not_exist_is_said(reader: psycopg.Connection[dict[str, Any]]) -> None:
    for function in sql_contract.FUNCTIONS:
        with pytest.raises(psycopg.errors.RaiseException, match="optiinfra_fields lists"):
            reader.execute(f"SELECT * FROM {function}('no_such', now() - interval '1h', now())")  # type: ignore[arg-type]


def test_a_view_only_grows_and_at_its_end(world: PackingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = dict(sql_contract.views())
    with world.database.connect(autocommit=True) as connection:
        assert not sql_contract.install(connection), "nothing has changed since the migrations"
        columns, source = wanted["optiinfra_nodes"]
        grown: Mapping[str, str] = {"new_one": "1", **{k: v for k, v in columns.items() if k != "agent_version"}}
        monkeypatch.setattr(sql_contract, "views", lambda: {**wanted, "optiinfra_nodes": (grown, source)})
        assert sql_contract.install(connection)
        found = connection.execute("SELECT * FROM optiinfra_nodes").description or ()
    assert [column.name for column in found] == [*columns, "new_one"]
    assert world.rows("SELECT agent_version FROM optiinfra_nodes") == [(None,)]


def test_a_role_that_has_lost_its_rights_gets_them_at_the_next_start(world: PackingWorld) -> None:
    with world.database.connect(autocommit=True) as connection:
        connection.execute("REVOKE SELECT ON optiinfra_nodes FROM optiinfra_reader")
        assert sql_contract.install(connection)
        connection.execute("SET ROLE optiinfra_reader")
        connection.execute("SELECT * FROM optiinfra_nodes")


def test_the_documentation_names_all_of_it_and_nothing_else() -> None:
    text = (Path(__file__).parents[2] / "docs" / "history.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(optiinfra_[a-z_]+)", text))
    tables = {name for name in sql_contract.views() if re.fullmatch(r"optiinfra_.*_(samples|latest)", name)}
    fixed = set(sql_contract.views()) - tables
    assert named - tables - {"optiinfra_move"} == fixed | set(sql_contract.FUNCTIONS) | {sql_contract.READER}
