"""The fleet's orchestrator, well or in one of the ways in which it can be unwell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Orchestrator:
    """Registers agents, hears them, forgets them when it is told to."""

    def __init__(self) -> None:
        """Well, and nobody registered."""
        self.agents: dict[str, dict[str, Any]] = {}
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.answer: bytes | None = None  # what it says to everything instead
        self.hangs = False
        self.interval: Any = 30
        self.port = 0
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """This will answer one question."""
        self.writers.add(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(next(line.split(":")[1] for line in head.lower().splitlines() if "content-length" in line))
        body = json.loads(await reader.readexactly(length) or b"{}")
        path = head.split()[1]
        self.heard.append((path, body))
        if self.hangs:
            await asyncio.sleep(3600)
        writer.write(self.answer if self.answer is not None else self._said(path, body))
        writer.close()

    def _said(self, path: str, body: dict[str, Any]) -> bytes:
        if path == "/agents/register":
            agent_id = f"agent/{len(self.heard)}"
            self.agents[agent_id] = body
            return http(201, {"agent_id": agent_id, "heartbeat_url": "http://169.254.169.254/",
                              "heartbeat_interval_seconds": self.interval})  # fmt: skip
        agent_id = path.split("/")[2].replace("%2F", "/")
        if agent_id not in self.agents:
            return http(404, {"detail": "register"})
        if path.endswith("/unregister"):
            del self.agents[agent_id]
            return http(200, {})
        return http(200, {"received": True, "next_interval_seconds": self.interval})


def http(status: int, body: Any) -> bytes:
    """This will write an answer as it goes over the wire."""
    content = json.dumps(body).encode()
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


@asynccontextmanager
async def running_orchestrator() -> AsyncIterator[Orchestrator]:
    """This will run one on a free port of loopback."""
    fake = Orchestrator()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        for writer in fake.writers:
            writer.transport.abort()
        await asyncio.sleep(0)
