"""The GET client, against real servers on this machine that behave badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from node_agent.host import http

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, host, 0)
    try:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def saying(*parts: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    return answer


async def test_a_body_of_known_length_comes_back_whole() -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")) as url:
        response = await http.get(f"{url}/metrics", timeout_seconds=5, max_bytes=5)
    assert response == http.HttpResponse(status=200, body=b"hello")


async def test_a_chunked_body_comes_back_whole() -> None:
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    async with serving(saying(chunks)) as url:
        assert (await http.get(url, timeout_seconds=5, max_bytes=100)).body == b"hello"


async def test_a_body_that_ends_with_the_connection_comes_back_whole() -> None:
    async with serving(saying(b"HTTP/1.0 200 OK\r\n\r\n", b"hel", b"lo")) as url:
        assert (await http.get(url, timeout_seconds=5, max_bytes=100)).body == b"hello"


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    answer = saying(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    async with serving(answer) as url:
        assert (await http.get(url, timeout_seconds=5, max_bytes=100)).status == 302


async def test_interim_answers_are_skipped() -> None:
    answer = saying(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    async with serving(answer) as url:
        assert (await http.get(url, timeout_seconds=5, max_bytes=100)).status == 404


async def test_one_deadline_ends_a_body_that_trickles() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(trickle) as url:
        with pytest.raises(http.TimedOut):
            await http.get(url, timeout_seconds=0.2, max_bytes=10_000_000)


async def test_one_deadline_ends_headers_that_trickle() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(trickle) as url:
        with pytest.raises(http.TimedOut):
            await http.get(url, timeout_seconds=0.2, max_bytes=100)


async def test_a_server_that_accepts_and_says_nothing_is_timed_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as url:
        with pytest.raises(http.TimedOut):
            await http.get(url, timeout_seconds=0.1, max_bytes=100)


async def test_a_body_of_100_megabytes_is_given_up_after_the_limit() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        for _ in range(100):
            writer.write(b"x" * 1_048_576)
            await writer.drain()
            sent += 1

    async with serving(flood) as url:
        with pytest.raises(http.TooLarge):
            await http.get(url, timeout_seconds=10, max_bytes=1_000_000)
    assert sent < 50  # the kernel's buffers hold a little


async def test_headers_without_end_are_no_answer() -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\n", b"X-Y: " + b"z" * 1_000_000)) as url:
        with pytest.raises(http.BadResponse):
            await http.get(url, timeout_seconds=5, max_bytes=100)


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",  # the greeting of a ZMQ socket, as engines have them
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
    ],
)
async def test_what_is_not_a_whole_http_answer_is_a_bad_response(garbage: bytes) -> None:
    async with serving(saying(garbage)) as url:
        with pytest.raises(http.BadResponse) as caught:
            await http.get(url, timeout_seconds=5, max_bytes=100)
    assert "SSH" not in str(caught.value)


async def test_a_port_where_nothing_listens_means_that_the_server_is_gone() -> None:
    async with serving(saying(b"")) as url:
        pass
    with pytest.raises(http.ServerGone):
        await http.get(url, timeout_seconds=5, max_bytes=100)


async def test_a_name_with_several_addresses_that_all_refuse_is_gone_too() -> None:
    async with serving(saying(b"")) as url:
        port = url.rpartition(":")[2]
    with pytest.raises(http.ServerGone):
        await http.get(f"http://localhost:{port}", timeout_seconds=5, max_bytes=100)


async def test_a_name_without_an_address_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*args: object, **kwargs: object) -> object:
        raise OSError("no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    with pytest.raises(http.Unreachable):
        await http.get("http://nowhere.invalid/", timeout_seconds=5, max_bytes=100)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\x7f",
        "127.0.0.1:8000",
    ],
)
async def test_only_plain_http_addresses_are_asked(url: str) -> None:
    with pytest.raises(http.BadUrl):
        await http.get(url, timeout_seconds=5, max_bytes=100)


async def test_the_request_names_the_host_and_asks_for_no_compression() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    heard = b""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"\r\n\r\n")
        await echo(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await http.get(f"http://127.0.0.1:{port}/metrics?a=b", timeout_seconds=5, max_bytes=100)
    server.close()
    assert heard.startswith(b"GET /metrics?a=b HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{port}\r\n".encode() in heard.lower()
    assert b"accept-encoding: identity\r\n" in heard.lower()
