"""One connection to an HTTP/1.1 server, for one exchange at a time, with the time of every piece that arrives.

A thin one of its own: what is measured are milliseconds, and a general client's layers lie between the socket and
whoever wants to know when it spoke.
"""

from __future__ import annotations

import asyncio
import errno
import select
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

from control_plane.model.errors import InvalidRequest, OptiInfraError
from control_plane.runtime.clock import Clock

# Servers close idle connections after some seconds (uvicorn: 5), just when somebody may be writing to them.
MOST_IDLE_SECONDS = 2.0
_OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


class ConnectionFailed(OptiInfraError):
    """There is no connection, or it ended. `answered`: a part of the answer had come; `local`: our own limit."""

    def __init__(self, what: str, *, answered: bool = False, local: bool = False) -> None:
        """`what` is the system's word for it."""
        super().__init__(what)
        self.answered, self.local = answered, local


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is."""

    host: str
    port: int
    tls: bool
    path: str  # before what the API adds; without a slash at its end
    connect_to: str | None = None  # the address that was checked; None: whatever the name leads to

    @staticmethod
    def parse(url: str) -> Address:
        """This will read an http(s) URL. Raises InvalidRequest for what is none; a password in it is refused."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise InvalidRequest(f"no URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InvalidRequest("name a server as http://host:port or https://host:port")
        if parts.username is not None:
            raise InvalidRequest("a name or password does not belong into the URL; hand the key over by environment")
        tls = parts.scheme == "https"
        path = parts.path.rstrip("/").removesuffix("/v1")
        return Address(host=parts.hostname, port=port or (443 if tls else 80), tls=tls, path=path)

    @property
    def netloc(self) -> str:
        """This will give host and port as HTTP writes them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(slots=True)
class Exchange:
    """One answer while it arrives."""

    on_data: Callable[[bytes, float], None]  # a piece of the body, and when it came
    on_status: Callable[[int], None]
    done: asyncio.Future[None]
    answered: bool = False


@dataclass(slots=True)
class _Parsing:
    """What httptools calls back."""

    connection: Connection

    def on_headers_complete(self) -> None:
        self.connection.headers_came()

    def on_body(self, body: bytes) -> None:
        self.connection.body_came(body)

    def on_message_complete(self) -> None:
        self.connection.message_ended()


class Connection(asyncio.Protocol):
    """A connection that is kept open between exchanges."""

    def __init__(self, clock: Clock) -> None:
        """`clock` stamps what arrives."""
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parser = httptools.HttpResponseParser(_Parsing(self))
        self._came_at = 0.0
        self.usable = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """This will keep the transport."""
        # uvloop's transports do not derive from asyncio's.
        self._transport, self.usable = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        """This will stamp what came and take it apart."""
        self._came_at = self._clock.monotonic()
        if self._exchange is not None:
            self._exchange.answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the answer is no HTTP: {error}")
            self.close()

    def eof_received(self) -> bool:
        """This will let the connection close; an answer without a length ends here."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """This will end the exchange, if there is one."""
        self.usable = False
        exchange = self._exchange
        if exchange is None or not exchange.answered or error is not None:
            self._fail(str(error) if error else "the server closed the connection")
            return
        # An answer that has neither a length nor chunks ends with its connection. Whether it was whole, the stream
        # itself says: its last event.
        self._end()

    def _fail(self, what: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.done.done():
            exchange.done.set_exception(ConnectionFailed(what, answered=exchange.answered))

    def headers_came(self) -> None:
        """This will tell the status."""
        if self._exchange is not None:
            self._exchange.on_status(self._parser.get_status_code())

    def body_came(self, body: bytes) -> None:
        """This will hand on a piece of the body with the time at which it came."""
        if self._exchange is not None:
            self._exchange.on_data(body, self._came_at)

    def message_ended(self) -> None:
        """This will end the exchange, and keep the connection if the server does."""
        if not self._parser.should_keep_alive():
            self.close()
        self._end()

    def _end(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.done.done():
            exchange.done.set_result(None)

    async def exchange(
        self, request: bytes, *, on_data: Callable[[bytes, float], None], on_status: Callable[[int], None]
    ) -> None:
        """This will send a request and see its answer through.

        Raises ConnectionFailed. When it is cancelled, the connection is closed: the server sees that and stops.
        """
        assert self._transport is not None
        if not self.usable or self._transport.is_closing():
            raise ConnectionFailed("the server had closed the connection")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._exchange = Exchange(on_data, on_status, done)
        self._transport.write(request)
        try:
            await done
        except BaseException:
            self._exchange = None
            self.close()
            raise

    def fresh(self, now: float) -> bool:
        """This will say whether an idle connection may be used again: the server has not closed it."""
        if not self.usable or now - self.idle_since > MOST_IDLE_SECONDS:
            return False
        assert self._transport is not None
        # The end may have come already, while nobody has told this object yet.
        waiting = select.poll()
        waiting.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not waiting.poll(0)

    def close(self) -> None:
        """This will end the connection at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()


@dataclass(slots=True)
class Pool:
    """Connections to one server: as many as there are exchanges at a time, kept for the next."""

    address: Address
    clock: Clock
    connect_timeout_seconds: float = 10.0
    _idle: list[Connection] = field(default_factory=list)
    _tls: ssl.SSLContext | None = None

    def take_idle(self) -> Connection | None:
        """This will give a connection that is open and free; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.fresh(self.clock.monotonic()):
                return connection
            connection.close()
        return None

    async def connect(self) -> Connection:
        """This will open a connection. Raises ConnectionFailed."""
        if self.address.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_timeout_seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(self.clock), self.address.connect_to or self.address.host, self.address.port,
                    ssl=self._tls, server_hostname=self.address.host if self._tls else None,
                )  # fmt: skip
        except TimeoutError as error:
            raise ConnectionFailed(f"no connection within {self.connect_timeout_seconds:g} s") from error
        except OSError as error:
            # Too many open files, no free port: this host's limits, and no fault of the server.
            local = error.errno in _OWN_LIMITS
            raise ConnectionFailed(error.strerror or str(error), local=local) from error
        return connection

    def give_back(self, connection: Connection) -> None:
        """This will keep a connection for the next exchange, if it can be used again."""
        if connection.usable:
            connection.idle_since = self.clock.monotonic()
            self._idle.append(connection)

    def close(self) -> None:
        """This will close what is idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
