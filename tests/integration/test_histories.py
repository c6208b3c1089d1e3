"""Histories on a real Postgres: rollups answer what samples would have answered, the newest end included."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

import numpy as np
import pytest

from control_plane.model.reason import Reason
from control_plane.storage import histories, history_plans, readings, rolled_histories
from control_plane.storage.history_plans import Plan, Source
from control_plane.storage.readings import Bucket, Dictionaries
from control_plane.storage.session import Database
from optiinfra.catalogue import TABLES
from tests.fakes.clock import START
from tests.support.rollups import RollupWorld, Row, block

WATTS, JOULES = "power_draw_watts", "energy_joules_total"
LENGTH = timedelta(hours=4)
ENTITIES = [1, 2, 3]


def rows_of(chance: random.Random) -> list[Row]:
    """Three GPUs for four hours, every 20 s: one silent for half an hour, all with holes and a reset."""
    out = []
    for entity in ENTITIES:
        watts, joules = 300.0, 1000.0
        for n in range(int(LENGTH.total_seconds() / 20)):
            watts, joules = abs(watts + chance.gauss(0, 20)), joules + chance.random() * 100
            if n == 300:
                joules = 5.0
            if entity == 2 and 400 <= n < 490:
                continue
            known = chance.random() > 0.05
            out.append(Row(entity=entity, at=START + timedelta(seconds=20 * n + entity), values={
                WATTS: float(np.float32(watts)) if known else Reason.TIMED_OUT, JOULES: float(round(joules, 3)),
            }))  # fmt: skip
    return out


@pytest.fixture
def world(database: Database) -> Iterator[RollupWorld]:
    world = RollupWorld(database, START)
    world.entities(*ENTITIES)
    world.work()
    yield world
    world.close()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What rollups say of one entity and step, as a bucket of samples would."""

    samples: int
    known: int
    minimum: float
    mean: float
    maximum: float
    p95: float
    increase: float
    rate: float
    resets: int
    reason: str | None


async def ask(world: RollupWorld, name: str, planned: Plan) -> dict[tuple[int, datetime], Seen]:
    engine = world.database.engine
    homes = [("gpu", TABLES["gpu"].field(name))]
    (found,) = await rolled_histories.steps(engine, Dictionaries(engine), homes, ENTITIES, planned)
    assert found is not None
    names = [field.name for field in fields(Seen) if field.name != "reason"]
    out = {}
    for cell in np.flatnonzero(found.samples > 0):
        entity, step = divmod(int(cell), found.points)
        code = int(found.reason[cell])
        seen = Seen(
            **{name: getattr(found, name)[cell] for name in names}, reason=None if code < 0 else Reason(code).label
        )
        out[int(found.entity_ids[entity]), planned.since + step * planned.step] = seen
    return out


async def from_samples(world: RollupWorld, name: str, planned: Plan) -> dict[tuple[int, datetime], Bucket]:
    found = await readings.history(
        world.database.engine, "gpu", TABLES["gpu"].field(name), ENTITIES,
        since=planned.since, until=planned.until, step=planned.step,
    )  # fmt: skip
    return {(b.entity_id, b.start): b for b in found}


