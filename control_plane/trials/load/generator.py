"""Sends every request when it is due, whatever became of those before it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from control_plane.runtime.clock import Clock
from control_plane.trials.load.records import LoadRun, Outcome, RequestRecord
from control_plane.trials.load.requesting import Job
from control_plane.trials.load.stream import StreamedAnswer


class Sender(Protocol):
    """Sees one request through."""

    async def send(self, job: Job, *, began: float) -> tuple[RequestRecord, StreamedAnswer]:
        """This will send a request and say what became of it."""
        ...


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    planned: int
    elapsed_seconds: float = 0.0
    due: int = 0
    in_flight: int = 0
    finished: int = 0
    failed: int = 0


class Generator:
    """One run."""

    def __init__(
        self,
        sender: Sender,
        clock: Clock,
        *,
        most_in_flight: int,
        on_finished: Callable[[RequestRecord, StreamedAnswer], None] | None = None,
    ) -> None:
        """A request that is due while `most_in_flight` are under way is not sent, and counts as one that failed."""
        self._sender, self._clock = sender, clock
        self._most_in_flight, self._on_finished = most_in_flight, on_finished
        self._progress = Progress(planned=0)
        self._began = 0.0

    def progress(self) -> Progress:
        """This will say how far it is."""
        if self._began:
            self._progress.elapsed_seconds = self._clock.monotonic() - self._began
        return self._progress

    async def run(self, jobs: Iterable[Job], run: LoadRun, *, planned: int, stop: asyncio.Event) -> LoadRun:
        """This will send all `jobs` (by due time) and wait for their ends; `stop` ends all at once.

        `run` is filled as requests end, so that whoever is cut off has what was measured until then.
        """
        self._progress.planned = planned
        self._began = self._clock.monotonic()
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(stop.wait())
            sending = tasks.create_task(self._send_all(jobs, run))
            await asyncio.wait((stopping, sending), return_when=asyncio.FIRST_COMPLETED)
            run.stopped = not sending.done()
            stopping.cancel()
            sending.cancel()  # and with it whatever is under way
        return run

    async def _send_all(self, jobs: Iterable[Job], run: LoadRun) -> None:
        async with asyncio.TaskGroup() as requests:
            for job in jobs:
                wait = self._began + job.due_seconds - self._clock.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                elif self._progress.due % 16 == 0:
                    await asyncio.sleep(0)  # behind time: let answers in all the same
                self._progress.due += 1
                if self._progress.in_flight >= self._most_in_flight:
                    self._finish(run, self._not_sent(job), None)
                    continue
                self._progress.in_flight += 1
                requests.create_task(self._see_through(job, run))

    async def _see_through(self, job: Job, run: LoadRun) -> None:
        try:
            record, answer = await self._sender.send(job, began=self._began)
        except asyncio.CancelledError:
            self._finish(run, self._cancelled(job), None)
            raise
        finally:
            self._progress.in_flight -= 1
        self._finish(run, record, answer)

    def _finish(self, run: LoadRun, record: RequestRecord, answer: StreamedAnswer | None) -> None:
        run.records.append(record)
        self._progress.finished += 1
        if record.outcome is Outcome.COMPLETED:
            if answer is not None and record.due_seconds >= run.warmup_seconds:
                stamps = answer.chunk_seconds
                for earlier, later in itertools.pairwise(stamps):
                    run.gaps.add(later - earlier)
        elif record.outcome is not Outcome.CANCELLED:
            self._progress.failed += 1
        if self._on_finished is not None and answer is not None:
            self._on_finished(record, answer)

    def _not_sent(self, job: Job) -> RequestRecord:
        detail = f"{self._most_in_flight} requests were under way"
        return self._unsent(job, Outcome.NOT_SENT, detail)

    def _cancelled(self, job: Job) -> RequestRecord:
        return self._unsent(job, Outcome.CANCELLED, "the test was stopped")

    def _unsent(self, job: Job, outcome: Outcome, detail: str) -> RequestRecord:
        return RequestRecord(
            number=job.number,
            due_seconds=job.due_seconds,
            sent_seconds=None,
            first_token_seconds=None,
            last_token_seconds=None,
            ended_seconds=self._clock.monotonic() - self._began,
            outcome=outcome,
            prompt_tokens=None,
            cached_tokens=None,
            output_tokens=None,
            chunks=0,
            finish_reason=None,
            http_status=None,
            detail=detail,
        )
