"""Which tokens of an identity provider are believed, and what they open."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import jwt
import pytest

from control_plane.access.tokens import ProviderKeys, ProviderTokens
from control_plane.model.access import CallerKind, Scope
from control_plane.model.errors import ProviderUnavailable, Unauthenticated
from tests.fakes.clock import FakeClock
from tests.fakes.identity_provider import AUDIENCE, ISSUER, IdentityProvider


@pytest.fixture(scope="module")
def provider() -> IdentityProvider:
    return IdentityProvider()


def verifier(
    provider: IdentityProvider, clock: FakeClock, *, claim: str = "scope", prefix: str = "optiinfra:"
) -> ProviderTokens:
    return ProviderTokens(
        ProviderKeys(provider.keys, clock), clock, issuer=ISSUER, audience=AUDIENCE, scopes_claim=claim,
        scope_prefix=prefix,
    )  # fmt: skip


async def test_a_good_token_says_who_and_what(provider: IdentityProvider, clock: FakeClock) -> None:
    caller = await verifier(provider, clock).verify(provider.token(clock.now()))
    assert (caller.kind, caller.subject, caller.name) == (CallerKind.OIDC, "u-1", "ada")
    assert caller.scopes == {Scope.READ}


@pytest.mark.parametrize(
    ("claim", "prefix", "claims", "expected"),
    [
        ("scope", "optiinfra:", {"scope": "read admin optiinfra:operate"}, {Scope.OPERATE}),
        (
            "scp",
            "optiinfra:",
            {"scp": ["optiinfra:read", "optiinfra:admin", "optiinfra:root"]},
            {Scope.READ, Scope.ADMIN},
        ),
        ("realm_access.roles", "oi-", {"realm_access": {"roles": ["oi-approve", "x"]}}, {Scope.APPROVE}),
        ("roles", "", {"roles": ["read"]}, {Scope.READ}),
        ("roles", "optiinfra:", {"roles": {"read": True}}, set()),
        ("a.b.c", "optiinfra:", {"a": "x"}, set()),
        ("missing", "optiinfra:", {}, set()),
    ],
)
async def test_scopes_are_read_where_they_are_said(
    provider: IdentityProvider, clock: FakeClock, claim: str, prefix: str, claims: dict[str, Any], expected: set[Scope]
) -> None:
    caller = await verifier(provider, clock, claim=claim, prefix=prefix).verify(provider.token(clock.now(), **claims))
    assert caller.scopes == expected


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another-service"}, {"aud": None}, {"iss": "https://evil.example"}, {"iss": None}, {"sub": None},
        {"exp": None}, {"exp": "never"}, {"exp": True}, {"exp": timedelta(seconds=-31)}, {"nbf": timedelta(seconds=31)},
        {"nbf": "x"}, {"key_id": "unknown"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_token_that_is_wrong_in_one_thing_is_refused(
    provider: IdentityProvider, clock: FakeClock, claims: dict[str, Any]
) -> None:
    said = {n: clock.now() + v if isinstance(v, timedelta) else v for n, v in claims.items()}
    if said.get("exp") in ("never", True) or said.get("nbf") == "x":
        key = provider.private["first"]
        good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "exp": 99999999999} | said
        token = jwt.api_jws.encode(json.dumps(good).encode(), key, "RS256", headers={"kid": "first"})
    else:
        token = provider.token(clock.now(), **said)
    with pytest.raises(Unauthenticated):
        await verifier(provider, clock).verify(token)


async def test_clocks_may_differ_by_half_a_minute(provider: IdentityProvider, clock: FakeClock) -> None:
    now = clock.now()
    await verifier(provider, clock).verify(provider.token(now, exp=now - timedelta(seconds=29)))
    await verifier(provider, clock).verify(provider.token(now, nbf=now + timedelta(seconds=29)))


async def test_a_token_that_was_signed_with_what_everybody_knows_is_refused(
    provider: IdentityProvider, clock: FakeClock
) -> None:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "evil",
        "exp": clock.now() + timedelta(hours=1),
        "scope": "optiinfra:admin",
    }
    public = (await provider.keys())["keys"][-1]["n"]
    forged = [
        jwt.encode(claims, None, algorithm="none", headers={"kid": "first"}),
        jwt.encode(claims, public, algorithm="HS256", headers={"kid": "first"}),
        jwt.encode(claims, "secret" * 10, algorithm="HS256", headers={"kid": "shared"}),
        provider.token(clock.now())[:-6] + "AAAAAA",
        "a.b.c", "eyJhbGciOiJSUzI1NiJ9..", "." * 20_000, "ä", "",
    ]  # fmt: skip
    for token in forged:
        with pytest.raises(Unauthenticated):
            await verifier(provider, clock).verify(token)


async def test_a_key_may_not_sign_in_another_way_than_its_own(provider: IdentityProvider, clock: FakeClock) -> None:
    provider.add_ec("curve")
    await verifier(provider, clock).verify(provider.token(clock.now(), key_id="curve"))
    await verifier(provider, clock).verify(provider.token(clock.now(), algorithm="PS256"))
    del provider.private["curve"]


async def test_keys_are_kept_asked_for_when_one_is_new_and_not_for_every_forgery(clock: FakeClock) -> None:
    provider = IdentityProvider()
    tokens = verifier(provider, clock)
    for _ in range(5):
        await tokens.verify(provider.token(clock.now()))
    assert provider.fetched == 1
    provider.add_ec("second")
    clock.advance(31)
    for _ in range(5):
        await tokens.verify(provider.token(clock.now(), key_id="second"))
    assert provider.fetched == 2
    for n in range(50):
        with pytest.raises(Unauthenticated):
            await tokens.verify(provider.token(clock.now(), key_id=f"made-up-{n}"))
    assert provider.fetched == 2
    long_lived = provider.token(clock.now(), exp=clock.now() + timedelta(days=1))
    del provider.private["first"]
    clock.advance(3601)
    with pytest.raises(Unauthenticated):
        await tokens.verify(long_lived)


async def test_a_provider_that_is_away_locks_nobody_out_for_a_day(clock: FakeClock) -> None:
    provider = IdentityProvider()
    tokens = verifier(provider, clock)
    await tokens.verify(provider.token(clock.now()))
    provider.fails = ProviderUnavailable("away")
    clock.advance(80_000)
    await tokens.verify(provider.token(clock.now()))
    clock.advance(10_000)
    with pytest.raises(ProviderUnavailable):
        await tokens.verify(provider.token(clock.now()))


async def test_a_provider_that_never_answered_is_told_apart_from_a_wrong_token(clock: FakeClock) -> None:
    provider = IdentityProvider()
    provider.fails = ProviderUnavailable("away")
    with pytest.raises(ProviderUnavailable):
        await verifier(provider, clock).verify(provider.token(clock.now()))
