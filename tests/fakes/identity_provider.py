"""An OpenID Connect provider with real keys, which signs whatever it is told to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.example", "optiinfra"


class IdentityProvider:
    """Keys by id; how often they were fetched."""

    def __init__(self) -> None:
        """One RSA key, `first`."""
        self.private: dict[str, Any] = {"first": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.fetched = 0
        self.fails: Exception | None = None

    def add_ec(self, key_id: str) -> None:
        """This will add a P-256 key."""
        self.private[key_id] = ec.generate_private_key(ec.SECP256R1())

    async def keys(self) -> dict[str, Any]:
        """This will publish the public keys, among some that do not sign."""
        self.fetched += 1
        if self.fails is not None:
            raise self.fails
        published: list[Any] = [{"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}, {"kty": "XX"}, "no key"]
        for key_id, key in self.private.items():
            algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
            published.append(algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": key_id, "use": "sig"})
        return {"keys": published}

    def token(self, now: datetime, *, key_id: str = "first", algorithm: str | None = None, **claims: Any) -> str:
        """This will sign a token that is valid for five minutes unless `claims` say otherwise; None leaves one out."""
        key = self.private.get(key_id) or self.private["first"]
        said: dict[str, Any] = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": "u-1", "exp": now + timedelta(minutes=5),
            "preferred_username": "ada", "scope": "openid optiinfra:read",
        }  # fmt: skip
        said = {name: value for name, value in (said | claims).items() if value is not None}
        used = algorithm or ("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
        return jwt.encode(said, key, algorithm=used, headers={"kid": key_id})
