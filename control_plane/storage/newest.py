"""The newest samples of everything of one kind, for work that looks at all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from control_plane.model.sample import Reading
from control_plane.storage.session import SyncConnection


class NewestReader:
    """Reads a table's newest rows as Readings, of some fields; keeps why what is not known is not."""

    def __init__(self, table: str, names: Sequence[str]) -> None:
        """`names` are scalar fields of the table."""
        self._names = tuple(names)
        self._reasons: dict[int, Mapping[str, str]] = {}
        self._query = sql.SQL("SELECT entity_id, taken_at, unknown_set_id, {} FROM {}").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(f"{table}_latest")
        )

    def read(self, connection: SyncConnection) -> dict[int, Reading]:
        """This will give the newest reading of each entity, by its id."""
        with connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(self._query).fetchall()
        missing = {row["unknown_set_id"] for row in rows if row["unknown_set_id"] is not None} - self._reasons.keys()
        if missing:
            self._reasons |= dict(
                connection.execute(
                    "SELECT unknown_set_id, reasons FROM unknown_set WHERE unknown_set_id = ANY(%s)", (list(missing),)
                ).fetchall()
            )
        return {row["entity_id"]: self._reading(row) for row in rows}

    def _reading(self, row: Mapping[str, Any]) -> Reading:
        values = {name: row[name] for name in self._names}
        reasons = self._reasons.get(row["unknown_set_id"], {})
        return Reading(
            entity_id=row["entity_id"], taken_at=row["taken_at"], values=values,
            unknown={name: reasons[name] for name in self._names if values[name] is None and name in reasons},
        )  # fmt: skip


def nodes(connection: SyncConnection) -> list[tuple[int, str, datetime | None]]:
    """This will give the id, name and time of the newest sample of every node that is no played recording."""
    return connection.execute(
        "SELECT node_id, name, taken_at FROM node LEFT JOIN node_status USING (node_id) "
        "WHERE forgotten_at IS NULL AND NOT replayed ORDER BY node_id"
    ).fetchall()


def events(connection: SyncConnection, kinds: Sequence[str], since: datetime) -> list[tuple[Any, ...]]:
    """This will give events of some kinds since a moment: node, time, kind, severity, entity's kind and key, detail."""
    return connection.execute(
        "SELECT node_id, taken_at, kind, severity, entity_kind, entity_key, detail FROM event "
        "WHERE taken_at > %s AND kind = ANY(%s)",
        (since, list(kinds)),
    ).fetchall()


def available_then(connection: SyncConnection, at: datetime, slack_seconds: float) -> dict[int, tuple[datetime, float]]:
    """This will give what each file system had available at some moment, from the first sample after it."""
    rows = connection.execute(
        "SELECT DISTINCT ON (entity_id) entity_id, taken_at, available_bytes FROM filesystem_sample "
        "WHERE taken_at >= %s AND taken_at < %s + make_interval(secs => %s) AND available_bytes IS NOT NULL "
        "ORDER BY entity_id, taken_at",
        (at, at, slack_seconds),
    ).fetchall()
    return {entity_id: (taken_at, float(available)) for entity_id, taken_at, available in rows}
