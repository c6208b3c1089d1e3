"""A process that runs one test run: `python -m control_plane.trials.worker`.

It reads one line of JSON (what to run, the keys and the checked addresses of its servers) and writes lines of JSON:
how far it is, and at last what came of it. A line on its standard input, or its end, stops it: who started it wants
it to end, or is no more. It is a process of its own so that measuring and taking in samples do not disturb each other.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
import uvloop

from control_plane.model.errors import InvalidRequest, OptiInfraError
from control_plane.model.trial import TrialKind, TrialSpec
from control_plane.runtime.clock import Clock, SystemClock
from control_plane.runtime.groups import one_error
from control_plane.statistics.sequences import Verdict
from control_plane.trials import asked
from control_plane.trials.comparison.interleaved import compare
from control_plane.trials.comparison.quality import Quality, QualityMargins
from control_plane.trials.comparison.report import comparison_as_values, words_as_values
from control_plane.trials.comparison.wording import compare_words
from control_plane.trials.load import report, search
from control_plane.trials.load.asking import served_models
from control_plane.trials.load.generator import Progress
from control_plane.trials.load.plan import run_load
from control_plane.trials.load.requesting import Target
from control_plane.trials.load.search import Keeps, Search
from control_plane.trials.load.summary import Summary, summarize
from control_plane.trials.load.telling import telling

Say = Callable[[Mapping[str, Any]], None]
PROGRESS_SECONDS = 1.0
MOST_FILES = 65_536  # each stream is a socket
_VERDICTS = {Keeps.HOLDS: Verdict.PASS, Keeps.BREAKS: Verdict.FAIL, Keeps.UNDECIDED: Verdict.INCONCLUSIVE}
_WHY = {
    Keeps.HOLDS: "surely more requests were good than the objective asks for",
    Keeps.BREAKS: "surely fewer requests were good than the objective asks for",
    Keeps.UNDECIDED: "too few requests to tell whether the objective was kept: run longer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it."""

    result: Mapping[str, Any]
    verdict: Verdict | None
    because: str


