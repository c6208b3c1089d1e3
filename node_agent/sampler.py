"""One cadence for every collector, with a deadline each. Its cost and outcome are telemetry too."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from node_agent.clock import Clock, Instant
from node_agent.model import (
    Cadence,
    Collected,
    Collector,
    CollectorReport,
    Entity,
    EntityKind,
    Event,
    Machine,
    Outcome,
    Reason,
    Sample,
    Tick,
)
from optiinfra.catalogue import TABLES

log = logging.getLogger(__name__)

# A collector may use this share of the interval; the rest is for encoding and sending.
DEADLINE_SHARE = 0.8
LONGEST_DEADLINE_SECONDS = 4.0


def deadline_seconds(interval_seconds: float) -> float:
    """This will give how long a collector may take at a cadence."""
    return min(interval_seconds * DEADLINE_SHARE, LONGEST_DEADLINE_SECONDS)


FAILURES = (Outcome.FAILED, Outcome.TIMED_OUT)

# Samples that commands may have waiting: a person's impatient clicks, not a second cadence.
MOST_REQUESTS = 8
# Of one collector in one tick; the rest goes with the next. A few collectors stay below what a server admits.
MOST_EVENTS = 50


class _Seat:
    """One collector and what it last saw."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.running: asyncio.Task[tuple[Collected, float]] | None = None
        self.entities: Sequence[Entity] = ()
        self.subjects: list[tuple[str, tuple[EntityKind, str]]] = []  # table and entity of each sample
        self.events: list[Event] = []  # not in a tick yet: late or not, what happened has happened
        self._succeeded_at: float | None = None  # monotonic seconds, as the next one
        self._failed_at: float | None = None
        self._last_error = ""

    def report(self, outcome: Outcome, seconds: float, detail: str, now: Instant) -> CollectorReport:
        """This will say how a run went, and when one last went well and last did not."""
        at = now.monotonic_seconds
        if outcome in (Outcome.OK, Outcome.PARTIAL):
            self._succeeded_at = at
        if outcome in FAILURES:
            self._failed_at, self._last_error = at, detail
        return CollectorReport(
            collector=self.collector.name,
            outcome=outcome,
            duration_seconds=seconds,
            detail=detail,
            last_success_age_seconds=None if self._succeeded_at is None else at - self._succeeded_at,
            last_error=self._last_error,
            last_error_age_seconds=None if self._failed_at is None else at - self._failed_at,
        )

    def remember(self, collected: Collected) -> None:
        """This will keep what the collector looked at. One that failed without a word leaves it as it was."""
        self.events += collected.events
        if collected.outcome is not Outcome.FAILED or collected.samples:
            self.entities = collected.entities
            self.subjects = [(sample.table, sample.entity) for sample in collected.samples]

    def silent(self, reason: Reason) -> tuple[Sequence[Entity], list[Sample]]:
        """This will give what is known to exist when nothing came: as last described, all values unknown."""
        samples = [
            Sample(table=table, entity=entity, values=dict.fromkeys((f.name for f in TABLES[table].fields), reason))
            for table, entity in self.subjects
        ]
        return self.entities, samples


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """A command's wish for a tick."""

    command_id: str
    expires_at: float  # monotonic seconds


