"""The dashboards for Grafana: each query as Grafana would send it, on real data, with the role that it gets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.fakes.clock import FakeClock
from tests.support import scene
from tests.support.grafana import expanded
from tests.support.postgres import PostgresForTests

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
PANELS = [(name, panel) for name, of in DASHBOARDS.items() for panel in of["panels"]]
KINDS = {"timeseries", "stat", "table", "bargauge"}
UNITS = {
    "none", "percentunit", "watt", "celsius", "bytes", "Bps", "s", "h", "reqps", "currencyUSD", "kwatth",
}  # fmt: skip
NOW = FakeClock().now()
CHOSEN = {"node": scene.node_name(0), "gpu": scene.gpu_uuid(0, 0), "server": "http://127.0.0.1:8000"}
# Panels that have nothing to show in the scene: nothing happened in it.
MAY_BE_EMPTY = {("node", "Events"), ("money", "What tokens cost, last day")}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def reader(postgres_server: PostgresForTests) -> Iterator[psycopg.Connection[Any]]:
    """A connection with the role of docs/history.md and nothing else, over the scene."""
    url = postgres_server.migrated()
    scene.fill(url, scene.Scene(gpus=18, ticks=49, old=frozenset({1})), FakeClock())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET ROLE optiinfra_reader")
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET default_transaction_read_only = on")
        yield connection
    postgres_server.drop(url)


def asked(query: str, *, hours: float) -> str:
    """The query over the hours before the scene's end, which is when Postgres believes it is."""
    sql = expanded(query, since=NOW - timedelta(hours=hours), until=NOW, variables=CHOSEN)
    return sql.replace("now()", f"'{NOW.isoformat()}'::timestamptz")


@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=[f"{name}-{panel['id']}" for name, panel in PANELS])
def test_every_query_answers_with_what_its_panel_draws(
    reader: psycopg.Connection[Any], dashboard: str, panel: dict[str, Any]
) -> None:
    rows_of_all = 0
    for target in panel["targets"]:
        for hours in (1, 48):
            found = reader.execute(asked(target["rawSql"], hours=hours).encode())
            names = [column.name for column in found.description or ()]
            rows = found.fetchall()
            rows_of_all += len(rows)
            if target["format"] == "time_series":
                assert names == ["time", "metric", "value"]
                times = [row[0] for row in rows]
                assert times == sorted(times)
                assert all(row[2] is None or isinstance(row[2], float | int) for row in rows)
            elif panel["type"] in ("stat", "bargauge"):
                assert "value" in names
    if (dashboard, panel["title"]) not in MAY_BE_EMPTY:
        assert rows_of_all > 0, panel["title"]


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_what_can_be_chosen_is_there(reader: psycopg.Connection[Any], dashboard: str) -> None:
    names = [variable["name"] for variable in DASHBOARDS[dashboard]["templating"]["list"]]
    used = set(re.findall(r"\$\{(\w+)", json.dumps([p["targets"] for p in DASHBOARDS[dashboard]["panels"]])))
    assert used <= set(names)
    for place, variable in enumerate(DASHBOARDS[dashboard]["templating"]["list"]):
        values = [row[0] for row in reader.execute(asked(variable["query"], hours=1).encode())]
        assert CHOSEN[names[place]] in values


def test_a_name_that_ends_a_quotation_does_no_harm(reader: psycopg.Connection[Any]) -> None:
    (query,) = (p["targets"][0]["rawSql"] for _, p in PANELS if p["title"] == "GPUs now")
    sql = expanded(query, since=NOW, until=NOW, variables={"node": "x'; DROP TABLE node; --"})
    assert reader.execute(sql.encode()).fetchall() == []


def test_the_files_are_as_the_program_writes_them() -> None:
    checked = subprocess.run(
        [sys.executable, GRAFANA / "build.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_panels_are_of_known_kinds_and_lie_beside_each_other(dashboard: str) -> None:
    of = DASHBOARDS[dashboard]
    assert of["uid"] == f"optiinfra-{dashboard}"
    assert len({panel["id"] for panel in of["panels"]}) == len(of["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in of["panels"]:
        assert panel["type"] in KINDS
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["datasource"]["uid"] == "optiinfra"
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
        (nulls,) = (m for m in panel["fieldConfig"]["defaults"]["mappings"] if m["options"]["match"] == "null")
        assert nulls["options"]["result"]["text"] == "unknown"
        assert panel["fieldConfig"]["defaults"].get("custom", {}).get("spanNulls", False) is False


def test_what_is_provisioned_fits_the_dashboards_and_holds_no_secret() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/optiinfra.yaml").read_text())["datasources"]
    assert source["uid"] == "optiinfra"
    assert source["type"] == "grafana-postgresql-datasource"
    assert source["jsonData"]["sslmode"] == "verify-full"
    assert all(value.startswith("$") for value in (*source["secureJsonData"].values(), source["user"], source["url"]))
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/optiinfra.yaml").read_text())["providers"]
    assert provider["allowUiUpdates"] is False
