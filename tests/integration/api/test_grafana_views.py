"""The views that Grafana reads: each answers, and says what the API says."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import psycopg
import pytest

from tests.support.fleet import GPU_0
from tests.support.rest import Api

HISTORY = Path(__file__).parents[3] / "docs" / "history.md"
# As the page for readers lists them: name, what, columns.
CONTRACT = {
    name: columns.split(", ")
    for name, columns in re.findall(r"^\| `(grafana_\w+)` \| [^|]+ \| ([^|]+) \|$", HISTORY.read_text(), re.MULTILINE)
}
MADE = {
    *import_module("migrations.versions.0031_grafana_views").VIEWS,
    *import_module("migrations.versions.0032_more_views").NEW,
}
VIEWS = sorted(MADE)


async def test_views_are_those_that_people_were_told_of_and_only_grow_at_their_end(judged_url: str) -> None:
    assert set(CONTRACT) == MADE
    with psycopg.connect(judged_url) as connection:
        rows = connection.execute(
            "SELECT table_name::text, array_agg(column_name::text ORDER BY ordinal_position) "
            "FROM information_schema.columns WHERE table_name LIKE 'grafana%' GROUP BY 1"
        ).fetchall()
    assert dict(rows) == CONTRACT


@pytest.mark.parametrize("view", VIEWS)
async def test_every_view_has_rows_with_a_time(judged_api: Api, judged_url: str, view: str) -> None:
    with psycopg.connect(judged_url) as connection:
        rows = connection.execute(f"SELECT * FROM {view} ORDER BY time LIMIT 5").fetchall()  # type: ignore[arg-type]
    if "hourly" not in view:  # no hour is over yet
        assert rows, view


async def test_a_view_says_what_the_api_says(judged_api: Api, judged_url: str) -> None:
    with psycopg.connect(judged_url) as connection:
        classes = dict(
            connection.execute(
                "SELECT class, gpu_hours FROM grafana_waste WHERE by = 'gpu' AND name = %s AND window_seconds = 86400",
                (GPU_0,),
            ).fetchall()
        )
        hours = connection.execute(
            "SELECT sum(paid_gpu_hours), sum(useful_gpu_hours), sum(kilowatt_hours) FROM grafana_gpu_use "
            "WHERE gpu = %s",
            (GPU_0,),
        ).fetchone()
    (item,) = [i for i in await judged_api.items("/analysis/waste", by="gpu") if i["gpu"] == GPU_0]
    said = {each["class"]: each for each in item["classes"]}
    assert classes == {name: each["gpu_hours"] for name, each in said.items()}
    assert hours is not None
    assert hours[0] == pytest.approx(item["paid_gpu_hours"], abs=1e-3)
    assert hours[1] == pytest.approx(said["useful"]["gpu_hours"], abs=1e-3)
    assert hours[2] == pytest.approx(sum(each["kilowatt_hours"] for each in said.values()), abs=1e-3)
