"""What analysis costs: a thousand GPUs and two hundred engines, a day of history, and how soon answers come.

`python -m benchmarks analysis_speed`. Samples are made in the database: their values say nothing, their number does.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg

from benchmarks.api_latency import _ask, _percentile
from benchmarks.figures import Figure, Result
from benchmarks.processes import ControlPlane, cpu_seconds, descendants, folder
from control_plane.analysis.findings import gpu_use, serving
from control_plane.model.finding import WINDOWS
from control_plane.stages import findings, hosts
from control_plane.stages.analysis import BEGAN, USE, AnalysisJob
from control_plane.stages.forecasts import PLANS, Keeper
from control_plane.storage import findings as kept
from control_plane.storage import migrations, moments, partitions, use
from control_plane.storage.embedded import EmbeddedPostgres
from control_plane.storage.rollups import marks
from control_plane.storage.session import Database

NODES, GPUS_EACH, SERVERS, MODELS = 125, 8, 200, 12
SAMPLING_SECONDS = 5
HOURS = 24
RUNS, SECONDS_PER_RUN, SETTLE_SECONDS = 3, 2.0, 30.0
PATHS = (
    "/analysis/waste", "/analysis/waste?by=node", "/analysis/waste?by=gpu&limit=100", "/analysis/trends?window=24h",
    "/analysis/forecast", "/analysis/opportunities?limit=100", "/analysis/correlation", "/cost/summary",
    "/analysis/report?format=html",
)  # fmt: skip
FLOOR = "/health/live"

FLEET = """
INSERT INTO node (agent_id, name, agent_version, replayed, attributes, first_seen_at, connected_at)
SELECT 'agent-' || n, 'node-' || n, '0.1.0', false, '{}', %(old)s, %(old)s FROM generate_series(1, %(nodes)s) n;
INSERT INTO entity (node_id, kind, key, attributes, first_seen_at, last_seen_at, state_since)
SELECT n, 2, 'GPU-' || n || '-' || g,
  jsonb_build_object('index', g, 'name', 'NVIDIA H200', 'processes', jsonb_build_array(jsonb_build_object('pid', g))),
  %(old)s, %(until)s, %(old)s FROM generate_series(1, %(nodes)s) n, generate_series(0, %(gpus)s - 1) g;
INSERT INTO entity (node_id, kind, key, attributes, first_seen_at, last_seen_at, state_since)
SELECT 1 + s %% %(nodes)s, 6, 'http://127.0.0.1:' || (8000 + s / %(nodes)s),
  jsonb_build_object('engine', 'vllm', 'model', 'model-' || s %% %(models)s || '-8B', 'state', 'up',
                     'pids', jsonb_build_array((s / %(nodes)s) * 4, (s / %(nodes)s) * 4 + 1)),
  %(old)s, %(until)s, %(old)s FROM generate_series(0, %(servers)s - 1) s;
"""
GPU_SAMPLES = """
INSERT INTO gpu_sample (taken_at, node_id, entity_id, gpu_utilization_ratio, memory_controller_utilization_ratio,
  graphics_active_ratio, sm_active_ratio, tensor_active_ratio, fp64_active_ratio, fp32_active_ratio, fp16_active_ratio,
  dram_active_ratio, pcie_transmit_bytes_per_second, pcie_receive_bytes_per_second, nvlink_transmit_bytes_per_second,
  nvlink_receive_bytes_per_second, memory_used_bytes, power_draw_watts, power_draw_mean_watts, power_limit_watts,
  energy_joules_total, clock_event_reasons_bits)
SELECT %(since)s::timestamptz + t * interval '1 second', node_id, entity_id, b, b / 2, b, b * 0.8, b * 0.4, 0, 0, 0,
  b * 0.6, 1e6, 1e7, 1e9, 1e9, 7e10, 100 + b * 500, 100 + b * 500, 700, t * 300.0, CASE WHEN b > 0.9 THEN 4 ELSE 0 END
FROM entity, generate_series(%(step)s::int, %(seconds)s::int, %(step)s::int) t,
  LATERAL (SELECT ((entity_id * 7919 + t / 60 * 104729) %% 100) / 100.0 AS b) v WHERE kind = 2
