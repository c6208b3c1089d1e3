"""Where an identity provider's keys are fetched from: the operator named it, so it may be anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control_plane.model.errors import InvalidRequest, ProviderUnavailable
from control_plane.runtime import destinations, outbound
from control_plane.runtime.destinations import Policy, Resolve, by_system
from control_plane.runtime.outbound import NotReached

DISCOVERY = "/.well-known/openid-configuration"


class Provider:
    """One OpenID Connect provider."""

    def __init__(self, *, issuer: str, jwks_url: str | None, resolve: Resolve = by_system) -> None:
        """Without `jwks_url` the provider's own description says where its keys are."""
        self._issuer, self._jwks_url, self._resolve = issuer.rstrip("/"), jwks_url, resolve

    async def fetch_keys(self) -> Mapping[str, Any]:
        """This will fetch the JSON Web Key Set. Raises ProviderUnavailable."""
        url = self._jwks_url
        if url is None:
            described = await self._get(self._issuer + DISCOVERY)
            url = described.get("jwks_uri")
            if not isinstance(url, str):
                raise ProviderUnavailable(f"{self._issuer}{DISCOVERY} names no jwks_uri")
        return await self._get(url)

    async def _get(self, url: str) -> Mapping[str, Any]:
        try:
            host = destinations.parse(url)[1]
            # Its own word about where its keys are is as good as its keys.
            answer = await outbound.ask(await destinations.check(url, Policy.everywhere(), self._resolve))
            said = answer.json()
        except (InvalidRequest, NotReached) as error:
            raise ProviderUnavailable(str(error)) from error
        if answer.status != 200 or not isinstance(said, Mapping):
            raise ProviderUnavailable(f"{host} answers {answer.status} and no keys")
        return said
