"""A streamed answer, read as it comes: server-sent events of the OpenAI API. Pure: bytes and times in.

Engines differ: a token may come as `text`, `delta.content` or `delta.reasoning_content`, usage in the last event or
in every one, and an error as an event inside of a stream that began well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

# A line that is longer is no event of this API: without a limit a broken server would fill the memory.
MOST_LINE_BYTES = 4 * 1024 * 1024
_TOKEN_FIELDS = ("content", "reasoning_content", "reasoning", "refusal")


@dataclass(slots=True)
class StreamedAnswer:
    """What has come of one answer so far."""

    text: list[str] | None = None  # the words themselves, where somebody asked for them
    chunk_seconds: list[float] = field(default_factory=list)  # when chunks with tokens came
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    ended: bool = False  # it said that it was at its end
    error: str | None = None  # what the server said inside of the stream
    malformed: str | None = None
    _rest: bytes = b""

    def feed(self, data: bytes, seconds: float) -> None:
        """This will take bytes that came at `seconds`."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MOST_LINE_BYTES:
            self.malformed, self._rest = "an event of more than 4 MiB", b""
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), seconds)

    def _event(self, payload: bytes, seconds: float) -> None:
        if payload == b"[DONE]":
            self.ended = True
            return
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            self.malformed = "an event that is no JSON"
            return
        if not isinstance(event, dict):
            self.malformed = "an event that is no object"
        elif "error" in event:
            self.error = _said(event["error"])
        else:
            self._chunk(event, seconds)

    def _chunk(self, event: Mapping[str, Any], seconds: float) -> None:
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                self.malformed = "a choice that is no object"
                return
            words = _words(choice)
            if words:
                self.chunk_seconds.append(seconds)
                if self.text is not None:
                    self.text.append(words)
            if isinstance(reason := choice.get("finish_reason"), str):
                self.finish_reason = reason
        if isinstance(usage := event.get("usage"), dict):
            self._usage(usage)

    def _usage(self, usage: Mapping[str, Any]) -> None:
        self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
        self.output_tokens = _count(usage.get("completion_tokens"), self.output_tokens)
        if isinstance(details := usage.get("prompt_tokens_details"), dict):
            self.cached_tokens = _count(details.get("cached_tokens"), self.cached_tokens)


def _words(choice: Mapping[str, Any]) -> str:
    if isinstance(text := choice.get("text"), str):
        return text
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return ""
    return "".join(part for name in _TOKEN_FIELDS if isinstance(part := delta.get(name), str))


def _count(value: object, before: int | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else before


def _said(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:200]
