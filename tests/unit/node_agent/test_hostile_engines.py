"""Servers that trickle, flood, lie and explode, each beside a good one that must not suffer."""

from __future__ import annotations

import asyncio
import gzip
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from node_agent.clock import Instant
from node_agent.collectors import engine_scrape
from node_agent.collectors.engine import EngineCollector
from node_agent.model import Collected, Histogram, Outcome, Reason, Value

GOOD = (Path(__file__).parents[2] / "data" / "engines" / "vllm-healthy" / "0050.prom").read_bytes()
LABELS = '{engine="0",model_name="tiny"}'
MOST_BYTES = 16 * 1024 * 1024
NOW = Instant(wall=datetime(2026, 11, 22, tzinfo=UTC), monotonic_seconds=1000.0)

Speak = Callable[[asyncio.StreamWriter], Awaitable[None]]


class StillClock:
    def now(self) -> Instant:
        return NOW


def page(body: bytes, *, status: str = "200 OK", headers: str = "") -> Speak:
    async def speak(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return speak


def lines(*said: str) -> Speak:
    return page("".join(f"{line}\n" for line in said).encode())


def trickling(head: bytes) -> Speak:
    async def speak(writer: asyncio.StreamWriter) -> None:
        for byte in head + GOOD:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.01)  # the server's slowness, not the test's

    return speak


def flooding(head: bytes, piece: bytes, times: int) -> Speak:
    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(times):
            writer.write(piece)
            await writer.drain()

    return speak


@asynccontextmanager
async def server(speak: Speak) -> AsyncIterator[tuple[str, list[str]]]:
    """Answers /metrics with `speak`, anything else with 404; gives the address, and the paths that were asked for."""
    asked: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
            await (speak if asked[-1] == "/metrics" else page(b"", status="404 Not Found"))(writer)
            writer.write_eof()
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the agent has seen enough
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", asked
    finally:
        listening.close()


async def beside_a_good_one(speak: Speak, *, timeout_seconds: float) -> tuple[Any, dict[str, Value], list[str]]:
    """This will look at both at once, and give what is said of the bad one."""
    async with server(page(GOOD)) as (good, _), server(speak) as (bad, asked):
        looking = EngineCollector(
            clock=StillClock(),
            targets=(good, bad),
            discover=False,
            timeout_seconds=timeout_seconds,
            max_bytes=MOST_BYTES,
        )
        async with asyncio.timeout(2 * timeout_seconds + 5):  # two times its limit, and a slow machine
            seen = await looking.collect(NOW)
        await looking.close()
    assert _of(seen, good)[0]["state"] == "up"
    assert _of(seen, good)[1]["requests_finished_total"] == 205
    attributes, values = _of(seen, bad)
    assert (seen.outcome is Outcome.OK) == (attributes["state"] == "up")
    return attributes, values, asked


def _of(seen: Collected, url: str) -> tuple[Any, dict[str, Value]]:
    (entity,) = [entity for entity in seen.entities if entity.key == url]
    (sample,) = [sample for sample in seen.samples if sample.entity[1] == url]
    return entity.attributes, dict(sample.values)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = OK + b"Content-Length: 104857600\r\n\r\n"
PIECE = b"x" * 65_536
CHUNK = b"10000\r\n" + PIECE + b"\r\n"
BLANKS = b"\n" * 65_536
BOMB = gzip.compress(b"vllm:num_requests_running 1\n" * 400_000, mtime=0)  # 11 MB in 27 KB
USELESS = "without the metrics of an engine"


@pytest.mark.parametrize(
    ("speak", "state", "reason", "words"),
    [
        pytest.param(trickling(b""), "unreachable", Reason.TIMED_OUT, "", id="head byte by byte"),
        pytest.param(trickling(OK + b"\r\n"), "unreachable", Reason.TIMED_OUT, "", id="body byte by byte"),
        pytest.param(flooding(LONG, PIECE, 1600), "error", Reason.ERROR, "bytes", id="100 MB with a length"),
        pytest.param(flooding(CHUNKED, CHUNK, 1600), "error", Reason.ERROR, "bytes", id="100 MB in chunks"),
        pytest.param(flooding(OK + b"\r\n", PIECE, 1600), "error", Reason.ERROR, "bytes", id="100 MB to the end"),
        pytest.param(flooding(CHUNKED, b"1\r\nx\r\n" * 100, 1000), "error", Reason.ERROR, "pieces", id="single bytes"),
        pytest.param(page(BOMB, headers="Content-Encoding: gzip\r\n"), "error", Reason.ERROR, "compressed", id="bomb"),
        pytest.param(page(BOMB), "error", Reason.ERROR, USELESS, id="hidden bomb"),
        pytest.param(
            page(b"", status="302 Found", headers="Location: /metrics\r\n"),
            "error", Reason.ERROR, "HTTP 302", id="endless redirect",
        ),
        pytest.param(flooding(OK + b"\r\n", BLANKS, 256), "error", Reason.ERROR, USELESS, id="16 MB of blanks"),
        pytest.param(page(b"\xff\xfe\x00" * 100_000), "error", Reason.ERROR, USELESS, id="no text"),
    ],
)  # fmt: skip
async def test_an_answer_of_no_use_is_told_with_its_reason_after_one_question(
    speak: Speak, state: str, reason: Reason, words: str
) -> None:
    limit = 0.5 if state == "unreachable" else 10.0
    attributes, values, asked = await beside_a_good_one(speak, timeout_seconds=limit)
    assert attributes["state"] == state
    assert words in attributes["state_detail"]
    assert values.pop("up_flag") == 0.0
    assert set(values.values()) - {Reason.NOT_COLLECTED} == {reason}
    assert asked == ["/metrics"]


