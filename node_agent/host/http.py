"""GET over HTTP/1.1 from servers that may hang, trickle or lie."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

_READ_BYTES = 65536  # asyncio's own stream buffer: larger reads never come back
_MOST_PIECES = 20_000  # of one body: a server that sends single bytes as chunks makes each of them cost 20 us
_HEADER_BYTES = 65536  # four times h11's default; more than any server's answer needs


class HttpError(Exception):
    """A GET that brought no answer. The text never holds any of the server's own bytes."""


class ServerGone(HttpError):
    """Nothing listens there."""


class Unreachable(HttpError):
    """No way to that address: no such name, no route, or the connection broke off."""


class TimedOut(HttpError):
    """The whole answer was not here when the time was up."""


class TooLarge(HttpError):
    """The answer is larger than the caller wants to hold."""


class BadResponse(HttpError):
    """What came back is not an HTTP answer."""


class BadUrl(HttpError):
    """The address is not one that this client reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A whole answer, whatever its status."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    host: str
    port: int
    secure: bool
    authority: str
    path: str


async def get(url: str, *, timeout_seconds: float, max_bytes: int) -> HttpResponse:
    """This will fetch `url` within one deadline that covers connecting, headers and body.

    It follows no redirect, keeps no connection, and stops reading at `max_bytes`. Raises an
    HttpError, whose class says what happened.
    """
    target = _parse(url)
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await _connect(target)
            try:
                return await _exchange(target, reader, writer, max_bytes=max_bytes)
            finally:
                writer.transport.abort()  # nothing is left to say, and close() could wait for a stuck peer
    except TimeoutError as error:
        raise TimedOut(f"no whole answer within {timeout_seconds:g} s") from error
    except OSError as error:
        raise Unreachable(f"the connection failed ({type(error).__name__})") from error


def _parse(url: str) -> _Target:
    """This will take an address apart; only what is needed for a GET is allowed in it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadUrl("not a URL") from error
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise BadUrl("only http://host[:port]/path and https:// are read")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or any(character <= " " or character == "\x7f" for character in path + parts.netloc):
        raise BadUrl("the address holds blanks or control characters")
    secure = parts.scheme == "https"
    return _Target(host=host, port=port or (443 if secure else 80), secure=secure, authority=parts.netloc, path=path)


async def _connect(target: _Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """This will connect to the first address of the host that accepts.

    asyncio merges the errors of several addresses into one text; trying them here keeps
    "refused" apart from "no route".
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable("the host has no address") from error
    context = ssl.create_default_context() if target.secure else None
    refused: ConnectionRefusedError | None = None
    failure: OSError | None = None
    for *_, address in found:
        try:
            return await asyncio.open_connection(
                str(address[0]), target.port, ssl=context, server_hostname=target.host if context else None
            )
        except ConnectionRefusedError as error:
            refused = error
        except OSError as error:
            failure = error
    if refused is not None:
        raise ServerGone("connection refused") from refused
    raise Unreachable(f"no connection ({type(failure).__name__})") from failure


async def _exchange(
    target: _Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, max_bytes: int
) -> HttpResponse:
    """This will send the request and read the answer to its end."""
    wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEADER_BYTES)
    headers = [
        ("Host", target.authority),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),  # a compressed body could unfold past max_bytes
        ("Connection", "close"),
    ]
    try:
        for part in (h11.Request(method="GET", target=target.path, headers=headers), h11.EndOfMessage()):
            writer.write(wire.send(part) or b"")
        await writer.drain()
        return await _answer(wire, reader, max_bytes=max_bytes)
    except h11.LocalProtocolError as error:
        raise BadUrl("the address cannot be put into a request") from error
    except h11.RemoteProtocolError as error:
        raise BadResponse("what came back is not HTTP, or it broke off") from error


async def _answer(wire: Any, reader: asyncio.StreamReader, *, max_bytes: int) -> HttpResponse:
    """This will collect status and body, and give up as soon as the body is too large."""
    status = pieces = 0
    body = bytearray()
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await reader.read(_READ_BYTES))  # empty at the end, which h11 must be told
        elif isinstance(event, h11.Response):
            status = event.status_code
            _refuse_at_once(event.headers, max_bytes=max_bytes)
        elif isinstance(event, h11.Data):
            pieces += 1
            if len(body) + len(event.data) > max_bytes or pieces > _MOST_PIECES:
                raise TooLarge(f"more than {max_bytes} bytes, or more than {_MOST_PIECES} pieces")
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return HttpResponse(status=status, body=bytes(body))
        elif not isinstance(event, h11.InformationalResponse):
            raise BadResponse("the connection ended without an answer")


def _refuse_at_once(headers: Any, *, max_bytes: int) -> None:
    """This will give up on an answer by its head: a body of which nothing can come need not be waited for."""
    for name, value in headers:  # h11 has checked that a length is a number
        if name == b"content-length" and int(value) > max_bytes:
            raise TooLarge(f"more than {max_bytes} bytes")
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise BadResponse("the answer is compressed, though that was not asked for")
