"""What is under- and over-used, what could be saved, what moves with what, and the report, over HTTP."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from control_plane.api.resources import gpu_utilization
from tests.support import fleet
from tests.support.fleet import A100, GPU_0, GPU_1
from tests.support.rest import Api, problem_of, unexplained


async def asked(api: Api, **question: object) -> list[dict[str, object]]:
    answer = await api.client.post("/analysis/utilization", json=question)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert list(unexplained(body)) == []
    items = body["items"]
    assert isinstance(items, list)
    return items


async def test_every_resource_has_a_verdict_that_names_its_reason(judged_api: Api) -> None:
    items = await asked(judged_api)
    assert {item["resource"] for item in items} == {"gpu", "server", "model", "cpu", "memory", "disk", "network"}
    for item in items:
        assert item["verdict"] in ("over_used", "under_used", "balanced", "unknown")
        assert item["because"], item
    gpus = {item["gpu"]: item for item in items if item["resource"] == "gpu"}
    assert gpus.keys() == {GPU_0, GPU_1, A100}
    assert gpus[GPU_0]["busy_ratio"] == pytest.approx(0.8, abs=0.01)
    host = next(item for item in items if item["resource"] == "cpu" and item["node"] == "alpha")
    assert host["used_ratio"] == pytest.approx(0.25, abs=0.01)
    disk = next(item for item in items if item["resource"] == "disk" and item["node"] == "alpha")
    assert disk["pressure_ratio"] == pytest.approx(0.05, abs=0.005)  # of waiting for a disk: 0.25 s every 5 s


async def test_a_scope_and_a_verdict_narrow_the_answer(judged_api: Api) -> None:
    assert {item["gpu"] for item in await asked(judged_api, node=["alpha"], resource=["gpu"])} == {GPU_0, GPU_1}
    assert {item["resource"] for item in await asked(judged_api, gpu=[GPU_0])} == {"gpu"}
    models = await asked(judged_api, resource=["model"], model=[fleet.LLAMA])
    assert [item["model"] for item in models] == [fleet.LLAMA]
    unknown = await asked(judged_api, verdict=["unknown"])
    assert {item["verdict"] for item in unknown} <= {"unknown"}
    minutes = await asked(judged_api, since="2026-03-04T11:55:00Z", until="2026-03-04T12:00:00Z", resource=["gpu"])
    assert len(minutes) == 3
    for slip, status in (({"colour": 1}, 422), ({"gpu": ["GPU-none"]}, 404), ({"resource": ["soul"]}, 422)):
        problem_of(await judged_api.client.post("/analysis/utilization", json=slip), status)


async def test_pages_of_verdicts_show_everything_once(judged_api: Api) -> None:
    whole = await asked(judged_api)
    first = await judged_api.client.post("/analysis/utilization", json={"limit": 4})
    rest = await judged_api.client.post("/analysis/utilization", json={"cursor": first.json()["next_cursor"]})
    assert [*first.json()["items"], *rest.json()["items"]] == whole


async def test_a_long_window_of_utilisation_is_answered_from_what_was_summed_up(
    judged_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten_minutes = {"since": "2026-03-04T11:50:00Z", "until": "2026-03-04T12:00:00Z"}
    sampled = await judged_api.get("/gpu/utilization", **ten_minutes)
    assert sampled["made_from"] == "samples"
    assert {each["model"] for each in sampled["models"]} == {fleet.LLAMA}
    assert {each["server"] for each in sampled["servers"]} == {f"{fleet.URL} on alpha", f"{fleet.URL} on beta"}
    monkeypatch.setattr(gpu_utilization, "MOST_SAMPLES", 10)
    added = await judged_api.get("/gpu/utilization", **ten_minutes)
    assert added["made_from"] == "added_up"
    for of_samples, of_cells in zip(sampled["items"], added["items"], strict=True):
        assert of_cells["gpu"] == of_samples["gpu"]
        assert of_cells["activity"] == of_samples["activity"]
        for name in ("busy_ratio", "sm_active_ratio", "dram_active_ratio", "roofline_ratio", "power_capped_ratio"):
            if of_samples[name] is not None:
                assert of_cells[name] == pytest.approx(of_samples[name], abs=0.01), name
        assert of_cells["unknown"]["fp64_active_ratio"] == "of_shorter_windows_only"
    assert added["fleet"]["gpus"] == 3
    kept = await judged_api.get("/gpu/utilization", since="24h")
    assert kept["made_from"] == "kept"
    assert [item["gpu"] for item in await judged_api.all_pages("/gpu/utilization", since="24h", limit=1)] == [
        GPU_0, GPU_1, A100,
    ]  # fmt: skip


async def test_opportunities_are_ranked_by_what_they_save(judged_api: Api) -> None:
    items = await judged_api.items("/analysis/opportunities")
    savings = [item["saving"]["usd_per_month"] for item in items]
    assert savings == sorted(savings, reverse=True)
    assert [item["rank"] for item in items] == list(range(1, len(items) + 1))
    starved = next(item for item in items if item["kind"] == "remove_host_bottleneck")
    assert starved["about"]["name"] == f"{fleet.URL} on alpha"
    assert starved["saving"]["usd_per_month_low"] <= starved["saving"]["usd_per_month"]
    assert starved["confidence"]["level"] == "low"  # ten minutes are known
    assert await judged_api.all_pages("/analysis/opportunities", limit=1) == items


async def test_savings_are_the_sum_of_what_does_not_overlap(judged_api: Api) -> None:
    body = await judged_api.get("/cost/savings")
    items = await judged_api.items("/analysis/opportunities")
    own = [item["saving"]["usd_per_month"] for item in items if item["kind"] != "serve_with_fewer"]
    assert body["promised"]["usd_per_month"] == pytest.approx(sum(own), abs=0.05)
    assert body["realised"]["usd_per_month"] is None


async def test_models_have_what_they_deliver_for_what_they_cost(judged_api: Api) -> None:
    item = await judged_api.one("/analysis/correlation", model=fleet.LLAMA)
    assert item["servers"] == 2
    assert item["output_tokens_per_gpu_second"] > 0
    assert item["mbu_ratio"] is not None
    assert item["pairs"] == []  # two slots are nothing


async def test_nothing_is_found_of_an_empty_database(empty_api: Api) -> None:
    for path in ("/analysis/opportunities", "/analysis/correlation"):
        assert (await empty_api.get(path))["items"] == []
    await empty_api.refused("/analysis/report", 409)
    savings = await empty_api.get("/cost/savings")
    assert savings["promised"]["opportunities"] == 0


class Page(HTMLParser):
    """Notes what a page would load, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.loads += [str(names[n]) for n in ("src", "href") if n in names]
        if tag in ("script", "link", "img", "iframe"):
            self.loads.append(tag)
        if tag not in ("meta", "br", "rect", "line", "circle", "polyline", "polygon") or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself."""

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass


async def test_the_report_is_one_content_in_three_forms(judged_api: Api) -> None:
    found = await judged_api.get("/analysis/report")
    assert found["headline"][0].startswith("3 GPUs, ")
    assert {each["class"] for each in found["classes"]} >= {"useful", "stranded", "unknown"}
    text = (await judged_api.client.get("/analysis/report", headers={"Accept": "text/markdown"})).text
    answer = await judged_api.client.get("/analysis/report", headers={"Accept": "text/html,*/*;q=0.5"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for sentence in found["headline"]:
        assert sentence.split(":")[0][:30] in text
    page = Page()
    page.feed(answer.text)
    assert page.loads == []
    assert "style-src 'sha256-" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.text.count("<svg") >= 2
    assert not re.search(r"\b(nan|None|inf)\b", answer.text)
    assert (await judged_api.client.get("/analysis/report", params={"format": "html"})).text == answer.text
    hour = await judged_api.client.get("/analysis/report", params={"format": "html", "window": "1h"})
    assert hour.status_code == 200


async def test_a_name_from_an_agent_is_no_markup(judged_api: Api) -> None:
    from control_plane.api.report.markdown import plain

    assert plain("<script>|x|`y`") == "\\<script\\>\\|x\\|\\`y\\`"
    await judged_api.refused("/analysis/report", 422, window="2h")