"""
SERVER_SAMPLES = """
INSERT INTO inference_sample (taken_at, node_id, entity_id, up_flag, counters_since_unix_seconds,
  requests_running_count, requests_waiting_count, kv_cache_usage_ratio, requests_finished_total, prompt_tokens_total,
  generation_tokens_total, ttft_seconds_sum, ttft_seconds_buckets)
SELECT %(since)s::timestamptz + t * interval '1 second', node_id, entity_id, 1, 1.0, entity_id %% 9, 0, 0.3, t * 2,
  t * 900, t * 300, t * 0.2, ARRAY[t, t, 0, 0]::bigint[]
FROM entity, generate_series(%(step)s::int, %(seconds)s::int, %(step)s::int) t WHERE kind = 6
"""


class Cost:
    """CPU time of this process and of Postgres, as the kernel counts it."""

    def __init__(self, postmaster: int) -> None:
        self._postmaster = postmaster

    def of(self, work: Callable[[], object]) -> tuple[float, float]:
        """This will do the work and give both, in seconds. Postgres' processes that ended are in the postmaster's."""
        ours, theirs = self._now()
        work()
        ours_after, theirs_after = self._now()
        return ours_after - ours, theirs_after - theirs

    def _now(self) -> tuple[float, float]:
        times = os.times()
        return times.user + times.system, cpu_seconds({self._postmaster} | descendants(self._postmaster))


def _fill(url: str, until: datetime) -> None:
    since = until - timedelta(hours=1)
    with psycopg.connect(url, autocommit=True) as connection:
        partitions.ensure_days(connection, {(since - timedelta(hours=1)).date(), since.date(), until.date()})
        arguments = {
            "nodes": NODES, "gpus": GPUS_EACH, "servers": SERVERS, "models": MODELS, "until": until,
            "old": until - timedelta(days=30), "since": since, "step": SAMPLING_SECONDS, "seconds": 3660,
        }  # fmt: skip
        for statement in FLEET.split(";\n"):
            if statement.strip():
                connection.execute(statement, arguments)
        connection.execute(GPU_SAMPLES, arguments)
        connection.execute(SERVER_SAMPLES, arguments)
        connection.execute("ANALYZE")
        # The analysis job sums up what rollups have closed; they have nothing to do here.
        for step in (marks.CLOSED, "minute", "hour", "day"):
            marks.advance(connection, step, moments.to_us(until + timedelta(hours=1)))
        for name in (USE, BEGAN):
            use.advance(connection, name, moments.to_us(since))


def _a_day(url: str, until: datetime) -> None:
    """This will lay the hour that was summed up over the whole of a day."""
    with psycopg.connect(url, autocommit=True) as connection:
        for of in ("gpu", "server"):
            for level in ("slot", "hour"):
                table = use.table_name(of, level)  # type: ignore[arg-type]
                names = ", ".join(use.COLUMNS[of])  # type: ignore[index]
                connection.execute(
                    f"INSERT INTO {table} (start, node_id, entity_id, owner_id, {names}) "
                    f"SELECT start - h * interval '1 hour', node_id, entity_id, owner_id, {names} "
                    f"FROM {table}, generate_series(1, {HOURS - 1}) h"
                )
        connection.execute("ANALYZE gpu_use_slot, gpu_use_hour, server_use_slot, server_use_hour")
        connection.execute("UPDATE stage_progress SET until = %s WHERE name = %s", (until - timedelta(days=1), BEGAN))


def _cycle(database: Database, until: datetime) -> dict[str, Callable[[], None]]:
    """This will give the parts of one cycle, each as work."""
    until_us = moments.to_us(until)

    def judge(window: timedelta) -> None:
        read = hosts.load(database, until - window, until)
        with database.connect() as connection:
            findings.find_out(connection, window, until_us=until_us, now=until, hosts=read)
            use.advance(connection, kept.step_of(window), until_us)

    def forecast() -> None:
        with database.connect(autocommit=True) as connection:
            for plan in PLANS:
                keeper, more = Keeper(plan), True
                while more:
                    found, more = keeper.step(connection, until_us)
                with connection.transaction():
                    kept.replace(
                        connection, f"forecast_{plan.name}", 0, found or [], since=until, until=until, found_at=until
                    )

    names = ("an hour", "a day", "a week", "a month")
    parts: dict[str, Callable[[], None]] = {
        f"findings of {name}": partial(judge, window) for name, window in zip(names, WINDOWS, strict=True)
    }
    return parts | {"forecasts, from nothing": forecast}


def _answers(path: Path, quick: bool) -> tuple[list[Figure], list[str]]:
    figures = []
    server = ControlPlane(path, "--no-local-agent").start()
    try:
        server.wait_until_ready()
        time.sleep(1.0 if quick else SETTLE_SECONDS)  # its forecasters are told the day anew
        for asked in (FLOOR, *PATHS):
            seconds, times = (0.3, 1) if quick else (SECONDS_PER_RUN, RUNS)
            runs = [asyncio.run(_ask(server.port, asked, 1, seconds)) for _ in range(times)]
            for percent in (50, 95):
                floor = None if asked == FLOOR else f"floor: GET {FLOOR}, p{percent}"
                name = f"GET {asked}, p{percent}" if floor else f"floor: GET {FLOOR}, p{percent}"
                figures.append(
                    Figure(name=name, unit="ms", values=[_percentile(r, percent) for r in runs], floor=floor)
                )
        sizes = [f"{asked}: {len(json.dumps(server.get(asked))) // 1024} KiB" for asked in PATHS if "html" not in asked]
    finally:
        server.stop()
    return figures, sizes


def measure(*, quick: bool) -> Result:
    """This will sum an hour of samples up, judge a day, and ask for what was found."""
    now = datetime.now(UTC)
    until = now.replace(minute=0, second=0, microsecond=0)
    figures = []
    with folder() as path:
        postgres = EmbeddedPostgres(path / "postgres")
        postgres.start()
        try:
            migrations.upgrade(postgres.url)
            _fill(postgres.url, until)
            database = Database(postgres.url)
            assert postgres.pid is not None
            cost = Cost(postgres.pid)
            job = AnalysisJob(
                database, holder="benchmark", now=lambda: until + timedelta(minutes=2), hours_kept=timedelta(days=400)
            )

            def sum_up() -> None:
                with database.connect(autocommit=True) as connection:
                    while use.progress(connection)[USE] < moments.to_us(until):
                        job.work()

            ours, theirs = cost.of(sum_up)
            job.close()
            figures += [
                Figure(name="an hour of samples summed up: CPU of the control plane", unit="s", values=[ours]),
                Figure(name="an hour of samples summed up: CPU of Postgres", unit="s", values=[theirs]),
                Figure(name="a day of samples, as they come: CPU of both", unit="s", values=[24 * (ours + theirs)]),
            ]
            _a_day(postgres.url, until)
            total: list[list[float]] = []
            parts = _cycle(database, until)
            by_part: dict[str, list[float]] = {name: [] for name in parts}
            for _ in range(1 if quick else RUNS):
                spent = {name: sum(cost.of(work)) for name, work in parts.items()}
                total.append(list(spent.values()))
                for name, seconds in spent.items():
                    by_part[name].append(seconds)
            figures.append(
                Figure(name="one cycle over a day: CPU of both", unit="s", values=[sum(run) for run in total])
            )
            figures += [Figure(name=f"of that, {name}", unit="s", values=values) for name, values in by_part.items()]
            asyncio.run(database.close())
        finally:
            postgres.stop()
        answered, sizes = _answers(path, quick)
    kinds = f"{gpu_use.KIND}, {serving.KIND}, hosts, trends, correlation, opportunities, the timeline"
    return Result(
        name="analysis_speed",
        title="Analysis",
        explanation=(
            f"{NODES * GPUS_EACH:,} GPUs on {NODES} nodes, {SERVERS} inference servers of {MODELS} models, sampled "
            f"every {SAMPLING_SECONDS} s. Summing up looks at every sample once, five minutes at a time: here at "
            f"{3600 // 5 * NODES * GPUS_EACH:,} of GPUs. A cycle judges what was summed up ({kinds}) of all windows, "
            "and tells the forecasters a day from nothing, as after a restart. Answers are asked for over one kept "
            "connection; the floor is the way through HTTP."
        ),
        figures=[*figures, *answered],
        notes=[f"Answers: {', '.join(sizes)}.", "CPU is that of this process and of all of Postgres' together."],
    )
