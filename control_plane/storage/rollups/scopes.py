"""Cells of nodes and of the fleet: what all their GPUs say together, ready for questions about thousands of them.

They are kept as fields of tables of their own: those of "gpu@node" are about nodes, those of "gpu@fleet" about one
thing, the fleet. Sketches add up, so a quantile of a node is one of its GPUs' samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import LiteralString

import numpy as np
import numpy.typing as npt

from control_plane.storage.rollups.blocks import FieldCells
from control_plane.storage.rollups.cells import Cells, empty, entities_of, merged
from control_plane.storage.rollups.fields import FLEET, NODE, FieldKind, scoped
from control_plane.storage.rollups.marks import FLEET_ID
from control_plane.storage.rollups.store import FieldBook
from control_plane.storage.session import SyncConnection

NOBODY = -1  # owns what belongs to no node


class NodesOf:
    """Which node each entity belongs to, which never changes."""

    def __init__(self) -> None:
        """What is asked for is looked up, and kept."""
        self._entities = np.zeros(0, np.int32)
        self._nodes = np.zeros(0, np.int32)

    def of(self, connection: SyncConnection, entity_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """This will give each entity's node; NOBODY for one that is not in the database any more."""
        missing = np.setdiff1d(entity_ids, self._entities)
        if len(missing):
            rows = connection.execute(
                "SELECT entity_id, node_id FROM entity WHERE entity_id = ANY(%s)", (missing.tolist(),)
            ).fetchall()
            known = np.array([*zip(self._entities, self._nodes, strict=True), *rows], np.int32).reshape(-1, 2)
            known = known[np.argsort(known[:, 0])]
            self._entities, self._nodes = known[:, 0].copy(), known[:, 1].copy()
        if not len(self._entities):
            return np.full(len(entity_ids), NOBODY, np.int32)
        place = np.minimum(np.searchsorted(self._entities, entity_ids), len(self._entities) - 1)
        return np.where(self._entities[place] == entity_ids, self._nodes[place], NOBODY).astype(np.int32)


class Together:
    """Gathers the cells of a table's entities, and makes those of their nodes and of the fleet."""

    def __init__(self, book: FieldBook, nodes_of: NodesOf, table: LiteralString) -> None:
        """`table` is one of fields.SCOPED."""
        self._book = book
        self._nodes_of = nodes_of
        self._table = table
        self._parts: dict[str, list[Cells]] = {}

    def add(self, connection: SyncConnection, found: Iterable[FieldCells]) -> None:
        """This will add cells of some entities."""
        for field_cells in found:
            name = self._book.name(field_cells.field_id)
            if name in self._book.names_of(scoped(self._table, NODE)) and len(field_cells.cells):
                cells = field_cells.cells
                nodes = self._nodes_of.of(connection, cells.entity_ids)
                if (nodes == NOBODY).any():
                    cells = entities_of(cells, cells.entity_ids[nodes != NOBODY])
                    nodes = nodes[nodes != NOBODY]
                if len(cells):
                    self._parts.setdefault(name, []).append(together([cells], [nodes]))

    def of_nodes(self) -> Iterator[FieldCells]:
        """This will give the cells of nodes."""
        for name, parts in self._parts.items():
            cells = parts[0] if len(parts) == 1 else together(parts, [part.entity_ids for part in parts])
            yield FieldCells(field_id=self._book.number(scoped(self._table, NODE), name), exact=False, cells=cells)

    def of_fleet(self) -> Iterator[FieldCells]:
        """This will give the cells of the fleet, out of those of all its nodes."""
        for found in self.of_nodes():
            yield of_fleet(self._book, self._table, found)


def of_fleet(book: FieldBook, table: str, of_nodes: FieldCells) -> FieldCells:
    """This will give the cells of the fleet out of those of all its nodes."""
    cells = of_nodes.cells
    number = book.number(scoped(table, FLEET), book.name(of_nodes.field_id))
    fleet = together([cells], [np.full(len(cells.entity_ids), FLEET_ID, np.int32)])
    return FieldCells(field_id=number, exact=False, cells=fleet)


def together(parts: Sequence[Cells], owners: Sequence[npt.NDArray[np.int32]]) -> Cells:
    """This will merge the cells of entities that have the same owner, unit by unit; the units are those of the first.

    `owners` names one owner for each entity of each part.
    """
    like = parts[0]
    ids = np.unique(np.concatenate(owners)).astype(np.int32)
    grid = empty(like, start_us=like.start_us, units=like.units, entity_ids=ids, unit_us=like.unit_us)
    grid = replace(grid, entities=np.zeros(len(grid), np.int32))
    to = []
    for part, owner in zip(parts, owners, strict=True):
        assert (part.start_us, part.units) == (like.start_us, like.units)
        place = np.searchsorted(ids, owner).astype(np.int64)
        to.append((part, (place[:, np.newaxis] * like.units + np.arange(like.units)).ravel()))
    cells = merged(to, into=grid, across_entities=True)
    if cells.kind is FieldKind.COUNTER:  # the last of several counters is none of them
        cells.statistics["last"][:] = np.nan
    return cells
