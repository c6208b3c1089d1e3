"""The HTTP server below the application: connections that bring nothing, or too much, end before it is asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from control_plane.api import problems
from control_plane.model.errors import ConfigurationError

# A request's first line and headers are a few hundred bytes and come at once; a long list of names in a query fits.
MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0
# Beside the file descriptors of agents' streams; who has so many open connections to REST has lost count of them.
MOST_CONNECTIONS = 2_000
TLS_LOOK_SECONDS = 60.0


def _refusal(status: HTTPStatus, detail: str, *headers: str) -> bytes:
    """This will give a whole answer that ends the connection, in the shape of every problem (api/problems.py)."""
    body = problems.body_of(status, detail, instance="/")
    head = [f"HTTP/1.1 {status} {status.phrase}", *headers, f"content-type: {problems.MEDIA_TYPE}"]
    return "\r\n".join([*head, f"content-length: {len(body)}", "connection: close", "", ""]).encode() + body


_TOO_LARGE = _refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"the first line and the headers have at most {MOST_HEAD_BYTES:,} bytes; name fewer things in one question",
)
_FULL = _refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open; close some, and try again", "retry-after: 5"
)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's own, which waits for a head for ever, and keeps however much comes of it."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """This will take a connection, unless there are too many, and wait for its first request for a while."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._end(_FULL)
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """This will stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """This will read on, unless the connection was given up already."""
        if not self._refused:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """This will begin to count, and to wait, for the next request of the connection."""
        self._head_bytes = 0
        self._await_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """This will keep the target, as long as it is one."""
        if self._counts(len(url)):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """This will keep a header, as long as they are not too many."""
        if self._counts(len(name) + len(value)):
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """This will hand the request on."""
        self._stop_waiting()
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """This will hand its body on."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """This will end the request."""
        if not self._refused:
            super().on_message_complete()

    def _counts(self, size: int) -> bool:
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD_BYTES and not self._refused:
            self._end(_TOO_LARGE)
        return not self._refused

    def _await_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end, b"")

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self, last_words: bytes) -> None:
        self._refused = True
        self._stop_waiting()
        if last_words:
            self.transport.write(last_words)
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn without its own signal handling: the process has one owner of signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """This will leave signals alone."""
        yield


def make_server(app: ASGIApp, *, access_log: bool, certificate: Path | None = None, key: Path | None = None) -> Server:
    """This will make the server, for HTTPS when there is a certificate. Raises ConfigurationError."""
    tls: dict[str, Any] = {}
    if certificate is not None:
        check_certificate(certificate, key)
        tls = {"ssl_certfile": certificate, "ssl_keyfile": key}
    return Server(
        uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            log_config=None,  # the process has one way to log
            access_log=access_log,
            server_header=False,
            timeout_graceful_shutdown=5,
            lifespan="off",
            **tls,
        )
    )


def check_certificate(certificate: Path, key: Path | None) -> None:
    """This will refuse files that no server could use. Raises ConfigurationError."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"tls_cert_file {certificate} and tls_key_file {key} are no pair in PEM: {error.reason}"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"tls_cert_file or tls_key_file cannot be read: {error}") from error


class RenewedCertificate:
    """Looks whether the files of a certificate have changed, and takes the new one for connections from then on."""

    def __init__(self, server: Server, certificate: Path, key: Path | None) -> None:
        """The files are as the server has read them."""
        self._server, self._certificate, self._key = server, certificate, key
        self._seen = self._stamp()

    def look(self) -> bool:
        """This will take a new pair, and say whether there was one. Raises ConfigurationError: the old one stays."""
        stamp, context = self._stamp(), self._server.config.ssl
        if stamp == self._seen or context is None:
            return False
        check_certificate(self._certificate, self._key)
        context.load_cert_chain(self._certificate, self._key)
        self._seen = stamp
        return True

    def _stamp(self) -> tuple[float, ...]:
        try:
            return tuple(path.stat().st_mtime for path in (self._certificate, self._key) if path is not None)
        except OSError:
            return ()
