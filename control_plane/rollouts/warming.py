"""Real answers from a candidate before it gets traffic: the first request after loading is the slowest of all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

# Compiling, capturing graphs and filling pools is over after a few answers.
ANSWERS = 5
ANSWER_SECONDS = 120.0
_PROMPT = "Count from one to twenty in words."
_OUTPUT_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatProbe:
    """Asks every replica through its own door."""

    addresses: Sequence[str]
    model: str

    async def warm(self, target: str) -> bool:
        """This will say whether every replica has given so many whole answers."""
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(asyncio.to_thread(self._answers, address)) for address in self.addresses]
        return bool(asked) and all(task.result() for task in asked)

    def _answers(self, address: str) -> bool:
        body = {"model": self.model, "prompt": _PROMPT, "max_tokens": _OUTPUT_TOKENS, "stream": True}
        request = Request(  # noqa: S310 - addresses are the operator's, and http
            f"{address}/v1/completions", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        opener = build_opener(ProxyHandler({}))
        try:
            for _ in range(ANSWERS):
                with opener.open(request, timeout=ANSWER_SECONDS) as answer:
                    if b"data:" not in answer.read(1024 * 1024):
                        return False
        except (URLError, OSError, ValueError):
            return False
        return True
