"""One cadence, a deadline for each collector, and no value that is older than its tick. In virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest

from node_agent.clock import Instant
from node_agent.model import Collected, CollectorReport, Entity, EntityKind, Outcome, Reason, Sample, Tick
from node_agent.sampler import MOST_REQUESTS, Sampler
from optiinfra.catalogue import TABLES
from tests.fakes.virtual_time import LoopClock, run_virtually

DISK_FIELDS = {spec.name for spec in TABLES["disk"].fields}


class Scripted:
    """A collector of one disk that takes as long, and fails, as its script says."""

    def __init__(self, name: str, script: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.name = name
        self._script = script
        self.looks: list[Instant] = []
        self.running = 0
        self.closed = False

    async def collect(self, now: Instant) -> Collected:
        self.looks.append(now)
        look = len(self.looks)
        self.running += 1
        assert self.running == 1, "a collector never runs twice at once"
        try:
            if self._script is not None:
                await self._script(look)
        finally:
            self.running -= 1
        entity = Entity(kind=EntityKind.DISK, key=self.name)
        sample = Sample(table="disk", entity=(entity.kind, entity.key), values={"reads_total": look})
        return Collected(outcome=Outcome.OK, entities=[entity], samples=[sample])

    async def close(self) -> None:
        self.closed = True


def taking(*seconds: float) -> Callable[[int], Awaitable[None]]:
    """The first look takes the first of `seconds`, and so on; later ones nothing."""

    async def script(look: int) -> None:
        await asyncio.sleep(seconds[look - 1] if look <= len(seconds) else 0.0)

    return script


def failing(*looks: int) -> Callable[[int], Awaitable[None]]:
    async def script(look: int) -> None:
        if look in looks:
            raise OSError(f"look {look} went wrong")

    return script


def sampled(
    collectors: Sequence[Scripted],
    *,
    seconds: float,
    interval_seconds: float = 5.0,
    start_seconds: float = 0.0,
    disabled: Sequence[str] = (),
    meanwhile: Callable[[Sampler], Awaitable[None]] | None = None,
) -> list[Tick]:
    """The ticks of a sampler that runs for `seconds`."""

    async def main() -> list[Tick]:
        sampler = Sampler(collectors, LoopClock(), interval_seconds=interval_seconds, disabled=disabled)
        ticks: list[Tick] = []
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(sampler.run(ticks.append))
            if meanwhile is not None:
                tasks.create_task(meanwhile(sampler))  # type: ignore[arg-type]  # it is a coroutine function
            await asyncio.sleep(seconds)
            running.cancel()
        await sampler.close()
        return ticks

    return run_virtually(main(), start_seconds=start_seconds)


def times(ticks: Sequence[Tick]) -> list[float]:
    return [tick.taken_at.monotonic_seconds for tick in ticks]


def report(tick: Tick, name: str) -> CollectorReport:
    (found,) = (r for r in tick.reports if r.collector == name)
    return found


def reads(tick: Tick, name: str) -> object:
    """What the tick says of a collector's disk; None when it does not mention it."""
    values = [s.values.get("reads_total") for s in tick.samples if s.entity == (EntityKind.DISK, name)]
    assert len(values) <= 1
    return values[0] if values else None


def test_ticks_lie_on_a_grid_that_every_agent_of_one_interval_shares() -> None:
    assert times(sampled([Scripted("a")], seconds=21, start_seconds=101.5)) == [101.5, 105, 110, 115, 120]


def test_slow_collectors_do_not_shift_the_cadence() -> None:
    assert times(sampled([Scripted("a", taking(*[3.9] * 9))], seconds=19)) == [0, 5, 10, 15]


def test_values_of_one_tick_share_one_moment() -> None:
    slow, fast = Scripted("slow", taking(1.0, 1.0)), Scripted("fast")
    ticks = sampled([slow, fast], seconds=9)
    assert slow.looks == fast.looks == [tick.taken_at for tick in ticks]


def test_a_late_collector_is_reported_and_its_entities_are_unknown_not_absent() -> None:
    ticks = sampled([Scripted("late", taking(0, 99)), Scripted("fine")], seconds=14.5)
    for tick in ticks[1:]:
        assert report(tick, "late").outcome is Outcome.TIMED_OUT
        assert report(tick, "late").detail == "did not finish within 4.0 s"
        (sample,) = (s for s in tick.samples if s.entity[1] == "late")
        assert sample.values == dict.fromkeys(DISK_FIELDS, Reason.TIMED_OUT)
        assert [e.key for e in tick.entities if e.key == "late"], "what has values is described"
    assert [reads(tick, "fine") for tick in ticks] == [1, 2, 3]


def test_a_late_answer_is_never_passed_off_as_this_ticks() -> None:
    # The second look begins at 5 and ends at 11, in the midst of the tick of 10.
    ticks = sampled([Scripted("late", taking(0, 6))], seconds=19)
    assert [reads(tick, "late") for tick in ticks] == [1, Reason.TIMED_OUT, Reason.TIMED_OUT, 3]
    assert report(ticks[2], "late").detail == "answered after its deadline"


def test_a_collector_that_came_back_between_ticks_looks_again_at_the_next() -> None:
    ticks = sampled([Scripted("late", taking(0, 4.5))], seconds=14)
    assert [reads(tick, "late") for tick in ticks] == [1, Reason.TIMED_OUT, 3]


def test_what_a_late_first_look_found_is_known_from_then_on() -> None:
    ticks = sampled([Scripted("late", taking(4.5, 99))], seconds=9.5)
    assert [reads(tick, "late") for tick in ticks] == [None, Reason.TIMED_OUT]
    assert [entity.key for entity in ticks[1].entities] == ["late"]


