"""The system collector on the machine that the tests run on, against psutil."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import psutil
import pytest

from node_agent.clock import Instant
from node_agent.collectors.system import SystemCollector
from node_agent.model import Collected, Outcome, Reason, Value
from optiinfra.catalogue import TABLES

NOW = Instant(wall=datetime(2026, 1, 1, tzinfo=UTC), monotonic_seconds=1.0)


async def look_twice() -> tuple[Collected, float]:
    collector = SystemCollector()
    await collector.collect(NOW)
    before = psutil.cpu_times()
    until = time.perf_counter() + 0.5
    while time.perf_counter() < until:  # half a second of work, so that a share is there to compare
        await asyncio.sleep(0)
    collected = await collector.collect(NOW)
    after = psutil.cpu_times()
    await collector.close()
    spent = [b - a for a, b in zip(before[:8], after[:8], strict=True)]
    return collected, (sum(spent) - spent[3] - spent[4]) / sum(spent)


async def test_the_readings_are_those_of_psutil() -> None:
    collected, busy = await look_twice()
    values = dict(collected.samples[0].values)
    assert values["cpu_busy_ratio"] == pytest.approx(busy, abs=0.15)
    assert values["cpu_logical_count"] == psutil.cpu_count()
    cores = values["cpu_core_busy_ratio"]
    assert isinstance(cores, tuple)
    assert len(cores) == psutil.cpu_count()
    memory = psutil.virtual_memory()
    assert values["memory_total_bytes"] == memory.total
    assert values["memory_available_bytes"] == pytest.approx(memory.available, rel=0.2)
    assert values["memory_cached_bytes"] == pytest.approx(memory.cached, rel=0.2)
    assert values["uptime_seconds"] == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=5)
    assert values["agent_resident_memory_bytes"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


async def test_disks_and_links_are_those_of_psutil() -> None:
    collected, _ = await look_twice()
    disks = psutil.disk_io_counters(perdisk=True, nowrap=False)
    links = psutil.net_io_counters(pernic=True, nowrap=False)
    for sample in collected.samples:
        if sample.table == "disk":
            assert 0 <= disks[sample.entity[1]].read_count - number(sample.values["reads_total"]) < 1000
        if sample.table == "network":
            assert links[sample.entity[1]].bytes_recv >= number(sample.values["received_bytes_total"])
        if sample.table == "filesystem":
            assert psutil.disk_usage(sample.entity[1]).total == sample.values["total_bytes"]


async def test_every_known_value_is_possible() -> None:
    collected, _ = await look_twice()
    assert collected.outcome is Outcome.OK, collected.detail
    for sample in collected.samples:
        for name, value in sample.values.items():
            spec = TABLES[sample.table].field(name)
            for one in value if isinstance(value, tuple) else (value,):
                if not isinstance(one, Reason):
                    assert spec.minimum is not None and spec.maximum is not None
                    assert spec.minimum <= number(one) <= spec.maximum, name


def number(value: Value) -> float:
    assert isinstance(value, int | float)
    return value
