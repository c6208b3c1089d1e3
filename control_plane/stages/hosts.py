"""Figures of hosts over a window, read as the history endpoints read them: from rollups where there are any."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from control_plane.analysis.findings.hosts import MEANS, RATES, Host
from control_plane.model.entity import Entity, EntityKind
from control_plane.storage import histories, history_plans
from control_plane.storage.history_plans import Plan
from control_plane.storage.readings import Dictionaries, Selection, select_entities
from control_plane.storage.session import Database
from optiinfra.catalogue import TABLES

MOST_THINGS = 100_000


def load(database: Database, since: datetime, until: datetime) -> list[Host]:
    """This will give each host's figures. For a thread without an event loop of its own."""
    return asyncio.run(_load(Database(database.url, pool_size=2), since, until))


async def _load(database: Database, since: datetime, until: datetime) -> list[Host]:
    try:
        dictionaries = Dictionaries(database.engine)
        things = {
            kind: await select_entities(database.engine, Selection(kind=kind), MOST_THINGS)
            for kind in (EntityKind.NODE, EntityKind.DISK, EntityKind.NETWORK_INTERFACE)
        }
        asked = history_plans.whole_window(since, until, entities=max(map(len, things.values()), default=1))
        figures: dict[int, dict[str, float]] = {}
        for name in (*MEANS, *RATES):
            for entity_id, value in (
                await _values(database, dictionaries, "host", name, things[EntityKind.NODE], asked)
            ).items():
                figures.setdefault(entity_id, {})[name] = value
        disks = await _disks(database, dictionaries, things[EntityKind.DISK], asked)
        links = await _links(database, dictionaries, things[EntityKind.NETWORK_INTERFACE], asked)
        return [
            Host(
                node_id=node.node_id, node=node.node_name, figures=figures[node.entity_id],
                disk_busy=disks.get(node.node_id, {}), link_use=links.get(node.node_id, {}),
            )
            for node in things[EntityKind.NODE]
            if figures.get(node.entity_id)
        ]  # fmt: skip
    finally:
        await database.close()


async def _values(
    database: Database, dictionaries: Dictionaries, table: str, name: str, of: Sequence[Entity], asked: Plan
) -> dict[int, float]:
    """This will give means, or growth per second of counters, of those of which it is known."""
    field = TABLES[table].field(name)
    wholes = await histories.wholes(database.engine, dictionaries, table, field, [e.entity_id for e in of], asked)
    values = {entity_id: whole.rate if field.is_counter else whole.mean for entity_id, whole in wholes.items()}
    return {entity_id: value for entity_id, value in values.items() if value is not None}


def _by_node(of: Sequence[Entity], shares: Mapping[int, float]) -> dict[int, dict[str, float]]:
    out: dict[int, dict[str, float]] = {}
    for thing in of:
        if thing.entity_id in shares:
            out.setdefault(thing.node_id, {})[thing.key] = shares[thing.entity_id]
    return out


async def _disks(
    database: Database, dictionaries: Dictionaries, of: Sequence[Entity], asked: Plan
) -> dict[int, dict[str, float]]:
    return _by_node(of, await _values(database, dictionaries, "disk", "busy_seconds_total", of, asked))


async def _links(
    database: Database, dictionaries: Dictionaries, of: Sequence[Entity], asked: Plan
) -> dict[int, dict[str, float]]:
    speeds = await _values(database, dictionaries, "network", "link_speed_bytes_per_second", of, asked)
    ways = [
        await _values(database, dictionaries, "network", f"{way}_bytes_total", of, asked)
        for way in ("received", "transmitted")
    ]
    return _by_node(of, {
        thing: max(way.get(thing, 0.0) for way in ways) / speed
        for thing, speed in speeds.items()
        if speed > 0 and any(thing in way for way in ways)
    })  # fmt: skip
