"""History as it lies on disk and as it is asked for: bytes of a value, loose and packed, and answers over weeks."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import psycopg

from benchmarks.figures import Figure, Result, Table
from benchmarks.history import Ticks, block_of, in_time_order
from benchmarks.processes import ControlPlane, cpu_seconds, folder, until_quiet
from benchmarks.stored_fleet import FIELDS, GPUS_PER_NODE, Past, fill, node_of, of_now
from control_plane.model.sample import KNOWN, SampleBlock
from control_plane.runtime.jobs import Report
from control_plane.storage import disk_plan, moments, partitions, stored_samples
from control_plane.storage import migrations as schema
from control_plane.storage.disk_plan import Sizes
from control_plane.storage.embedded import EmbeddedPostgres
from control_plane.storage.packing.job import PackingJob
from control_plane.storage.rollups.job import RollupJob
from control_plane.storage.samples import SampleWriter
from control_plane.storage.session import Database, SyncConnection
from optiinfra.catalogue import TABLES

CLIENTS = 10
RUNS, SECONDS_PER_RUN = 3, 10.0
# The past that is asked about, and one for a quick look.
FULL, QUICK = (125, 30), (5, 2)
# What lies on disk is weighed on fewer nodes: bytes of a value do not depend on their number.
WEIGHED_NODES, WEIGHED_HOURS = 4, 24
FLOOR = "floor: /health/live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of thing on a node: how many, and how often it is sampled."""

    table: str
    kind: int
    per_node: int
    seconds: int


# A GPU host with two engines: docs/gpu.md says how often what is read. What a node has of each is `disk_plan.Fleet`'s.
KINDS = (
    Kind(table="gpu", kind=2, per_node=8, seconds=5),
    Kind(table="gpu_health", kind=2, per_node=8, seconds=10),
    Kind(table="gpu_process", kind=11, per_node=8, seconds=10),
    Kind(table="gpu_instance", kind=7, per_node=2, seconds=5),
    Kind(table="host", kind=1, per_node=1, seconds=5),
    Kind(table="agent", kind=1, per_node=1, seconds=5),
    Kind(table="disk", kind=3, per_node=2, seconds=5),
    Kind(table="filesystem", kind=4, per_node=2, seconds=5),
    Kind(table="network", kind=5, per_node=3, seconds=5),
    Kind(table="infiniband", kind=8, per_node=1, seconds=5),
    Kind(table="inference", kind=6, per_node=2, seconds=5),
    Kind(table="server_cgroup", kind=6, per_node=2, seconds=5),
    Kind(table="lmcache", kind=9, per_node=1, seconds=5),
)


def _values(block: SampleBlock) -> int:
    """This will count the numbers that a block says: those of arrays and buckets each."""
    known = (block.codes == KNOWN).sum(axis=0)
    count = 0
    for index, field in enumerate(block.table.fields):
        if field.type == "histogram":
            count += int(known[index]) * (block.histograms[field.name].counts.shape[1] + 1)
        else:
            column = block.columns[field.name]
            count += int(known[index]) * (column.shape[1] if column.ndim > 1 else 1)
    return count


def _entities(connection: SyncConnection) -> list[tuple[Kind, int, int]]:
    """This will introduce the nodes and what is on them: kind, node, entity."""
    out, number, made = [], 0, {}
    for node in range(1, WEIGHED_NODES + 1):
        connection.execute(
            "INSERT INTO node (node_id, agent_id, name, agent_version, replayed, attributes, first_seen_at, "
            "connected_at) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, '0', false, '{}', now(), now())",
            (node, f"agent-{node}", f"node-{node}"),
        )
        for kind in KINDS:
            for place in range(kind.per_node):
                known = (node, kind.kind, place)
                if known not in made:
                    number += 1
                    made[known] = number
                    connection.execute(
                        "INSERT INTO entity (entity_id, node_id, kind, key, attributes, first_seen_at, last_seen_at, "
                        "state_since) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, '{}', now(), now(), now())",
                        (number, node, kind.kind, f"thing-{number}"),
                    )
                out.append((kind, node, made[known]))
    return out


