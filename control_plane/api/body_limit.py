"""A bound on request bodies: one that says it is larger is refused before anything is done for it."""

from __future__ import annotations

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.api.problems import BodyTooLarge, body_too_large

# A question is a line; the few bodies there are hold a handful of names.
MOST_BODY_BYTES = 1024 * 1024


class BodyLimit:
    """Middleware. FastAPI's own limit answers in plain text, and only after the endpoint has run."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is what comes after it."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """This will pass a request on, or refuse it; a body that hides its size is cut off while it is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        declared = request.headers.get("content-length", "0")
        if len(declared) > 9 or not declared.isdecimal() or int(declared) > MOST_BODY_BYTES:
            await body_too_large(request, MOST_BODY_BYTES)(scope, receive, send)
            return
        await self._app(scope, _counted(receive), send)


def _counted(receive: Receive) -> Receive:
    seen = 0

    async def read() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BODY_BYTES:
            raise BodyTooLarge(MOST_BODY_BYTES)
        return message

    return read
