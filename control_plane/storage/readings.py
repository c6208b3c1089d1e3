"""Reading samples back: the newest of each entity, and histories downsampled in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import Row, Select, Table, case, cast, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Distribution, Reading
from control_plane.storage import entities
from control_plane.storage.growth import FEWER_THAN_TWO, increments, rate_of, steady
from control_plane.storage.schema import (
    LATEST_TABLES,
    SAMPLE_TABLES,
    entity,
    histogram_layout,
    metric_field,
    node,
    unknown_set,
)
from optiinfra.catalogue import TABLES, FieldSpec, TableSpec


class Dictionaries:
    """Caches of what rows point at: reasons by unknown set, bounds by layout. Entries never change."""

    def __init__(self, engine: AsyncEngine) -> None:
        """One per process; the first reads fill it."""
        self._engine = engine
        self._reasons: dict[int, Mapping[str, str]] = {}
        self._bounds: dict[int, Mapping[str, tuple[float, ...]]] = {}
        self._field_ids: dict[tuple[str, str], int] = {}
        self._lock = asyncio.Lock()

    async def load(self, unknown_set_ids: set[int], layout_ids: set[int]) -> None:
        """This will make sure that the named entries are at hand."""
        async with self._lock:
            sets, layouts = unknown_set_ids - self._reasons.keys(), layout_ids - self._bounds.keys()
            if not sets and not layouts:
                return
            async with self._engine.connect() as connection:
                for row in await connection.execute(select(unknown_set).where(unknown_set.c.unknown_set_id.in_(sets))):
                    self._reasons[row.unknown_set_id] = row.reasons
                for row in await connection.execute(
                    select(histogram_layout).where(histogram_layout.c.layout_id.in_(layouts))
                ):
                    self._bounds[row.layout_id] = {name: tuple(bounds) for name, bounds in row.bounds.items()}

    async def field_id(self, connection: AsyncConnection, table: str, name: str) -> int | None:
        """This will give the number by which rollups name a field; None while it has never been rolled up."""
        if (table, name) not in self._field_ids:
            for row in await connection.execute(select(metric_field)):
                self._field_ids[row.table_name, row.name] = row.field_id
        return self._field_ids.get((table, name))

    def reasons(self, unknown_set_id: int | None) -> Mapping[str, str]:
        """This will give field → reason; call `load` before."""
        return {} if unknown_set_id is None else self._reasons.get(unknown_set_id, {})

    def bounds(self, layout_id: int | None) -> Mapping[str, tuple[float, ...]]:
        """This will give histogram → bounds; call `load` before."""
        return {} if layout_id is None else self._bounds.get(layout_id, {})


def _plain(value: Any) -> Any:
    """This will round an aggregate of float4 to the digits that float4 has."""
    return float(f"{value:.7g}") if isinstance(value, float) and abs(value) < 1e7 else value


class ReadingMaker:
    """Makes Readings of the rows of one result. Where each column stands is looked up once, not for every row.

    A float4 needs no rounding here: it arrives as its shortest text.
    """

    def __init__(self, rows: Sequence[Row[Any]], spec: TableSpec, dictionaries: Dictionaries) -> None:
        """`rows` come from one query; `dictionaries` have been loaded for them."""
        at = {name: place for place, name in enumerate(rows[0]._fields)} if rows else {}
        self._at = at
        self._dictionaries = dictionaries
        self._names = [f.name for f in spec.fields if f.type != "histogram" and f.name in at]
        places = [at[name] for name in self._names]
        self._scalars: Callable[[tuple[Any, ...]], tuple[Any, ...]] = (
            itemgetter(*places) if len(places) > 1 else lambda cells: tuple(cells[place] for place in places)
        )
        # Whole things are shown as whole numbers, though they travel as floats.
        self._whole = [f.name for f in spec.fields if f.type == "real" and f.unit in ("count", "flag", "code")]
        self._histograms = [
            (h.name, at[f"{h.name}_buckets"], at[f"{h.name}_sum"]) for h in spec.histograms if f"{h.name}_buckets" in at
        ]

    def reading(self, row: Row[Any]) -> Reading:
        """This will make a Reading of one row."""
        cells = tuple(row)
        values: dict[str, Any] = dict(zip(self._names, self._scalars(cells), strict=True))
        for name in self._whole:
            value = values.get(name)
            if value is not None and value.is_integer():
                values[name] = int(value)
        distributions = self._distributions(cells) if self._histograms else {}
        reasons = self._dictionaries.reasons(cells[self._at["unknown_set_id"]])
        return Reading(
            entity_id=cells[self._at["entity_id"]],
            taken_at=cells[self._at["taken_at"]],
            values=values,
            # The catch-all set names every field of the table: only what is missing is unknown.
            unknown={n: why for n, why in reasons.items() if values.get(n) is None and n not in distributions},
            distributions=distributions,
        )

    def _distributions(self, cells: tuple[Any, ...]) -> dict[str, Distribution]:
        bounds = self._dictionaries.bounds(cells[self._at["layout_id"]])
        return {
            name: Distribution(bounds=bounds[name], counts=tuple(cells[buckets]), sum=cells[total])
            for name, buckets, total in self._histograms
            if cells[buckets] is not None and name in bounds
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which entities a question is about; None means any."""

    kind: EntityKind
    node_ids: Sequence[int] | None = None
    keys: Sequence[str] | None = None
    entity_ids: Sequence[int] | None = None
    models: Sequence[str] | None = None
    namespaces: Sequence[str] | None = None
    pods: Sequence[str] | None = None
    findings: Sequence[str] | None = None  # of GPUs, as are the next two: given to them, or used by them
    owner_namespaces: Sequence[str] | None = None
    owner_pods: Sequence[str] | None = None
    gpus: Sequence[str] | None = None  # of instances: the GPUs that they are parts of
    after: int = 0  # entities with a larger id only

    def apply(self, query: Select[Any]) -> Select[Any]:
        """This will narrow a query over `entity`."""
        query = query.where(entity.c.kind == int(self.kind), entity.c.entity_id > self.after)
        if self.node_ids is not None:
            query = query.where(entity.c.node_id.in_(self.node_ids))
        if self.keys is not None:
            query = query.where(entity.c.key.in_(self.keys))
        if self.entity_ids is not None:
            query = query.where(entity.c.entity_id.in_(self.entity_ids))
        attributes = {"model": self.models, "namespace": self.namespaces, "pod": self.pods, "gpu": self.gpus}
        for name, wanted in attributes.items():
            if wanted is not None:
                query = query.where(entity.c.attributes[name].astext.in_(wanted))
        if self.findings is not None:
            said = entity.c.attributes["attribution"]["finding"].astext
            query = query.where(func.coalesce(said, "unknown").in_(self.findings))
        owners = {"namespace": self.owner_namespaces, "pod": self.owner_pods}
        named = {name: list(wanted) for name, wanted in owners.items() if wanted is not None}
        if named:  # of one entry of allocated_to or used_by, whichever has both
            alike = " && ".join(f"@.{name} == ${name}[*]" for name in named)
            path = cast(f"$.attribution.*[*] ? ({alike})", JSONPATH)
            query = query.where(func.jsonb_path_exists(entity.c.attributes, path, cast(named, JSONB)))
        return query


