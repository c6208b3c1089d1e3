"""The dashboard as people use it: in a browser, by mouse, by keyboard, with a screen reader, with and without a key."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Route, expect

from control_plane.api.operations import example
from tests.browser.conftest import Visit
from tests.fakes.clock import FakeClock
from tests.support import scene
from tests.support.gates import OWN_KEY
from tests.support.postgres import PostgresForTests

# The first test also makes the fleet, and what is due over it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

H200 = scene.node_name(0)
OLD = scene.node_name(1)
GPU = scene.gpu_uuid(0, 0)
PLACES = (
    "fleet", "nodes", f"nodes/{H200}", f"nodes/{OLD}", f"gpus/{GPU}", "servers", "money", "slos", "alerts", "rollouts",
    "recommendations",
    "nowhere",
)  # fmt: skip


def first_server(visit: Visit) -> str:
    """The id that the database gave to the first server."""
    items: list[dict[str, Any]] = visit.page.request.get(f"{visit.address}/inference/servers").json()["items"]
    return str(items[0]["server_id"])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_and_quiet_and_asks_nobody_else(visit: Visit, theme: Any) -> None:
    visit.page.emulate_media(color_scheme=theme)
    for place in (*PLACES, f"servers/{first_server(visit)}"):
        page = visit.go(place)
        found = Axe().run(page)
        problems = [f"{place}: {one['id']}: {one['nodes'][0]['html']}" for one in found.response["violations"]]
        assert problems == []
        expect(page.locator("h1")).to_have_count(1)
        width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width == 0, f"{place} is wider than the window"
    assert visit.wrong == []


def test_the_classic_figure_stands_beside_the_honest_one(visit: Visit) -> None:
    page = visit.go("fleet")
    headline = page.locator(".headline")
    expect(headline).to_contain_text("what nvidia-smi shows")
    expect(headline).to_contain_text("known of 8 of 10 GPUs")
    expect(headline).to_contain_text("points of what looks busy is not")
    expect(page.locator("canvas")).to_have_count(2)
    # The GPU that only copies looks busiest for nothing.
    row = page.locator("tbody tr").first
    expect(row).to_contain_text(f"{H200} · 4")
    expect(row).to_contain_text("100 %")


def test_what_is_unknown_says_so_and_why_and_is_never_zero(visit: Visit) -> None:
    page = visit.go(f"nodes/{OLD}")
    active = page.locator(".card").first.locator(".meter", has_text="SM active")
    expect(active).to_contain_text("unknown")
    expect(active.locator(".unknown")).to_have_attribute("title", "not known: unsupported")
    expect(active.locator(".fill")).to_have_count(0)
    expect(active.locator(".track-unknown")).to_have_count(1)


def test_the_heat_map_is_walked_by_keyboard(visit: Visit) -> None:
    page = visit.go("fleet")
    page.locator(".heat-maps").focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator("[aria-live=polite]")).to_contain_text(f"{H200} · GPU 1")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(f"{H200} · GPU 1")
    expect(page.locator("h1")).to_be_focused()
    expect(page).to_have_title(f"{H200} · GPU 1 · OptiInfra")


def test_a_fleet_of_four_thousand_has_every_gpu_once_inside_the_frame(visit: Visit) -> None:
    placed = visit.go("nodes").evaluate(
        """async () => {
            const { laidOut, cellAt } = await import("/dashboard/assets/heat_map.js");
            const node = (n) => [`node-${n}`, Array.from({ length: 8 }, (_, g) => `${n}/${g}`)];
            const { cells, size } = laidOut(Array.from({ length: 500 }, (_, n) => node(n)), 600);
            return {
                gpus: new Set(cells.map((cell) => cell.gpu)).size,
                places: new Set(cells.map((cell) => `${cell.x} ${cell.y}`)).size,
                right: Math.max(...cells.map((cell) => cell.x + size)),
                found: cellAt({ cells, size }, cells[1234].x, cells[1234].y),
                size,
            };
        }"""
    )
    assert placed["gpus"] == placed["places"] == 4000
    assert placed["right"] <= 600
    assert placed["found"] == 1234
    assert placed["size"] >= 4


def test_what_it_was_said_last_stays_and_is_marked_when_answers_stop(visit: Visit) -> None:
    visit.page.clock.install()
    page = visit.go("fleet")
    before = page.locator("tbody tr").first.inner_text()
    page.route("**/gpu/metrics*", lambda route: route.abort())
    page.clock.run_for(6_000)
    expect(page.locator(".old").first).to_contain_text("Not up to date")
    expect(page.locator(".connection")).to_have_text("Not connected")
    assert page.locator("tbody tr").first.inner_text() == before
    page.unroute("**/gpu/metrics*")
    page.locator(".old button").first.click()
    expect(page.locator(".old")).to_have_count(0)
    expect(page.locator(".connection")).to_have_text("Live")


def test_names_from_outside_are_text_and_never_markup(visit: Visit) -> None:
    name = "<img src=x onerror=alert(1)>"

    def altered(route: Route) -> None:
        body = route.fetch().json()
        body["items"][0]["name"] = name
        route.fulfill(json=body)

    visit.page.route("**/nodes?*", altered)
    page = visit.go("nodes")
    expect(page.get_by_role("link", name=name)).to_be_visible()
    expect(page.locator("main img")).to_have_count(0)
    assert visit.wrong == []


def shown_in_the_document(operation_id: str) -> Any:
    """An answer as it came from a real run: what the API's document shows."""
    found = example(operation_id)
    assert found is not None
    return copy.deepcopy(found)


