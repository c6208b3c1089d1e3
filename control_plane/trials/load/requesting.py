"""Sends one request of the OpenAI API and says what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

from control_plane.model.errors import InvalidRequest
from control_plane.runtime.clock import Clock
from control_plane.trials.load.connection import Address, ConnectionFailed, Pool
from control_plane.trials.load.records import Outcome, RequestRecord
from control_plane.trials.load.stream import StreamedAnswer

# Of a refusal: enough to see why, too little to fill a report.
MOST_DETAIL_BYTES = 2000


class Api(StrEnum):
    """Which door of the API requests go through."""

    CHAT = "chat"
    COMPLETIONS = "completions"

    @property
    def path(self) -> str:
        """This will give its path."""
        return "/v1/chat/completions" if self is Api.CHAT else "/v1/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server and how it is asked."""

    address: Address
    model: str
    api: Api = Api.CHAT
    api_key: str | None = field(default=None, repr=False)
    # vLLM and SGLang then make every output as long as it was asked for; others may refuse to know the word.
    ignore_eos: bool = True
    temperature: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request that is due."""

    number: int
    due_seconds: float  # since the run began
    body: bytes


def body(target: Target, prompt: str, output_tokens: int) -> bytes:
    """This will write a request's body: a stream of `output_tokens` at the most, with the server's own count."""
    asked: dict[str, object] = {
        "model": target.model,
        "max_tokens": output_tokens,
        "temperature": target.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if target.api is Api.CHAT:
        asked["messages"] = [{"role": "user", "content": prompt}]
    else:
        asked["prompt"] = prompt
    if target.ignore_eos:
        asked["ignore_eos"] = True
    return orjson.dumps(asked)


@dataclass(slots=True)
class _Answer:
    """What one exchange gathers."""

    stream: StreamedAnswer
    status: int | None = None
    said: bytes = b""  # the body of a refusal, or of an answer that is no stream

    def take_status(self, status: int) -> None:
        self.status = status

    def take(self, data: bytes, seconds: float) -> None:
        if self.status == 200:
            self.stream.feed(data, seconds)
        if len(self.said) < MOST_DETAIL_BYTES:
            self.said += data[: MOST_DETAIL_BYTES - len(self.said)]


class Client:
    """Sends requests to one target."""

    def __init__(self, target: Target, clock: Clock, *, timeout_seconds: float, keep_text: bool = False) -> None:
        """A request whose end has not come `timeout_seconds` after it was due has timed out."""
        if target.api_key is not None and not (target.api_key.isascii() and target.api_key.isprintable()):
            raise InvalidRequest("the key for the server has characters that no HTTP header can carry")
        self.target, self.timeout_seconds = target, timeout_seconds
        self._clock, self._keep_text = clock, keep_text
        self._pool = Pool(target.address, clock)
        authorization = "" if target.api_key is None else f"Authorization: Bearer {target.api_key}\r\n"
        self._head = (
            f"POST {target.address.path}{target.api.path} HTTP/1.1\r\nHost: {target.address.netloc}\r\n"
            f"Content-Type: application/json\r\nAccept: text/event-stream\r\n{authorization}Content-Length: "
        )

    async def send(self, job: Job, *, began: float) -> tuple[RequestRecord, StreamedAnswer]:
        """This will send a request and see it through. `began` is the run's begin on the monotonic clock.

        It raises nothing but CancelledError: what goes wrong is what is measured.
        """
        answer = _Answer(StreamedAnswer(text=[] if self._keep_text else None))
        sent = self._clock.monotonic()
        outcome, detail = Outcome.CANCELLED, None
        try:
            async with asyncio.timeout(max(0.0, began + job.due_seconds + self.timeout_seconds - sent)):
                await self._exchange(job, answer)
            outcome, detail = _judged(answer)
        except TimeoutError:
            outcome, detail = Outcome.TIMED_OUT, f"no end within {self.timeout_seconds:g} s"
        except ConnectionFailed as error:
            answered = error.answered or answer.status is not None
            outcome, detail = (Outcome.CUT if answered else Outcome.REFUSED), str(error)
            if error.local:
                outcome, detail = Outcome.NOT_SENT, f"this host: {error}"
        record = self._record(job, answer, began=began, sent=sent, outcome=outcome, detail=detail)
        return record, answer.stream

    async def _exchange(self, job: Job, answer: _Answer) -> None:
        request = f"{self._head}{len(job.body)}\r\n\r\n".encode() + job.body
        connection = self._pool.take_idle() or await self._pool.connect()
        # Never a second time: a server that drops what it was sent has failed, and a retry would hide that.
        await connection.exchange(request, on_data=answer.take, on_status=answer.take_status)
        self._pool.give_back(connection)

    def _record(
        self, job: Job, answer: _Answer, *, began: float, sent: float, outcome: Outcome, detail: str | None
    ) -> RequestRecord:
        stream = answer.stream
        stamps = stream.chunk_seconds
        return RequestRecord(
            number=job.number,
            due_seconds=job.due_seconds,
            sent_seconds=sent - began,
            first_token_seconds=stamps[0] - began if stamps else None,
            last_token_seconds=stamps[-1] - began if stamps else None,
            ended_seconds=self._clock.monotonic() - began,
            outcome=outcome,
            prompt_tokens=stream.prompt_tokens,
            cached_tokens=stream.cached_tokens,
            output_tokens=stream.output_tokens,
            chunks=len(stamps),
            finish_reason=stream.finish_reason,
            http_status=answer.status,
            detail=detail,
        )

    def close(self) -> None:
        """This will close idle connections."""
        self._pool.close()


def _judged(answer: _Answer) -> tuple[Outcome, str | None]:
    """This will say how an exchange ended whose connection held to its end."""
    stream, status = answer.stream, answer.status
    said = answer.said.decode(errors="replace").strip()[:200]
    if status is None or status >= 500:
        return Outcome.FAILED, f"HTTP {status}: {said}"
    if status >= 400:
        return Outcome.REJECTED, f"HTTP {status}: {said}"
    if status != 200:
        return Outcome.MALFORMED, f"HTTP {status}"
    if stream.error is not None:
        return Outcome.FAILED, stream.error
    if stream.malformed is not None:
        return Outcome.MALFORMED, stream.malformed
    if not stream.ended and stream.finish_reason is None:
        if stream.chunk_seconds or not said:
            return Outcome.CUT, "the stream ended before its end"
        return Outcome.MALFORMED, f"no stream of events: {said}"
    if not stream.chunk_seconds:
        return Outcome.EMPTY, "an answer without a token"
    return Outcome.COMPLETED, None
