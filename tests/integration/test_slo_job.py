"""The SLO job on a real Postgres: every event once, whoever dies when, and violations that outlive their finder."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg
import pytest

from control_plane.model.slo import GuardVerdict, Indicator, SloDefinition, SloScope
from control_plane.stages.slo import LEASE_LIFETIME, SloJob
from control_plane.stages.slo_history import SloHistoryJob
from control_plane.storage import slo_events, slos
from control_plane.storage.session import Database
from tests.fakes.clock import START
from tests.support.rollups import RollupWorld, Row, block

SERVERS = (21, 22)
TTFT = SloDefinition(
    name="ttft", indicator=Indicator.TTFT, target_ratio=0.95, window_days=30, threshold_seconds=0.5,
    scope=SloScope(model="llama"),
)  # fmt: skip
UP = SloDefinition(name="up", indicator=Indicator.AVAILABILITY, target_ratio=0.99, window_days=7)


class World:
    """Servers whose samples come in the order of time, and replicas of the job that looks at them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = START
        self.samples = RollupWorld(database, START)
        self.samples.entities(*SERVERS, kind=6)
        self.sql('UPDATE entity SET attributes = \'{"model": "llama", "state": "up"}\'')
        self.sql(f"UPDATE entity SET first_seen_at = '{START.isoformat()}'")
        self.counts = {server: [0, 0, 0, 0] for server in SERVERS}
        self.jobs: list[SloJob] = []
        self.job = self.replica("first")

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]  # a test's own

    def replica(self, holder: str) -> SloJob:
        """This will start another replica; the one before is not told."""
        self.jobs.append(SloJob(self.database, holder=holder, now=lambda: self.now))
        return self.jobs[-1]

    def tick(self, *, good: int, bad: int, servers: tuple[int, ...] = SERVERS, seconds: float = 5) -> None:
        """This will let time pass and requests happen, and store what the next scrape sees."""
        self.now += timedelta(seconds=seconds)
        rows = []
        for server in servers:
            self.counts[server][0] += good
            self.counts[server][2] += bad
            rows.append(
                Row(
                    entity=server, at=self.now - timedelta(seconds=1),
                    values={"up_flag": 1.0, "counters_since_unix_seconds": 1.0, "requests_running_count": 1.0},
                    buckets={"ttft_seconds": tuple(self.counts[server])},
                )
            )  # fmt: skip
        self.samples.store(block("inference", rows))

    def count_back(self, hours: int = 1000) -> None:
        """This will let a replica of its own count so many hours back, or all there are."""
        job = SloHistoryJob(self.database, holder="history", now=lambda: self.now)
        try:
            for _ in range(hours):
                if not job.work().more:
                    break
        finally:
            job.close()

    def work(self) -> None:
        for _ in range(1000):
            if not self.job.work().more:
                return
        raise AssertionError("there is no end to it")

    def close(self) -> None:
        for job in self.jobs:
            job.close()
        self.samples.close()


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    world = World(database)
    yield world
    world.close()


async def counted(world: World, slo_id: int) -> tuple[float, float]:
    points = await slo_events.series(
        world.database.engine, slo_id, since=START - timedelta(days=1), until=world.now + timedelta(days=1),
        step=timedelta(minutes=1),
    )  # fmt: skip
    hours = await slo_events.series(
        world.database.engine, slo_id, since=START - timedelta(days=1), until=world.now + timedelta(days=1),
        step=timedelta(hours=1),
    )  # fmt: skip
    by_minute = (sum(p.events.good for p in points), sum(p.events.bad for p in points))
    assert by_minute == (sum(p.events.good for p in hours), sum(p.events.bad for p in hours))
    return by_minute


async def verdicts(world: World, slo_id: int) -> dict[int, GuardVerdict]:
    found = await slo_events.judgements(world.database.engine, [slo_id])
    return {one.entity_id: one.judgement.verdict for one in found}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_every_event_is_counted_once_whoever_dies_when(world: World, seed: int) -> None:
    chance = random.Random(seed)
    (slo,) = await slos.write(world.database.engine, [TTFT], START)
    world.tick(good=5, bad=1)  # before it nothing can be counted from
    world.work()
    good = bad = 0
    for _ in range(80):
        some = (chance.randrange(10), chance.randrange(3))
        good, bad = good + some[0] * len(SERVERS), bad + some[1] * len(SERVERS)
        world.tick(good=some[0], bad=some[1])
        if chance.random() < 0.15:  # it dies with all that it had not written down
            world.job = world.replica(f"replica-{len(world.jobs)}")
            world.now += LEASE_LIFETIME
        if chance.random() < 0.8:
            world.work()
    world.now += timedelta(minutes=1)
    world.work()
    assert await counted(world, slo.slo_id) == (good, bad)


@pytest.mark.slow
async def test_what_happened_while_nobody_counted_is_counted_later(world: World) -> None:
    (slo,) = await slos.write(world.database.engine, [TTFT], START)
    world.tick(good=1, bad=0)
    world.work()
    for _ in range(300):
        world.tick(good=2, bad=1, seconds=20)
    world.job = world.replica("later")
    world.work()
    world.now += timedelta(minutes=1)
    world.work()
    assert await counted(world, slo.slo_id) == (1200, 600)


async def violations(world: World, slo_id: int) -> list[tuple[int, datetime, datetime | None]]:
    found = await slo_events.violations(
        world.database.engine, slo_ids=[slo_id], since=START, until=world.now, after=0, limit=100
    )
    return [(v.entity_id, v.since, v.ended_at) for v in found]