def test_a_recommendation_is_read_with_its_evidence_and_approved(visit: Visit) -> None:
    found = shown_in_the_document("optimize_recommendations")
    first = found["items"][0]
    first |= {"subject": "http://127.0.0.1:8000"}
    first["recommendation"] |= {
        "kind": "quantize",
        "effect": {"requests_ratio": {"low": 1.2, "high": 2.0, "expected": 1.55}},
        "evidence": [{"name": "weights_bytes", "unit": "bytes", "means": "of weights, 16.1 GB before", "value": 5.8e9}],
    }
    asked: list[Any] = []

    def approved(route: Route) -> None:
        asked.append((route.request.url.rpartition("/")[2], route.request.post_data_json))
        one = found["items"].pop(0)
        route.fulfill(json=one | {"state": "approved"})

    found["items"] = [first]
    visit.page.route("**/optimize/recommendations?*", lambda route: route.fulfill(json=found))
    visit.page.route("**/optimize/recommendations/*/approve", approved)
    page = visit.go("recommendations")
    panel = page.get_by_role("region", name="quantize for http://127.0.0.1:8000")
    expect(panel).to_contain_text("1.55×")
    expect(panel).to_contain_text("1.2× to 2×")  # never a prediction without its range
    panel.get_by_text("Evidence").click()
    expect(panel).to_contain_text("of weights, 16.1 GB before")
    assert Axe().run(page).response["violations"] == []
    panel.get_by_label("Why (is kept with the decision)").fill("tested on staging")
    panel.get_by_role("button", name="Approve").click()
    expect(panel).to_have_count(0)
    assert asked == [("approve", {"reason": "tested on staging"})]
    assert visit.wrong == []


def test_a_rollout_is_watched_and_taken_back(visit: Visit) -> None:
    running, whole = shown_in_the_document("rollout_status"), shown_in_the_document("rollout_get")
    running["items"] = [running["items"][0] | {"target": "chat", "state": "observing", "share_percent": 5.0}]
    requests = {"candidate_good": 8.0, "candidate_bad": 0.0, "stable_good": 105.0, "stable_bad": 0.0}
    running["items"][0]["requests"] = requests
    asked: list[Any] = []

    def taken_back(route: Route) -> None:
        asked.append(route.request.post_data_json)
        running["items"][0] |= {"state": "rolling_back", "because": "somebody said so", "share_percent": 0.0}
        route.fulfill(json=running["items"][0])

    rollout = running["items"][0]["rollout_id"]
    visit.page.route("**/rollout/status", lambda route: route.fulfill(json=running))
    visit.page.route(f"**/rollout/{rollout}", lambda route: route.fulfill(json=whole))
    visit.page.route("**/rollout/rollback", taken_back)
    page = visit.go("rollouts")
    panel = page.get_by_role("region", name="Rollout of chat")
    expect(panel).to_contain_text("105 requests, 0 bad")
    expect(panel.get_by_role("img", name="5 % of the traffic to the candidate")).to_be_visible()
    problems = [one["id"] for one in Axe().run(page).response["violations"]]
    assert problems == []
    panel.get_by_role("button", name="Stop and take back").click()
    assert asked == []  # it asks back first
    page.get_by_role("dialog").get_by_role("button", name="Stop and take back").click()
    expect(panel).to_contain_text("rolling back")
    expect(panel.get_by_role("button", name="Stop and take back")).to_have_count(0)
    assert asked == [{"rollout_id": rollout}]
    assert visit.wrong == []


