"""The API with its keys on, and callers of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from control_plane.access import keys
from control_plane.access.gate import Gate
from control_plane.access.rates import Buckets, Rate
from control_plane.api.context import Doors
from control_plane.ingest.server import LinkService
from control_plane.model.access import Scope
from control_plane.storage import api_keys
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.support.rest import Api, client_of, context_of

OWN_KEY = "the-process-itself-and-nobody-else"


def bearer(text: str) -> dict[str, str]:
    """This will give the header that presents a key."""
    return {"Authorization": f"Bearer {text}"}


@dataclass(frozen=True, slots=True)
class GuardedApi:
    """The API with keys, and how to get them."""

    api: Api
    database: Database
    clock: FakeClock
    gate: Gate

    async def key(self, *scopes: Scope, days: float = 1, name: str = "somebody") -> str:
        """This will make a key and store it as the program does."""
        made = keys.make(name=name, scopes=scopes, life=timedelta(days=days), created_by="a test", now=self.clock.now())
        await api_keys.add(self.database.engine, made.key)
        return made.text


@asynccontextmanager
async def guarded_api(
    database: Database, clock: FakeClock, *, rates: Mapping[str, Rate] | None = None, gate: Gate | None = None
) -> AsyncIterator[GuardedApi]:
    """This will open the API with keys on."""
    gate = gate or Gate(database, clock, own_key=OWN_KEY)
    service = LinkService(database, clock, retention_days=14)
    doors = Doors(buckets=Buckets(clock), rates=rates or {})
    async with client_of(context_of(database, clock, service, gate=gate, doors=doors), strict=False) as api:
        yield GuardedApi(api, database, clock, gate)
    service.writer.close()