def test_a_collector_that_hangs_for_ever_is_asked_once_and_does_not_delay_the_end() -> None:
    hanging = Scripted("hanging", taking(1e9))
    ticks = sampled([hanging], seconds=60)
    assert len(ticks) == 12
    assert len(hanging.looks) == 1
    assert hanging.closed


def test_a_broken_collector_does_not_silence_the_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    ticks = sampled([Scripted("broken", failing(1, 2, 3)), Scripted("fine")], seconds=11)
    assert [reads(tick, "fine") for tick in ticks] == [1, 2, 3]
    assert {report(tick, "broken").outcome for tick in ticks} == {Outcome.FAILED}
    assert report(ticks[0], "broken").detail == "OSError: look 1 went wrong"


def test_what_a_broken_collector_saw_before_is_unknown_not_absent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    ticks = sampled([Scripted("broken", failing(2, 3))], seconds=16)
    assert [reads(tick, "broken") for tick in ticks] == [1, Reason.ERROR, Reason.ERROR, 4]


def test_a_collector_that_is_switched_off_is_reported_as_such() -> None:
    (tick,) = sampled([Scripted("a")], seconds=1, disabled=["gpu"])
    assert report(tick, "gpu").outcome is Outcome.DISABLED
    assert report(tick, "a").outcome is Outcome.OK


def test_every_run_reports_what_it_cost() -> None:
    (tick,) = sampled([Scripted("a", taking(1.25))], seconds=2)
    assert report(tick, "a").duration_seconds == 1.25


def test_a_request_gives_one_extra_tick_with_its_id_and_leaves_the_grid_alone() -> None:
    async def meanwhile(sampler: Sampler) -> None:
        await asyncio.sleep(7)
        assert sampler.request("command-1", valid_for_seconds=30)

    ticks = sampled([Scripted("a")], seconds=16, meanwhile=meanwhile)
    assert [(t.taken_at.monotonic_seconds, t.command_id) for t in ticks] == [
        (0, ""), (5, ""), (7, "command-1"), (10, ""), (15, ""),
    ]  # fmt: skip


def test_requests_that_come_together_are_each_answered() -> None:
    async def meanwhile(sampler: Sampler) -> None:
        await asyncio.sleep(1)
        assert sampler.request("one", valid_for_seconds=30)
        assert sampler.request("two", valid_for_seconds=30)

    ticks = sampled([Scripted("a")], seconds=4, meanwhile=meanwhile)
    assert [tick.command_id for tick in ticks] == ["", "one", "two"]


def test_a_request_that_expired_while_it_waited_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def meanwhile(sampler: Sampler) -> None:
        await asyncio.sleep(5.5)  # the tick of 5 takes until 8
        assert sampler.request("impatient", valid_for_seconds=1)
        assert sampler.request("patient", valid_for_seconds=10)

    ticks = sampled([Scripted("a", taking(0, 3))], seconds=9.5, meanwhile=meanwhile)
    assert [tick.command_id for tick in ticks] == ["", "", "patient"]
    assert "impatient expired" in caplog.text


def test_requests_are_bounded() -> None:
    async def meanwhile(sampler: Sampler) -> None:
        await asyncio.sleep(1)
        accepted = [sampler.request(str(n), valid_for_seconds=30) for n in range(MOST_REQUESTS + 2)]
        assert accepted == [True] * MOST_REQUESTS + [False, False]

    assert len(sampled([Scripted("a")], seconds=4, meanwhile=meanwhile)) == 1 + MOST_REQUESTS


def test_a_new_interval_moves_the_grid_and_takes_no_extra_sample() -> None:
    async def meanwhile(sampler: Sampler) -> None:
        await asyncio.sleep(11)
        sampler.set_interval(2.0)
        await asyncio.sleep(6)
        sampler.set_interval(10.0)

    ticks = sampled([Scripted("a")], seconds=35, meanwhile=meanwhile)
    assert times(ticks) == [0, 5, 10, 12, 14, 16, 20, 30]


def test_a_collector_that_is_switched_off_is_not_run_and_says_so_until_it_is_switched_on_again() -> None:
    disk = Scripted("a")

    async def meanwhile(sampler: Sampler) -> None:
        await asyncio.sleep(6)
        sampler.switch_off({"a": "nobody wants it"})
        await asyncio.sleep(10)
        sampler.switch_off({})

    ticks = sampled([disk, Scripted("b")], seconds=21, meanwhile=meanwhile)
    said = [{report.collector: (report.outcome, report.detail) for report in tick.reports}["a"] for tick in ticks]
    off = (Outcome.DISABLED, "nobody wants it")
    assert said == [(Outcome.OK, ""), (Outcome.OK, ""), off, off, (Outcome.OK, "")]
    assert [len(tick.samples) for tick in ticks] == [2, 2, 1, 1, 2]
    assert len(disk.looks) == 3


def test_a_collector_may_be_switched_off_and_on_while_it_looks() -> None:
    async def meanwhile(sampler: Sampler) -> None:
        await asyncio.sleep(1)  # the first look takes until 12
        sampler.switch_off({"a": "nobody wants it"})
        await asyncio.sleep(6)
        sampler.switch_off({})

    ticks = sampled([Scripted("a", taking(12))], seconds=21, meanwhile=meanwhile)
    outcomes = [tick.reports[0].outcome for tick in ticks]
    assert outcomes == [Outcome.TIMED_OUT, Outcome.DISABLED, Outcome.TIMED_OUT, Outcome.OK, Outcome.OK]


def test_without_collectors_the_loop_still_turns_once_per_interval() -> None:
    assert times(sampled([], seconds=11)) == [0, 5, 10]
