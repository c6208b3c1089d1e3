"""Asks two servers the same and hands their words to the judge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from control_plane.model.errors import InvalidRequest
from control_plane.runtime.clock import Clock
from control_plane.runtime.groups import one_error
from control_plane.trials.comparison.prompts import PROMPTS
from control_plane.trials.comparison.quality import Agreement, Quality, QualityMargins, agreement, judged
from control_plane.trials.load import requesting
from control_plane.trials.load.asking import log_likelihoods
from control_plane.trials.load.records import Outcome
from control_plane.trials.load.requesting import Client, Job, Target
from control_plane.trials.load.stream import StreamedAnswer

OUTPUT_TOKENS = 48
# Batches change rounding: prompts one after the other say most about the model and least about the batch.
AT_A_TIME = 4


async def compare_words(
    *,
    candidate: Target,
    baseline: Target,
    clock: Clock,
    margins: QualityMargins,
    prompts: Sequence[str] = PROMPTS,
    timeout_seconds: float = 120.0,
) -> Quality:
    """This will let both servers answer the prompts and say whether their words agree.

    Raises InvalidRequest when a server does not answer one of them: then there is nothing to compare.
    """
    new = _Speaker(candidate, clock, timeout_seconds)
    old = _Speaker(baseline, clock, timeout_seconds)
    slots = asyncio.Semaphore(AT_A_TIME)
    asked = [_Asked(prompt) for prompt in prompts]
    try:
        with one_error():
            async with asyncio.TaskGroup() as tasks:
                for one in asked:
                    tasks.create_task(one.ask(new, old, slots))
    finally:
        new.close()
        old.close()
    losses = [one.loss for one in asked if one.loss is not None]
    return judged(
        [one.with_candidate for one in asked],
        [one.with_itself for one in asked],
        losses if len(losses) == len(asked) else None,
        margins,
    )


class _Speaker:
    """A server that is asked for words."""

    def __init__(self, target: Target, clock: Clock, timeout_seconds: float) -> None:
        # Outputs end where the model ends them: that is a part of what it says.
        self._target = replace(target, ignore_eos=False, temperature=0.0)
        self._clock = clock
        self._client = Client(self._target, clock, timeout_seconds=timeout_seconds, keep_text=True)

    async def words(self, prompt: str) -> list[str]:
        body = requesting.body(self._target, prompt, OUTPUT_TOKENS)
        record, answer = await self._client.send(
            Job(number=0, due_seconds=0.0, body=body), began=self._clock.monotonic()
        )
        if record.outcome not in (Outcome.COMPLETED, Outcome.EMPTY):
            raise InvalidRequest(f"{self._target.address.netloc}: {record.outcome}, {record.detail}")
        return _tokens(answer)

    async def likelihood(self, text: str) -> float | None:
        """This will give how likely the model finds a text, in nats per token."""
        found = await log_likelihoods(self._target, self._clock, text)
        return None if found is None else sum(found) / len(found)

    def close(self) -> None:
        self._client.close()


def _tokens(answer: StreamedAnswer) -> list[str]:
    """This will give the tokens of an answer; words, where chunks carry several tokens."""
    said = answer.text or []
    return said if len(said) == answer.output_tokens else "".join(said).split()


class _Asked:
    """One prompt, and what came of it."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self.with_candidate = self.with_itself = Agreement(agreed=0, disagreed=False)
        self.loss: float | None = None

    async def ask(self, new: _Speaker, old: _Speaker, slots: asyncio.Semaphore) -> None:
        async with slots:
            first = await old.words(self._prompt)
            self.with_candidate = agreement(first, await new.words(self._prompt))
            self.with_itself = agreement(first, await old.words(self._prompt))
            text = f"{self._prompt} {''.join(first)}"
            before, after = await old.likelihood(text), await new.likelihood(text)
            if before is not None and after is not None:
                self.loss = before - after
