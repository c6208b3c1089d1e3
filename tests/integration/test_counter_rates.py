"""Rates of counters that wrap, are reset, fall a little, vanish and come back: never negative, never made up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.storage import readings
from control_plane.storage.partitions import ensure_days
from control_plane.storage.session import Database, SyncConnection
from optiinfra.catalogue import TABLES
from tests.fakes.clock import START

FIELD = TABLES["network"].field("received_bytes_total")
_entity_ids = itertools.count(1)


@pytest.fixture
def connection(database_url: str) -> Iterator[SyncConnection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        ensure_days(connection, [START.date()])
        yield connection


Look = tuple[float, int | None]  # seconds since the start, and what the counter showed


def store(connection: SyncConnection, looks: Sequence[Look]) -> int:
    """Every look at an interface of its own."""
    entity_id = next(_entity_ids)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO network_sample (taken_at, node_id, entity_id, received_bytes_total) VALUES (%s, 1, %s, %s)",
            [(START + timedelta(seconds=at), entity_id, value) for at, value in looks],
        )
    return entity_id


async def rate(database: Database, entity_id: int) -> float | str:
    found = await readings.explained_rates(
        database.engine, "network", [FIELD], [entity_id], since=START, until=START + timedelta(hours=1)
    )
    return found[entity_id][FIELD.name]


async def buckets(database: Database, entity_id: int, step_seconds: int) -> list[readings.Bucket]:
    return await readings.history(
        database.engine, "network", FIELD, [entity_id], since=START, until=START + timedelta(hours=1),
        step=timedelta(seconds=step_seconds),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(0, 100), (5, 600), (10, 1100)], 100.0),
        ([(0, 100), (5, 600), (10, 50), (15, 550)], 100.0),  # a reset: the five seconds around it are left out
        ([(0, 100), (5, 600), (10, 595), (15, 1095)], 100.0),  # a bond lost a link: no reset to zero
        ([(0, 2**32 - 500), (5, 2**32 - 1), (10, 400), (15, 899)], 99.8),  # a counter of 32 bits
        ([(0, 100), (5, None), (10, 1100)], 100.0),
        ([(0, 100), (600, 60_100)], 100.0),  # unplugged for ten minutes, and counting on
        ([(0, 900), (5, 20)], "counter_reset"),
        ([(0, 900), (5, 800), (10, 700)], "counter_reset"),
        ([(0, 900)], "fewer_than_two_samples"),
        ([(0, None), (5, None)], "fewer_than_two_samples"),
        ([], "fewer_than_two_samples"),
        ([(0, 0), (0.001, 5_000_000)], "samples_too_close"),  # the node's clock was set back between the two
    ],
)
async def test_a_rate_is_over_what_is_certain_and_unknown_across_a_reset(
    database: Database, connection: SyncConnection, looks: Sequence[Look], expected: float | str
) -> None:
    assert await rate(database, store(connection, looks)) == pytest.approx(expected)


async def test_a_history_counts_resets_and_says_where_they_leave_no_rate(
    database: Database, connection: SyncConnection
) -> None:
    looks: list[Look] = [(0, 100), (5, 600), (10, 50), (15, 60), (20, 40)]
    entity_id = store(connection, looks)
    found = await buckets(database, entity_id, 5)
    assert [bucket.rate for bucket in found] == ["no_sample_before", 100.0, "counter_reset", 2.0, "counter_reset"]
    assert [bucket.resets for bucket in found] == [0, 0, 1, 0, 1]
    (whole,) = await buckets(database, entity_id, 3600)
    assert (whole.rate, whole.resets, whole.increase) == (51.0, 2, 600.0)


@dataclass(frozen=True)
class Step:
    """What happens between two looks."""

    seconds: float
    growth: int
    event: str


steps = st.lists(
    st.builds(
        Step,
        st.floats(0.5, 30),
        st.integers(0, 10**11),
        st.sampled_from(["", "", "", "reset", "fall", "unknown", "unplugged"]),
    ),
    min_size=1,
    max_size=40,
)


def life(steps: Sequence[Step], *, bits: int, start: int, since_reset: float) -> list[Look]:
    """What is seen of a counter. After a reset it holds a part of what grew in that step."""
    at, value = 0.0, start
    looks: list[Look] = [(at, value % 2**bits)]
    for step in steps:
        at += step.seconds
        match step.event:
            case "reset":
                value = int(step.growth * since_reset)
            case "fall":
                value = max(0, value - step.growth // 1000)
            case _:
                value += step.growth
        if step.event != "unplugged":
            looks.append((at, None if step.event == "unknown" else value % 2**bits))
    return looks


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=steps, bits=st.sampled_from([32, 64]), start=st.integers(0, 2**32), since_reset=st.floats(0, 1),
    step_seconds=st.sampled_from([1, 7, 60, 3600]),
)  # fmt: skip
async def test_no_rate_is_negative_or_faster_than_the_counter_ever_was(
    database: Database,
    connection: SyncConnection,
    steps: Sequence[Step],
    bits: int,
    start: int,
    since_reset: float,
    step_seconds: int,
) -> None:
    fastest = max(step.growth / step.seconds for step in steps)
    entity_id = store(connection, life(steps, bits=bits, start=start, since_reset=since_reset))
    rates = [bucket.rate for bucket in await buckets(database, entity_id, step_seconds)]
    for found in (await rate(database, entity_id), *rates):
        if isinstance(found, str):
            assert found in ("no_sample_before", "fewer_than_two_samples", "counter_reset", "samples_too_close")
        else:
            assert found is not None
            assert 0 <= found <= fastest * (1 + 1e-6) + 1e-6
