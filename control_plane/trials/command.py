"""`optiinfra load`: load on a server from the command line, without a control plane or a database."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import uvloop

from control_plane.model.errors import InvalidRequest
from control_plane.runtime.clock import Clock, SystemClock
from control_plane.statistics.sequences import Verdict
from control_plane.trials.comparison.interleaved import Comparison, compare
from control_plane.trials.comparison.measures import Margins
from control_plane.trials.comparison.quality import QualityMargins
from control_plane.trials.comparison.report import comparison_as_values, comparison_in_words, words_in_words
from control_plane.trials.comparison.wording import compare_words
from control_plane.trials.load import arrivals, lengths, report, search
from control_plane.trials.load.asking import served_models
from control_plane.trials.load.connection import Address
from control_plane.trials.load.generator import Progress
from control_plane.trials.load.plan import LoadPlan, run_load
from control_plane.trials.load.prompts import Sharing
from control_plane.trials.load.requesting import Api, Target
from control_plane.trials.load.search import Keeps, Search
from control_plane.trials.load.summary import Objective, Summary, summarize
from control_plane.trials.load.telling import telling

Say = Callable[[str], None]
PROGRESS_SECONDS = 5.0
_VERDICTS = {Keeps.HOLDS: Verdict.PASS, Keeps.BREAKS: Verdict.FAIL, Keeps.UNDECIDED: Verdict.INCONCLUSIVE}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This will add what the verb takes."""
    add = parser.add_argument
    add("url", help="the server: http://host:port")
    add("--model", help="its name at the server (the only one it has)")
    add("--api", choices=[str(api) for api in Api], default=str(Api.CHAT), help="the door (%(default)s)")
    add("--rate", type=float, default=1.0, help="requests per second (%(default)s)")
    add("--ramp-to", type=float, metavar="RATE", help="go from --rate to this in a straight line")
    add("--replay", type=Path, metavar="FILE", help="repeat recorded arrivals: seconds, one a line")
    add("--speed", type=float, default=1.0, help="of the replay (%(default)s)")
    add("--variation", type=float, default=1.0, help="of gaps: 0 a metronome, 1 Poisson, more in bursts (%(default)s)")
    add("--seconds", type=float, default=60.0, help="how long requests are due (%(default)s)")
    add("--warm-up", type=float, default=5.0, help="of that, seconds that are not measured (%(default)s)")
    add("--prompt-tokens", default="512", help=f"{lengths.FORMS} (%(default)s)")
    add("--output-tokens", default="128", help="likewise (%(default)s)")
    add("--prefixes", type=int, default=0, help="how many prefixes requests share (%(default)s)")
    add("--prefix-tokens", type=int, default=0, help="how long they are (%(default)s)")
    add("--prefix-share", type=float, default=1.0, help="share of requests that have one (%(default)s)")
    add("--ttft", type=float, metavar="SECONDS", help="objective: the first token within")
    add("--tpot", type=float, metavar="SECONDS", help="objective: each further token within, on average")
    add("--e2e", type=float, metavar="SECONDS", help="objective: the last token within")
    add("--share", type=float, default=0.95, help="share of requests that have to keep it (%(default)s)")
    add("--against", metavar="URL", help="compare: may the server replace this one? Both get half of the load in turn")
    add("--words", action="store_true", help="with --against: also compare what both say to the same prompts")
    add("--find-highest-rate", action="store_true", help="search, from --rate on, the highest that keeps the objective")
    add("--most-rate", type=float, default=search.MOST_RATE, help="where the search ends (%(default)s)")
    add("--timeout", type=float, default=120.0, help="seconds after which a request has failed (%(default)s)")
    add("--most-in-flight", type=int, default=1000, help="requests under way at a time (%(default)s)")
    add("--seed", type=int, default=1, help="the same seed sends the same requests (%(default)s)")
    add("--api-key-env", metavar="NAME", help="the environment variable that holds the server's key")
    add("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace, environment: Mapping[str, str], *, say: Say, progress: Say) -> Verdict:
    """This will do what was asked and say what came of it: PASS when an objective, or a baseline, was kept up with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 65_536)), hard))  # each stream is a socket
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(arguments, environment, say=say, progress=progress))


async def _run(arguments: argparse.Namespace, environment: Mapping[str, str], *, say: Say, progress: Say) -> Verdict:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    clock = SystemClock()
    target = await _target(arguments, environment, clock)
    objective = Objective(
        ttft_seconds=arguments.ttft, tpot_seconds=arguments.tpot, e2e_seconds=arguments.e2e, share=arguments.share
    )
    trial = _Trial(arguments, target, objective, clock, stop, progress)
    if arguments.against is not None:
        return await _compare(trial, replace(target, address=Address.parse(arguments.against)), say)
    if arguments.find_highest_rate:
        return await _search(trial, say)
    summary = await trial.run(_due(arguments), arguments.seconds)
    say(json.dumps(report.as_values(summary), indent=2) if arguments.json else report.as_text(summary, objective))
    asked = any(limit is not None for limit in (arguments.ttft, arguments.tpot, arguments.e2e))
    return _VERDICTS[search.keeps(summary, objective)] if asked else Verdict.PASS


async def _target(arguments: argparse.Namespace, environment: Mapping[str, str], clock: Clock) -> Target:
    key = None
    if arguments.api_key_env is not None and (key := environment.get(arguments.api_key_env)) is None:
        raise InvalidRequest(f"there is no environment variable {arguments.api_key_env}")
    target = Target(address=Address.parse(arguments.url), model="", api=Api(arguments.api), api_key=key)
    if arguments.model is not None:
        return replace(target, model=arguments.model)
    models = await served_models(target, clock)
    if len(models) != 1:
        raise InvalidRequest(f"the server has {len(models)} models; choose with --model: {', '.join(models)}")
    return replace(target, model=models[0])


def _due(arguments: argparse.Namespace) -> arrivals.Seconds:
    if arguments.replay is not None:
        try:
            stamps = [float(line) for line in arguments.replay.read_text(encoding="utf-8").split()]
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{arguments.replay}: {error}; it holds seconds, one a line") from error
        due = arrivals.replayed(stamps, speed=arguments.speed)
        return np.asarray(due[due <= arguments.seconds], dtype=np.float64)
    last = arguments.rate if arguments.ramp_to is None else arguments.ramp_to
    profile = arrivals.ramp(arguments.rate, last, arguments.seconds)
    return arrivals.arrivals(profile, variation=arguments.variation, random=np.random.default_rng(arguments.seed))


class _Trial:
    """Runs of one command: the same but for their rates."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        target: Target,
        objective: Objective,
        clock: Clock,
        stop: asyncio.Event,
        progress: Say,
    ) -> None:
        self.arguments, self.objective, self.stop = arguments, objective, stop
        self.target, self.clock, self._progress = target, clock, progress

    async def run(self, due: arrivals.Seconds, seconds: float) -> Summary:
        async with telling(self._tell, every_seconds=PROGRESS_SECONDS) as watch:
            loaded = await run_load(self._plan(due, seconds), self.target, self.clock, stop=self.stop, watch=watch)
        return summarize(loaded, self.objective)

    async def compare(self, baseline: Target) -> Comparison:
        async with telling(self._tell, every_seconds=PROGRESS_SECONDS) as watch:
            return await compare(
                self._plan(_due(self.arguments), self.arguments.seconds),
                candidate=self.target,
                baseline=baseline,
                objective=self.objective,
                margins=Margins(),
                clock=self.clock,
                stop=self.stop,
                watch=watch,
            )

    def _plan(self, due: arrivals.Seconds, seconds: float) -> LoadPlan:
        given = self.arguments
        return LoadPlan(
            due_seconds=due,
            seconds=seconds,
            warmup_seconds=given.warm_up,
            prompt_tokens=lengths.parse(given.prompt_tokens),
            output_tokens=lengths.parse(given.output_tokens),
            sharing=Sharing(groups=given.prefixes, tokens=given.prefix_tokens, share=given.prefix_share),
            timeout_seconds=given.timeout,
            most_in_flight=given.most_in_flight,
            seed=given.seed,
        )

    def _tell(self, at: Progress) -> None:
        self._progress(
            f"{at.elapsed_seconds:.0f} s: {at.due} of {at.planned} sent, {at.in_flight} under way, "
            f"{at.finished} ended, {at.failed} failed"
        )


