"""An inference server of a few lines: the stream of vLLM's OpenAI door, with a queue, and faults on demand.

In a test's own event loop (`async with InferenceServer(...)`), or as a process that can crash:
`python -m tests.fakes.inference_server --port 8000 --behave '{"itl_seconds": 0.01}'`; PUT /behave changes it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httptools
import orjson

# Some of vLLM's.
TTFT_BOUNDS = (0.001, 0.01, 0.04, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
FAULTS = (
    "http_500", "http_429", "cut", "close", "hang", "malformed", "empty", "not_a_stream", "error_event", "no_usage",
    "no_done", "goodbye",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How it serves."""

    version: str = "a"
    model: str = "tiny"
    prefill_seconds: float = 0.0
    itl_seconds: float = 0.0
    slots: int = 1000  # requests that are served at a time; more wait
    tokens_per_word: float = 1.0
    tokens_around: int = 0
    tokens_per_chunk: int = 1
    fault: str | None = None  # one of FAULTS
    fault_every: int = 1  # of so many requests, the last has the fault
    crash_after: int | None = None  # the process ends itself at this request
    wrong_share: float = 0.0  # of output tokens that differ from what the model would say
    reject_ignore_eos: bool = False


@dataclass(slots=True)
class Seen:
    """A request as it came."""

    body: dict[str, Any]
    at: float