def _store(database: Database, hours: int, begin: datetime) -> dict[str, tuple[int, int]]:
    """This will store some hours of a few nodes, and count rows and values by table."""
    counted: dict[str, tuple[int, int]] = {}
    with database.connect(autocommit=True) as connection:
        entities = _entities(connection)
        partitions.ensure_days(connection, [begin.date()])
    writer = SampleWriter()
    for hour in range(hours):
        start_us = moments.to_us(begin + timedelta(hours=hour))
        for kind in KINDS:
            ticks = Ticks(start_us=start_us, count=3600 // kind.seconds, interval_us=kind.seconds * 1_000_000)
            mine = [(node, entity) for each, node, entity in entities if each == kind]
            blocks = [block_of(TABLES[kind.table], node=node, entity=entity, ticks=ticks) for node, entity in mine]
            rows, values = counted.get(kind.table, (0, 0))
            counted[kind.table] = (rows + sum(map(len, blocks)), values + sum(map(_values, blocks)))
            with database.connect() as connection:
                for block in in_time_order(blocks, 60_000_000):
                    writer.write(connection, [block])
            writer.committed()
    return counted


def _bytes(connection: SyncConnection, parents: Sequence[str]) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits "
        "WHERE inhparent = ANY(%s::regclass[])",
        (list(parents),),
    ).fetchone()
    return int(row[0]) if row else 0


