"""Asks the model, within a budget and a time; whatever goes wrong, there is text."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

from control_plane.insights.evidence import Grounds
from control_plane.insights.wording import Unusable, messages, rendered, schema
from control_plane.model.errors import InvalidRequest
from control_plane.runtime import destinations, outbound
from control_plane.runtime.clock import Clock

log = logging.getLogger(__name__)

# An operator asks a few; more in an hour is a loop somewhere, and costs money.
MOST_AN_HOUR = 120
MOST_KEPT = 256
KEPT_SECONDS = 3600.0
# After so many failures in a row it is left alone for a minute.
MOST_FAILURES, REST_SECONDS = 3, 60.0
MOST_TOKENS = 700
LONGEST_SECONDS = 25.0  # with the question to the database before, an answer is there within thirty


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model is asked, and where."""

    base_url: str  # of an OpenAI-compatible API, such as https://api.groq.com/openai/v1
    name: str
    key: str
    seconds: float
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """Text, and where it comes from."""

    text: str
    source: str  # llm, fallback
    because: str | None  # why it is the fallback
    is_kept: bool = False


class Narrator:
    """Words grounds; without a model, in sentences of our own."""

    def __init__(self, model: Model | None, clock: Clock) -> None:
        """`model` None: there is no key."""
        self._model, self._clock = model, clock
        self._kept: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()
        self._asked: deque[float] = deque()
        self._failures, self._rests_until = 0, 0.0

    async def tell(self, grounds: Grounds, question: str) -> Insight:
        """This will give text about grounds, within LONGEST_SECONDS."""
        if self._model is None:
            return _fallback(grounds, "no_key")
        key, now = (grounds.digest, question), self._clock.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < KEPT_SECONDS:
            return Insight(text=kept[1], source="llm", because=None, is_kept=True)
        if now < self._rests_until:
            return _fallback(grounds, "it_failed_repeatedly")
        while self._asked and now - self._asked[0] >= 3600.0:
            self._asked.popleft()
        if len(self._asked) >= MOST_AN_HOUR:
            return _fallback(grounds, "over_budget")
        try:
            async with asyncio.timeout(min(self._model.seconds, LONGEST_SECONDS)):
                text = await self._answered(self._model, grounds, question)
        except TimeoutError:
            return self._failed(grounds, "timed_out")
        except (outbound.NotReached, InvalidRequest) as error:
            log.warning("the model was not reached: %s", error)
            return self._failed(grounds, "not_reached")
        except Unusable as error:
            return _fallback(grounds, str(error))
        self._failures = 0
        self._kept[key] = (now, text)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return Insight(text=text, source="llm", because=None)

    def _failed(self, grounds: Grounds, because: str) -> Insight:
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            self._failures, self._rests_until = 0, self._clock.monotonic() + REST_SECONDS
        return _fallback(grounds, because)

    async def _answered(self, model: Model, grounds: Grounds, question: str) -> str:
        for left in range(model.tries, -1, -1):
            try:
                self._asked.append(self._clock.monotonic())
                return rendered(await self._content(model, grounds, question), grounds)
            except Unusable:
                if left == 0:
                    raise
        raise Unusable("never_asked")

    async def _content(self, model: Model, grounds: Grounds, question: str) -> str:
        # The operator has named the place in the settings.
        place = await destinations.check(
            f"{model.base_url.rstrip('/')}/chat/completions", destinations.Policy.everywhere(), destinations.by_system
        )
        body = {
            "model": model.name, "messages": messages(grounds, question), "temperature": 0.2,
            "max_completion_tokens": MOST_TOKENS,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "insight", "strict": True, "schema": schema(grounds)},
            },
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {model.key}"}
        told = await outbound.ask(place, method="POST", body=body, headers=headers, seconds=model.seconds)
        if told.status in (400, 422):
            raise Unusable("refused_by_the_api")
        if told.status != 200:
            raise outbound.NotReached(f"the model's API answers {told.status}")
        return _text_of(told.json())


def _text_of(said: Any) -> str:
    try:
        choice = said["choices"][0]
        message = choice["message"]
    except (KeyError, IndexError, TypeError) as error:
        raise Unusable("not_of_the_shape") from error
    if message.get("refusal"):
        raise Unusable("refused")
    if choice.get("finish_reason") not in (None, "stop"):
        raise Unusable("cut_off")
    content = message.get("content")
    if not isinstance(content, str):
        raise Unusable("not_of_the_shape")
    return content


def _fallback(grounds: Grounds, because: str) -> Insight:
    return Insight(text=grounds.fallback, source="fallback", because=because)
