"""What the agent says of itself."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from node_agent.clock import Instant
from node_agent.collectors.agent import AgentCollector, backlog_values, cadence_values
from node_agent.model import Backlog, Cadence, Reason
from node_agent.sampler import Sampler
from node_agent.spool import Spool
from optiinfra.catalogue import TABLES
from tests.fakes.virtual_time import LoopClock, run_virtually
from tests.unit.node_agent.test_sampler import Scripted, failing, report, sampled, taking

NOW = Instant(wall=datetime(2026, 1, 1, tzinfo=UTC), monotonic_seconds=100.0)
BACKLOG = Backlog(batches=3, bytes=900, lost_ticks_total=7, reconnects_total=2, acknowledged_at=97.5)


async def test_every_field_is_given_a_value_or_a_reason() -> None:
    collector = AgentCollector()
    (sample,) = (await collector.collect(NOW)).samples
    assert sample.values.keys() == {field.name for field in TABLES["agent"].fields}
    assert sample.values["spool_bytes"] is Reason.NOT_COLLECTED
    collector.watch_cadence(lambda: Cadence(tick_seconds=0.2, lateness_seconds=0.01, skipped_total=4))
    collector.watch_backlog(lambda: BACKLOG)
    (sample,) = (await collector.collect(NOW)).samples
    assert (sample.values["spool_batches_count"], sample.values["ticks_skipped_total"]) == (3, 4)
    await collector.close()


async def test_the_node_is_described_by_one_collector_only() -> None:
    assert (await AgentCollector().collect(NOW)).entities == ()


async def test_its_files_and_threads_are_those_that_the_kernel_lists() -> None:
    (sample,) = (await AgentCollector().collect(NOW)).samples
    assert sample.values["threads_count"] == len(os.listdir("/proc/self/task"))  # noqa: PTH208
    open_files = sample.values["open_files_count"]
    assert isinstance(open_files, int)
    assert abs(open_files - len(list(Path("/proc/self/fd").iterdir()))) <= 2


def test_an_acknowledgements_age_is_counted_to_now_and_unknown_before_the_first() -> None:
    assert backlog_values(BACKLOG, NOW)["acknowledgement_age_seconds"] == 2.5
    never = Backlog(batches=0, bytes=0, lost_ticks_total=0, reconnects_total=0, acknowledged_at=None)
    assert backlog_values(never, NOW)["acknowledgement_age_seconds"] is Reason.FIRST_SAMPLE


def test_the_first_tick_does_not_know_how_long_a_tick_takes() -> None:
    values = cadence_values(Cadence())
    assert values["tick_seconds"] is values["collectors_failing_count"] is Reason.FIRST_SAMPLE
    assert values["ticks_skipped_total"] == 0


def test_a_spool_says_what_it_holds_in_bytes() -> None:
    spool: Spool[str] = Spool(max_bytes=1000)
    for seq in range(3):
        spool.append("x", size_bytes=10, taken_at_unix_us=seq)
    spool.committed(1)
    assert (len(spool), spool.kept_bytes) == (2, 20)


def cadence_after(seconds: float, *takes: float) -> Cadence:
    async def main() -> Cadence:
        sampler = Sampler([Scripted("a", taking(*takes))], LoopClock(), interval_seconds=5.0)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(sampler.run(lambda tick: None))
            await asyncio.sleep(seconds)
            running.cancel()
        await sampler.close()
        return sampler.cadence

    return run_virtually(main())


def test_a_tick_says_how_long_the_one_before_took() -> None:
    assert cadence_after(6, 0.0, 0.5).tick_seconds == 0.5


def test_points_of_the_grid_without_a_tick_are_counted() -> None:
    assert cadence_after(21).skipped_total == 0

    async def main() -> int:
        sampler = Sampler([Scripted("a")], LoopClock(), interval_seconds=5.0)
        seen = 0

        async with asyncio.TaskGroup() as tasks:

            def sink(tick: object) -> None:
                nonlocal seen
                seen += 1
                if seen == 2:  # the tick of 5: what follows it holds the loop until 17
                    clock.ahead = 12.0

            clock = _Jumping()
            sampler._clock = clock
            running = tasks.create_task(sampler.run(sink))
            await asyncio.sleep(12)
            running.cancel()
        return sampler.cadence.skipped_total

    assert run_virtually(main()) == 2  # those of 10 and 15


class _Jumping(LoopClock):
    """A machine that slept: its clock went on, and the loop did not."""

    ahead = 0.0

    def now(self) -> Instant:
        now = super().now()
        return Instant(wall=now.wall, monotonic_seconds=now.monotonic_seconds + self.ahead)


def test_a_report_says_when_a_collector_last_went_well_and_keeps_its_last_error() -> None:
    ticks = sampled([Scripted("a", failing(2))], seconds=14)
    first, second, third = (report(tick, "a") for tick in ticks)
    assert (first.last_success_age_seconds, first.last_error, first.last_error_age_seconds) == (0.0, "", None)
    assert (second.last_success_age_seconds, second.last_error_age_seconds) == (5.0, 0.0)
    assert second.last_error == "OSError: look 2 went wrong"
    assert (third.last_success_age_seconds, third.last_error_age_seconds) == (0.0, 5.0)
    assert third.last_error == second.last_error


def test_a_collector_that_never_went_well_has_no_last_success() -> None:
    (tick,) = sampled([Scripted("a", failing(1))], seconds=1)
    assert report(tick, "a").last_success_age_seconds is None
