"""Every write is written down before it is begun, and completed when it has ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Annotated, Any, Self

import orjson
from fastapi import Depends, Request
from starlette.types import Message, Send

from control_plane.api.answers import timestamp
from control_plane.api.context import ApiContext
from control_plane.model.access import Caller
from control_plane.model.errors import OptiInfraError
from control_plane.runtime import redaction
from control_plane.storage import audit
from control_plane.storage.failures import DatabaseError
from control_plane.storage.session import storage_errors

log = logging.getLogger(__name__)

# More of a question or an answer than this is no use to a reader of the trail.
MOST_KEPT_BYTES = 16 * 1024


class Change:
    """What an endpoint says of what it changes."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.before: Mapping[str, Any] | None = None
        self.after: Mapping[str, Any] | None = None
        self.says_after = False

    def was(self, before: Mapping[str, Any] | None) -> None:
        """This will note what was there before; None: nothing."""
        self.before = before

    def became(self, after: Mapping[str, Any] | None) -> None:
        """This will note what is there now; without it, that is the answer."""
        self.after, self.says_after = after, True


def _change(request: Request) -> Change:
    change = getattr(request.state, "change", None)
    return change if isinstance(change, Change) else Change()


Changed = Annotated[Change, Depends(_change)]


class Audited:
    """One write, from before its beginning until it has ended."""

    def __init__(self, context: ApiContext, request: Request, caller: Caller, operation: str, body: bytes) -> None:
        """`body` is what was sent, whole."""
        self._context, self._request, self._caller, self._operation = context, request, caller, operation
        self._asked = {"query": dict(request.query_params.multi_items()), "body": _readable(body)}
        self._change = Change()
        self._entry = 0
        self._status, self._answer = 500, b""

    async def __aenter__(self) -> Self:
        """This will store what is about to be done. Raises StorageUnavailable: then it is not done."""
        client = self._request.client
        self._request.state.change = self._change
        with storage_errors():
            self._entry = await audit.begin(
                self._context.database.engine,
                self._caller,
                at=self._context.clock.now(),
                address=client.host if client else None,
                operation=self._operation,
                target=redaction.text(self._request.url.path),
                asked=_storable({name: part for name, part in self._asked.items() if part}),
            )
        return self

    def noting(self, send: Send) -> Send:
        """This will send on, and note what the answer was."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            elif message["type"] == "http.response.body" and len(self._answer) <= MOST_KEPT_BYTES:
                self._answer += message.get("body", b"")
            await send(message)

        return sent

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """This will store how it ended. If that fails the entry stays without an end, and the log says so."""
        change = self._change
        after = change.after if change.says_after else _readable(self._answer) if 200 <= self._status < 300 else None
        try:
            with storage_errors():
                await audit.end(
                    self._context.database.engine,
                    self._entry,
                    at=self._context.clock.now(),
                    status=self._status,
                    before=_storable(change.before),
                    after=_storable(after if isinstance(after, Mapping) else None),
                )
        except (OptiInfraError, DatabaseError) as failure:
            log.error(
                "how %s by %s ended (%d) could not be stored: %s",
                self._operation, self._caller.name, self._status, failure,
            )  # fmt: skip


def _readable(content: bytes) -> Any:
    """This will give JSON as it is, and of anything else only how much there was."""
    if not content:
        return None
    if len(content) > MOST_KEPT_BYTES:
        return {"bytes": len(content)}
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return {"bytes": len(content)}


def _storable(said: Any) -> Any:
    """This will replace secrets, and what Postgres cannot keep in JSON."""
    if said is None:
        return None
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
    return orjson.loads(orjson.dumps(_without_nul(redaction.value(said)), _as_text, options))


def _as_text(value: Any) -> str:
    return timestamp(value) if isinstance(value, datetime) else str(value)


def _without_nul(said: Any) -> Any:
    """Postgres keeps no NUL in a text."""
    if isinstance(said, str):
        return said.replace("\0", "?")
    if isinstance(said, dict):
        return {_without_nul(name): _without_nul(entry) for name, entry in said.items()}
    return [_without_nul(entry) for entry in said] if isinstance(said, list) else said
