"""A small HTTP/1.1 server for a few pages: one GET per connection, and a bound on everything a client can ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import h11

# A scraper, its twin in another data centre, a person with curl, and room.
_MOST_CONNECTIONS = 8
_REQUEST_BYTES = 8192  # a scraper's request has some 300
_READ_BYTES = 4096
# From connecting to the last byte read by the client: Prometheus' own scrape_timeout is 10 s.
_EXCHANGE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


_BAD_REQUEST = Page(status=400, body="this is no HTTP/1.1 request, or it is too large\n")
_NOT_FOUND = Page(status=404, body="there is no such page\n")
_ONLY_GET = Page(status=405, body="only GET is answered\n")


class PageServer:
    """Serves pages on one address until it is closed."""

    def __init__(self, pages: Mapping[str, Callable[[], Page]], *, exchange_seconds: float = _EXCHANGE_SECONDS) -> None:
        """`pages` makes each page anew for each request, by its path."""
        self._pages = pages
        self._exchange_seconds = exchange_seconds
        self._connections = 0
        self._server: asyncio.Server | None = None
        self.refused_total = 0  # connections beyond the most that are served at once

    async def start(self, host: str, port: int) -> int:
        """This will listen and give the port; raises OSError where that is not possible."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=_REQUEST_BYTES, backlog=16)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def close(self) -> None:
        """This will stop listening; exchanges that are under way end with the loop."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= _MOST_CONNECTIONS:
            self.refused_total += 1
            writer.transport.abort()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(self._exchange_seconds):
                await self._exchange(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError):
            pass  # the client is slow or gone: there is nobody to tell
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=_REQUEST_BYTES)
        try:
            request = await _request(wire, reader)
        except h11.RemoteProtocolError:
            page = _BAD_REQUEST
        else:
            if request is None:
                return
            page = self._page(request)
        body = page.body.encode()
        headers = [
            ("Content-Type", page.content_type),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        for part in (h11.Response(status_code=page.status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            writer.write(wire.send(part) or b"")
        await writer.drain()

    def _page(self, request: Any) -> Page:
        if request.method != b"GET":
            return _ONLY_GET
        make = self._pages.get(request.target.decode("ascii", "replace").partition("?")[0])
        return _NOT_FOUND if make is None else make()


async def _request(wire: Any, reader: asyncio.StreamReader) -> Any:
    """This will read to the end of the request's head; None when the client went away. A body is not read."""
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_READ_BYTES)
            if not data:
                return None
            wire.receive_data(data)
        elif isinstance(event, h11.Request):
            return event
        else:
            return None
