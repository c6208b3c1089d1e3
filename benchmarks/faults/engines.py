"""Inference servers whose /metrics trickles byte by byte, or never ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.faults.accounting import INTERVAL_SECONDS, Node, Row
from benchmarks.processes import ControlPlane, folder, resident_bytes

SECONDS, QUICK_SECONDS = 30.0, 6.0
BODY_BYTES = 100 << 20
LINE = b'vllm:num_requests_running{engine="0",model_name="m"} 1.0\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n"
TRICKLE_SECONDS = 0.05


def trickling(running: ControlPlane, *, quick: bool) -> Row:
    """This will let an engine send one byte every 50 ms."""
    return _beside(running, "trickling", "engine that trickles its /metrics byte by byte", _trickle, quick=quick)


def endless(running: ControlPlane, *, quick: bool) -> Row:
    """This will let an engine send 100 MiB."""
    return _beside(running, "endless", f"engine that sends {BODY_BYTES >> 20} MiB", _flood, quick=quick)


def _beside(
    running: ControlPlane, name: str, what: str, answer: Callable[[socket.socket], None], *, quick: bool
) -> Row:
    seconds = QUICK_SECONDS if quick else SECONDS
    with folder() as path, _engine(answer) as (port, asked):
        node = Node(running, name, path / "state", ledger=path / "ledger")
        agent = node.start(f"--scrape-targets=http://127.0.0.1:{port}")
        largest, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            time.sleep(0.1)
            largest = max(largest, resident_bytes(agent.pid))
        agent.stop()
        found = node.account()
        return Row(
            name=what,
            account=found,
            note=f"{len(asked)} scrapes in {seconds:g} s, {found.sampled} ticks at {INTERVAL_SECONDS:g} s; the agent "
            f"took at most {largest / 2**20:.0f} MiB.",
        )


@contextmanager
def _engine(answer: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[float]]]:
    asked: list[float] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            asked.append(time.monotonic())
            threading.Thread(target=_served, args=(connection, answer), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], asked
    listener.close()


def _served(connection: socket.socket, answer: Callable[[socket.socket], None]) -> None:
    with connection:
        try:
            connection.recv(65_536)
            answer(connection)
        except OSError:  # the agent has had enough
            pass


def _trickle(connection: socket.socket) -> None:
    for byte in HEAD + b"\r\n" + LINE * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(TRICKLE_SECONDS)


def _flood(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    block = LINE * 1000
    for _ in range(BODY_BYTES // len(block) + 1):
        connection.sendall(block)
