"""Objectives as they were configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.slo import Indicator, Slo, SloDefinition, SloScope
from control_plane.storage.schema_slo import COUNTS, slo, slo_judgement, slo_server_hour, slo_violation
from control_plane.storage.session import SyncConnection

# Of a definition, what its counts mean. The rest only says how they are judged.
_MEANING = ("indicator", "threshold_seconds", "limits", "floor_tokens_per_second", "scope")


def said(definition: SloDefinition) -> dict[str, Any]:
    """This will give a definition as it is stored."""
    return {
        "name": definition.name,
        "description": definition.description,
        "indicator": definition.indicator.value,
        "target_ratio": definition.target_ratio,
        "window_days": definition.window_days,
        "threshold_seconds": definition.threshold_seconds,
        "limits": dict(definition.limits),
        "floor_tokens_per_second": definition.floor_tokens_per_second,
        "scope": definition.scope.said(),
        "route": definition.route,
        "labels": dict(definition.labels),
    }


def _read(stored: Mapping[str, Any]) -> SloDefinition:
    scope = stored.get("scope", {})
    return SloDefinition(
        name=stored["name"],
        description=stored.get("description", ""),
        indicator=Indicator(stored["indicator"]),
        target_ratio=stored["target_ratio"],
        window_days=stored["window_days"],
        threshold_seconds=stored.get("threshold_seconds"),
        limits=stored.get("limits", {}),
        floor_tokens_per_second=stored.get("floor_tokens_per_second"),
        scope=SloScope(**{name: scope.get(name) for name in ("model", "engine", "server", "node", "namespace")}),
        route=stored.get("route"),
        labels=stored.get("labels", {}),
    )


def _from_row(row: Row[Any]) -> Slo:
    return Slo(
        slo_id=row.slo_id, definition=_read(row.definition), created_at=row.created_at, changed_at=row.changed_at,
        counted_since=row.counted_since, history_since=row.history_since,
    )  # fmt: skip


async def write(engine: AsyncEngine, definitions: Sequence[SloDefinition], now: datetime) -> list[Slo]:
    """This will store definitions by their names, all or none. One whose events mean something else counts anew."""
    out = []
    async with engine.begin() as connection:
        for definition in definitions:
            new = said(definition)
            row = (
                await connection.execute(select(slo).where(slo.c.name == definition.name).with_for_update())
            ).one_or_none()
            if row is None:
                values = {"definition": new, "created_at": now, "changed_at": now, "counted_since": now}
                statement = insert(slo).values(name=definition.name, **values)
                statement = statement.on_conflict_do_update(index_elements=[slo.c.name], set_={"changed_at": now})
                out.append(_from_row((await connection.execute(statement.returning(slo))).one()))
                continue
            counts_anew = any(row.definition.get(name) != new[name] for name in _MEANING)
            if counts_anew:
                for table in (*COUNTS.values(), slo_server_hour, slo_judgement, slo_violation):
                    await connection.execute(delete(table).where(table.c.slo_id == row.slo_id))
            changed = {
                "definition": new,
                "changed_at": now if row.definition != new else row.changed_at,
                "counted_since": now if counts_anew else row.counted_since,
                "history_since": None if counts_anew else row.history_since,
            }
            found = await connection.execute(
                update(slo).where(slo.c.slo_id == row.slo_id).values(changed).returning(slo)
            )
            out.append(_from_row(found.one()))
    return out


async def find(engine: AsyncEngine, slo_ids: Sequence[int] | None = None, *, after: int = 0, limit: int) -> list[Slo]:
    """This will give objectives in the order of their ids; None for `slo_ids` means all."""
    query = select(slo).where(slo.c.slo_id > after).order_by(slo.c.slo_id).limit(limit)
    if slo_ids is not None:
        query = query.where(slo.c.slo_id.in_(slo_ids))
    async with engine.connect() as connection:
        return [_from_row(row) for row in await connection.execute(query)]


async def named(engine: AsyncEngine, names: Sequence[str]) -> list[Slo]:
    """This will give the objectives with those names or ids, in the order of their ids."""
    ids = [int(name) for name in names if name.isdecimal() and len(name) <= 9]
    query = select(slo).where(slo.c.name.in_(names) | slo.c.slo_id.in_(ids)).order_by(slo.c.slo_id)
    async with engine.connect() as connection:
        return [_from_row(row) for row in await connection.execute(query)]


async def remove(engine: AsyncEngine, slo_id: int) -> bool:
    """This will delete an objective with all that was counted for it, and say whether it was there."""
    async with engine.begin() as connection:
        return (await connection.execute(delete(slo).where(slo.c.slo_id == slo_id))).rowcount > 0


def every(connection: SyncConnection) -> list[Slo]:
    """This will give all objectives in the order of their ids."""
    rows = connection.execute(
        "SELECT slo_id, definition, created_at, changed_at, counted_since, history_since FROM slo ORDER BY slo_id"
    ).fetchall()
    return [
        Slo(
            slo_id=slo_id, definition=_read(stored), created_at=created, changed_at=changed, counted_since=counted,
            history_since=history,
        )
        for slo_id, stored, created, changed, counted, history in rows
    ]  # fmt: skip


def note_history(connection: SyncConnection, slo: Slo, since: datetime) -> bool:
    """This will note how far back an objective's history is counted; False when it means something else by now."""
    return (
        connection.execute(
            "UPDATE slo SET history_since = %s WHERE slo_id = %s AND counted_since = %s "
            "AND history_since IS NOT DISTINCT FROM %s",
            (since, slo.slo_id, slo.counted_since, slo.history_since),
        ).rowcount
        > 0
    )