class Work:
    """One test run."""

    def __init__(self, given: Mapping[str, Any], clock: Clock, stop: asyncio.Event, say: Say) -> None:
        """`given` is the line of JSON."""
        said = given["spec"]
        self._spec = TrialSpec(**{**said, "kind": TrialKind(said["kind"])})
        self._keys, self._addresses = given["keys"], given["addresses"]
        self._clock, self._stop, self._say = clock, stop, say
        self._about: dict[str, Any] = {}

    async def run(self) -> Outcome:
        """This will run it. Raises InvalidRequest when its servers do not answer as they should."""
        target = await self._named(asked.target(self._spec, **self._door("base_url")))
        match self._spec.kind:
            case TrialKind.LOAD:
                return await self._load(target)
            case TrialKind.HIGHEST_RATE:
                return await self._search(target)
            case TrialKind.VALIDATION:
                baseline = asked.baseline(self._spec, **self._door("baseline_url"))
                return await self._validate(target, await self._named(baseline))

    def _door(self, name: str) -> dict[str, Any]:
        return {"api_key": self._keys.get(name), "connect_to": self._addresses.get(name)}

    async def _named(self, target: Target) -> Target:
        if target.model:
            return target
        models = await served_models(target, self._clock)
        if len(models) != 1:
            raise InvalidRequest(f"the server has {len(models)} models; name one of {', '.join(models[:20])}")
        return replace(target, model=models[0])

    async def _summary(self, target: Target, due: Any, seconds: float) -> Summary:
        async with telling(self._tell, every_seconds=PROGRESS_SECONDS) as watch:
            plan = asked.plan(self._spec, due, seconds)
            run = await run_load(plan, target, self._clock, stop=self._stop, watch=watch)
        return summarize(run, asked.objective(self._spec))

    async def _load(self, target: Target) -> Outcome:
        summary = await self._summary(target, asked.due(self._spec), self._spec.seconds)
        values = {"model": target.model, **report.as_values(summary)}
        if not asked.has_objective(self._spec):
            return Outcome(result=values, verdict=None, because="no objective was named; these are the figures")
        found = search.keeps(summary, asked.objective(self._spec))
        because = "requests pile up: the server does not keep up" if summary.saturated else _WHY[found]
        return Outcome(result=values, verdict=_VERDICTS[found], because=because)

    async def _search(self, target: Target) -> Outcome:
        spec, objective = self._spec, asked.objective(self._spec)
        searched = Search(first_rate=spec.rate, most_rate=spec.most_rate)
        while (rate := searched.next_rate()) is not None and not self._stop.is_set():
            seconds = spec.warm_up_seconds + search.seconds_for(rate, least_seconds=spec.seconds, objective=objective)
            self._about = {"rate": rate, "tries": len(searched.tries), "highest_rate": searched.highest_kept}
            summary = await self._summary(target, asked.due_at(spec, rate, seconds), seconds)
            if summary.stopped:
                break
            searched.learn(rate, search.keeps(summary, objective), summary)
        holds, breaks = searched.highest_kept, searched.lowest_broken
        tries = [{"rate": t.rate, "keeps": str(t.keeps), **report.as_values(t.summary)} for t in searched.tries]
        values = {"model": target.model, "highest_rate": holds, "lowest_rate_not_kept": breaks, "tries": tries}
        if holds is None:
            verdict = Verdict.INCONCLUSIVE if self._stop.is_set() or not tries else Verdict.FAIL
            return Outcome(result=values, verdict=verdict, because="at no rate that was tried does the objective hold")
        because = f"it holds at {holds:.3g} requests/s" + (
            f", and not at {breaks:.3g}" if breaks else ", the most tried"
        )
        return Outcome(result=values, verdict=Verdict.PASS, because=because)

    async def _validate(self, candidate: Target, baseline: Target) -> Outcome:
        words = None
        if self._spec.compares_words:
            self._say({"progress": {"doing": "comparing words"}})
            words = await compare_words(
                candidate=candidate, baseline=baseline, clock=self._clock, margins=QualityMargins(),
                timeout_seconds=self._spec.timeout_seconds,
            )  # fmt: skip
            if words.verdict is Verdict.FAIL:  # however fast it is
                return Outcome(result=_only_words(candidate, words), verdict=Verdict.FAIL, because=words.because)
        async with telling(self._tell, every_seconds=PROGRESS_SECONDS) as watch:
            found = await compare(
                asked.plan(self._spec, asked.due(self._spec), self._spec.seconds), candidate=candidate,
                baseline=baseline, objective=asked.objective(self._spec), margins=asked.margins(self._spec),
                clock=self._clock, stop=self._stop, watch=watch,
            )  # fmt: skip
        values = {"model": candidate.model, **comparison_as_values(found, words)}
        if found.verdict is Verdict.PASS and words is not None and words.verdict is not Verdict.PASS:
            return Outcome(result=values, verdict=words.verdict, because=words.because)
        return Outcome(result=values, verdict=found.verdict, because=found.because)

    def _tell(self, at: Progress) -> None:
        values = {
            "elapsed_seconds": at.elapsed_seconds, "planned": at.planned, "due": at.due,
            "in_flight": at.in_flight, "finished": at.finished, "failed": at.failed,
        }  # fmt: skip
        self._say({"progress": self._about | values})


def _only_words(candidate: Target, words: Quality) -> Mapping[str, Any]:
    return {
        "model": candidate.model, "verdict": str(words.verdict), "because": words.because, "differences": [],
        "words": words_as_values(words), "candidate": None, "baseline": None,
    }  # fmt: skip


async def main() -> int:
    """This will run what the first line of the standard input says."""
    stop = asyncio.Event()
    reader = asyncio.StreamReader(limit=1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    given = orjson.loads(await reader.readline())

    async def stopped() -> None:
        await reader.readline()
        stop.set()

    with one_error():
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(stopped())
            said = await _said(Work(given, SystemClock(), stop, _say))
            listening.cancel()
    _say(said)
    return 0


async def _said(work: Work) -> Mapping[str, Any]:
    try:
        found = await work.run()
    except OptiInfraError as error:
        return {"error": str(error)}
    return {"result": found.result, "verdict": found.verdict and str(found.verdict), "because": found.because}


def _say(values: Mapping[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_hard, max(_soft, MOST_FILES)), _hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main()))