@pytest.mark.slow
@pytest.mark.parametrize("source", [Source.MINUTES, Source.HOURS])
@pytest.mark.parametrize("rolled_hours", [0.0, 1.5, 3.2, 6.0], ids=["nothing", "some", "most", "all"])
async def test_rollups_answer_as_samples_do_however_far_they_have_come(
    world: RollupWorld, source: Source, rolled_hours: float
) -> None:
    rows = rows_of(random.Random(3))
    world.store(block("gpu", rows))
    world.advance(hours=rolled_hours)
    step = timedelta(minutes=10) if source is Source.MINUTES else timedelta(hours=1)
    planned = Plan(source=source, since=START, until=START + LENGTH, step=step)
    for name in (WATTS, JOULES):
        found, truth = await ask(world, name, planned), await from_samples(world, name, planned)
        assert found.keys() == truth.keys()
        for key, bucket in found.items():
            exact = truth[key]
            assert (bucket.samples, bucket.known) == (exact.samples, exact.known), key
            if name == WATTS:
                assert bucket.minimum == pytest.approx(exact.minimum, rel=1e-6)
                assert bucket.maximum == pytest.approx(exact.maximum, rel=1e-6)
                assert bucket.mean == pytest.approx(exact.mean, rel=1e-6)
                assert bucket.p95 == pytest.approx(p95(rows, *key, step), rel=0.0101)
            elif key[0] != 2:  # the second was silent for longer than growth is followed over
                assert bucket.increase == pytest.approx(exact.increase)
                assert (bucket.resets, bucket.rate) == (exact.resets, pytest.approx(exact.rate, rel=1e-5))


def p95(rows: list[Row], entity: int, start: datetime, step: timedelta) -> float:
    known = sorted(
        value
        for row in rows
        if row.entity == entity and start <= row.at < start + step
        and not isinstance(value := row.values[WATTS], Reason)
    )  # fmt: skip
    return known[math.ceil(0.95 * len(known)) - 1]


async def test_a_step_in_which_nothing_was_known_says_why(world: RollupWorld) -> None:
    rows = [Row(entity=1, at=START + timedelta(seconds=5 * n), values={WATTS: Reason.DEVICE_LOST}) for n in range(24)]
    world.store(block("gpu", rows))
    planned = Plan(source=Source.MINUTES, since=START, until=START + timedelta(minutes=2), step=timedelta(minutes=1))
    for minutes in (1.5, 3):
        world.advance(minutes=minutes)
        found = await ask(world, WATTS, planned)
        assert [(b.known, b.reason) for b in found.values()] == [(0, "device_lost")] * 2
        assert all(math.isnan(b.mean) for b in found.values())


@pytest.mark.parametrize("rolled_minutes", [0, 25, 200])
async def test_what_histograms_saw_adds_up_over_minutes_hours_and_the_newest_end(
    world: RollupWorld, rolled_minutes: int
) -> None:
    world.entities(21, kind=6)
    began = START.timestamp() - 9000
    rows = [
        Row(entity=21, at=START + timedelta(seconds=10 * n),
            values={"up_flag": 1.0, "counters_since_unix_seconds": began},
            buckets={"ttft_seconds": (n, 2 * n, 7, 0)})
        for n in range(360)
    ]  # fmt: skip
    world.store(block("inference", rows))
    world.advance(minutes=rolled_minutes)
    planned = Plan(source=Source.MINUTES, since=START, until=START + timedelta(hours=1), step=timedelta(minutes=20))
    field = TABLES["inference"].field("ttft_seconds")
    engine = world.database.engine
    found = await histories.observations(engine, Dictionaries(engine), "inference", field, [21], planned)
    seen = [(o.start, o.distribution.counts if o.distribution else None) for o in found]
    assert seen == [
        (START, (119, 238, 0, 0)),
        (START + timedelta(minutes=20), (120, 240, 0, 0)),
        (START + timedelta(minutes=40), (120, 240, 0, 0)),
    ]


async def test_growth_per_second_of_a_long_window_is_over_the_time_that_samples_span(world: RollupWorld) -> None:
    rows = [Row(entity=1, at=START + timedelta(seconds=5 * n), values={JOULES: 500.0 * n}) for n in range(1440)]
    world.store(block("gpu", rows))
    world.advance(hours=2)
    planned = history_plans.whole_window(START, START + timedelta(hours=2), entities=10)
    assert planned.source is Source.MINUTES
    engine, energy = world.database.engine, TABLES["gpu"].field(JOULES)
    found = await histories.rates(engine, Dictionaries(engine), "gpu", energy, [1, 2], planned)
    assert found == {1: pytest.approx(100.0), 2: None}