async def _search(trial: _Trial, say: Say) -> Verdict:
    given, objective = trial.arguments, trial.objective
    searched = Search(first_rate=given.rate, most_rate=given.most_rate)
    while (rate := searched.next_rate()) is not None and not trial.stop.is_set():
        seconds = given.warm_up + search.seconds_for(rate, least_seconds=given.seconds, objective=objective)
        profile = arrivals.constant(rate, seconds)
        random = np.random.default_rng(given.seed)
        summary = await trial.run(arrivals.arrivals(profile, variation=given.variation, random=random), seconds)
        if summary.stopped:
            break
        searched.learn(rate, search.keeps(summary, objective), summary)
        if not given.json:
            say(search.in_words(searched.tries[-1:])[0])
    holds, breaks = searched.highest_kept, searched.lowest_broken
    if given.json:
        tries = [{"rate": t.rate, "keeps": str(t.keeps), **report.as_values(t.summary)} for t in searched.tries]
        say(json.dumps({"highest_rate": holds, "lowest_rate_not_kept": breaks, "tries": tries}, indent=2))
    elif holds is None:
        say("at no rate that was tried does the objective hold")
    else:
        say(f"it holds at {holds:.3g} requests/s" + (f", and not at {breaks:.3g}" if breaks else ", the most tried"))
    return Verdict.FAIL if holds is None else Verdict.PASS


async def _compare(trial: _Trial, baseline: Target, say: Say) -> Verdict:
    given = trial.arguments
    words = None
    if given.words:
        words = await compare_words(
            candidate=trial.target, baseline=baseline, clock=trial.clock, margins=QualityMargins()
        )
        if not given.json:
            say(words_in_words(words))
        if words.verdict is Verdict.FAIL:
            return Verdict.FAIL  # however fast it is
    found = await trial.compare(baseline)
    if given.json:
        say(json.dumps(comparison_as_values(found, words), indent=2))
    else:
        say(comparison_in_words(found))
    return found.verdict if words is None or words.verdict is Verdict.PASS else Verdict.INCONCLUSIVE
