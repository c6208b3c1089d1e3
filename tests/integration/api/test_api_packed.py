"""What the API answers of a past window does not change when the samples in it are packed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from control_plane.ingest.server import LinkService
from control_plane.storage import moments
from control_plane.storage.packing.job import PackingJob
from control_plane.storage.rollups import marks
from control_plane.storage.session import Database
from optiinfra.catalogue import TABLES
from tests.fakes.clock import START, FakeClock
from tests.support import fleet
from tests.support.rest import Api, client_of, context_of

SINCE, UNTIL = "2026-03-04T11:51:03Z", "2026-03-04T11:59:31Z"


def histories(path: str, table: str, *steps: str) -> list[tuple[str, dict[str, Any]]]:
    """Questions about every single number of a table, a few at a time."""
    names = [f.name for f in TABLES[table].scalars]
    return [(path, {"field": names[n : n + 20], "step": step}) for n in range(0, len(names), 20) for step in steps]


QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    *histories("/gpu/metrics/history", "gpu", "7s", "5m"),
    *histories("/metrics/history", "inference", "30s"),
    *histories("/metrics/history", "server_cgroup", "30s"),
    ("/gpu/utilization", {}),
    ("/gpu/power", {}),
    ("/metrics/history", {"field": [f.name for f in TABLES["inference"].histograms], "step": "11s"}),
    ("/metrics/latency", {}),
    ("/metrics/throughput", {}),
    ("/metrics/tokens", {}),
]


@pytest.fixture
async def packable(database: Database) -> AsyncIterator[Api]:
    """The API over the fleet in a database of this test's own."""
    await fleet.fill(database.url)
    service = LinkService(database, FakeClock(), retention_days=14)
    async with client_of(context_of(database, FakeClock(), service)) as client:
        yield client
    service.writer.close()


def pack(database: Database) -> None:
    """Packs all that is there, as if days had gone by; rollups stay behind, so that they answer nothing."""
    later = START + timedelta(days=3)
    with database.connect(autocommit=True) as connection:
        marks.advance(connection, "hour", moments.to_us(later))
    job = PackingJob(database, holder="test", now=lambda: later, after=timedelta(days=1))
    while job.work().more:
        pass
    job.close()
    with database.connect(autocommit=True) as connection:
        for table in TABLES:
            assert connection.execute(f"SELECT count(*) FROM {table}_sample").fetchone() == (0,)  # type: ignore[arg-type]


async def test_every_answer_about_a_past_window_is_the_same_when_its_samples_are_packed(
    packable: Api, database: Database
) -> None:
    before = [await packable.get(path, **asked, since=SINCE, until=UNTIL) for path, asked in QUESTIONS]
    assert all(answer["items"] for answer in before)
    pack(database)
    for (path, asked), expected in zip(QUESTIONS, before, strict=True):
        found = await packable.get(path, **asked, since=SINCE, until=UNTIL)
        assert found == expected, path
