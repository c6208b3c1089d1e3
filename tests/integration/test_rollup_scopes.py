"""Rollups of nodes and of the fleet on a real Postgres: what their GPUs say together, however late some of it came."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest

from control_plane.model.reason import Reason
from control_plane.storage.rollups.blocks import quantile_bins
from control_plane.storage.rollups.cells import Cells
from control_plane.storage.rollups.sketches import values_of
from control_plane.storage.rollups.store import HOUR, MINUTE, Level
from control_plane.storage.session import Database
from tests.fakes.clock import START
from tests.support.rollups import RollupWorld, Row, block

WATTS, JOULES = "power_draw_watts", "energy_joules_total"
NODES = {1: [1, 2, 3], 2: [11], 7: [71, 72]}
LENGTH = 90 * 60
BEGIN = START.replace(minute=20)


@pytest.fixture
def world(database: Database) -> Iterator[RollupWorld]:
    world = RollupWorld(database, BEGIN)
    for node, entities in NODES.items():
        world.entities(*entities, node=node)
    world.work()
    yield world
    world.close()


def rows_of(chance: random.Random, entity: int) -> list[Row]:
    """Ninety minutes of one GPU, every 15 s: with holes, and an hour of which it says nothing."""
    out, joules = [], 0.0
    for n in range(LENGTH // 15):
        joules += chance.random() * 900
        watts = float(np.float32(100 * entity + chance.random() * 40))
        values = {WATTS: Reason.TIMED_OUT if chance.random() < 0.1 else watts, JOULES: round(joules, 3)}
        if not (entity == 72 and n > 100):
            out.append(Row(entity=entity, at=BEGIN + timedelta(seconds=15 * n + entity % 15), values=values))
    return out


def expected(rows: Sequence[Row], level: Level, units: int) -> list[tuple[int, int, float | None, float | None, float]]:
    """Of each unit: GPUs, samples, median and mean of power, growth of energy, worked out the long way."""
    begin, out = BEGIN.replace(minute=0), []
    for unit in range(units):
        since = begin + timedelta(microseconds=unit * level.unit_us)
        until = since + timedelta(microseconds=level.unit_us)
        mine = [row for row in rows if since <= row.at < until]
        known = sorted(w for row in mine if not isinstance(w := row.values[WATTS], Reason))
        grown = 0.0
        for entity in {row.entity for row in mine}:
            history = [row for row in rows if row.entity == entity]
            grown += sum(b.values[JOULES] - a.values[JOULES] for a, b in pairwise(history) if since <= b.at < until)
        median = known[math.ceil(len(known) / 2) - 1] if known else None
        mean = sum(known) / len(known) if known else None
        out.append((len({row.entity for row in mine}), len(mine), median, mean, grown))
    return out


def check(watts: Cells | None, joules: Cells | None, owners: dict[int, list[Row]], level: Level) -> None:
    assert watts is not None
    assert joules is not None
    assert watts.entities is not None
    assert watts.entity_ids.tolist() == joules.entity_ids.tolist() == sorted(owners)
    medians = values_of(quantile_bins(watts, 0.5))
    for place, owner in enumerate(sorted(owners)):
        for unit, (gpus, samples, median, mean, grown) in enumerate(expected(owners[owner], level, watts.units)):
            cell = place * watts.units + unit
            assert (watts.entities[cell], watts.samples[cell]) == (gpus, samples), (owner, unit)
            if median is not None:
                assert medians[cell] == pytest.approx(median, rel=0.0101)
                assert watts.statistics["mean"][cell] == pytest.approx(mean, rel=1e-5)
            if samples:
                assert np.nan_to_num(joules.statistics["increase"][cell]) == pytest.approx(grown, abs=0.01)


@pytest.mark.parametrize("late_hours", [None, 0.1, 3.0], ids=["in time", "late in the hour", "late after the hour"])
async def test_nodes_and_the_fleet_say_what_their_gpus_said(world: RollupWorld, late_hours: float | None) -> None:
    chance = random.Random(4)
    rows = {e: rows_of(chance, e) for entities in NODES.values() for e in entities}
    late = {e: [] if late_hours is None else [r for r in mine if chance.random() < 0.2] for e, mine in rows.items()}
    for node, entities in NODES.items():
        world.store(block("gpu", [r for e in entities for r in rows[e] if r not in late[e]], node=node))
    world.advance(hours=1.5)
    if late_hours is not None:
        world.advance(hours=late_hours)
        for node, entities in NODES.items():
            world.store(block("gpu", [r for e in entities for r in late[e]], node=node))
    world.advance(hours=2)
    by_node = {node: [r for e in entities for r in rows[e]] for node, entities in NODES.items()}
    fleet = {0: [r for mine in rows.values() for r in mine]}
    for level, units in ((MINUTE, 115), (HOUR, 2)):
        for scope, owners in (("gpu@node", by_node), ("gpu@fleet", fleet)):
            watts, joules = [
                await world.cells(level, scope, name, BEGIN.replace(minute=0), units) for name in (WATTS, JOULES)
            ]
            check(watts, joules, owners, level)
    assert world.rows("SELECT count(*) FROM rollup_due") == [(0,)]
