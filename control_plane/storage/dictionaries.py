"""Dictionaries that rows point into: sets of unknown fields, and histogram bounds.

Both repeat for ever once an agent and its devices are known, so a row names an id. The number of
entries that one process makes is bounded: a node that invents new ones without end gets a catch-all
entry, or is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from control_plane.storage.session import SyncConnection

# A fleet has some dozens of combinations (GPU generations × driver × what failed together).
# The cap stops a hostile node from growing the table; beyond it a new set reads as "error" throughout.
MOST_ENTRIES = 20_000


def _digest(payload: Mapping[str, Any], scope: str | None) -> tuple[bytes, str]:
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(f"{scope or ''}\0{text}".encode(), digest_size=16).digest(), text


class RowDictionary:
    """One dictionary table with its cache. Used by the one writing thread only."""

    def __init__(self, table: str, id_column: str, payload_column: str, *, most: int = MOST_ENTRIES) -> None:
        """The three names come from storage/schema.py, never from input."""
        self._most = most
        self._table = table
        self._id_column = id_column
        self._payload_column = payload_column
        self._ids: dict[bytes, int] = {}
        self._uncommitted: list[bytes] = []

    def id_of(self, connection: SyncConnection, payload: Mapping[str, Any], *, scope: str | None = None) -> int:
        """This will give the id of `payload`, making the entry when it is new.

        A new entry belongs to the caller's transaction: call `committed` or `rolled_back` after it.
        """
        digest, text = _digest(payload, scope)
        found = self._ids.get(digest)
        if found is None:
            found = self._ids[digest] = self._find_or_insert(connection, digest, text, scope)
            self._uncommitted.append(digest)
        return found

    def takes(self, payload: Mapping[str, Any], *, scope: str | None = None) -> bool:
        """This will say whether `id_of` may be asked: the entry is known, or there is room for it."""
        return len(self._ids) < self._most or _digest(payload, scope)[0] in self._ids

    def committed(self) -> None:
        """This will keep the entries made in the transaction that has just been committed."""
        self._uncommitted.clear()

    def rolled_back(self) -> None:
        """This will forget the entries made in the transaction that has just been rolled back."""
        for digest in self._uncommitted:
            self._ids.pop(digest, None)
        self._uncommitted.clear()

    def _find_or_insert(self, connection: SyncConnection, digest: bytes, text: str, scope: str | None) -> int:
        columns, values = f"{self._payload_column}, digest", "%s, %s"
        arguments: tuple[object, ...] = (text, digest)
        if scope is not None:
            columns, values, arguments = f"table_name, {columns}", f"%s, {values}", (scope, *arguments)
        # The update that changes nothing makes RETURNING give the id of an entry that another replica made.
        row = connection.execute(
            f"INSERT INTO {self._table} ({columns}) VALUES ({values}) "  # noqa: S608
            f"ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest RETURNING {self._id_column}",
            arguments,
        ).fetchone()
        assert row is not None
        return int(row[0])


def unknown_sets() -> RowDictionary:
    """This will give the dictionary of unknown fields and their reasons."""
    return RowDictionary("unknown_set", "unknown_set_id", "reasons")


def histogram_layouts() -> RowDictionary:
    """This will give the dictionary of histogram bounds."""
    return RowDictionary("histogram_layout", "layout_id", "bounds")
