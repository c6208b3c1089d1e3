"""A TCP proxy that breaks what passes through it, as networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType

CHUNK_BYTES = 64 * 1024


class TcpProxy:
    """Stands between a client and 127.0.0.1:`target_port`. Faults hold for old and new connections alike."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.latency_seconds = 0.0
        self.swallowing = False  # a black hole: what is sent vanishes, and nobody says so
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
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

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(up_writer)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, up_writer))
                pumps.create_task(self._pump(up_reader, writer))
        except ExceptionGroup as group:
            if group.split(OSError)[1] is not None:
                raise
        except asyncio.CancelledError:
            pass  # the end of the test; asyncio's server would report it as an error
        finally:
            for end in (writer, up_writer):
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self.swallowing:
                continue
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError("one end is gone, so the other goes too")
