"""Rollups on a real Postgres: true to the samples, made once, and made again for what comes late."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np
import pytest

from control_plane.model.errors import LeaseLost
from control_plane.model.reason import Reason
from control_plane.storage import leases
from control_plane.storage.rollups import sketches
from control_plane.storage.rollups.blocks import quantile_bins
from control_plane.storage.rollups.cells import Cells
from control_plane.storage.rollups.store import HOUR, MINUTE
from control_plane.storage.session import Database
from tests.fakes.clock import START
from tests.support.rollups import RollupWorld, Row, Value, block

WATTS, JOULES, BITS = "power_draw_watts", "energy_joules_total", "clock_event_reasons_bits"


@pytest.fixture
def world(database: Database) -> Iterator[RollupWorld]:
    world = RollupWorld(database, START)
    world.entities(1, 2, 3)
    world.work()
    yield world
    world.close()


def every(seconds: float, count: int, *, since: datetime = START) -> list[datetime]:
    return [since + timedelta(seconds=seconds * n) for n in range(count)]


def watts(entity: int, values: Sequence[Value], *, since: datetime = START, seconds: float = 5) -> list[Row]:
    moments = every(seconds, len(values), since=since)
    return [Row(entity=entity, at=at, values={WATTS: value}) for at, value in zip(moments, values, strict=True)]


def quantile(cells: Cells, share: float) -> list[float]:
    return [float(v) for v in sketches.values_of(quantile_bins(cells, share))]


async def test_a_minute_is_rolled_up_once_it_has_settled(world: RollupWorld) -> None:
    world.store(block("gpu", watts(1, [float(n) for n in range(1, 13)])))
    world.advance(seconds=65)
    assert await world.cells(MINUTE, "gpu", WATTS, START, 1) is None, "samples of it may be on their way"
    world.advance(seconds=5)
    cells = await world.cells(MINUTE, "gpu", WATTS, START, 1)
    assert cells is not None
    assert {n: v.tolist() for n, v in cells.statistics.items()} == {
        "minimum": [1.0], "mean": [6.5], "maximum": [12.0], "last": [12.0],
    }  # fmt: skip
    assert quantile(cells, 0.5)[0] == pytest.approx(6.0, rel=0.01)
    assert quantile(cells, 0.95)[0] == pytest.approx(12.0, rel=0.01)


async def test_rollups_of_many_days_say_what_the_samples_say(world: RollupWorld) -> None:
    chance = random.Random(7)
    begin = START.replace(hour=22)
    rows, truth, power = [], {}, 300.0
    for entity in (1, 2, 3):
        joules = 1000.0
        for at in every(20, 3 * 180, since=begin):
            power = abs(power + chance.gauss(0, 30))
            joules = chance.random() * 100 if chance.random() < 0.02 else joules + chance.random() * 50
            known = chance.random() > 0.1
            rows.append(Row(entity=entity, at=at, values={
                WATTS: float(np.float32(power)) if known else Reason.TIMED_OUT,
                JOULES: joules, BITS: float(chance.choice([0, 0, 4])),
            }))  # fmt: skip
            truth[entity, at] = rows[-1]
    world.now = begin
    world.store(block("gpu", rows))
    world.advance(hours=30)
    for level, length in ((MINUTE, timedelta(minutes=1)), (HOUR, timedelta(hours=1))):
        units = 3 * (60 if level is MINUTE else 1)
        gauges = await world.cells(level, "gpu", WATTS, begin, units)
        counters = await world.cells(level, "gpu", JOULES, begin, units)
        states = await world.cells(level, "gpu", BITS, begin, units)
        assert gauges is not None
        assert counters is not None
        assert states is not None
        median = quantile(gauges, 0.5)
        for entity in (1, 2, 3):
            before = None
            for unit in range(units):
                cell = (entity - 1) * units + unit
                mine = [
                    r
                    for (e, at), r in truth.items()
                    if e == entity and begin + unit * length <= at < begin + (unit + 1) * length
                ]
                known = [r.values[WATTS] for r in mine if not isinstance(r.values[WATTS], Reason)]
                assert gauges.samples[cell] == len(mine)
                assert gauges.known[cell] == len(known)
                if known:
                    assert gauges.statistics["minimum"][cell] == min(known)
                    assert gauges.statistics["maximum"][cell] == max(known)
                    assert gauges.statistics["mean"][cell] == pytest.approx(sum(known) / len(known), rel=1e-6)
                    assert median[cell] == pytest.approx(sorted(known)[math.ceil(len(known) / 2) - 1], rel=0.0101)
                grown, resets = 0.0, 0
                for value in [r.values[JOULES] for r in mine]:
                    if before is not None:
                        grown += value - before if value >= before else value
                        resets += value < before
                    before = value
                assert counters.statistics["increase"][cell] == pytest.approx(grown)
                assert counters.statistics["resets"][cell] == resets
                assert counters.statistics["last"][cell] == before
                assert states.statistics["last"][cell] == mine[-1].values[BITS]


@pytest.mark.slow
async def test_an_hour_s_minutes_lie_in_few_rows_and_a_day_s_hours_too(world: RollupWorld) -> None:
    world.store(block("gpu", watts(1, [5.0] * 720) + watts(2, [6.0] * 720)))
    for _ in range(60):
        world.advance(minutes=1)
    shapes = (
        "SELECT units, count(*) FROM rollup_minute b JOIN metric_field USING (field_id) "
        "WHERE (table_name, name) = ('gpu', %s) GROUP BY 1"
    )
    assert world.rows(shapes % f"'{WATTS}'") == [(1, 59)]
    world.advance(minutes=7)
    assert world.rows(shapes % f"'{WATTS}'") == [(60, 1)]
    world.advance(days=1)
    hours = await world.cells(HOUR, "gpu", WATTS, START, 1)
    assert hours is not None
    assert hours.samples.tolist() == [720, 720]
    assert world.rows("SELECT DISTINCT units FROM rollup_hour") == [(24,)]


@pytest.mark.slow
@pytest.mark.parametrize("hours_later", [0.2, 3, 40], ids=["in the hour", "after the hour", "after the day"])
async def test_late_samples_are_in_the_rollups_as_if_they_had_come_in_time(
    world: RollupWorld, hours_later: float
) -> None:
    """Node 1 was heard in time but for a part of a minute; node 2 was away, and then brought everything."""
    world.entities(11, 12, node=2)
    rows = {e: watts(e, [100.0 * e + n for n in range(240)]) for e in (1, 2, 11, 12)}
    energy = [Row(entity=11, at=r.at, values={**r.values, JOULES: 10.0 * n}) for n, r in enumerate(rows[11])]
    world.store(block("gpu", rows[1][:100] + rows[1][103:] + rows[2]))
    world.advance(hours=hours_later)
    world.store(block("gpu", rows[1][100:103]), block("gpu", energy + rows[12], node=2))
    world.advance(minutes=1)
    world.advance(hours=30)
    minutes = await world.cells(MINUTE, "gpu", WATTS, START, 20)
    hours = await world.cells(HOUR, "gpu", WATTS, START, 1)
    growth = await world.cells(MINUTE, "gpu", JOULES, START, 20)
    assert minutes is not None
    assert hours is not None
    assert growth is not None
    assert minutes.entity_ids.tolist() == [1, 2, 11, 12]
    assert minutes.samples.tolist() == [12] * 80
    assert hours.samples.tolist() == [240] * 4
    for place, entity in enumerate((1, 2, 11, 12)):
        expected = [100.0 * entity + n * 12 + 11 for n in range(20)]
        assert minutes.statistics["last"][place * 20 : place * 20 + 20].tolist() == expected
        assert hours.statistics["maximum"][place] == expected[-1]
    of_11 = growth.statistics["increase"][growth.entity_ids.tolist().index(11) * 20 :][:20]
    assert of_11.tolist() == [110.0] + [120.0] * 19
    assert world.rows("SELECT count(*) FROM rollup_due") == [(0,)]


async def test_growth_begins_at_a_late_sample_that_lies_in_the_hour_before(world: RollupWorld) -> None:
    edge = START + timedelta(hours=1)
    rows = [
        Row(entity=1, at=edge + timedelta(seconds=s), values={JOULES: j})
        for s, j in ((-65, 10.0), (-5, 40.0), (5, 50.0))
    ]
    world.store(block("gpu", [rows[0], rows[2]]))
    world.advance(hours=3)
    before = await world.cells(MINUTE, "gpu", JOULES, edge, 1)
    assert before is not None
    assert before.statistics["increase"].tolist() == [40.0]
    world.store(block("gpu", [rows[1]]))
    world.advance(minutes=1)
    after = await world.cells(MINUTE, "gpu", JOULES, edge - timedelta(minutes=1), 2)
    assert after is not None
    assert after.statistics["increase"].tolist() == [30.0, 10.0]
    hours = await world.cells(HOUR, "gpu", JOULES, START, 2)
    assert hours is not None
    assert hours.statistics["increase"].tolist() == [30.0, 10.0]


async def test_a_step_that_dies_leaves_nothing_and_the_next_replica_does_it_again(
    world: RollupWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store(block("gpu", watts(1, [1.0] * 24)))
    world.now += timedelta(minutes=2, seconds=10)
    with monkeypatch.context() as patch:
        patch.setattr("control_plane.storage.rollups.marks.advance", _dies_after_rows)
        with pytest.raises(ZeroDivisionError):
            world.job.work()
    other = world.another_job("second")
    assert not other.work().leading, "the lease of a replica that died has not ended"
    world.now += timedelta(seconds=31)
    while other.work().more:
        pass
    cells = await world.cells(MINUTE, "gpu", WATTS, START, 2)
    assert cells is not None
    assert cells.samples.tolist() == [12, 12]


def _dies_after_rows(*arguments: object) -> None:
    if "minute" in arguments:
        raise ZeroDivisionError


async def test_a_replica_that_lost_its_lease_in_a_step_writes_nothing(
    world: RollupWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store(block("gpu", watts(1, [1.0] * 12)))
    world.now += timedelta(seconds=70)
    acquire = leases.acquire

    def lost_at_once(connection: object, *arguments: object, **named: object) -> object:
        lease = acquire(connection, *arguments, **named)  # type: ignore[arg-type]
        world.rows("UPDATE job_lease SET token = token + 1, holder = 'thief' RETURNING 1")
        return lease

    monkeypatch.setattr(leases, "acquire", lost_at_once)
    with pytest.raises(LeaseLost):
        world.job.work()
    assert await world.cells(MINUTE, "gpu", WATTS, START, 1) is None


async def test_histograms_keep_what_was_observed_in_each_minute(world: RollupWorld) -> None:
    world.entities(21, kind=6)
    began = START.timestamp() - 1000
    rows = [
        Row(entity=21, at=at, values={"up_flag": 1.0, "counters_since_unix_seconds": began},
            buckets={"ttft_seconds": (10 + n, 20, 30 + 2 * n, 0)})
        for n, at in enumerate(every(5, 36))
    ]  # fmt: skip
    restarted = [
        Row(entity=21, at=row.at, values={"up_flag": 1.0, "counters_since_unix_seconds": START.timestamp() + 121},
            buckets={"ttft_seconds": (n, 0, 0, 1)})
        for n, row in enumerate(rows[25:])
    ]  # fmt: skip
    world.store(block("inference", rows[:25] + restarted))
    world.advance(minutes=4)
    cells = await world.cells(MINUTE, "inference", "ttft_seconds", START, 3)
    assert cells is not None
    assert cells.buckets is not None
    assert cells.buckets.tolist() == [[11, 0, 22, 0], [12, 0, 24, 0], [11, 0, 2, 1]]
    assert cells.statistics["seconds"].tolist() == [55.0, 60.0, 5.0 + 54.0]
    world.advance(hours=3)
    hours = await world.cells(HOUR, "inference", "ttft_seconds", START, 1)
    assert hours is not None
    assert hours.buckets is not None
    assert hours.buckets.tolist() == [[34, 0, 48, 1]]


async def test_why_a_field_was_unknown_is_kept(world: RollupWorld) -> None:
    world.store(block("gpu", watts(1, [Reason.DEVICE_LOST] * 12)))
    world.advance(hours=2)
    for level in (MINUTE, HOUR):
        cells = await world.cells(level, "gpu", WATTS, START, 1)
        assert cells is not None
        assert cells.known.tolist() == [0]
        assert cells.reason.tolist() == [int(Reason.DEVICE_LOST)]
        assert np.isnan(cells.statistics["mean"]).all()


async def test_samples_from_before_the_first_start_of_the_job_are_rolled_up_too(database: Database) -> None:
    world = RollupWorld(database, START)
    long_ago = START - timedelta(days=1, hours=2)
    world.store(block("gpu", watts(1, [7.0] * 12, since=long_ago)))
    world.work()
    hours = await world.cells(HOUR, "gpu", WATTS, long_ago.replace(minute=0), 1)
    assert hours is not None
    assert hours.samples.tolist() == [12]
    world.close()
