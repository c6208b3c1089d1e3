"""The views that Grafana reads: each answers, and says what the API says."""

from __future__ import annotations

from importlib import import_module

import psycopg
import pytest

from tests.support.fleet import GPU_0
from tests.support.rest import Api

VIEWS = import_module("migrations.versions.0031_grafana_views").VIEWS


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