def running(count: int) -> str:
    return "\n".join(f'vllm:num_requests_running{{engine="{rank}",model_name="tiny"}} 1' for rank in range(count))


async def test_a_metric_of_100_000_series_is_unknown_and_all_others_are_read() -> None:
    attributes, values, _ = await beside_a_good_one(
        page(running(100_000).encode() + b"\n" + GOOD), timeout_seconds=30.0
    )
    assert attributes["state"] == "up"
    assert "were left out" in attributes["state_detail"]
    for field in ("requests_running_count", "requests_running_rank_max_count", "ranks_count"):
        assert values[field] is Reason.ERROR, field  # the sum of a part would look like that of all
    assert values["requests_finished_total"] == 205
    assert isinstance(values["ttft_seconds"], Histogram)


async def test_numbers_that_no_counter_has_are_reasons_and_the_others_are_read() -> None:
    attributes, values, _ = await beside_a_good_one(
        lines(
            f"vllm:num_requests_running{LABELS} NaN",
            f"vllm:num_requests_waiting{LABELS} +Inf",
            f"vllm:prompt_tokens_total{LABELS} -3",
            f"vllm:generation_tokens_total{LABELS} 1e300",
            f"vllm:num_preemptions_total{LABELS} 7",
            *(f'vllm:e2e_request_latency_seconds_bucket{{engine="0",le="{bound}"}} 1e18' for bound in ("1", "+Inf")),
            'vllm:e2e_request_latency_seconds_sum{engine="0"} 1',
            *(f'vllm:time_to_first_token_seconds_bucket{{engine="0",le="{bound}"}} -1' for bound in ("1", "+Inf")),
            'vllm:time_to_first_token_seconds_sum{engine="0"} 1',
        ),
        timeout_seconds=10.0,
    )
    assert attributes["state"] == "up"
    assert values["requests_running_count"] is Reason.NOT_A_NUMBER
    assert values["requests_waiting_count"] is Reason.OUT_OF_RANGE
    assert values["prompt_tokens_total"] is Reason.OUT_OF_RANGE
    assert values["generation_tokens_total"] is Reason.OUT_OF_RANGE
    assert values["end_to_end_seconds"] is Reason.OUT_OF_RANGE
    assert values["ttft_seconds"] is Reason.ERROR
    assert values["preemptions_total"] == 7


async def test_bytes_that_are_no_text_are_replaced_and_a_series_said_twice_is_its_last() -> None:
    body = b'vllm:num_requests_running{engine="0",model_name="t\xff\xfe"} 4\n' + GOOD.replace(b"tiny", b"t\xff\xfe")
    again = b'vllm:num_requests_running{model_name="t\xff\xfe",engine="0"} 9\n'
    attributes, values, _ = await beside_a_good_one(page(body + again), timeout_seconds=10.0)
    assert (attributes["state"], attributes["state_detail"]) == ("up", "")
    assert attributes["model"] == "t\ufffd\ufffd"
    assert (values["requests_running_count"], values["requests_finished_total"]) == (9.0, 205)


async def test_a_page_that_cannot_be_read_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up, read = threading.Event(), engine_scrape._read

    def slow(body: bytes, seconds: float) -> engine_scrape.Scrape:
        if len(body) > engine_scrape._INLINE_BYTES:
            given_up.wait(30)
        return read(body, seconds)

    monkeypatch.setattr(engine_scrape, "_read", slow)
    try:
        attributes, values, _ = await beside_a_good_one(page(GOOD * 6), timeout_seconds=3.0)
    finally:
        given_up.set()
    assert attributes["state"] == "error"
    assert "could not be read in time" in attributes["state_detail"]
    assert values["requests_running_count"] is Reason.TIMED_OUT


BODIES: dict[str, Callable[[], bytes]] = {
    "short lines": lambda: GOOD + b"ab\n" * (MOST_BYTES // 3 - 30_000),
    "empty lines": lambda: GOOD + b"\n" * (MOST_BYTES - 100_000),
    "series": lambda: running(100_000).encode(),
    "one line": lambda: b'vllm:num_requests_running{a="' + b"\\\\" * 8_000_000 + b'"} 1\n',
    "labels": lambda: (b"vllm:num_requests_running{" + b'a="",' * 3000 + b"} 1\n") * 1000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_reading_a_page_takes_little_more_memory_than_the_page(name: str) -> None:
    body = BODIES[name]()
    assert len(body) <= MOST_BYTES
    tracemalloc.start()
    try:
        found = engine_scrape._read(body, 0.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.engine is not None
    assert peak < 24 * 1024 * 1024