async def select_entities(engine: AsyncEngine, selection: Selection, limit: int) -> list[Entity]:
    """This will give the selected entities in the order of their ids."""
    query = selection.apply(entities.selection()).order_by(entity.c.entity_id).limit(limit)
    async with engine.connect() as connection:
        return [entities.from_row(row) for row in await connection.execute(query)]


async def count_by_node(engine: AsyncEngine, selection: Selection) -> dict[int, int]:
    """This will count the selected entities of each node that has any."""
    query = selection.apply(select(entity.c.node_id, func.count().label("entities"))).group_by(entity.c.node_id)
    async with engine.connect() as connection:
        return {row.node_id: row.entities for row in await connection.execute(query)}


async def count_entities(engine: AsyncEngine, selection: Selection) -> int:
    """This will count the selected entities."""
    async with engine.connect() as connection:
        found = await connection.execute(selection.apply(select(func.count()).select_from(entity)))
        return int(found.scalar_one())


async def latest(
    engine: AsyncEngine, dictionaries: Dictionaries, table: str, selection: Selection, limit: int
) -> list[tuple[Entity, Reading | None]]:
    """This will give the newest reading of each selected entity; None for one that was never sampled."""
    query = _newest(LATEST_TABLES[table], selection).order_by(entity.c.entity_id).limit(limit)
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    return await _with_readings(rows, dictionaries, table)


async def latest_of_each_node(
    engine: AsyncEngine, dictionaries: Dictionaries, table: str, selection: Selection, most_per_node: int
) -> list[tuple[Entity, Reading | None]]:
    """This will give the same, of each node only the `most_per_node` entities that were sampled last.

    A host that has made thousands of interfaces must not push the others out of an answer.
    """
    source = LATEST_TABLES[table]
    newest_first = (source.c.taken_at.desc().nulls_last(), entity.c.entity_id)
    place = func.row_number().over(partition_by=entity.c.node_id, order_by=newest_first).label("place")
    ranked = _newest(source, selection).add_columns(place).subquery()
    query = select(ranked).where(ranked.c.place <= most_per_node).order_by(ranked.c.entity_id)
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    return await _with_readings(rows, dictionaries, table)


def _newest(source: Table, selection: Selection) -> Select[Any]:
    """This will give the query for the selected entities with their rows of a latest table."""
    columns = [c for c in source.c if c.name not in ("node_id", "entity_id")]
    return selection.apply(
        select(entity, node.c.name.label("node_name"), *columns)
        .join(node, node.c.node_id == entity.c.node_id)
        .outerjoin(source, source.c.entity_id == entity.c.entity_id)
    )


