"""Gateways that speak HTTP/2 and no gRPC, or not even that: what is heard where no control plane is behind a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

# RFC 9113: the preface of a client, and a frame's head: length (3), type, flags, stream (4).
_PREFACE_BYTES = 24
_HEAD_BYTES = 9
_HEADERS, _SETTINGS, _PING = 1, 4, 6
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
# RFC 7541, appendix A: index 8 is the name :status, 31 is content-type; 0x0f 0x10 is how 31 is written in four bits.
_STATUS, _CONTENT_TYPE = b"\x08", b"\x0f\x10"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("ascii")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int) -> None:
    await reader.readexactly(_PREFACE_BYTES)
    writer.write(_frame(_SETTINGS, 0, 0))
    headers = _STATUS + _text(str(status)) + _CONTENT_TYPE + _text("text/html")
    while True:
        head = await reader.readexactly(_HEAD_BYTES)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        match kind:
            case 1:
                writer.write(_frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, headers))
            case 4 if not flags & _ACK:
                writer.write(_frame(_SETTINGS, _ACK, 0))
            case 6 if not flags & _ACK:
                writer.write(_frame(_PING, _ACK, 0, payload))
            case _:
                pass
        await writer.drain()


@asynccontextmanager
async def http2_gateway(status: int) -> AsyncIterator[int]:
    """This will give the port of one that answers every request with an HTTP status."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _answer(reader, writer, status)

    async with _listening(serve) as port:
        yield port


@asynccontextmanager
async def blunt_gateway(answer: bytes) -> AsyncIterator[int]:
    """This will give the port of one that answers whatever it hears with the same bytes, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)

    async with _listening(serve) as port:
        yield port


@asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    connections: set[asyncio.StreamWriter] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await serve(reader, writer)
        connections.discard(writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    while connections:
        for writer in connections:
            writer.transport.abort()
        await asyncio.sleep(0.01)