class Sampler:
    """Runs the collectors together, so that all values of a tick share one moment."""

    def __init__(
        self,
        collectors: Sequence[Collector],
        clock: Clock,
        *,
        interval_seconds: float,
        disabled: Sequence[str] = (),
        finish: Callable[[Tick], Tick] | None = None,
    ) -> None:
        """`disabled` names collectors that the configuration switched off, so that reports say so.

        `finish` joins what the collectors of one tick saw. It must not wait for anything.
        """
        self._seats = [_Seat(collector) for collector in collectors]
        self._clock = clock
        self._disabled = dict.fromkeys(disabled, "switched off by configuration")
        self._off: Mapping[str, str] = {}  # collectors that are there and do not run, and why
        self._finish = finish
        self._requests: list[_Request] = []
        self._wake = asyncio.Event()
        self._due_at: float | None = None  # the point of the grid that is waited for, in monotonic seconds
        self._is_served = False  # its tick has begun
        self.interval_seconds = interval_seconds
        self.cadence = Cadence()

    def request(self, command_id: str, *, valid_for_seconds: float) -> bool:
        """This will ask for a tick now, outside the cadence; False when too many are waiting already.

        A request that cannot be served while it is valid is dropped: nobody waits for it any more.
        """
        if len(self._requests) >= MOST_REQUESTS:
            return False
        expires_at = self._clock.now().monotonic_seconds + valid_for_seconds
        self._requests.append(_Request(command_id=command_id, expires_at=expires_at))
        self._wake.set()
        return True

    def set_interval(self, seconds: float) -> None:
        """This will change the cadence from the next tick on."""
        self._due_at = None  # another grid: what lies between the two was never due
        self.interval_seconds = seconds
        self._wake.set()

    def switch_off(self, why: Mapping[str, str]) -> None:
        """This will run, from the next tick on, no collector that is named and every other one. `why` is reported."""
        self._off = dict(why)

    async def run(self, sink: Callable[[Tick], None]) -> None:
        """This will sample until cancelled, handing each tick to `sink`."""
        async with asyncio.TaskGroup() as tasks:
            sink(await self._tick(tasks, ""))
            while True:
                due = await self._sleep()
                self._measure_lateness(due)
                requests, self._requests = self._requests, []
                for request in requests:
                    if self._clock.now().monotonic_seconds <= request.expires_at:
                        sink(await self._tick(tasks, request.command_id))
                    else:
                        log.warning("command %s expired before a sample could be taken", request.command_id)
                if due and not requests:
                    sink(await self._tick(tasks, ""))

    async def close(self) -> None:
        """This will close the collectors."""
        for seat in self._seats:
            await seat.collector.close()

    async def _sleep(self) -> bool:
        """This will wait for the next point of the grid (True) or for a request (False).

        A change of the interval only moves that point.
        """
        while not self._requests:
            now = self._clock.now().monotonic_seconds
            due = (math.floor(now / self.interval_seconds) + 1) * self.interval_seconds
            self._count_skipped(due)
            self._wake.clear()
            try:
                async with asyncio.timeout(due - now):
                    await self._wake.wait()
            except TimeoutError:
                return True
        return False

    def _measure_lateness(self, due: bool) -> None:
        """A command's tick cannot be late: it has no point of the grid."""
        late = 0.0
        if due and self._due_at is not None:
            self._is_served = True
            late = max(0.0, self._clock.now().monotonic_seconds - self._due_at)
        self.cadence = replace(self.cadence, lateness_seconds=late)

    def _count_skipped(self, due: float) -> None:
        """What lies before the next point and was not served had no tick."""
        if self._due_at is not None and due > self._due_at:
            passed = round((due - self._due_at) / self.interval_seconds) - self._is_served
            self.cadence = replace(self.cadence, skipped_total=self.cadence.skipped_total + passed)
        if due != self._due_at:
            self._due_at, self._is_served = due, False

    async def _tick(self, tasks: asyncio.TaskGroup, command_id: str) -> Tick:
        now = self._clock.now()
        deadline = deadline_seconds(self.interval_seconds)
        seats = [seat for seat in self._seats if seat.collector.name not in self._off]
        off = {**self._disabled, **self._off}
        late_before = {seat.collector.name for seat in seats if seat.running and not seat.running.done()}
        for seat in seats:
            if seat.running is not None and seat.running.done():  # late, but it came back before this tick
                seat.remember(seat.running.result()[0])
                seat.running = None
            if seat.running is None:
                seat.running = tasks.create_task(self._run(seat.collector, now), name=f"collect-{seat.collector.name}")
        running = [seat.running for seat in seats if seat.running is not None]
        if running:
            await asyncio.wait(running, timeout=deadline)
        return self._finished(self._gather(now, command_id, late_before, seats, off))

    def _finished(self, tick: Tick) -> Tick:
        if self._finish is None:
            return tick
        try:
            return self._finish(tick)
        except Exception:  # boundary: a join that fails must not take the samples along
            log.exception("what the collectors saw could not be joined")
            return tick

    def _gather(
        self, now: Instant, command_id: str, late_before: set[str], seats: Sequence[_Seat], off: Mapping[str, str]
    ) -> Tick:
        entities: list[Entity] = []
        samples: list[Sample] = []
        events: list[Event] = []
        reports: list[CollectorReport] = []
        elapsed = self._clock.now().monotonic_seconds - now.monotonic_seconds
        ends = [seat.running.result()[0] for seat in seats if seat.running and seat.running.done()]
        restart_because = next((end.restart_because for end in ends if end.restart_because), "")
        machine: Machine | None = None
        for seat in seats:
            report, seen, said, detail = _taken(seat, now, elapsed, was_late=seat.collector.name in late_before)
            machine = machine or detail
            reports.append(report)
            entities += seen
            samples += said
            events += seat.events[:MOST_EVENTS]
            seat.events = seat.events[MOST_EVENTS:]
        self.cadence = replace(
            self.cadence, tick_seconds=elapsed, collectors_failing=sum(r.outcome in FAILURES for r in reports)
        )
        reports += [
            CollectorReport(collector=name, outcome=Outcome.DISABLED, duration_seconds=0.0, detail=why)
            for name, why in off.items()
        ]
        return Tick(
            taken_at=now,
            entities=entities,
            samples=samples,
            reports=reports,
            command_id=command_id,
            events=events,
            restart_because=restart_because,
            machine=machine,
        )

    async def _run(self, collector: Collector, now: Instant) -> tuple[Collected, float]:
        try:
            collected = await collector.collect(now)
        except Exception as error:  # boundary: one broken collector must not silence the others
            log.exception("collector %s failed", collector.name)
            collected = Collected(outcome=Outcome.FAILED, detail=f"{type(error).__name__}: {error}")
        return collected, self._clock.now().monotonic_seconds - now.monotonic_seconds


def _taken(
    seat: _Seat, now: Instant, elapsed_seconds: float, *, was_late: bool
) -> tuple[CollectorReport, Sequence[Entity], Sequence[Sample], Machine | None]:
    """This will take from a seat what belongs to this tick: what came, or that it is unknown and why."""
    assert seat.running is not None
    if not seat.running.done():
        report = seat.report(Outcome.TIMED_OUT, elapsed_seconds, f"did not finish within {elapsed_seconds:.1f} s", now)
        return report, *seat.silent(Reason.TIMED_OUT), None
    collected, seconds = seat.running.result()
    seat.running = None
    seat.remember(collected)
    if was_late:  # it answered, but about an earlier moment: its values do not belong to this tick
        report = seat.report(Outcome.TIMED_OUT, seconds, "answered after its deadline", now)
        return report, *seat.silent(Reason.TIMED_OUT), None
    report = seat.report(collected.outcome, seconds, collected.detail, now)
    if collected.outcome is Outcome.FAILED and not collected.samples:
        return report, *seat.silent(Reason.ERROR), None
    return report, collected.entities, collected.samples, collected.machine