async def _with_readings(
    rows: Sequence[Row[Any]], dictionaries: Dictionaries, table: str
) -> list[tuple[Entity, Reading | None]]:
    await dictionaries.load(
        {r.unknown_set_id for r in rows if r.unknown_set_id is not None},
        {r.layout_id for r in rows if r.layout_id is not None} if TABLES[table].histograms else set(),
    )
    maker = ReadingMaker(rows, TABLES[table], dictionaries)
    return [(entities.from_row(row), maker.reading(row) if row.taken_at is not None else None) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One field of one entity over one step. All None when nothing was known in it."""

    entity_id: int
    start: datetime
    samples: int  # rows in the step, known or not
    known: int
    minimum: float | None
    mean: float | None
    maximum: float | None
    p95: float | None
    increase: float | None  # counters: by how much it grew, what stands after a reset included
    rate: float | str | None  # counters: growth per second within its lives, or why that is unknown
    resets: int  # how often a counter fell: a new device, a restart, a wrap
    unknown_set_id: int | None  # of some row in which the field was unknown


# A counter's growth needs the sample before the window; samples are never further apart than this
# without being a gap, and growth over a gap has no moment.
LOOKBACK = timedelta(minutes=5)


async def history(
    engine: AsyncEngine,
    table: str,
    field: FieldSpec,
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
    step: timedelta,
) -> list[Bucket]:
    """This will downsample one scalar field: a bucket for each entity and step that has rows.

    Buckets start at `since` and are ordered by entity and time.
    """
    source = SAMPLE_TABLES[table]
    lookback = LOOKBACK if field.is_counter else timedelta(0)
    rows = increments(
        source,
        field,
        (source.c.entity_id.in_(entity_ids), source.c.taken_at >= since - lookback, source.c.taken_at < until),
    )
    value = rows.c.value
    start = func.date_bin(literal(step), rows.c.taken_at, literal(since)).label("start")
    query = (
        select(
            rows.c.entity_id,
            start,
            func.count().label("samples"),
            func.count(value).label("known"),
            func.min(value).label("minimum"),
            func.avg(value).label("mean"),
            func.max(value).label("maximum"),
            func.percentile_cont(0.95).within_group(value).label("p95"),
            func.sum(rows.c.growth).label("increase"),
            *steady(rows),
            func.max(case((value.is_(None), rows.c.unknown_set_id))).label("unknown_set_id"),
        )
        .where(rows.c.taken_at >= since)
        .group_by(rows.c.entity_id, start)
        .order_by(rows.c.entity_id, start)
    )
    async with engine.connect() as connection:
        found = (await connection.execute(query)).all()
    return [
        Bucket(
            entity_id=row.entity_id,
            start=row.start,
            samples=row.samples,
            known=row.known,
            minimum=_plain(row.minimum),
            mean=_plain(row.mean),
            maximum=_plain(row.maximum),
            p95=_plain(row.p95),
            increase=_plain(row.increase) if field.is_counter else None,
            rate=rate_of(row, "no_sample_before") if field.is_counter else None,
            resets=row.resets if field.is_counter else 0,
            unknown_set_id=row.unknown_set_id,
        )
        for row in found
    ]


async def rates(
    engine: AsyncEngine,
    table: str,
    fields: Sequence[FieldSpec],
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
) -> dict[int, dict[str, float | None]]:
    """This will give the mean growth per second of counters, by entity; None where it is unknown."""
    found = await explained_rates(engine, table, fields, entity_ids, since=since, until=until)
    return {
        entity_id: {name: None if isinstance(rate, str) else rate for name, rate in of_fields.items()}
        for entity_id, of_fields in found.items()
    }


async def explained_rates(
    engine: AsyncEngine,
    table: str,
    fields: Sequence[FieldSpec],
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
) -> dict[int, dict[str, float | str]]:
    """This will give the same, and in place of one that is unknown the reason."""
    if not entity_ids:
        return {}
    source = SAMPLE_TABLES[table]
    out: dict[int, dict[str, float | str]] = {e: {f.name: FEWER_THAN_TWO for f in fields} for e in entity_ids}
    where = (source.c.entity_id.in_(entity_ids), source.c.taken_at >= since, source.c.taken_at <= until)
    async with engine.connect() as connection:
        for field in fields:
            rows = increments(source, field, where)
            query = select(rows.c.entity_id, *steady(rows)).where(rows.c.value.is_not(None)).group_by(rows.c.entity_id)
            for row in await connection.execute(query):
                out[row.entity_id][field.name] = rate_of(row, FEWER_THAN_TWO)
    return out


async def series(
    engine: AsyncEngine,
    table: str,
    names: Sequence[str],
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
    limit: int,
) -> dict[int, list[tuple[Any, ...]]]:
    """This will give raw rows (taken_at, then `names`) by entity, oldest first; at most `limit` in all."""
    source = SAMPLE_TABLES[table]
    query = (
        select(source.c.entity_id, source.c.taken_at, *[source.c[name] for name in names])
        .where(source.c.entity_id.in_(entity_ids), source.c.taken_at >= since, source.c.taken_at <= until)
        .order_by(source.c.entity_id, source.c.taken_at)
        .limit(limit)
    )
    out: dict[int, list[tuple[Any, ...]]] = {entity_id: [] for entity_id in entity_ids}
    async with engine.connect() as connection:
        for row in await connection.execute(query):
            out[row.entity_id].append(tuple(row[1:]))
    return out
