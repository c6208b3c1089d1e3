"""A run as it is asked for, and its requests one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from control_plane.model.errors import InvalidRequest
from control_plane.runtime.clock import Clock
from control_plane.trials.load import arrivals, requesting
from control_plane.trials.load.generator import Generator
from control_plane.trials.load.lengths import Fixed, Lengths
from control_plane.trials.load.prompts import Measure, Prompts, Sharing
from control_plane.trials.load.records import LoadRun, Outcome, RequestRecord
from control_plane.trials.load.requesting import Client, Job, Target

# Two prompts so long that rounding does not matter, and so short that every context holds them.
_FEW_WORDS, _MANY_WORDS = 20, 220


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What is sent: when, how long, how alike. The same plan and seed send the same."""

    due_seconds: arrivals.Seconds
    seconds: float  # what is due lies within them
    warmup_seconds: float = 0.0
    prompt_tokens: Lengths = field(default_factory=lambda: Fixed(tokens=512))
    output_tokens: Lengths = field(default_factory=lambda: Fixed(tokens=128))
    sharing: Sharing = field(default_factory=Sharing)
    timeout_seconds: float = 120.0
    most_in_flight: int = 1000
    seed: int = 1

    def __post_init__(self) -> None:
        """This will refuse what cannot be run, with InvalidRequest."""
        if not 0 <= self.warmup_seconds < self.seconds:
            raise InvalidRequest("the warm-up is shorter than the run, which contains it")
        if not (0 < self.timeout_seconds <= 3600 and 1 <= self.most_in_flight <= 20_000):
            raise InvalidRequest("the time limit is up to 3,600 s, and 1 to 20,000 requests are under way at most")


def jobs(plan: LoadPlan, target: Target, measure: Measure) -> Iterator[Job]:
    """This will make a plan's requests, each just before it is due."""
    random = np.random.default_rng(plan.seed)
    count = len(plan.due_seconds)
    prompt_tokens = plan.prompt_tokens.draw(count, random)
    output_tokens = plan.output_tokens.draw(count, random)
    prompts = Prompts(measure, plan.sharing, random)
    for number, due in enumerate(plan.due_seconds):
        prompt = prompts.prompt(int(prompt_tokens[number]))
        yield Job(
            number=number,
            due_seconds=float(due),
            body=requesting.body(target, prompt, int(output_tokens[number])),
        )


async def opened(target: Target, clock: Clock, *, timeout_seconds: float) -> tuple[Client, Measure]:
    """This will give a client for a server that answers, and how that server counts tokens.

    Two requests for one token each are sent. Raises InvalidRequest in the server's words when it does not answer
    them as it should. A server that does not know `ignore_eos` is asked without.
    """
    client = Client(target, clock, timeout_seconds=timeout_seconds)
    try:
        few = await _counted(client, clock, _FEW_WORDS)
        if few.outcome is Outcome.REJECTED and target.ignore_eos:
            client = Client(replace(target, ignore_eos=False), clock, timeout_seconds=timeout_seconds)
            few = await _counted(client, clock, _FEW_WORDS)
        many = await _counted(client, clock, _MANY_WORDS)
    finally:
        client.close()
    for record in (few, many):
        if record.outcome not in (Outcome.COMPLETED, Outcome.EMPTY):
            raise InvalidRequest(f"the server does not answer as it should: {record.outcome}, {record.detail}")
    if few.prompt_tokens is None or many.prompt_tokens is None:
        return client, Measure()  # it does not count: words are taken for tokens, and the report says so
    measure = Measure.through(few=(_FEW_WORDS, few.prompt_tokens), many=(_MANY_WORDS, many.prompt_tokens))
    return client, measure


async def _counted(client: Client, clock: Clock, words: int) -> RequestRecord:
    prompt = Prompts(Measure(), Sharing(), np.random.default_rng(words)).prompt(words)
    job = Job(number=0, due_seconds=0.0, body=requesting.body(client.target, prompt, 1))
    record, _ = await client.send(job, began=clock.monotonic())
    return record


async def run_load(
    plan: LoadPlan,
    target: Target,
    clock: Clock,
    *,
    stop: asyncio.Event,
    watch: Callable[[Generator], None] | None = None,
) -> LoadRun:
    """This will put a plan's load on a server and give what became of it.

    `watch` is handed the generator, whose progress may then be asked for. Raises InvalidRequest when the server does
    not answer at all.
    """
    client, measure = await opened(target, clock, timeout_seconds=plan.timeout_seconds)
    run = LoadRun(warmup_seconds=plan.warmup_seconds, seconds=plan.seconds)
    try:
        generator = Generator(client, clock, most_in_flight=plan.most_in_flight)
        if watch is not None:
            watch(generator)
        return await generator.run(jobs(plan, client.target, measure), run, planned=len(plan.due_seconds), stop=stop)
    finally:
        client.close()
