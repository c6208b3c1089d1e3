"""A TCP proxy that breaks what passes through it, as networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from types import TracebackType

CHUNK_BYTES = 64 * 1024


@dataclass(slots=True)
class _Heard:
    """When something came last over a connection."""

    at: float  # the loop's time


class TcpProxy:
    """Stands between a client and 127.0.0.1:`target_port`. Faults hold for old and new connections alike."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.latency_seconds = 0.0
        self.swallowing = False  # a black hole: what is sent vanishes, and nobody says so
        self.piece_bytes = CHUNK_BYTES  # how much is passed on at once
        self.idle_seconds: float | None = None  # a connection over which nothing came for so long, either way, is reset
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()  # of these, those towards clients
        self._closed: set[asyncio.StreamWriter] = set()  # and those whose half is closed
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> TcpProxy:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    @property
    def address(self) -> str:
        """This will give host and port."""
        return f"127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """This will accept connections, always on the same port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """This will make new connections fail; those that stand are left alone."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """This will reset every connection: RST, as from a host that lost its memory."""
        for writer in self._writers:
            connection: socket.socket | None = writer.get_extra_info("socket")
            if connection is not None and connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()

    def half_close(self, *, towards_client: bool) -> None:
        """This will end one direction of every connection with a FIN, and leave the other open."""
        for writer in [w for w in self._writers if (w in self._clients) is towards_client]:
            self._closed.add(writer)
            writer.write_eof()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        self._clients.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except (OSError, asyncio.CancelledError):  # the latter at the end of the test
            writer.transport.abort()
            return
        self._writers.add(up_writer)
        try:
            heard = _Heard(asyncio.get_running_loop().time())
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, up_writer, heard))
                pumps.create_task(self._pump(up_reader, writer, heard))
        except ExceptionGroup as group:
            if group.split(OSError)[1] is not None:
                raise
        except asyncio.CancelledError:
            pass  # the end of the test; asyncio's server would report it as an error
        finally:
            for end in (writer, up_writer):
                for ends in (self._writers, self._clients, self._closed):
                    ends.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: _Heard) -> None:
        while data := await self._read(reader, heard):
            if self.swallowing or writer in self._closed:
                continue
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            for start in range(0, len(data), self.piece_bytes):
                writer.write(data[start : start + self.piece_bytes])
                await writer.drain()
                await asyncio.sleep(0)
        raise ConnectionResetError("one end is gone, so the other goes too")

    async def _read(self, reader: asyncio.StreamReader, heard: _Heard) -> bytes:
        """Nothing at all is the end: of the other side, or of the patience that a proxy has with both."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(None if self.idle_seconds is None else heard.at + self.idle_seconds):
                    data = await reader.read(CHUNK_BYTES)
            except TimeoutError:
                if self.idle_seconds is not None and loop.time() >= heard.at + self.idle_seconds:
                    return b""
                continue
            heard.at = loop.time()
            return data