async def _read_ms(database: Database, begin: datetime, hours: int, runs: int) -> list[float]:
    """This will read a field of one GPU as the history endpoint does, and give the times in ms."""
    field, took = TABLES["gpu"].field("power_draw_watts"), []
    for run in range(runs):
        started = time.perf_counter()
        found = await stored_samples.history(
            database.engine, "gpu", field, [1 + run % GPUS_PER_NODE],
            since=begin, until=begin + timedelta(hours=hours), step=timedelta(minutes=5),
        )  # fmt: skip
        took.append((time.perf_counter() - started) * 1000)
        assert len(found) == hours * 12
    await database.engine.dispose()
    return took


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What a day of a few nodes was found to take, and to cost."""

    rows: int
    values: int
    loose: int
    packed: int
    sizes: Mapping[str, Sizes]
    rolling_seconds: float
    packing_seconds: float
    loose_ms: Sequence[float]
    packed_ms: Sequence[float]


def _weigh(postgres: EmbeddedPostgres, hours: int, runs: int) -> Weighed:
    """This will store a day, roll it up, read it, pack it, and read it again."""
    schema.upgrade(postgres.url)
    begin = datetime(2026, 3, 4, tzinfo=UTC)
    database, now = Database(postgres.url), begin + timedelta(days=3)
    counted = _store(database, hours, begin)
    rollups = RollupJob(database, holder="benchmark", now=lambda: now)
    packing = PackingJob(database, holder="benchmark", now=lambda: now, after=timedelta(days=1))
    with database.connect(autocommit=True) as connection:
        rolling_seconds = 0.0
        while _timed(rollups.work, took := []).more:
            rolling_seconds += took[0]
            connection.execute("VACUUM rollup_minute, rollup_hour")  # as autovacuum does between one hour and the next
        rollups.close()
        # A month's partition uses the space again that a day's rows left; that of one day has had no time for it.
        connection.execute("VACUUM FULL rollup_hour")
        connection.execute("ANALYZE")
        sizes = disk_plan.measured(connection)
        loose_ms = asyncio.run(_read_ms(database, begin, hours, runs))
        loose = _bytes(connection, [f"{kind.table}_sample" for kind in KINDS])
        packing_seconds = 0.0
        while _timed(packing.work, took := []).more:
            packing_seconds += took[0]
        packing.close()
        packed_ms = asyncio.run(_read_ms(database, begin, hours, runs))
        packed = _bytes(connection, ["packed_sample"])
        sizes = {table: replace(size, packed=disk_plan.packed_row(connection, table)) for table, size in sizes.items()}
    rows, values = (sum(each) for each in zip(*counted.values(), strict=True))
    return Weighed(
        rows=rows, values=values, loose=loose, packed=packed, sizes=sizes, rolling_seconds=rolling_seconds,
        packing_seconds=packing_seconds, loose_ms=loose_ms, packed_ms=packed_ms,
    )  # fmt: skip


def _timed(work: Callable[[], Report], took: list[float]) -> Report:
    """This will do one piece, and note the CPU that it cost here."""
    before = time.process_time()
    report = work()
    took.append(time.process_time() - before)
    return report


def _on_disk(*, quick: bool) -> tuple[list[Figure], list[str], Table]:
    """This will weigh a day, and compare it with what is planned for it."""
    hours = 2 if quick else WEIGHED_HOURS
    with folder() as path:
        postgres = EmbeddedPostgres(path / "postgres")
        postgres.start()
        try:
            found = _weigh(postgres, hours, runs=5 if quick else 40)
        finally:
            postgres.stop()
    million = found.rows / 1e6
    figures = [
        Figure(name="bytes of a value, loose", unit="bytes", values=[found.loose / found.values]),
        Figure(name="bytes of a value, packed", unit="bytes", values=[found.packed / found.values]),
        Figure(name=READ.format("loose"), unit="ms", values=found.loose_ms),
        Figure(name=READ.format("packed"), unit="ms", values=found.packed_ms, floor=READ.format("loose")),
        Figure(name="CPU of packing", unit="s per 1,000,000 rows", values=[found.packing_seconds / million]),
        Figure(
            name="CPU of rolling up, hours at a time", unit="s per 1,000,000 rows",
            values=[found.rolling_seconds / million],
        ),
    ]  # fmt: skip
    rows = [_line(table, found.sizes[table]) for table in (kind.table for kind in KINDS) if table in found.sizes]
    notes = [
        f"On disk: {WEIGHED_NODES} nodes of {GPUS_PER_NODE} GPUs, {hours} h, {found.rows:,} rows with {found.values:,} "
        "values. CPU is that of the process of the jobs. In the table: bytes, indexes and all, of a row and "
        "of a thing's rollups of a day; beside them what `optiinfra storage plan` takes for it, as a multiple."
    ]
    head = ("table", "row, loose", "×", "row, packed", "×", "minutes of a day", "×", "hours of a day", "×")
    return figures, notes, Table(head=head, rows=rows)


READ = "one field of one GPU over the day, {}"


def _line(table: str, found: Sizes) -> list[str]:
    planned = disk_plan.size_of(table, disk_plan.MEASURED)
    cells = [table]
    for name in ("loose", "packed", "minutes", "hours"):
        size = getattr(found, name)
        cells += [f"{size:,.0f}", f"{getattr(planned, name) / size:.2f}" if size else ""]
    return cells


def _questions(past: Past, chance: random.Random) -> dict[str, Callable[[], str]]:
    """This will give what the users ask: each time about another GPU or field."""

    def history(**asked: str) -> str:
        return "/gpu/metrics/history?" + urlencode({"field": chance.choice(FIELDS), **asked})

    return {
        "the fleet now": lambda: "/gpu/metrics",
        "24 h of one GPU": lambda: history(gpu=f"GPU-{chance.choice(past.gpus):06d}", since="24h"),
        "p95 of each node over 6 h": lambda: history(by="node", since="6h", step="6h"),
        "6 h of each node, every 15 min": lambda: history(by="node", since="6h", step="15m"),
        f"{past.days}-day trend of the fleet": lambda: history(by="fleet", since=f"{past.days}d", step="1h"),
        f"{past.days}-day trend of one node": lambda: history(
            by="node", node=f"node-{node_of(chance.choice(past.gpus)):04d}", since=f"{past.days}d", step="1h"
        ),
        FLOOR: lambda: "/health/live",
    }


def _panels(past: Past, chance: random.Random) -> dict[str, Callable[[], str]]:
    """This will give what panels of Grafana ask in SQL, of the views and functions that docs/history.md promises."""

    def rollups(function: str, since: str, more: str = "'gpu'") -> str:
        field = chance.choice([name for name in FIELDS if not name.endswith("_total")])
        return f"{function}('{field}', now() - interval '{since}', now(), {more})"

    return {
        "SQL: the fleet now": lambda: "SELECT node, gpu, power_draw_watts FROM optiinfra_gpu_latest",
        "SQL: 24 h of one GPU, minutes": lambda: (
            "SELECT start AS time, mean FROM "
            + rollups("optiinfra_minutes", "24h", f"'gpu', ARRAY[{chance.choice(past.gpus)}]")
        ),
        "SQL: p95 of each node, 6 h of minutes": lambda: (
            "SELECT start AS time, node, p95 FROM " + rollups("optiinfra_minutes", "6h", "'gpu@node'")
        ),
        f"SQL: {past.days}-day trend of the fleet, hours": lambda: (
            "SELECT start AS time, mean, p95 FROM " + rollups("optiinfra_hours", f"{past.days}d", "'gpu@fleet'")
        ),
    }


async def _viewer(url: str, question: Callable[[], str], until: float, took: list[float]) -> None:
    """This will ask in SQL, as the role that reads, again as soon as there is an answer."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SET ROLE optiinfra_reader")
        while time.perf_counter() < until or not took:
            started = time.perf_counter()
            cursor = await connection.execute(question().encode())
            await cursor.fetchall()
            took.append((time.perf_counter() - started) * 1000)


