"""A TCP proxy between an agent and a control plane that does what networks do."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType

CHUNK_BYTES = 65_536


class _Connection:
    """Two sockets, and whether what passes between them still arrives."""

    def __init__(self, agent: socket.socket, server: socket.socket) -> None:
        self._sockets = (agent, server)
        self.swallows = False

    def reset(self) -> None:
        """This will end it as a host does that has lost its memory: RST on both sides."""
        for one in self._sockets:
            try:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RD)  # wakes the thread that reads; close() alone would not
            except OSError:
                pass
            one.close()


class BadNetwork:
    """Forwards to 127.0.0.1:`target_port` until it is told otherwise."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._refuses = False
        self._connections: set[_Connection] = set()
        self._lock = threading.Lock()
        self._left: int | None = None
        self.accepted = 0
        self.cuts = 0

    def __enter__(self) -> BadNetwork:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refuses = True
        self._listener.close()
        self.cut()

    def refuse(self) -> None:
        """This will reset every connection, and those to come."""
        self._refuses = True
        self.cut()

    def allow(self) -> None:
        """This will forward again."""
        self._refuses = False

    def cut(self) -> None:
        """This will reset every connection."""
        with self._lock:
            standing, self._connections = self._connections, set()
        for connection in standing:
            connection.reset()

    def cut_after(self, count: int) -> None:
        """This will reset every connection after so many bytes from the agent, in the middle of whatever it says."""
        self._left = count

    def swallow(self) -> None:
        """This will keep the connections that stand open for ever, and forward nothing of them; others are sound."""
        with self._lock:
            for connection in self._connections:
                connection.swallows = True

    def _accept(self) -> None:
        while True:
            try:
                agent, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                agent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                agent.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                agent.close()
                continue
            self.accepted += 1
            connection = _Connection(agent, server)
            with self._lock:
                self._connections.add(connection)
            for source, target, counted in ((agent, server, True), (server, agent, False)):
                threading.Thread(
                    target=self._pump, args=(connection, source, target), kwargs={"counted": counted}, daemon=True
                ).start()

    def _pump(self, connection: _Connection, source: socket.socket, target: socket.socket, *, counted: bool) -> None:
        try:
            while data := source.recv(CHUNK_BYTES):
                if connection.swallows:
                    continue
                if counted and self._left is not None:
                    data, self._left = data[: self._left], self._left - len(data)
                    target.sendall(data)
                    if self._left <= 0:
                        self._left, self.cuts = None, self.cuts + 1
                        self.cut()
                        return
                    continue
                target.sendall(data)
        except OSError:
            pass
        if not connection.swallows:
            connection.reset()
