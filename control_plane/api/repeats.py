"""A write that is sent again with its `Idempotency-Key` is answered as the first time, and done once."""

from __future__ import annotations

import hashlib
import logging
from types import TracebackType
from typing import Self

from fastapi import Request, Response
from starlette.types import Message, Send

from control_plane.api.context import ApiContext
from control_plane.model.access import Caller
from control_plane.model.errors import Conflict, InvalidRequest, OptiInfraError
from control_plane.storage import idempotency
from control_plane.storage.failures import DatabaseError
from control_plane.storage.idempotency import FirstTime
from control_plane.storage.session import storage_errors

log = logging.getLogger(__name__)

HEADER = "idempotency-key"
LONGEST_KEY = 255
MOST_KEPT_BYTES = 1024 * 1024


def key_of(request: Request) -> str | None:
    """This will give the key that a request names; None without one. Raises InvalidRequest."""
    key = request.headers.get(HEADER)
    if key is not None and not (0 < len(key) <= LONGEST_KEY and all("!" <= character <= "~" for character in key)):
        raise InvalidRequest(f"an Idempotency-Key has 1 to {LONGEST_KEY} printable ASCII characters; a UUID is usual")
    return key


class Repeatable:
    """One write with a key: claimed, done, and its answer kept."""

    def __init__(
        self, context: ApiContext, request: Request, caller: Caller, key: str, body: bytes, *, is_secret: bool
    ) -> None:
        """An answer that `is_secret` is not kept."""
        self._context, self._key, self._is_secret = context, key, is_secret
        self._caller = f"{caller.kind}:{caller.subject}"
        asked = (request.method, request.url.path, request.url.query)
        self._fingerprint = hashlib.sha256("\n".join(asked).encode() + b"\n" + body).digest()
        self._status, self._media_type, self._content = 500, "", b""

    async def first(self) -> Response | None:
        """This will claim the key, or give the answer of the first time. Raises Conflict, StorageUnavailable."""
        with storage_errors():
            before = await idempotency.claim(
                self._context.database.engine, caller=self._caller, key=self._key, fingerprint=self._fingerprint,
                now=self._context.clock.now(),
            )  # fmt: skip
        return None if before is None else self._again(before)

    def _again(self, before: FirstTime) -> Response:
        if before.fingerprint != self._fingerprint:
            raise Conflict("this Idempotency-Key was used for something else; take another one for this")
        if before.status is None:
            raise Conflict(
                "what was sent with this Idempotency-Key is being done, or its process died; wait, or see what came of "
                "it (GET /audit) and take another key"
            )
        if before.content is None:
            raise Conflict("that was done, and what it showed is not kept; see what there is, or take another key")
        return Response(
            before.content, before.status, media_type=before.media_type, headers={"Idempotency-Replayed": "true"}
        )

    async def __aenter__(self) -> Self:
        """This will begin to listen for the answer."""
        return self

    def noting(self, send: Send) -> Send:
        """This will send on, and note what the answer was."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                names = {name.lower(): value for name, value in message["headers"]}
                self._media_type = names.get(b"content-type", b"").decode("latin-1")
            elif message["type"] == "http.response.body" and len(self._content) <= MOST_KEPT_BYTES:
                self._content += message.get("body", b"")
            await send(message)

        return sent

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """This will keep the answer; after a failure of ours the same may be tried again."""
        engine = self._context.database.engine
        kept = None if self._is_secret or len(self._content) > MOST_KEPT_BYTES else self._content
        try:
            with storage_errors():
                if self._status >= 500:
                    await idempotency.let_go(engine, caller=self._caller, key=self._key)
                else:
                    await idempotency.keep(
                        engine, caller=self._caller, key=self._key, status=self._status, media_type=self._media_type,
                        content=kept,
                    )  # fmt: skip
        except (OptiInfraError, DatabaseError) as failure:
            log.error("an answer (%d) could not be kept for who sends the same again: %s", self._status, failure)
