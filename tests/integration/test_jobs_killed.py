"""Rollups and packing under SIGKILL: every sample is in every rollup once, and stored once, whenever it came."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.history import take_rows
from control_plane.model.sample import SampleBlock
from control_plane.storage.rollups.cells import Cells
from control_plane.storage.rollups.store import HOUR, MINUTE
from control_plane.storage.session import Database
from optiinfra.catalogue import TABLES
from tests.integration.test_packing import BEGIN, ENTITIES, PackingWorld, blocks, same, some_unknown
from tests.support.postgres import PostgresForTests

LIVES = 12
SEED = 11
FIELDS = {
    "gpu": ("power_draw_watts", "energy_joules_total", "clock_event_reasons_bits"),
    "inference": ("ttft_seconds",),
}


@contextmanager
def process(url: str, now: str, holder: str) -> Iterator[subprocess.Popen[str]]:
    """Runs the jobs, and kills whatever is left of them."""
    command = [sys.executable, "-m", "tests.support.jobs_process", url, now, holder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture
async def simple_world(postgres_server: PostgresForTests) -> AsyncIterator[PackingWorld]:
    """Another database, in which nothing is ever interrupted or late."""
    url = postgres_server.migrated()
    database = Database(url)
    world = PackingWorld(database, BEGIN)
    yield world
    world.close()
    await database.close()
    postgres_server.drop(url)


@pytest.fixture
def world(database: Database) -> Iterator[PackingWorld]:
    world = PackingWorld(database, BEGIN)
    yield world
    world.close()


def same_but_for_numbers_of_sets(world: PackingWorld, other: PackingWorld, table: str) -> None:
    """Two databases number their sets of reasons each in the order in which they come."""
    found, truth = world.everything(table), other.everything(table)
    reasons = []
    for each, rows in ((world, found), (other, truth)):
        known = dict(each.rows("SELECT unknown_set_id, reasons::text FROM unknown_set"))
        reasons.append([known.get(number) for number in rows.unknown_set_ids.tolist()])
    assert reasons[0] == reasons[1]
    same(found, replace(truth, unknown_set_ids=found.unknown_set_ids))


def alike(found: Cells | None, truth: Cells | None) -> None:
    """An hour is made of its minutes as they are stored, or as they are just made: sums of float4 or of float8."""
    assert found is not None
    assert truth is not None
    for name in ("entity_ids", "samples", "known", "buckets", "entities"):
        np.testing.assert_array_equal(getattr(found, name), getattr(truth, name), err_msg=name)
    for name, values in found.statistics.items():
        np.testing.assert_allclose(values, truth.statistics[name], rtol=1e-6, err_msg=name)


def next_life_after(life: int) -> timedelta:
    """The day is rolled up as it goes by, is over after some lives, and due for packing in the last ones."""
    return timedelta(minutes=25) if life < 4 else timedelta(hours=13) if life < 7 else timedelta(minutes=1)


def parts_of(block: SampleBlock, part: npt.NDArray[np.int64]) -> list[SampleBlock]:
    return [take_rows(block, np.flatnonzero(part == number)) for number in range(LIVES)]


@pytest.mark.slow
async def test_whenever_the_jobs_are_killed_every_sample_counts_once(
    world: PackingWorld, simple_world: PackingWorld
) -> None:
    chance = random.Random(SEED)
    whole = {table: some_unknown(blocks(table, ENTITIES[table][1])) for table in ("gpu", "inference")}
    simple_world.store(*whole.values())
    # In time, late for its minute, late for its hour, and backfilled when its day is packed already.
    drawn = {table: np.array([chance.randrange(LIVES) for _ in range(len(block))]) for table, block in whole.items()}
    parts = {table: parts_of(block, drawn[table]) for table, block in whole.items()}
    world.now = BEGIN + timedelta(minutes=5)
    for life in range(LIVES):
        with process(world.database.url, world.now.isoformat(), f"life-{life}") as jobs:
            assert jobs.stdout is not None
            assert jobs.stdout.readline() == "begins\n"
            time.sleep(chance.random() * 0.7)  # not a wait for anything: the moment at which it is killed
            world.store(*(parts[table][life] for table in parts if len(parts[table][life])))
            time.sleep(chance.random() * 0.7)
            os.kill(jobs.pid, signal.SIGKILL)
        world.now += next_life_after(life)
    for each in (world, simple_world):
        each.now = world.now
        each.work()
        each.pack()
        each.work()
    assert world.rows("SELECT (SELECT count(*) FROM rollup_due) + (SELECT count(*) FROM packing_due)") == [(0,)]
    assert world.rows("SELECT count(*) > 0 FROM packed_sample") == [(True,)]
    for table in whole:
        assert world.loose(table) == 0
        same_but_for_numbers_of_sets(world, simple_world, table)
        for name in FIELDS[table]:
            assert name in {field.name for field in TABLES[table].fields}
            for level, units in ((MINUTE, 140), (HOUR, 3)):
                since = BEGIN.replace(minute=0)
                found = await world.cells(level, table, name, since, units)
                truth = await simple_world.cells(level, table, name, since, units)
                alike(found, truth)
                if table == "gpu" and name != "clock_event_reasons_bits":
                    for scope in ("gpu@node", "gpu@fleet"):
                        alike(
                            await world.cells(level, scope, name, since, units),
                            await simple_world.cells(level, scope, name, since, units),
                        )
