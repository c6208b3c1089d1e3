"""What happened on a node, as the API tells it."""

from __future__ import annotations

from tests.support import fleet
from tests.support.rest import Api


async def test_events_come_newest_first_with_what_they_are_about(api: Api) -> None:
    items = await api.items("/nodes/alpha/events")
    assert [item["detail"]["number"] for item in items] == [31, 79, 31]
    assert [item["taken_at"] for item in items] == sorted((item["taken_at"] for item in items), reverse=True)
    assert items[1]["entity"] == {"kind": "gpu", "key": fleet.GPU_0}
    assert items[1]["severity"] == "critical"


async def test_pages_of_events_fit_together(api: Api) -> None:
    assert await api.all_pages("/nodes/alpha/events", limit=1) == await api.items("/nodes/alpha/events")


async def test_events_can_be_asked_for_by_kind_and_time(api: Api) -> None:
    assert await api.items("/nodes/alpha/events", kind="gpu_lost") == []
    assert len(await api.items("/nodes/alpha/events", kind=["gpu_lost", "xid"])) == 3
    newest = (await api.items("/nodes/alpha/events"))[0]["taken_at"]
    assert len(await api.items("/nodes/alpha/events", until=newest)) >= 2


async def test_a_node_on_which_nothing_happened_has_no_events(api: Api) -> None:
    assert await api.items("/nodes/beta/events") == []


async def test_the_events_of_an_unknown_node_are_not_found(api: Api) -> None:
    await api.refused("/nodes/nobody/events", 404)


async def test_a_cursor_of_another_list_is_refused(api: Api) -> None:
    await api.refused("/nodes/alpha/events", 422, cursor="eyJhZnRlciI6MX0")