async def test_a_violation_of_one_server_is_seen_and_outlives_its_finder_and_ends(world: World) -> None:
    (slo,) = await slos.write(world.database.engine, [TTFT], START)
    for _ in range(24):
        world.tick(good=40, bad=0)
        world.work()
    assert await verdicts(world, slo.slo_id) == dict.fromkeys((0, *SERVERS), GuardVerdict.PASS)
    began = world.now
    for _ in range(3):
        world.tick(good=20, bad=20, servers=SERVERS[:1])
        world.tick(good=40, bad=0, servers=SERVERS[1:], seconds=0.1)
        world.work()
    assert (await verdicts(world, slo.slo_id))[22] is GuardVerdict.PASS
    sick = [v for v in await violations(world, slo.slo_id) if v[0] == 21]
    assert [(since <= began + timedelta(seconds=5), ended) for _, since, ended in sick] == [(True, None)]
    world.job = world.replica("second")
    world.now += LEASE_LIFETIME
    world.tick(good=1, bad=0)
    world.work()
    assert [v for v in await violations(world, slo.slo_id) if v[0] == 21] == sick, "found once, and not over yet"
    for _ in range(30):
        world.tick(good=40, bad=0)
        world.work()
    assert all(ended is not None for _, _, ended in await violations(world, slo.slo_id))


async def test_another_threshold_begins_another_count_and_another_target_does_not(world: World) -> None:
    engine = world.database.engine
    (slo,) = await slos.write(engine, [TTFT], START)
    for _ in range(6):
        world.tick(good=10, bad=0)
        world.work()
    (again,) = await slos.write(engine, [SloDefinition(**{**_fields(TTFT), "target_ratio": 0.9})], world.now)
    assert (again.slo_id, again.counted_since) == (slo.slo_id, slo.counted_since)
    assert (await counted(world, slo.slo_id))[0] > 0
    (other,) = await slos.write(engine, [SloDefinition(**{**_fields(TTFT), "threshold_seconds": 1.0})], world.now)
    assert (other.slo_id, other.counted_since) == (slo.slo_id, world.now)
    assert await counted(world, slo.slo_id) == (0, 0)


@pytest.mark.slow
async def test_a_new_objective_is_counted_back_over_the_samples_that_are_there_each_event_once(world: World) -> None:
    engine = world.database.engine
    world.tick(good=5, bad=1)  # before it nothing can be counted from
    world.tick(good=0, bad=0, seconds=60)
    for _ in range(130):
        world.tick(good=2, bad=1, seconds=30)
    (slo,) = await slos.write(engine, [TTFT], world.now)
    world.tick(good=2, bad=1)
    world.work()  # what happens meanwhile is counted as it happens
    await asyncio.to_thread(world.count_back, hours=2)
    (half,) = await slos.named(engine, ["ttft"])
    assert half.counted_since == slo.counted_since
    assert half.covered_since < slo.counted_since - timedelta(minutes=30)
    await asyncio.to_thread(world.count_back)  # another replica goes on
    world.now += timedelta(minutes=1)
    world.work()
    assert await counted(world, slo.slo_id) == (131 * 2 * 2, 131 * 2)
    (whole,) = await slos.named(engine, ["ttft"])
    assert whole.covered_since == START, "when the first server in scope was seen"
    (other,) = await slos.write(engine, [SloDefinition(**{**_fields(TTFT), "threshold_seconds": 1.0})], world.now)
    assert other.covered_since == world.now
    await asyncio.to_thread(world.count_back)
    good, bad = await counted(world, slo.slo_id)
    assert good + bad == 131 * 3 * 2, "the past is counted anew by what it means now"


async def test_what_is_judged_from_moment_to_moment_has_no_past(world: World) -> None:
    for _ in range(10):
        world.tick(good=2, bad=1)
    (slo,) = await slos.write(world.database.engine, [UP], world.now)
    await asyncio.to_thread(world.count_back)
    (after,) = await slos.named(world.database.engine, ["up"])
    assert after.covered_since == slo.counted_since


def _fields(definition: SloDefinition) -> dict[str, object]:
    return {name: getattr(definition, name) for name in SloDefinition.__slots__}  # type: ignore[attr-defined]


async def test_a_model_without_a_server_that_serves_is_not_available(world: World) -> None:
    (slo,) = await slos.write(world.database.engine, [UP], START)
    for _ in range(5):
        world.tick(good=1, bad=0)
        world.work()
    world.sql('UPDATE entity SET attributes = \'{"model": "llama", "state": "hung"}\'')
    for _ in range(5):
        world.tick(good=0, bad=0)
        world.work()
    world.now += timedelta(minutes=1)
    world.work()
    good, bad = await counted(world, slo.slo_id)
    assert (good, bad) == (20.0, 25.0), "and of the silent minute nothing is known"
    assert [v[0] for v in await violations(world, slo.slo_id)] == [0]


async def test_a_deleted_objective_takes_its_counts_along_and_the_job_goes_on(world: World) -> None:
    first, second = await slos.write(world.database.engine, [TTFT, UP], START)
    for _ in range(6):
        world.tick(good=10, bad=10)
        world.work()
    world.tick(good=10, bad=10)
    assert await slos.remove(world.database.engine, first.slo_id)
    for _ in range(6):
        world.tick(good=10, bad=0)
        world.work()
    assert await counted(world, first.slo_id) == (0, 0)
    assert (await counted(world, second.slo_id))[0] > 0
