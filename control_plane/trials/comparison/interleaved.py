"""The same load on two servers at the same time, request by request in turn, looked at as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from control_plane.runtime.clock import Clock
from control_plane.statistics import sequences
from control_plane.statistics.sequences import Difference, Verdict
from control_plane.trials.comparison.measures import Margins, measures
from control_plane.trials.load.generator import Generator
from control_plane.trials.load.plan import LoadPlan, jobs, opened
from control_plane.trials.load.prompts import Measure as TokenMeasure
from control_plane.trials.load.records import GapCounts, LoadRun, Outcome, RequestRecord
from control_plane.trials.load.requesting import Client, Job, Target
from control_plane.trials.load.stream import StreamedAnswer
from control_plane.trials.load.summary import Objective, Summary, summarize

# Looking more often finds nothing sooner that matters, and costs time on the machine that measures.
LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of comparing two servers."""

    verdict: Verdict
    because: str
    differences: tuple[Difference, ...]
    candidate: Summary
    baseline: Summary


@dataclass(slots=True)
class _Turns:
    """Hands each request to one of two servers: of every two, one to each, by the toss of a coin."""

    candidate: Client
    baseline: Client
    first: np.ndarray[tuple[int], np.dtype[np.bool_]]  # of each two requests: does the candidate get the first
    gaps: dict[bool, GapCounts] = field(default_factory=lambda: {True: GapCounts(), False: GapCounts()})

    def is_candidate(self, number: int) -> bool:
        return bool(self.first[number // 2]) == (number % 2 == 0)

    async def send(self, job: Job, *, began: float) -> tuple[RequestRecord, StreamedAnswer]:
        client = self.candidate if self.is_candidate(job.number) else self.baseline
        return await client.send(job, began=began)

    def note(self, record: RequestRecord, answer: StreamedAnswer) -> None:
        if record.outcome is Outcome.COMPLETED:
            for earlier, later in pairwise(answer.chunk_seconds):
                self.gaps[self.is_candidate(record.number)].add(later - earlier)


def _doubled(made: Iterator[Job], due: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Iterator[Job]:
    """This will let both requests of a pair say the same."""
    for number, when in enumerate(due):
        if number % 2 == 0:
            job = next(made)
        yield replace(job, number=number, due_seconds=float(when))


async def compare(
    plan: LoadPlan,
    *,
    candidate: Target,
    baseline: Target,
    objective: Objective,
    margins: Margins,
    clock: Clock,
    stop: asyncio.Event,
    alpha: float = 0.05,
    watch: Callable[[Generator], None] | None = None,
) -> Comparison:
    """This will put a plan's load on two servers in turn and say whether the candidate may replace the baseline.

    It ends as soon as that is sure, with the plan, or when `stop` is set. `alpha` is the chance of a wrong verdict.
    Raises InvalidRequest when one of the servers does not answer at all, or counts tokens in another way.
    """
    first, measure = await opened(candidate, clock, timeout_seconds=plan.timeout_seconds)
    second, _ = await opened(baseline, clock, timeout_seconds=plan.timeout_seconds)
    pairs = (len(plan.due_seconds) + 1) // 2
    turns = _Turns(first, second, np.random.default_rng(plan.seed + 1).random(pairs) < 0.5)
    generator = Generator(turns, clock, most_in_flight=plan.most_in_flight, on_finished=turns.note)
    if watch is not None:
        watch(generator)
    look = _Looks(plan, turns, objective, margins, alpha)
    decided = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(look.until_decided(decided))
            passing_on = tasks.create_task(_pass_on(stop, decided))
            work = _doubled(_half(plan, candidate, measure), plan.due_seconds)
            await generator.run(work, look.run, planned=len(plan.due_seconds), stop=decided)
            looking.cancel()
            passing_on.cancel()
    finally:
        first.close()
        second.close()
    return look.conclusion()


def _half(plan: LoadPlan, target: Target, measure: TokenMeasure) -> Iterator[Job]:
    return jobs(replace(plan, due_seconds=plan.due_seconds[::2]), target, measure)


async def _pass_on(stop: asyncio.Event, decided: asyncio.Event) -> None:
    await stop.wait()
    decided.set()


class _Looks:
    """Looks at what has come so far."""

    def __init__(self, plan: LoadPlan, turns: _Turns, objective: Objective, margins: Margins, alpha: float) -> None:
        self._plan, self._turns, self._objective, self._margins, self._alpha = plan, turns, objective, margins, alpha
        self.run = LoadRun(warmup_seconds=plan.warmup_seconds, seconds=plan.seconds)
        self._verdict: Verdict = Verdict.INCONCLUSIVE
        self._differences: tuple[Difference, ...] = ()

    async def until_decided(self, decided: asyncio.Event) -> None:
        while not decided.is_set():
            await asyncio.sleep(LOOK_SECONDS)
            self._look()
            if self._verdict is not Verdict.INCONCLUSIVE:
                decided.set()

    def _look(self) -> None:
        """A verdict stands: a later look must not take back what an earlier one was entitled to."""
        if self._verdict is not Verdict.INCONCLUSIVE:
            return
        # What is under way is no longer than what is done: only requests of which the end is known may be compared,
        # and of these all up to a moment, or the slow ones would be missing.
        settled = self._settled()
        self._verdict, self._differences = sequences.judge(
            measures(settled[True], settled[False], self._objective, self._margins),
            alpha=self._alpha,
            planned=max(2.0 * sequences.LEAST_PER_ARM, len(self._plan.due_seconds) / 2),
        )

    def _settled(self) -> dict[bool, list[RequestRecord]]:
        ended = {record.number for record in self.run.records}
        first_open = next((n for n in range(len(self._plan.due_seconds)) if n not in ended), len(ended))
        split: dict[bool, list[RequestRecord]] = {True: [], False: []}
        for record in self.run.records:
            if record.number < first_open and record.due_seconds >= self._plan.warmup_seconds:
                split[self._turns.is_candidate(record.number)].append(record)
        return split

    def conclusion(self) -> Comparison:
        self._look()
        summaries = {}
        for side in (True, False):
            records = [r for r in self.run.records if self._turns.is_candidate(r.number) is side]
            run = replace(self.run, records=records, gaps=self._turns.gaps[side])
            summaries[side] = summarize(run, self._objective)
        return Comparison(
            verdict=self._verdict,
            because=_because(self._verdict, self._differences),
            differences=self._differences,
            candidate=summaries[True],
            baseline=summaries[False],
        )


def _because(verdict: Verdict, differences: tuple[Difference, ...]) -> str:
    failing = [d.name for d in differences if d.verdict is Verdict.FAIL]
    open_ones = [d.name for d in differences if d.verdict is Verdict.INCONCLUSIVE]
    match verdict:
        case Verdict.FAIL:
            return f"the candidate is surely worse than its margin in {', '.join(failing)}"
        case Verdict.PASS:
            return "the candidate is surely no worse than the margins allow"
        case Verdict.INCONCLUSIVE:
            return f"too few requests to tell in {', '.join(open_ones) or 'anything'}: run longer, or allow more"
