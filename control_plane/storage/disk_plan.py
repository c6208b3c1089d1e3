"""How much disk a fleet's history takes, from the sizes of rows that were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Bytes on disk, indexes and all: of a row, loose and packed; of a thing's rollups of a day."""

    loose: float
    packed: float
    minutes: float
    hours: float


# Measured by `python -m benchmarks stored_history`, which compares what is planned with what it finds: rows with every
# field known, of a busy host with 64 cores and engines with ten histograms of 20 buckets. Rollups of nodes and of the
# fleet are shared out among their GPUs.
MEASURED: Mapping[str, Sizes] = {
    "gpu": Sizes(loose=254, packed=60, minutes=1_475_000, hours=88_700),
    "gpu_health": Sizes(loose=617, packed=18, minutes=214_000, hours=13_000),
    "gpu_process": Sizes(loose=108, packed=3.3, minutes=90_600, hours=4_300),
    "gpu_instance": Sizes(loose=167, packed=38, minutes=635_000, hours=42_900),
    "host": Sizes(loose=619, packed=288, minutes=1_238_000, hours=58_300),
    "agent": Sizes(loose=167, packed=25, minutes=727_000, hours=30_900),
    "disk": Sizes(loose=126, packed=16, minutes=155_500, hours=5_100),
    "filesystem": Sizes(loose=126, packed=5.2, minutes=103_000, hours=4_100),
    "network": Sizes(loose=167, packed=18, minutes=199_000, hours=8_900),
    "infiniband": Sizes(loose=215, packed=29, minutes=586_000, hours=19_100),
    "inference": Sizes(loose=2_082, packed=330, minutes=2_263_000, hours=81_100),
    "server_cgroup": Sizes(loose=207, packed=23, minutes=310_000, hours=11_100),
    "lmcache": Sizes(loose=1_204, packed=124, minutes=1_650_000, hours=51_200),
}
# What has not been measured takes about as much by each number that it holds.
BYTES_PER_FIELD = Sizes(loose=8.0, packed=1.2, minutes=40_000, hours=2_500)
EVENT_BYTES = 300.0
# The log that recovery needs, at most (max_wal_size of the embedded server), and what an empty database is.
FIXED_BYTES = 2.1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How many days of what are kept."""

    samples: int
    packed_after: int
    minutes: int
    hours: int

    @property
    def loose(self) -> int:
        """This will give the days of loose rows: today, those that wait, and the one that is being packed."""
        return min(self.samples + 1, self.packed_after + 2)

    @property
    def packed(self) -> int:
        """This will give the days of packed ones. One more than asked for is kept, since whole days go."""
        return max(0, self.samples + 1 - self.loose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What there is to be sampled, and how often."""

    gpus: int
    gpus_per_node: int = 8
    engines_per_node: float = 2
    disks_per_node: float = 4
    filesystems_per_node: float = 4
    links_per_node: float = 4
    infiniband_ports_per_node: float = 0
    processes_per_gpu: float = 1
    instances_per_gpu: float = 0
    caches_per_node: float = 0
    events_per_node: float = 20
    interval_seconds: float = 5

    @property
    def nodes(self) -> int:
        """This will give the number of nodes."""
        return -(-self.gpus // self.gpus_per_node)

    def things(self, table: str) -> float:
        """This will say how many things of the whole fleet a table has rows of."""
        per_node = {
            "node": 1.0, "disk": self.disks_per_node, "filesystem": self.filesystems_per_node,
            "network_interface": self.links_per_node, "infiniband_port": self.infiniband_ports_per_node,
            "inference_server": self.engines_per_node, "cache_server": self.caches_per_node,
        }  # fmt: skip
        per_gpu = {"gpu": 1.0, "gpu_process": self.processes_per_gpu, "gpu_instance": self.instances_per_gpu}
        entity = TABLES[table].entity
        return self.gpus * per_gpu[entity] if entity in per_gpu else self.nodes * per_node[entity]

    def seconds_between(self, table: str) -> float:
        """This will say how often a table gets a row of each of its things: what changes slowly is read every 10 s."""
        return max(self.interval_seconds, 10.0) if table in ("gpu_health", "gpu_process") else self.interval_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one table takes: bytes of a day of each kind, and all that is kept of it."""

    table: str
    rows: float
    loose: float
    packed: float
    minutes: float
    hours: float
    kept: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """What a fleet takes when all that is to be kept is there."""

    lines: tuple[Line, ...]
    total: float

    @property
    def bytes_per_day(self) -> float:
        """This will give what is written in a day: loose rows, and rollups."""
        return sum(line.loose + line.minutes + line.hours for line in self.lines)


def plan(fleet: Fleet, kept: Kept, sizes: Mapping[str, Sizes] = MEASURED) -> DiskPlan:
    """This will add up what a fleet takes."""
    lines = [*_tables(fleet, kept, sizes), _events(fleet, kept)]
    return DiskPlan(lines=tuple(lines), total=FIXED_BYTES + sum(line.kept for line in lines))


def size_of(table: str, sizes: Mapping[str, Sizes]) -> Sizes:
    """This will give a table's sizes; by its fields, where nobody has measured it."""
    count = len(TABLES[table].fields)
    by_fields = Sizes(
        loose=32 + BYTES_PER_FIELD.loose * count, packed=BYTES_PER_FIELD.packed * count,
        minutes=BYTES_PER_FIELD.minutes * count, hours=BYTES_PER_FIELD.hours * count,
    )  # fmt: skip
    return sizes.get(table, by_fields)


def _tables(fleet: Fleet, kept: Kept, sizes: Mapping[str, Sizes]) -> Iterator[Line]:
    for table in TABLES:
        size, things = size_of(table, sizes), fleet.things(table)
        if not things:
            continue
        rows = things * SECONDS_PER_DAY / fleet.seconds_between(table)
        loose, packed = rows * size.loose, rows * size.packed
        minutes, hours = things * size.minutes, things * size.hours
        yield Line(
            table=table, rows=rows, loose=loose, packed=packed, minutes=minutes, hours=hours,
            kept=kept.loose * loose + kept.packed * packed + kept.minutes * minutes + kept.hours * hours,
        )  # fmt: skip


def _events(fleet: Fleet, kept: Kept) -> Line:
    rows = fleet.nodes * fleet.events_per_node
    size = rows * EVENT_BYTES
    return Line(
        table="event", rows=rows, loose=size, packed=size, minutes=0, hours=0, kept=size * (kept.samples + 1)
    )  # fmt: skip


def measured(connection: SyncConnection) -> dict[str, Sizes]:
    """This will measure the tables of a database that has samples: of what it has none it says nothing.

    Rows are counted as ANALYZE left them.
    """
    out = {}
    for table in TABLES:
        loose_bytes, rows = _partitions(connection, f"{table}_sample")
        if rows < 10_000:  # fewer say more of pages than of rows
            continue
        packed_bytes, packed_rows = _packed(connection, table)
        known = size_of(table, MEASURED)
        minutes, hours = (_rolled(connection, level, table) for level in ("rollup_minute", "rollup_hour"))
        out[table] = Sizes(
            loose=loose_bytes / rows,
            packed=packed_bytes / packed_rows if packed_rows else known.packed,
            minutes=minutes or known.minutes,
            hours=hours or known.hours,
        )
    return out


def _partitions(connection: SyncConnection, parent: str) -> tuple[float, float]:
    row = connection.execute(
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::float8, coalesce(sum(greatest(c.reltuples, 0)), 0) "
        "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass",
        (parent,),
    ).fetchone()
    return (float(row[0]), float(row[1])) if row else (0.0, 0.0)


def _packed(connection: SyncConnection, table: str) -> tuple[float, float]:
    """This will give the bytes of a table's packed columns, and how many samples they are of."""
    whole, _ = _partitions(connection, "packed_sample")
    row = connection.execute(
        "SELECT coalesce(sum(pg_column_size(p.*)) FILTER (WHERE f.table_name = %(table)s), 0)::float8, "
        "coalesce(sum(pg_column_size(p.*)), 1)::float8, "
        "coalesce(sum(p.samples * cardinality(p.entity_ids)) FILTER "
        "(WHERE f.table_name = %(table)s AND f.name = 'taken_at'), 0)::float8 "
        "FROM packed_sample p JOIN metric_field f USING (field_id)",
        {"table": table},
    ).fetchone()
    assert row is not None
    return whole * row[0] / max(row[1], 1.0), float(row[2])


def packed_row(connection: SyncConnection, table: str) -> float:
    """This will measure a packed row of a table; 0 where there is none."""
    size, rows = _packed(connection, table)
    return size / rows if rows else 0.0


def _rolled(connection: SyncConnection, level: str, table: str) -> float:
    """This will give the bytes of a thing's rollups of a day, those of nodes and the fleet shared out."""
    whole, _ = _partitions(connection, level)
    unit = 1_440.0 if level == "rollup_minute" else 24.0
    row = connection.execute(
        f"SELECT coalesce(sum(pg_column_size(b.*)) FILTER (WHERE split_part(f.table_name, '@', 1) = %s), 0)::float8, "  # noqa: S608
        f"coalesce(sum(pg_column_size(b.*)), 1)::float8 FROM {level} b JOIN metric_field f USING (field_id)",
        (table,),
    ).fetchone()
    assert row is not None
    cells = connection.execute(
        "SELECT coalesce(max(cells), 0)::float8 FROM ("  # noqa: S608
        f"SELECT sum(cardinality(entity_ids) * units) AS cells FROM {level} "
        "JOIN metric_field f USING (field_id) WHERE f.table_name = %s GROUP BY field_id) by_field",
        (table,),
    ).fetchone()
    days = float(cells[0]) / unit if cells else 0.0
    return whole * row[0] / max(row[1], 1.0) / days if days else 0.0
