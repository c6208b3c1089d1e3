"""What GPUs and servers did, summed up by the analysis job on a real Postgres: all of it, once, and again when late."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import pytest

from control_plane.model.errors import LeaseLost
from control_plane.model.use import Cause, Cells
from control_plane.stages.analysis import AnalysisJob
from control_plane.storage import leases, moments, use
from control_plane.storage.session import Database
from tests.fakes.clock import START
from tests.support.rollups import RollupWorld, Row, Value, block

SLOT = timedelta(minutes=5)
GPU_1, GPU_2, SERVER = 1, 2, 9
BUSY: Mapping[str, Value] = {
    "gpu_utilization_ratio": 1.0, "graphics_active_ratio": 1.0, "sm_active_ratio": 0.9, "tensor_active_ratio": 0.8,
    "fp32_active_ratio": 0.0, "dram_active_ratio": 0.2, "memory_used_bytes": 7e10, "power_draw_watts": 700.0,
    "clock_event_reasons_bits": 4.0,
}  # fmt: skip
IDLE = dict(BUSY) | {
    name: 0.0 for name in BUSY if name.endswith("ratio")
} | {"power_draw_watts": 100.0, "clock_event_reasons_bits": 0.0}  # fmt: skip


class World(RollupWorld):
    """Samples, their rollups, and the analysis job."""

    def __init__(self, database: Database, start: datetime) -> None:
        super().__init__(database, start)
        self.analysis = self.another_analysis("first")

    def another_analysis(self, holder: str) -> AnalysisJob:
        """This will make the job of another replica."""
        return AnalysisJob(self.database, holder=holder, now=lambda: self.now, hours_kept=timedelta(days=400))

    def work(self) -> None:
        """This will do all that is due."""
        super().work()
        for _ in range(1000):
            if not getattr(self, "analysis", self.job).work().more:
                return
        raise AssertionError("there is no end to it")

    def total(self, of: use.Of, since: datetime, until: datetime) -> dict[int, dict[str, float]]:
        """This will add a window up, by entity."""
        with self.database.connect(autocommit=True) as connection:
            hours_until = use.progress(connection)["use"] // use.HOUR_US * use.HOUR_US
            parts = use.parts(moments.to_us(since), moments.to_us(until), hours_until_us=hours_until)
            found: Cells = use.total(connection, of, parts, by=("entity_id",))
        return {
            int(entity): {name: float(values[row]) for name, values in found.columns.items()}
            for row, entity in enumerate(found.entity_ids)
        }


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    world = World(database, START)
    world.entities(GPU_1, GPU_2)
    world.entities(SERVER, kind=6)
    with database.connect(autocommit=True) as connection:
        connection.execute(
            "UPDATE entity SET first_seen_at = %s, last_seen_at = %s", (START, START + timedelta(days=30))
        )
    world.work()
    yield world
    world.analysis.close()
    world.close()


def looks(gpu: int, values: Mapping[str, Value], *, since: datetime, count: int) -> list[Row]:
    return [Row(entity=gpu, at=since + timedelta(seconds=5 * (n + 1)), values=values) for n in range(count)]


def uses(cell: Mapping[str, float]) -> dict[str, float]:
    return {c: cell[f"use_{c}_seconds"] for c in Cause if cell[f"use_{c}_seconds"]}


def test_a_slot_is_summed_up_once_it_is_a_minute_old(world: World) -> None:
    world.store(block("gpu", looks(GPU_1, BUSY, since=START, count=72)))
    world.advance(seconds=300 + 60)
    assert world.rows("SELECT 1 FROM gpu_use_slot") == []
    world.advance(seconds=80)
    cell = world.total("gpu", START, START + SLOT)[GPU_1]
    assert uses(cell) == pytest.approx({Cause.WORK: 300.0})
    assert cell["paid_seconds"] == cell["observed_seconds"] == pytest.approx(300.0)
    assert cell["power_capped_seconds"] == pytest.approx(300.0)
    assert cell["activity_compute_bound_seconds"] == pytest.approx(300.0)
    assert cell["power_draw_watts_sum"] / cell["power_draw_watts_seconds"] == pytest.approx(700.0)
    assert cell["use_work_joules"] == pytest.approx(300 * 700.0)


def test_what_nobody_saw_is_paid_and_unknown(world: World) -> None:
    world.store(block("gpu", looks(GPU_1, BUSY, since=START, count=20)))
    world.advance(minutes=8)
    found = world.total("gpu", START, START + SLOT)
    assert uses(found[GPU_1]) == pytest.approx({Cause.WORK: 100.0, Cause.NO_SAMPLES: 200.0})
    assert uses(found[GPU_2]) == pytest.approx({Cause.NO_SAMPLES: 300.0})


@pytest.mark.slow
def test_hours_say_what_their_slots_say(world: World) -> None:
    world.store(block("gpu", looks(GPU_1, BUSY, since=START, count=360) + looks(GPU_2, IDLE, since=START, count=720)))
    world.advance(hours=2)
    (count,) = world.rows("SELECT count(*) FROM gpu_use_hour")[0]
    assert count == 2  # of each GPU the hour that is over; the other is a minute short of that
    hours = world.total("gpu", START, START + timedelta(hours=1))
    assert uses(hours[GPU_1]) == pytest.approx({Cause.WORK: 1800.0, Cause.NO_SAMPLES: 1800.0})
    assert uses(hours[GPU_2]) == pytest.approx({Cause.MEMORY_HELD: 3600.0})
    # A window that begins and ends within hours.
    inside = world.total("gpu", START + timedelta(minutes=20), START + timedelta(minutes=95))
    assert uses(inside[GPU_1]) == pytest.approx({Cause.WORK: 600.0, Cause.NO_SAMPLES: 65 * 60.0})
    assert inside[GPU_2]["paid_seconds"] == pytest.approx(75 * 60.0)


@pytest.mark.slow
def test_late_samples_are_summed_up_again_and_so_is_their_hour(world: World) -> None:
    world.store(block("gpu", looks(GPU_1, BUSY, since=START, count=360)))
    world.advance(hours=2)
    late = looks(GPU_1, BUSY, since=START + timedelta(minutes=30), count=360)
    world.store(block("gpu", late))
    assert world.rows("SELECT count(*) FROM use_due")[0][0] > 0
    world.advance(minutes=1)
    assert world.rows("SELECT count(*) FROM use_due") == [(0,)]
    assert uses(world.total("gpu", START, START + timedelta(hours=1))[GPU_1]) == pytest.approx({Cause.WORK: 3600.0})
    assert world.rows("SELECT count(*) FROM gpu_use_slot WHERE entity_id = 1") == [(23,)]


def test_a_second_replica_waits_and_one_that_lost_its_lease_writes_nothing(world: World) -> None:
    other = world.another_analysis("second")
    assert not other.work().leading
    other.close()
    world.store(block("gpu", looks(GPU_1, BUSY, since=START, count=60)))
    world.now += timedelta(minutes=10)
    world.job.work()
    real = leases.still_mine
    try:
        leases.still_mine = lambda *_: False  # type: ignore[assignment]  # somebody else took over meanwhile
        with pytest.raises(LeaseLost):
            for _ in range(3):
                world.analysis.work()
    finally:
        leases.still_mine = real
    assert world.rows("SELECT 1 FROM gpu_use_slot") == []


def engine(running: float, finished: float, tokens: float, *, began: float = 1.0) -> dict[str, Value]:
    return {
        "up_flag": 1.0, "counters_since_unix_seconds": began, "requests_running_count": running,
        "requests_waiting_count": 0.0, "kv_cache_usage_ratio": 0.25,
        "requests_finished_total": finished, "prompt_tokens_total": 10 * tokens, "generation_tokens_total": tokens,
    }  # fmt: skip


def test_what_a_server_did_is_the_growth_of_its_counters_across_a_restart(world: World) -> None:
    rows = [
        Row(
            entity=SERVER, at=START + timedelta(seconds=5 * n), buckets={"ttft_seconds": (0, n, 0, 0)},
            values=engine(4.0, 2.0 * n, 100.0 * n) if n < 30 else engine(4.0, 2.0 * (n - 30), 0.0, began=1e6),
        )
        for n in range(1, 61)
    ]  # fmt: skip
    world.store(block("inference", rows))
    world.advance(minutes=8)
    cell = world.total("server", START, START + SLOT)[SERVER]
    assert cell["requests_finished"] == pytest.approx(2 * 28 + 2 * 30)
    assert cell["output_tokens"] == pytest.approx(2800)
    assert cell["ttft_count"] == pytest.approx(28 + 30 + 30)  # what stands after the restart has grown since
    assert cell["requests_running_sum"] / cell["load_seconds"] == pytest.approx(4.0)
    assert cell["kv_cache_usage_sum"] / cell["load_seconds"] == pytest.approx(0.25)
    assert cell["requests_arrived_minute_peak"] == pytest.approx(24.0)


def test_a_gpu_belongs_to_the_server_whose_processes_are_on_it(world: World) -> None:
    with world.database.connect(autocommit=True) as connection:
        connection.execute(
            "UPDATE entity SET attributes = %s WHERE entity_id = 1",
            (json.dumps({
                "processes": [{"pid": 7}],
                "attribution": {"allocated_to": [{"namespace": "team-a", "pod": "llm-0"}], "used_by": []},
            }),),
        )  # fmt: skip
        connection.execute("""UPDATE entity SET attributes = '{"pid": 7, "model": "llama"}' WHERE entity_id = 9""")
    world.store(block("gpu", looks(GPU_1, IDLE, since=START, count=60)))
    running = [
        Row(entity=SERVER, at=START + timedelta(seconds=5 * (n + 1)), values=engine(3.0, 1.0, 1.0)) for n in range(60)
    ]
    world.store(block("inference", running))
    world.advance(minutes=8)
    (owner,) = world.rows("SELECT owner FROM use_owner JOIN gpu_use_slot USING (owner_id)")[0]
    assert owner == {
        "allocated": True, "model": "llama", "namespace": "team-a", "pod": "llm-0", "server_id": SERVER,
    }  # fmt: skip
    # Requests are counted as running for five minutes, and the GPU does nothing.
    assert uses(world.total("gpu", START, START + SLOT)[GPU_1]) == pytest.approx({Cause.STALLED: 300.0})


@pytest.mark.slow
def test_what_is_past_retention_is_dropped(world: World) -> None:
    world.store(block("gpu", looks(GPU_1, BUSY, since=START, count=60)))
    world.advance(hours=2)
    with world.database.connect(autocommit=True) as connection:
        use.advance(connection, "use", moments.to_us(START + timedelta(days=3, hours=5)))
    world.advance(days=3, hours=6)
    assert world.rows("SELECT 1 FROM gpu_use_slot WHERE start < '2026-03-05'") == []
    assert world.rows("SELECT 1 FROM gpu_use_hour WHERE start < '2026-03-05'") != []


def test_slices_of_a_gpu_go_to_those_who_have_them_and_its_energy_with_them(world: World) -> None:
    world.entities(31, 32, kind=7)
    with world.database.connect(autocommit=True) as connection:
        connection.execute("""UPDATE entity SET attributes = '{"mig_enabled": true}' WHERE entity_id = 1""")
        for number, namespace, profile in ((31, "search", "2g.20gb"), (32, "ads", "1g.10gb")):
            held = {"allocated_to": [{"namespace": namespace, "pod": "p", "ended": False}], "used_by": []}
            said = {"gpu": "thing-1", "profile": profile, "state": "present", "attribution": held}
            connection.execute(
                "UPDATE entity SET attributes = %s::jsonb WHERE entity_id = %s", (json.dumps(said), number)
            )
    whole = {"power_draw_watts": 700.0, "memory_used_bytes": 2e10}
    world.store(
        block("gpu", looks(GPU_1, whole, since=START, count=72)),
        block("gpu_instance", looks(31, {n: v for n, v in BUSY.items() if "active" in n} | {"memory_used_bytes": 2e10},
                                    since=START, count=72)),
        block("gpu_instance", looks(32, {"memory_used_bytes": 1e7}, since=START, count=72)),
    )  # fmt: skip
    world.advance(minutes=8)
    rows = world.rows(
        "SELECT owner->>'namespace', paid_seconds, use_work_seconds, use_allocated_unused_seconds, "
        "use_unallocated_seconds, use_work_joules + use_allocated_unused_joules + use_unallocated_joules "
        "FROM gpu_use_slot LEFT JOIN use_owner USING (owner_id) WHERE entity_id = 1 ORDER BY 1"
    )
    seventh = 300 / 7
    assert [row[0] for row in rows] == ["ads", "search", None]
    for row, (share, place) in zip(rows, ((1, 3), (2, 2), (4, 4)), strict=True):
        expected = [share * seventh, 0.0, 0.0, 0.0, share * seventh * 700.0]
        expected[place - 1] = share * seventh
        assert row[1:] == pytest.approx(expected, rel=1e-4, abs=1e-3)