async def _view(url: str, question: Callable[[], str], seconds: float) -> list[float]:
    took: list[float] = []
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(_viewer(url, question, until, took))
    return took


async def _user(port: int, question: Callable[[], str], until: float, took: list[float], sizes: list[int]) -> None:
    """This will ask again as soon as there is an answer, and note each answer's time in ms."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    while time.perf_counter() < until or not took:
        started = time.perf_counter()
        writer.write(f"GET {question()} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0]))
        assert head.startswith(b"HTTP/1.1 200"), body
        took.append((time.perf_counter() - started) * 1000)
        sizes.append(len(body))
    writer.close()


async def _ask(port: int, question: Callable[[], str], seconds: float) -> tuple[list[float], int]:
    took: list[float] = []
    sizes: list[int] = []
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(_user(port, question, until, took, sizes))
    return took, round(statistics.mean(sizes))


def _queries(*, quick: bool) -> tuple[list[Figure], list[str]]:
    """This will fill a database with weeks of a fleet and let ten users ask about it."""
    nodes, days = QUICK if quick else FULL
    runs, seconds = (1, 1.0) if quick else (RUNS, SECONDS_PER_RUN)
    chance = random.Random(7)
    with folder() as path:
        past = Past(nodes=nodes, days=days, now=of_now())
        _fill(path / "data", past)
        server = ControlPlane(path / "data", "--no-local-agent").start()
        try:
            server.wait_until_ready()
            # The jobs come to where the samples end: weeks of analysis, for once.
            until_quiet(lambda: {server.pid} | server.postgres_pids, at_most_seconds=10 if quick else 900)
            questions, panels = _questions(past, chance), _panels(past, chance)
            times: dict[str, list[list[float]]] = {name: [] for name in (*questions, *panels)}
            cost: dict[str, list[float]] = {name: [] for name in times}
            sizes = {}
            for _ in range(runs):
                for name, question in questions.items():  # in turns, so that noise meets all
                    pids = {server.pid} | server.postgres_pids
                    before = cpu_seconds(pids)
                    took, sizes[name] = asyncio.run(_ask(server.port, question, seconds))
                    times[name].append(took)
                    cost[name].append((cpu_seconds(pids) - before) / len(took) * 1000)
                for name, panel in panels.items():
                    before = cpu_seconds(server.postgres_pids)
                    took = asyncio.run(_view(server.database_url, panel, seconds))
                    times[name].append(took)
                    cost[name].append((cpu_seconds(server.postgres_pids) - before) / len(took) * 1000)
        finally:
            server.stop()
    figures = []
    for name in times:
        figures += [
            Figure(
                name=f"{name}, p{percent}", unit="ms", values=[_percentile(each, percent) for each in times[name]],
                floor=None if name == FLOOR or name in panels else f"{FLOOR}, p{percent}",
            )
            for percent in (50, 95)
        ]  # fmt: skip
        figures.append(Figure(name=f"{name}, CPU of one answer", unit="ms", values=cost[name]))
    notes = [
        f"Asked about: {nodes * GPUS_PER_NODE:,} GPUs on {nodes} nodes, {days} days; six fields, since those of others "
        "lie in rows of their own. Mean size of an answer: "
        + ", ".join(f"{name} {size / 1024:,.0f} KiB" for name, size in sizes.items() if name != FLOOR)
        + "."
    ]
    return figures, notes


def _fill(data: Path, past: Past) -> None:
    data.mkdir(mode=0o755)
    postgres = EmbeddedPostgres(data / "postgres")
    postgres.start()
    try:
        fill(Database(postgres.url), past)
    finally:
        postgres.stop()


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def measure(*, quick: bool) -> Result:
    """This will weigh a day of a few nodes, then ask about weeks of many."""
    on_disk, weighed, by_table = _on_disk(quick=quick)
    answers, asked = _queries(quick=quick)
    return Result(
        name="stored_history",
        title="Stored history",
        explanation=(
            "On disk: what a value takes with indexes and all, in loose rows and packed, and how long the history of "
            "one field of one GPU over the day takes to read, in points of five minutes. Then weeks of a fleet, put "
            f"into the database as the jobs would have left them, and {CLIENTS} users who each ask again as soon as "
            "they have their answer, every time about another GPU or field; then as many who ask in SQL what panels of "
            "Grafana do, each with a connection. CPU is that of the control plane and "
            "Postgres together. The floor is `GET /health/live`, asked by as many users."
        ),
        figures=[*on_disk, *answers],
        notes=[*weighed, *asked],
        tables=[by_table],
    )
