"""Whole samples by entity and moment, wherever they lie: for the few of a long window that an answer is made of."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ARRAY, BigInteger, Integer, Row, bindparam, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.storage import moments, stored_samples
from control_plane.storage.packing import store as packing
from control_plane.storage.packing.blocks import HOUR_US
from control_plane.storage.rollups import reading
from control_plane.storage.sample_rows import NO_SET, SampleRows, Stretch
from control_plane.storage.samples import COLUMNS
from control_plane.storage.schema import SAMPLE_TABLES

Key = tuple[int, int]  # an entity and a moment in microseconds since 1970
# An hour of one inference server's rows is a megabyte while it is taken apart.
KEYS_AT_ONCE = 50


async def rows(engine: AsyncEngine, table: str, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """This will give the named samples with all their columns, as a SELECT of them would."""
    wanted = sorted(set(keys))
    async with stored_samples.one_snapshot(engine) as connection:
        found = await _loose(connection, table, wanted)
        left = [key for key in wanted if key not in found]
        by_hour: dict[int, list[Key]] = {}
        for key in left:
            by_hour.setdefault(key[1] // HOUR_US * HOUR_US, []).append(key)
        for hour_us, mine in by_hour.items():
            for begin in range(0, len(mine), KEYS_AT_ONCE):
                found |= await _packed(connection, table, hour_us, mine[begin : begin + KEYS_AT_ONCE])
    return found


async def _loose(connection: AsyncConnection, table: str, wanted: Sequence[Key]) -> dict[Key, Row[Any]]:
    source = SAMPLE_TABLES[table]
    if not wanted:
        return {}
    named = (
        func.unnest(
            bindparam("ids", [entity_id for entity_id, _ in wanted], type_=ARRAY(Integer)),
            bindparam("moments", [at for _, at in wanted], type_=ARRAY(BigInteger)),
        )
        .table_valued("id", "us", name="named")
        .render_derived()
    )
    query = (
        select(source)
        .join(
            named,
            (source.c.entity_id == named.c.id)
            & (
                source.c.taken_at
                == literal_column("timestamptz 'epoch'") + named.c.us * literal_column("interval '1 us'")
            ),
        )
        .where(
            source.c.taken_at >= moments.to_datetime(min(at for _, at in wanted)),
            source.c.taken_at <= moments.to_datetime(max(at for _, at in wanted)),
            source.c.entity_id.in_({entity_id for entity_id, _ in wanted}),
        )
    )
    found = await connection.execute(query)
    return {(row.entity_id, moments.to_us(row.taken_at)): row for row in found}


async def _packed(connection: AsyncConnection, table: str, hour_us: int, wanted: Sequence[Key]) -> dict[Key, Row[Any]]:
    kinds = dict(COLUMNS[table])
    names = [name for name in kinds if name not in ("entity_id", "taken_at", "node_id", "unknown_set_id")]
    numbers = await stored_samples.field_numbers(connection, table)
    stretch = Stretch(
        since_us=hour_us, until_us=hour_us + HOUR_US, entity_ids=sorted({entity_id for entity_id, _ in wanted})
    )
    statement, arguments = packing.query_of(table, names, numbers, stretch)
    found = await reading.rows(connection, statement, arguments)
    out: dict[Key, Row[Any]] = {}
    for part in packing.unpacked(found, table, names, numbers, stretch):
        out.update(_rows_of(part, kinds, set(wanted)))
    return out


def _rows_of(part: SampleRows, kinds: dict[str, str], wanted: set[Key]) -> Iterator[tuple[Key, Any]]:
    """This will make rows of those samples of a part that are wanted."""
    row_of: Any = namedtuple("Sample", list(kinds))  # type: ignore[misc]
    assert part.node_ids is not None
    for place, key in enumerate(zip(part.entity_ids.tolist(), part.taken_at_us.tolist(), strict=True)):
        if key in wanted:
            set_id = int(part.unknown_set_ids[place])
            own = {
                "entity_id": key[0],
                "taken_at": moments.to_datetime(key[1]),
                "node_id": int(part.node_ids[place]),
                "unknown_set_id": None if set_id == NO_SET else set_id,
            }
            yield key, row_of(*[
                own[name] if name in own else _plain(part.columns.get(name), place, kind)
                for name, kind in kinds.items()
            ])  # fmt: skip


def _plain(values: npt.NDArray[np.floating] | None, place: int, kind: str) -> Any:
    """This will give one value as the database would have."""
    if values is None:
        return None
    value = values[place]
    if np.isnan(value).any():
        return None
    match kind:
        case "real":
            return float(str(value))
        case "real[]":
            return [float(str(v)) for v in value]
        case "bigint[]":
            return value.astype(np.int64).tolist()
        case "timestamptz":
            return moments.to_datetime(int(value))
        case "bigint" | "integer" | "smallint":
            return int(value)
        case _:
            return float(value)
