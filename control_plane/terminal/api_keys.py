"""`optiinfra keys`: who can read the database's password may make the first key, and take any away."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from control_plane.access import keys
from control_plane.model.access import ApiKey, Caller, CallerKind, Scope
from control_plane.model.errors import InvalidRequest, UnknownResource
from control_plane.runtime.clock import Clock
from control_plane.storage import api_keys, audit
from control_plane.storage.session import Database, storage_errors

DONE, GONE = 200, 404
CREATED = 201


def scopes_of(text: str) -> frozenset[Scope]:
    """This will read `read,operate`, or `all`. Raises InvalidRequest."""
    if text == "all":
        return frozenset(Scope)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in tuple(Scope):
            raise InvalidRequest(f"{name[:64]!r} is no scope; there are {', '.join(Scope)}, and `all`")
    return frozenset(Scope(name) for name in names)


def create(url: str, clock: Clock, *, name: str, scopes: str, days: float, as_json: bool) -> str:
    """This will make a key and give what is printed: the key alone, for a script to catch."""
    now = clock.now()
    made = keys.make(name=name, scopes=scopes_of(scopes), life=_days(days), created_by=_me().name, now=now)

    async def store(database: Database) -> str:
        asked = {"name": name, "scopes": sorted(made.key.scopes), "days": days}
        await _audited(database, clock, "api_key_create", asked, after=_shown(made.key, now), status=CREATED)
        await api_keys.add(database.engine, made.key)
        return json.dumps({"key": made.text, **_shown(made.key, now)}, indent=2) if as_json else made.text

    return asyncio.run(_with(url, store))


def every(url: str, clock: Clock, *, as_json: bool) -> str:
    """This will list every key, as a table or as JSON."""

    async def load(database: Database) -> str:
        shown = [_shown(key, clock.now()) for key in await api_keys.every(database.engine)]
        return json.dumps(shown, indent=2) if as_json else _table(shown)

    return asyncio.run(_with(url, load))


def revoke(url: str, clock: Clock, key_id: str, *, as_json: bool) -> str:
    """This will revoke a key for ever. Raises UnknownResource."""

    async def take(database: Database) -> str:
        now = clock.now()
        before = await api_keys.find(database.engine, key_id)
        if before is None:
            raise UnknownResource(f"there is no key {key_id[:64]!r}; `optiinfra keys list` shows those there are")
        key = await api_keys.revoke(database.engine, key_id, now) or before
        shown = _shown(key, now)
        await _audited(
            database, clock, "api_key_revoke", {"key_id": key_id}, before=_shown(before, now), after=shown, status=DONE
        )
        return json.dumps(shown, indent=2) if as_json else f"{key_id} ({key.name}) is revoked"

    return asyncio.run(_with(url, take))


async def _with(url: str, work: Any) -> str:
    database = Database(url, pool_size=1)
    try:
        with storage_errors():
            return str(await work(database))
    finally:
        await database.close()


def _me() -> Caller:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no name for this uid, as in many a container
        user = "unknown"
    return Caller(
        kind=CallerKind.COMMAND_LINE, subject=user, name=f"{user} at the command line", scopes=frozenset(Scope)
    )


async def _audited(
    database: Database,
    clock: Clock,
    operation: str,
    asked: Mapping[str, Any],
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any],
    status: int,
) -> None:
    """This will store what is done here as REST does."""
    now = clock.now()
    entry = await audit.begin(
        database.engine, _me(), at=now, address=None, operation=operation, target="optiinfra keys", asked=asked
    )
    await audit.end(database.engine, entry, at=now, status=status, before=before, after=after)


def _days(days: float) -> timedelta:
    try:
        return timedelta(days=days)
    except (OverflowError, ValueError) as error:
        raise InvalidRequest(f"a key lives for at most {keys.MOST_LIFE.days} days") from error


def _shown(key: ApiKey, now: datetime) -> dict[str, Any]:
    stamps = {name: getattr(key, name) for name in ("created_at", "expires_at", "last_used_at", "revoked_at")}
    return {
        "key_id": key.key_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "state": key.state(now),
        "created_by": key.created_by,
        **{name: stamp.isoformat(timespec="seconds") if stamp else None for name, stamp in stamps.items()},
    }


def _table(shown: Sequence[Mapping[str, Any]]) -> str:
    if not shown:
        return "there are no keys; make one: optiinfra keys create --name NAME --scopes read"
    columns = {
        "ID": "key_id",
        "NAME": "name",
        "SCOPES": "scopes",
        "STATE": "state",
        "EXPIRES": "expires_at",
        "LAST USED": "last_used_at",
    }
    rows = [list(columns)] + [[_cell(key[field]) for field in columns.values()] for key in shown]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cell(value: Any) -> str:
    if value is None:
        return "never"
    return ",".join(value) if isinstance(value, list) else str(value)