class _Protocol(asyncio.Protocol):
    def __init__(self, server: InferenceServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body, self.headers = b"", b"", dict[str, str]()
        self.transport: Any = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url, self._body, self.headers = b"", b"", {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self._task = asyncio.get_running_loop().create_task(self._server.answer(self, method, self._url, self._body))

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def whole(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )

    def chunk(self, data: bytes) -> None:
        self.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


@dataclass(slots=True)
class InferenceServer:
    """Serves until it is left."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    port: int = 0
    choose: Callable[[int, dict[str, Any]], Behaviour] | None = None  # by the request's number, for tests
    seen: list[Seen] = field(default_factory=list)
    running: int = 0
    waiting: int = 0
    done: int = 0
    ttfts: list[float] = field(default_factory=list)
    connections: set[_Protocol] = field(default_factory=set)
    _listener: asyncio.Server | None = None
    _slots: asyncio.Semaphore | None = None

    async def __aenter__(self) -> InferenceServer:
        loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(self.behaviour.slots)
        self._listener = await loop.create_server(lambda: _Protocol(self), "127.0.0.1", self.port, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, to: _Protocol, method: str, url: bytes, body: bytes) -> None:
        path = url.decode().split("?")[0]
        if path in ("/v1/completions", "/v1/chat/completions") and method == "POST":
            await self._complete(to, json.loads(body), chat="chat" in path)
        elif path == "/behave" and method == "PUT":
            self.behaviour = replace(self.behaviour, **json.loads(body))
            self._slots = asyncio.Semaphore(self.behaviour.slots)
            to.whole(200, b"{}")
        elif path == "/v1/models":
            to.whole(200, orjson.dumps({"object": "list", "data": [{"id": self.behaviour.model, "object": "model"}]}))
        elif path == "/health":
            to.whole(200, b"")
        elif path == "/metrics":
            to.whole(200, self._metrics().encode(), "text/plain")
        else:
            to.whole(404, b'{"detail":"Not Found"}')

    def _metrics(self) -> str:
        label = f'{{model_name="{self.behaviour.model}",engine="0"}}'
        bounds = (*TTFT_BOUNDS, float("inf"))
        buckets = "".join(
            f'vllm:time_to_first_token_seconds_bucket{{engine="0",le="{"+Inf" if b == bounds[-1] else b}",'
            f'model_name="{self.behaviour.model}"}} {sum(t <= b for t in self.ttfts)}\n'
            for b in bounds
        )
        return (
            f"# TYPE vllm:time_to_first_token_seconds histogram\n{buckets}"
            f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{label} {self.running}\n"
            f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{label} {self.waiting}\n"
        )

    async def _complete(self, to: _Protocol, asked: dict[str, Any], *, chat: bool) -> None:
        self.seen.append(Seen(asked, asyncio.get_running_loop().time()))
        number = len(self.seen)
        how = self.behaviour if self.choose is None else self.choose(number, asked)
        if how.crash_after is not None and number >= how.crash_after:
            os._exit(1)
        fault = how.fault if number % how.fault_every == 0 else None
        if how.reject_ignore_eos and "ignore_eos" in asked:
            to.whole(400, b'{"error":{"message":"unknown field: ignore_eos"}}')
        elif asked.get("model") != how.model:
            to.whole(404, b'{"error":{"message":"The model does not exist."}}')
        elif asked.get("echo"):
            likely = [None, *[-1.0 - 2 * how.wrong_share] * len(asked["prompt"].split())]
            to.whole(200, orjson.dumps({"choices": [{"text": "", "logprobs": {"token_logprobs": likely}}]}))
        elif fault == "http_500":
            to.whole(500, b'{"error":{"message":"out of luck"}}')
        elif fault == "http_429":
            to.whole(429, b'{"error":{"message":"too many"}}')
        elif fault == "close":
            to.transport.abort()
        elif fault == "not_a_stream":
            to.whole(200, b'{"choices":[{"text":"all at once"}]}')
        else:
            await self._queued(to, asked, how, fault, chat=chat)
        if fault == "goodbye":
            to.transport.close()  # after a whole answer, without having said so

    async def _queued(
        self, to: _Protocol, asked: dict[str, Any], how: Behaviour, fault: str | None, *, chat: bool
    ) -> None:
        assert self._slots is not None
        slots, began = self._slots, asyncio.get_running_loop().time()
        self.waiting += 1
        try:
            await slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            await self._stream(to, asked, how, fault, began, chat=chat)
        finally:
            self.running -= 1
            slots.release()

    async def _stream(
        self, to: _Protocol, asked: dict[str, Any], how: Behaviour, fault: str | None, began: float, *, chat: bool
    ) -> None:
        prompt = asked["messages"][-1]["content"] if chat else asked["prompt"]
        output = asked["max_tokens"]
        to.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Served-By: {how.version}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        if fault == "malformed":
            to.chunk(b"data: {nonsense\n\n")
            to.chunk(b"")
            return
        if fault == "hang":
            await asyncio.sleep(3600)
        if how.prefill_seconds:
            await asyncio.sleep(how.prefill_seconds)
        if fault == "error_event":
            to.chunk(b'data: {"error":{"message":"the engine died","code":500}}\n\n')
            to.chunk(b"")
            return
        self.ttfts.append(asyncio.get_running_loop().time() - began)
        if chat:
            self._event(to, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        clock = asyncio.get_running_loop().time
        due = clock()
        for index in range(0 if fault == "empty" else output):
            if index and how.itl_seconds:
                due += how.itl_seconds
                await asyncio.sleep(max(0.0, due - clock()))
            if fault == "cut" and index == output // 2:
                to.transport.abort()
                return
            if index % how.tokens_per_chunk == how.tokens_per_chunk - 1 or index == output - 1:
                word = _word(how, prompt, index)
                part = {"delta": {"content": word}} if chat else {"text": word}
                reason = "length" if index == output - 1 else None
                self._event(to, {"choices": [{"index": 0, **part, "finish_reason": reason}]})
        if fault != "no_usage" and asked.get("stream_options", {}).get("include_usage"):
            counted = round(len(prompt.split()) * how.tokens_per_word) + how.tokens_around
            usage = {"prompt_tokens": counted, "completion_tokens": 0 if fault == "empty" else output}
            self._event(to, {"choices": [], "usage": usage})
        if fault != "no_done":
            to.chunk(b"data: [DONE]\n\n")
        to.chunk(b"")
        self.done += 1

    def _event(self, to: _Protocol, event: dict[str, Any]) -> None:
        to.chunk(
            b"data: " + orjson.dumps({"id": "x", "object": "chunk", "model": self.behaviour.model, **event}) + b"\n\n"
        )


def _word(how: Behaviour, prompt: str, index: int) -> str:
    """What the model says at this place; a wrong model says something else at a share of places."""
    if not how.wrong_share:
        return f" w{index % 10}"
    digest = hashlib.blake2b(f"{prompt}|{index}".encode(), digest_size=4).digest()
    return " wrong" if int.from_bytes(digest) / 2**32 < how.wrong_share else f" w{index % 10}"


async def _serve(port: int, behaviour: Behaviour) -> None:
    async with InferenceServer(behaviour, port=port):
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--behave", default="{}")
    arguments = parser.parse_args()
    import uvloop

    uvloop.run(_serve(arguments.port, Behaviour(**json.loads(arguments.behave))))


if __name__ == "__main__":
    main()
