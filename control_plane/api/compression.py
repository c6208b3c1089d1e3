"""Answers are sent compressed to who asks for it: a thousand GPUs are half a megabyte of JSON, and 70 kB of zstd."""

from __future__ import annotations

import asyncio
import sys
import zlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.api.preferences import preferred

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Below this the head of an answer is larger than what could be saved.
LEAST_BYTES = 1024
# A third of the time of the default level, for a tenth more bytes.
LEVEL = 1
# Above this compressing takes milliseconds, which others would wait for.
ELSEWHERE_BYTES = 256 * 1024
TEXTS = ("application/json", "application/problem+json", "text/")
OFFERED = ("zstd", "gzip")


def compress(content: bytes, encoding: str) -> bytes:
    """This will compress whole content."""
    if encoding == "zstd":
        return bytes(zstd.compress(content, level=LEVEL))
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


class Compression:
    """Middleware. What comes in parts (a stream, a file) is passed on as it is."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is what comes after it."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """This will compress an answer that is worth it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        encoding = preferred(Headers(scope=scope).get("accept-encoding", ""), OFFERED)
        start: Message | None = None

        async def sent(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                if _worth(message):
                    MutableHeaders(scope=message).add_vary_header("Accept-Encoding")
                    start = message if encoding else None
                if start is None:
                    await send(message)
                return
            if start is not None:
                held, start = start, None
                if encoding and not message.get("more_body", False):
                    message = await _compressed(held, message, encoding)
                await send(held)
            await send(message)

        await self._app(scope, receive, sent)


def _worth(start: Message) -> bool:
    headers = Headers(scope=start)
    length = headers.get("content-length", "")
    is_text = headers.get("content-type", "").startswith(TEXTS)
    return is_text and length.isdecimal() and int(length) >= LEAST_BYTES and "content-encoding" not in headers


async def _compressed(start: Message, message: Message, encoding: str) -> Message:
    content = message.get("body", b"")
    if len(content) > ELSEWHERE_BYTES:
        packed = await asyncio.to_thread(compress, content, encoding)
    else:
        packed = compress(content, encoding)
    headers = MutableHeaders(scope=start)
    headers["Content-Encoding"] = encoding
    headers["Content-Length"] = str(len(packed))
    if "etag" in headers and not headers["etag"].startswith("W/"):
        headers["ETag"] = f"W/{headers['etag']}"  # the same thing, in other bytes
    return {**message, "body": packed}
