"""An OpenAI-compatible chat API, well or in one of the ways in which it can be unwell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class LanguageModel:
    """Answers every question with the same sentences, and remembers what it was asked."""

    def __init__(self) -> None:
        """Well, and with nothing to say yet."""
        self.sentences: Any = []
        self.status = 200
        self.message: dict[str, Any] | None = None  # instead of the sentences
        self.finish_reason = "stop"
        self.hangs = False
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.over = asyncio.Event()  # who hangs hangs until then
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """This will answer one question."""
        self.open.add(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(next(line.split(":")[1] for line in head.lower().splitlines() if "content-length" in line))
        self.heads.append(head)
        self.asked.append(json.loads(await reader.readexactly(length)))
        if self.hangs:
            await self.over.wait()
        message = self.message or {"content": json.dumps({"sentences": self.sentences})}
        said = json.dumps({"choices": [{"message": message, "finish_reason": self.finish_reason}]}).encode()
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said)
        writer.close()


@asynccontextmanager
async def serving(model: LanguageModel) -> AsyncIterator[str]:
    """This will let it listen, and give its base URL."""
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        model.over.set()
        server.close()
        for writer in model.open:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
