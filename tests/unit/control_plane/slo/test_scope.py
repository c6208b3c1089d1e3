"""Servers in scope together: whether any serves, and whether enough comes out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Distribution, Reading
from control_plane.model.slo import Events, Indicator, SloDefinition, SloScope
from control_plane.slo.scope import ServerNow, availability, matches, throughput

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
SERVER = Entity(
    entity_id=1, node_id=1, node_name="alpha", kind=EntityKind.INFERENCE_SERVER, key="http://a:8000",
    attributes={"model": "llama", "engine": "vllm", "state": "up", "namespace": "prod"},
    first_seen_at=NOW, last_seen_at=NOW, state_since=NOW - timedelta(minutes=5),
)  # fmt: skip
FLOOR = SloDefinition(
    name="floor", indicator=Indicator.THROUGHPUT_FLOOR, target_ratio=0.9, window_days=30, floor_tokens_per_second=100.0
)


def server(state: str = "up", *, up: float = 1, age: float = 2) -> ServerNow:
    reading = Reading(entity_id=1, taken_at=NOW - timedelta(seconds=age), values={"up_flag": up}, unknown={})
    return ServerNow(entity=replace(SERVER, attributes={**SERVER.attributes, "state": state}), reading=reading)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (SloScope(), True), (SloScope(model="llama"), True), (SloScope(model="llama", engine="sglang"), False),
        (SloScope(server="http://a:8000", node="alpha", namespace="prod"), True), (SloScope(namespace="test"), False),
    ],
)  # fmt: skip
def test_all_that_a_scope_names_must_match(scope: SloScope, expected: bool) -> None:
    assert matches(scope, SERVER) is expected


def test_one_server_that_serves_is_enough() -> None:
    assert availability([server("hung"), server()], NOW, 2) == Events(good=2)
    assert availability([server("hung"), server(up=0)], NOW, 2) == Events(bad=2)


def test_where_nobody_has_looked_nothing_is_known() -> None:
    assert availability([], NOW, 2) is None
    assert availability([server(age=60)], NOW, 2) is None
    assert availability([server("hung"), server(age=60)], NOW, 2) is None
    assert availability([ServerNow(entity=SERVER, reading=None)], NOW, 2) is None
    assert availability([server("not_watched")], NOW, 2) is None


def test_a_server_that_went_away_is_missed_for_an_hour() -> None:
    gone = server("gone", age=60)
    assert availability([gone], NOW, 2) == Events(bad=2)
    old = replace(gone, entity=replace(gone.entity, state_since=NOW - timedelta(hours=2)))
    assert availability([old], NOW, 2) is None


def looks(tokens: int, waiting: float) -> tuple[Reading, Reading]:
    def one(seconds: int, count: int) -> Reading:
        return Reading(
            entity_id=1, taken_at=NOW + timedelta(seconds=seconds), values={"requests_waiting_count": waiting},
            unknown={},
            distributions={
                "inter_token_latency_seconds": Distribution(bounds=(1.0,), counts=(count, 0), sum=None),
                "ttft_seconds": Distribution(bounds=(1.0,), counts=(0, 0), sum=None),
            },
        )  # fmt: skip

    return one(0, 0), one(5, tokens)


def test_a_floor_is_judged_while_requests_wait() -> None:
    assert throughput(FLOOR, [looks(400, 3)], 2) == (Events(bad=2), 80.0)
    assert throughput(FLOOR, [looks(400, 3), looks(400, 0)], 2) == (Events(good=2), 160.0)
    assert throughput(FLOOR, [looks(400, 0)], 2) == (Events(), 80.0)
    assert throughput(FLOOR, [], 2) == (Events(), None)
