"""Bearer tokens of an OpenID Connect provider: checked against its published keys, and for whom they are meant."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import jwt

from control_plane.model.access import Caller, CallerKind, Scope
from control_plane.model.errors import OptiInfraError, ProviderUnavailable, Unauthenticated
from control_plane.runtime.clock import Clock

log = logging.getLogger(__name__)

# Only signatures that take a private key: with the others whoever can check a token can make one.
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
KEY_TYPES = frozenset({"RSA", "EC", "OKP"})
MOST_TOKEN_LENGTH = 16 * 1024
MOST_KEYS = 100
LONGEST_NAME = 128
# Providers' clocks and ours differ by seconds.
LEEWAY_SECONDS = 30.0
# Keys change once in months, and an unknown one is asked for at once, but not for every forged token.
KEYS_SECONDS, ASK_AGAIN_SECONDS = 3600.0, 30.0
# A provider that is away must not lock everybody out.
KEYS_WITHOUT_PROVIDER_SECONDS = 86_400.0
WRONG = "the token is not valid here: unknown, expired, or for somebody else; get a new one from your identity provider"

FetchKeys = Callable[[], Awaitable[Mapping[str, Any]]]


class ProviderKeys:
    """A provider's public keys, kept for an hour."""

    def __init__(self, fetch: FetchKeys, clock: Clock) -> None:
        """`fetch` gives the provider's JSON Web Key Set."""
        self._fetch, self._clock = fetch, clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = self._had_at = float("-inf")
        self._turn = asyncio.Lock()

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """This will give a key by its id; None when the provider has none such. Raises ProviderUnavailable."""
        if key_id not in self._keys or self._age(self._had_at) > KEYS_SECONDS:
            async with self._turn:
                await self._refresh(key_id)
        if not self._keys:
            raise ProviderUnavailable("the identity provider does not give its keys; try again in half a minute")
        return self._keys.get(key_id)

    def _age(self, since: float) -> float:
        return self._clock.monotonic() - since

    async def _refresh(self, key_id: str) -> None:
        is_here = key_id in self._keys and self._age(self._had_at) <= KEYS_SECONDS
        if is_here or self._age(self._asked_at) < ASK_AGAIN_SECONDS:
            return
        self._asked_at = self._clock.monotonic()
        try:
            self._keys = _usable(await self._fetch())
            self._had_at = self._clock.monotonic()
        except OptiInfraError as error:
            log.warning("the identity provider's keys cannot be had: %s", error)
            if self._age(self._had_at) > KEYS_WITHOUT_PROVIDER_SECONDS:
                self._keys = {}


def _usable(said: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """This will take the keys that sign, and leave the rest."""
    entries = said.get("keys")
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ProviderUnavailable("the identity provider's keys are no JSON Web Key Set")
    found: dict[str, jwt.PyJWK] = {}
    for entry in entries[:MOST_KEYS]:
        if not isinstance(entry, dict) or entry.get("kty") not in KEY_TYPES or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue  # of a kind that we do not know
        if key.key_id and key.algorithm_name in ALGORITHMS:
            found[key.key_id] = key
    return found


class ProviderTokens:
    """Knows callers by a provider's tokens."""

    def __init__(
        self, keys: ProviderKeys, clock: Clock, *, issuer: str, audience: str, scopes_claim: str, scope_prefix: str
    ) -> None:
        """A token must be by `issuer` and for `audience`. `scopes_claim` names what it may do, each behind
        `scope_prefix`; anything else in it is somebody else's."""
        self._keys, self._clock = keys, clock
        self._issuer, self._audience = issuer, audience
        self._scopes_claim, self._prefix = scopes_claim, scope_prefix

    async def verify(self, token: str) -> Caller:
        """This will give who a token is of. Raises Unauthenticated, ProviderUnavailable."""
        if len(token) > MOST_TOKEN_LENGTH:
            raise Unauthenticated(WRONG)
        try:
            header = jwt.get_unverified_header(token)
            key_id, algorithm = header.get("kid"), header.get("alg")
            if not isinstance(key_id, str) or algorithm not in ALGORITHMS:
                raise Unauthenticated(WRONG)
            key = await self._keys.find(key_id)
            if key is None or not _fits(key, str(algorithm)):
                raise Unauthenticated(WRONG)
            claims = jwt.decode(
                token, key.key, algorithms=[str(algorithm)], audience=self._audience, issuer=self._issuer,
                # Time is checked below, by the process's one clock.
                options={"require": ["exp", "iss", "aud", "sub"], "verify_exp": False, "verify_nbf": False,
                         "verify_iat": False},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise Unauthenticated(WRONG) from error
        self._require_now(claims)
        return self._caller(claims)

    def _require_now(self, claims: Mapping[str, Any]) -> None:
        now = self._clock.now().timestamp()
        until, since = claims.get("exp"), claims.get("nbf", 0)
        numbers = all(isinstance(at, int | float) and not isinstance(at, bool) for at in (until, since))
        if not numbers or not float(since) - LEEWAY_SECONDS <= now < float(until or 0) + LEEWAY_SECONDS:
            raise Unauthenticated(WRONG)

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        said: Any = claims
        for part in self._scopes_claim.split("."):  # Keycloak: realm_access.roles
            said = said.get(part) if isinstance(said, Mapping) else None
        entries = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        named = {str(entry).removeprefix(self._prefix) for entry in entries if str(entry).startswith(self._prefix)}
        name = next((claims[n] for n in ("preferred_username", "email", "client_id", "azp") if claims.get(n)), "")
        return Caller(
            kind=CallerKind.OIDC,
            subject=_short(claims["sub"]),
            name=_short(name or claims["sub"]),
            scopes=frozenset(scope for scope in Scope if scope in named),
        )


def _fits(key: jwt.PyJWK, algorithm: str) -> bool:
    """This will say whether a key makes signatures of that kind: an RSA key makes RS and PS, unless it says which."""
    if algorithm == key.algorithm_name:
        return True
    says_which = bool(key._jwk_data.get("alg"))
    return not says_which and key.key_type == "RSA" and algorithm[:2] in ("RS", "PS")


def _short(text: Any) -> str:
    return "".join(character for character in str(text)[:LONGEST_NAME] if character.isprintable())
