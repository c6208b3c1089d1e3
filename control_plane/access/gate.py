"""From what a caller presents to who it is."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from control_plane.access import keys
from control_plane.access.rates import Buckets, Rate
from control_plane.model.access import ANYONE, ApiKey, Caller, CallerKind, KeyState, Scope
from control_plane.model.errors import StorageUnavailable, TooManyRequests, Unauthenticated
from control_plane.runtime.clock import Clock
from control_plane.storage import api_keys
from control_plane.storage.session import Database, storage_errors

log = logging.getLogger(__name__)

# A key that was revoked at another replica opens nothing here after this long.
BELIEVED_SECONDS = 5.0
# While the database is away nobody can revoke either; what was known a moment ago goes on for this long.
BELIEVED_WITHOUT_DATABASE_SECONDS = 60.0
MOST_REMEMBERED = 10_000
# Wrong keys that one address may try: at once, and each second after that. A look into the database each.
GUESSES = Rate(per_second=2.0, at_once=20.0)
# One sentence for every wrong credential, so that nobody learns which part was right.
WRONG = "the key or token is not valid here: unknown, expired, revoked, or for somebody else; get a new one"
MISSING = "send a key: Authorization: Bearer oik_…; `optiinfra keys create` makes one"


class TokenVerifier(Protocol):
    """What knows an identity provider's tokens."""

    async def verify(self, token: str) -> Caller:
        """This will give who a token is of. Raises Unauthenticated."""
        ...


@dataclass(slots=True)
class _Remembered:
    key: ApiKey
    looked_at: float  # monotonic


class Gate:
    """Knows callers by what they present. One that cannot be known is refused."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        required: bool = True,
        tokens: TokenVerifier | None = None,
        own_key: str = "",
    ) -> None:
        """Unless `required`, everybody may do everything. Who presents `own_key` is this process."""
        self.required = required
        self._database, self._clock, self._tokens = database, clock, tokens
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._guesses = Buckets(clock)
        self._own_key = own_key or secrets.token_urlsafe(keys.SECRET_BYTES)

    async def identify(self, authorization: str | None, address: str) -> Caller:
        """This will give who asks. Raises Unauthenticated, TooManyRequests, StorageUnavailable."""
        if not self.required:
            return ANYONE
        if not authorization:
            raise Unauthenticated(MISSING)
        scheme, _, presented = authorization.partition(" ")
        presented = presented.strip()
        if scheme.lower() != "bearer" or not presented or not presented.isascii():
            raise Unauthenticated(MISSING)
        if hmac.compare_digest(presented, self._own_key):
            return Caller(kind=CallerKind.OWN, subject="own", name="this process", scopes=frozenset({Scope.READ}))
        if keys.is_key(presented):
            return await self._of_key(presented, address)
        if self._tokens is None:
            raise Unauthenticated(WRONG)
        return await self._tokens.verify(presented)

    def forget(self, key_id: str) -> None:
        """This will look a key up anew at its next use: it was changed here."""
        self._remembered.pop(key_id, None)

    async def _of_key(self, presented: str, address: str) -> Caller:
        key_id = keys.key_id_of(presented)
        key = None if key_id is None else await self._look_up(key_id, address)
        if key is None or not keys.fits(presented, key) or key.state(self._clock.now()) is not KeyState.ACTIVE:
            self._count_guess(address)
            raise Unauthenticated(WRONG)
        return Caller(kind=CallerKind.API_KEY, subject=key.key_id, name=key.name, scopes=key.scopes)

    def _count_guess(self, address: str) -> None:
        self._guesses.take(address, GUESSES)

    async def _look_up(self, key_id: str, address: str) -> ApiKey | None:
        now, known = self._clock.monotonic(), self._remembered.get(key_id)
        if known is not None and now - known.looked_at < BELIEVED_SECONDS:
            return known.key
        if known is None and (wait := self._guesses.wait(address, GUESSES)) > 0:
            raise TooManyRequests("too many wrong keys came from this address", retry_after_seconds=wait)
        try:
            with storage_errors():
                key = await api_keys.find(self._database.engine, key_id)
                if key is not None:
                    await api_keys.note_use(self._database.engine, key_id, self._clock.now())
        except StorageUnavailable:
            if known is not None and now - known.looked_at < BELIEVED_WITHOUT_DATABASE_SECONDS:
                return known.key
            raise
        self._remember(key_id, key)
        return key

    def _remember(self, key_id: str, key: ApiKey | None) -> None:
        """Only keys that exist are remembered: nobody can fill the memory with ids that he made up."""
        self._remembered.pop(key_id, None)
        if key is not None:
            self._remembered[key_id] = _Remembered(key, self._clock.monotonic())
            while len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
