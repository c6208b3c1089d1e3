"""How long each query of the Grafana dashboards takes over weeks of a fleet, with the role that Grafana gets."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.figures import Figure, Result, Table
from benchmarks.processes import folder
from benchmarks.stored_fleet import Past, fill, of_now
from control_plane.storage.embedded import EmbeddedPostgres
from control_plane.storage.session import Database
from tests.support.grafana import expanded

DASHBOARDS = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards"
FULL, QUICK = (125, 30), (5, 2)
RUNS = 5
WINDOWS = {"6 h": 6.0, "24 h": 24.0, "the whole past": 0.0}
FLOOR = "floor: SELECT 1"
EXPLANATION = (
    "Every query of every panel of `deploy/grafana`, expanded as Grafana expands it, run as `optiinfra_reader` on a "
    "past of {nodes} nodes of eight GPUs over {days} days of rollups, over windows of 6 h, 24 h and all of it. In the "
    "table the slowest of each dashboard; the figures are of all its queries. The floor is `SELECT 1` over the same "
    "connection."
)


def _ms(connection: psycopg.Connection[Any], sql: str) -> float:
    started = time.perf_counter()
    connection.execute(sql.encode()).fetchall()
    return (time.perf_counter() - started) * 1000


def _queries(dashboard: Path, now: datetime, hours: float) -> list[tuple[str, str]]:
    """This will give the title of each panel with each of its queries as it is sent."""
    chosen = {"node": "node-0001", "gpu": "GPU-000001", "server": "http://127.0.0.1:8000"}
    return [
        (panel["title"], expanded(target["rawSql"], since=now - timedelta(hours=hours), until=now, variables=chosen))
        for panel in json.loads(dashboard.read_text())["panels"]
        for target in panel["targets"]
    ]


def measure(*, quick: bool = False) -> Result:
    """This will measure."""
    nodes, days = QUICK if quick else FULL
    runs = 1 if quick else RUNS
    figures, rows, floor = [], [], []
    with folder() as path:
        postgres = EmbeddedPostgres(path / "postgres")
        postgres.start()
        try:
            past = Past(nodes=nodes, days=days, now=of_now())
            fill(Database(postgres.url), past)
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                connection.execute("SET ROLE optiinfra_reader")
                floor = [_ms(connection, "SELECT 1") for _ in range(20)]
                for dashboard in sorted(DASHBOARDS.glob("*.json")):
                    took: list[float] = []
                    slowest = ("", "", 0.0)
                    for name, hours in WINDOWS.items():
                        for title, sql in _queries(dashboard, past.now, hours or days * 24.0):
                            times = sorted(_ms(connection, sql) for _ in range(runs))
                            took += times
                            slowest = max(slowest, (title, name, times[len(times) // 2]), key=lambda each: each[2])
                    figures.append(Figure(name=f"{dashboard.stem}, all queries", unit="ms", values=took, floor=FLOOR))
                    rows.append((dashboard.stem, slowest[0], slowest[1], f"{slowest[2]:.3g}"))
        finally:
            postgres.stop()
    figures.append(Figure(name=FLOOR, unit="ms", values=floor))
    return Result(
        name="grafana_panels", title="Grafana's queries", explanation=EXPLANATION.format(nodes=nodes, days=days),
        figures=figures, tables=[Table(head=("dashboard", "slowest panel", "window", "ms"), rows=rows)],
        notes=["This past has GPUs and their histories; queries about servers, objectives and money find few rows."],
    )  # fmt: skip
