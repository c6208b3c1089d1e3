"""One cadence for every collector, with a deadline each. Its cost and outcome are telemetry too."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

from node_agent.clock import Clock, Instant
from node_agent.model import Collected, Collector, CollectorReport, Entity, EntityKind, Outcome, Reason, Sample, Tick
from optiinfra.catalogue import TABLES

log = logging.getLogger(__name__)

# A collector may use this share of the interval; the rest is for encoding and sending.
DEADLINE_SHARE = 0.8
LONGEST_DEADLINE_SECONDS = 4.0


class _Seat:
    """One collector and what it last saw."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.running: asyncio.Task[tuple[Collected, float]] | None = None
        self.subjects: list[tuple[str, tuple[EntityKind, str]]] = []  # table and entity of each sample

    def timed_out(self) -> list[Sample]:
        """This will give what a late collector's entities look like: known to exist, all values unknown."""
        return [
            Sample(table=table, entity=entity, values={f.name: Reason.TIMED_OUT for f in TABLES[table].fields})
            for table, entity in self.subjects
        ]


class Sampler:
    """Runs the collectors together, so that all values of a tick share one moment."""

    def __init__(
        self,
        collectors: Sequence[Collector],
        clock: Clock,
        *,
        interval_seconds: float,
        disabled: Sequence[str] = (),
    ) -> None:
        """`disabled` names collectors that the configuration switched off, so that reports say so."""
        self._seats = [_Seat(collector) for collector in collectors]
        self._clock = clock
        self._disabled = tuple(disabled)
        self._requests: list[str] = []
        self._wake = asyncio.Event()
        self.interval_seconds = interval_seconds

    def request(self, command_id: str) -> None:
        """This will ask for a tick now, outside the cadence."""
        self._requests.append(command_id)
        self._wake.set()

    def set_interval(self, seconds: float) -> None:
        """This will change the cadence from the next tick on."""
        self.interval_seconds = seconds
        self._wake.set()

    async def run(self, sink: Callable[[Tick], None]) -> None:
        """This will sample until cancelled, handing each tick to `sink`."""
        async with asyncio.TaskGroup() as tasks:
            sink(await self._tick(tasks, ""))
            while True:
                await self._sleep()
                requests, self._requests = self._requests, []
                for command_id in requests or [""]:
                    sink(await self._tick(tasks, command_id))

    async def close(self) -> None:
        """This will close the collectors."""
        for seat in self._seats:
            await seat.collector.close()

    async def _sleep(self) -> None:
        """This will wait for the next point of the grid, or for a request."""
        now = self._clock.now().monotonic_seconds
        due = (math.floor(now / self.interval_seconds) + 1) * self.interval_seconds
        try:
            async with asyncio.timeout(due - now):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _tick(self, tasks: asyncio.TaskGroup, command_id: str) -> Tick:
        now = self._clock.now()
        deadline = min(self.interval_seconds * DEADLINE_SHARE, LONGEST_DEADLINE_SECONDS)
        late_before = {seat.collector.name for seat in self._seats if seat.running is not None}
        for seat in self._seats:
            if seat.running is None:
                seat.running = tasks.create_task(self._run(seat.collector, now), name=f"collect-{seat.collector.name}")
        running = [seat.running for seat in self._seats if seat.running is not None]
        if running:
            await asyncio.wait(running, timeout=deadline)
        return self._gather(now, command_id, late_before)

    def _gather(self, now: Instant, command_id: str, late_before: set[str]) -> Tick:
        entities: list[Entity] = []
        samples: list[Sample] = []
        reports: list[CollectorReport] = []
        elapsed = self._clock.now().monotonic_seconds - now.monotonic_seconds
        for seat in self._seats:
            name = seat.collector.name
            assert seat.running is not None
            if not seat.running.done():
                samples += seat.timed_out()
                detail = f"did not finish within {elapsed:.1f} s"
                reports.append(_report(name, Outcome.TIMED_OUT, elapsed, detail))
                continue
            collected, seconds = seat.running.result()
            seat.running = None
            if name in late_before:
                # It answered, but about an earlier moment: its values do not belong to this tick.
                samples += seat.timed_out()
                reports.append(_report(name, Outcome.TIMED_OUT, seconds, "answered after its deadline"))
                continue
            entities += collected.entities
            samples += collected.samples
            seat.subjects = [(sample.table, sample.entity) for sample in collected.samples]
            reports.append(_report(name, collected.outcome, seconds, collected.detail))
        reports += [_report(name, Outcome.DISABLED, 0.0, "switched off by configuration") for name in self._disabled]
        return Tick(taken_at=now, entities=entities, samples=samples, reports=reports, command_id=command_id)

    async def _run(self, collector: Collector, now: Instant) -> tuple[Collected, float]:
        try:
            collected = await collector.collect(now)
        except Exception as error:  # boundary: one broken collector must not silence the others
            log.exception("collector %s failed", collector.name)
            collected = Collected(outcome=Outcome.FAILED, detail=f"{type(error).__name__}: {error}")
        return collected, self._clock.now().monotonic_seconds - now.monotonic_seconds


def _report(name: str, outcome: Outcome, seconds: float, detail: str) -> CollectorReport:
    return CollectorReport(collector=name, outcome=outcome, duration_seconds=seconds, detail=detail)
