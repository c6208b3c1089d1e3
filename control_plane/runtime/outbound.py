"""One bounded question over HTTP to a place that was checked: no redirects, no proxies, an end to everything."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control_plane.model.errors import OptiInfraError
from control_plane.runtime.destinations import Destination

MOST_ANSWER_BYTES = 256 * 1024
USUAL_SECONDS = 5.0


class NotReached(OptiInfraError):
    """The other side did not answer, or not in HTTP, or too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    content: bytes

    def json(self) -> Any:
        """This will give its JSON. Raises NotReached."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise NotReached("the answer is no JSON") from error


async def ask(
    destination: Destination,
    *,
    method: str = "GET",
    body: Any = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = USUAL_SECONDS,
    most_bytes: int = MOST_ANSWER_BYTES,
) -> Answer:
    """This will ask once, at the addresses that were checked, and give the answer. Raises NotReached.

    `body` is sent as JSON, `content` as it is.
    """
    if content is None:
        content = b"" if body is None else json.dumps(body).encode()
    shown_host = f"[{destination.host}]" if ":" in destination.host else destination.host
    lines = {
        "Host": f"{shown_host}:{destination.port}",
        "User-Agent": "optiinfra",
        "Accept": "application/json",
        "Connection": "close",
        "Content-Length": str(len(content)),
        **({"Content-Type": "application/json"} if body is not None else {}),
        **(headers or {}),
    }
    if any(set("\r\n\0") & set(f"{name}{value}") for name, value in lines.items()):
        raise NotReached("a header would have more than one line")
    head = f"{method} {destination.target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items()) + "\r\n"
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(destination, head.encode("latin-1") + content, most_bytes)
    except TimeoutError as error:
        raise NotReached(f"{destination.host} did not answer within {seconds:g} s") from error
    except (OSError, EOFError, ValueError) as error:
        raise NotReached(f"{destination.host}: {error}") from error


async def _exchange(destination: Destination, request: bytes, most_bytes: int) -> Answer:
    encryption = ssl.create_default_context() if destination.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        destination.addresses[0], destination.port, ssl=encryption,
        server_hostname=destination.host if encryption else None,
    )  # fmt: skip
    try:
        writer.write(request)
        await writer.drain()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise NotReached(f"{destination.host} answers with a head without end") from error
        status, fields = _head(head)
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return Answer(status=status, content=await _chunks(reader, most_bytes))
        length = fields.get("content-length")
        if length is not None and (not length.isdecimal() or int(length) > most_bytes):
            raise NotReached(f"{destination.host} answers with more than {most_bytes:,} bytes")
        content = await reader.readexactly(int(length)) if length is not None else await _rest(reader, most_bytes)
        return Answer(status=status, content=content)
    finally:
        writer.close()


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise NotReached("the answer is no HTTP")
    pairs = (line.partition(":") for line in lines if line)
    return int(rest[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _rest(reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    parts, size = [], 0
    while part := await reader.read(64 * 1024):
        size += len(part)
        if size > most_bytes:
            raise NotReached(f"the answer has more than {most_bytes:,} bytes")
        parts.append(part)
    return b"".join(parts)


async def _chunks(reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        line = await reader.readuntil(b"\r\n")
        count = int(line.partition(b";")[0].strip() or b"x", 16)
        size += count
        if count < 0 or size > most_bytes:
            raise NotReached(f"the answer has more than {most_bytes:,} bytes")
        if count == 0:
            return b"".join(parts)
        parts.append((await reader.readexactly(count + 2))[:-2])