def test_what_binds_a_server_is_said_with_its_numbers_and_what_to_do(visit: Visit) -> None:
    server, verdict = first_server(visit), shown_in_the_document("analysis_bottlenecks")
    verdict["items"] = [
        verdict["items"][0]
        | {
            "server_id": int(server), "bottleneck": "hung_engine", "runner_up": "batch_limited",
            "remedies": ["take the server out of its balancer and restart it"],
        }
    ]  # fmt: skip
    numbers = {"requests_running": {"value": 3.0, "unit": "count", "means": "requests being worked on"}}
    verdict["items"][0]["evidence"]["numbers"] = numbers
    visit.page.route("**/analysis/bottlenecks?*", lambda route: route.fulfill(json=verdict))
    expect(visit.go("servers").locator("main")).to_contain_text("hung engine")
    page = visit.go(f"servers/{server}")
    panel = page.get_by_role("region", name="What binds it")
    expect(panel).to_contain_text("hung engine")
    expect(panel).to_contain_text("runner-up batch limited")
    expect(panel).to_contain_text("requests being worked on")
    expect(panel.locator("ol li").first).to_contain_text("restart it")
    assert Axe().run(page).response["violations"] == []
    assert visit.wrong == []


def test_an_alert_is_taken_in_hand(visit: Visit) -> None:
    firing = shown_in_the_document("alerts")
    firing["items"] = [firing["items"][0] | {"state": "firing", "acknowledged_at": None, "resolved_at": None}]

    def taken(route: Route) -> None:
        firing["items"][0] |= {"acknowledged_at": "2026-11-30T19:20:00Z", "acknowledged_by": "alice"}
        route.fulfill(json=firing["items"][0])

    visit.page.route("**/alerts?*", lambda route: route.fulfill(json=firing))
    visit.page.route("**/alerts/*/acknowledge", taken)
    page = visit.go("alerts")
    expect(page.locator(".alert")).to_contain_text(firing["items"][0]["summary"])
    assert Axe().run(page).response["violations"] == []
    page.get_by_role("button", name="I have it").click()
    expect(page.locator(".alert")).to_contain_text("In hand: alice")
    assert visit.wrong == []


def test_where_nothing_has_reported_the_page_says_how_to_begin(
    context: BrowserContext, postgres_server: PostgresForTests
) -> None:
    url = postgres_server.migrated()
    with scene.served(url, FakeClock()) as address:
        visit = Visit(context.new_page(), address).watch()
        expect(visit.go("fleet").locator("main")).to_contain_text("optiinfra join-token")
        expect(visit.go("servers").locator("main")).to_contain_text("No inference server has been found")
        expect(visit.go("slos").locator("main")).to_contain_text("Nothing has been promised yet")
        expect(visit.go("money").locator("main")).to_contain_text("Nothing has been summed up yet")
        assert visit.wrong == []
    postgres_server.drop(url)


def test_with_keys_on_a_key_is_asked_for_kept_in_the_tab_and_forgotten(context: BrowserContext, scene_url: str) -> None:
    with scene.served(scene_url, FakeClock(), keys=True) as address:
        visit = Visit(context.new_page(), address)
        page = visit.go("nodes")
        expect(page.locator("dialog")).to_be_visible()
        page.get_by_label("Key", exact=True).fill(OWN_KEY)
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name=H200)).to_be_visible()
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        page.get_by_role("button", name="Key ✓").click()
        page.get_by_role("button", name="Forget it").click()
        expect(page.locator("dialog")).to_be_visible()
        expect(page.locator("main")).to_contain_text("Not up to date")
