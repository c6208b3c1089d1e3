"""What happens now, as a stream: samples as they are committed, alerts and rollouts from where a client left off."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from control_plane.api import streams
from control_plane.model.errors import TooManyRequests
from tests.support.rest import Api, problem_of


class Browser:
    """It reads the application's stream as one does, without a socket between them."""

    def __init__(self, api: Api, query: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self._api, self._query, self._headers = api, query, headers
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()

    async def __aenter__(self) -> Browser:
        scope = {
            "type": "http", "method": "GET", "path": "/events", "raw_path": b"/events", "headers": self._headers,
            "query_string": self._query.encode(), "scheme": "http", "server": ("api", 80), "client": ("127.0.0.1", 1),
            "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0", "spec_version": "2.4"},
        }  # fmt: skip
        application = self._api.client._transport.app  # type: ignore[attr-defined]
        self._task = asyncio.ensure_future(application(scope, self._receive, self._sent.put))
        self.start = await asyncio.wait_for(self._sent.get(), 10)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gone.set()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def event(self) -> dict[str, str]:
        """The next event, by field; comments are passed over."""
        while True:
            text = (await asyncio.wait_for(self._sent.get(), 10))["body"].decode()
            fields = dict(line.split(": ", 1) for line in text.splitlines() if line and not line.startswith(":"))
            if "data" in fields:
                return fields


async def test_the_newest_samples_of_every_gpu_come_first(api: Api) -> None:
    async with Browser(api, "topic=samples&field=power_draw_watts&every_seconds=1") as browser:
        assert browser.start["status"] == 200
        assert (b"content-type", b"text/event-stream; charset=utf-8") in browser.start["headers"]
        event = await browser.event()
    items = json.loads(event["data"])["items"]
    shown = {item["gpu"]: item for item in await api.items("/gpu/metrics", field="power_draw_watts")}
    assert event["event"] == "samples"
    assert {item["gpu"]: item["power_draw_watts"] for item in items} == {
        gpu: item["power_draw_watts"] for gpu, item in shown.items() if item["taken_at"]
    }


async def test_what_makes_no_sense_is_refused_before_anything_is_streamed(api: Api) -> None:
    await api.refused("/events", 422, topic="weather")
    await api.refused("/events", 422, field="nonsense")
    await api.refused("/events", 422, every_seconds=0.1)
    await api.refused("/events", 404, node="nowhere")
    problem_of(await api.client.get("/events", headers={"Last-Event-ID": "12"}), 422)


async def test_a_client_that_goes_leaves_nothing_and_too_many_are_refused(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_STREAMS", 1)
    async with Browser(api, "topic=samples") as browser:
        await browser.event()
        problem_of(await api.client.get("/events"), 429)
    assert not streams._open


async def test_what_waits_already_is_told_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    looks = iter([([b"a"], True), ([b"b"], False), *[([], False)] * 20])

    async def look() -> tuple[list[bytes], bool]:
        return next(looks)

    request: Any = object()
    told = streams._events(request, look, 1.0)
    assert [await anext(told) for _ in range(3)] == [b"retry: 3000\n\n", b"a", b"b"]
    assert slept == []
    assert await anext(told) == b": nothing changed\n\n"
    assert len(slept) == streams.KEEPALIVE_SECONDS
    await told.aclose()
    monkeypatch.setattr(streams, "_open", set(range(streams.MOST_STREAMS)))
    with pytest.raises(TooManyRequests):
        streams.stream(request, look)
