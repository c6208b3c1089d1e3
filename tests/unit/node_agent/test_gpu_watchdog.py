"""GpuCollector when NVML does not come back, is upgraded under the agent, or is given up on command."""

from __future__ import annotations

import threading

import pytest

from node_agent.collectors.gpu import LONGEST_LEASE_SECONDS, RESTART_AFTER_SECONDS, GpuCollector
from node_agent.collectors.gpu_retry import NO_DRIVER
from node_agent.host.nvml_facts import GpuProcess
from node_agent.model import Outcome, Reason
from tests.fakes.gpus import h200
from tests.fakes.nvml import WRONG_VERSION, FakeNvml
from tests.unit.node_agent.test_gpu_collector import EVERY_FIELD, at, collecting, only_values


class Wedge:
    """A driver call that does not come back before it is let go."""

    def __init__(self, driver: FakeNvml) -> None:
        self._driver = driver
        self._let_go = threading.Event()
        self.calls_inside = 0
        driver.before_each_call = self._block

    def _block(self) -> None:
        self.calls_inside += 1
        assert self.calls_inside == 1, "two calls into NVML at once"
        self._let_go.wait(30)
        self.calls_inside -= 1

    def release(self) -> None:
        self._driver.before_each_call = lambda: None
        self._let_go.set()


async def hang(collector: GpuCollector, driver: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> Wedge:
    await collector.collect(at(0))
    monkeypatch.setattr("node_agent.collectors.gpu.HUNG_AFTER_SECONDS", 0.01)
    wedge = Wedge(driver)
    hung = await collector.collect(at(1))
    assert hung.outcome is Outcome.TIMED_OUT
    assert only_values(hung) == dict.fromkeys(EVERY_FIELD, Reason.HUNG)
    return wedge


async def test_a_call_that_does_not_come_back_marks_the_gpus_as_hung_and_names_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        wedge = await hang(collector, driver, monkeypatch)
        again = await collector.collect(at(30))
        wedge.release()
    assert "has not answered for 29 s" in again.detail
    assert "utilization on the GPU at index 0" in again.detail
    assert only_values(again) == dict.fromkeys(EVERY_FIELD, Reason.HUNG)


async def test_a_call_that_comes_back_at_last_is_never_taken_for_a_fresh_look(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        wedge = await hang(collector, driver, monkeypatch)
        monkeypatch.setattr("node_agent.collectors.gpu.HUNG_AFTER_SECONDS", 30.0)
        wedge.release()
        collector._thread.submit(lambda: None).result(30)  # the look that was given up has ended
        driver.gpus[0].temperature_celsius = 71.0
        fresh = await collector.collect(at(40))
    assert fresh.outcome is Outcome.OK
    assert only_values(fresh)["temperature_gpu_celsius"] == 71.0


async def test_a_released_nvml_is_closed_and_every_value_is_not_collected() -> None:
    driver = FakeNvml(h200())
    driver.gpus[0].compute_processes = [GpuProcess(pid=7, used_bytes=1)]
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        assert await collector.release(60)
        assert not driver.is_open
        collected = await collector.collect(at(1))
    assert collected.outcome is Outcome.ABSENT
    assert collected.detail == "NVML was released on command until 2026-11-22T08:01:01Z"
    assert only_values(collected) == dict.fromkeys(EVERY_FIELD, Reason.NOT_COLLECTED)
    assert collected.entities[0].attributes["processes"] is None


async def test_a_lease_ends_by_itself() -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        await collector.release(60)
        assert (await collector.collect(at(1))).outcome is Outcome.ABSENT
        assert (await collector.collect(at(60.9))).outcome is Outcome.ABSENT
        assert driver.opened == 1
        assert (await collector.collect(at(61))).outcome is Outcome.OK
        assert driver.opened == 2


async def test_a_lease_can_be_ended_early() -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        await collector.release(60)
        await collector.collect(at(1))
        await collector.release(0)
        assert (await collector.collect(at(2))).outcome is Outcome.OK


async def test_a_lease_is_never_longer_than_an_hour() -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        await collector.release(1e9)
        assert (await collector.collect(at(0))).outcome is Outcome.ABSENT
        assert (await collector.collect(at(LONGEST_LEASE_SECONDS))).outcome is Outcome.OK


async def test_a_wedged_nvml_cannot_be_released_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node_agent.collectors.gpu.CLOSE_SECONDS", 0.01)
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        wedge = await hang(collector, driver, monkeypatch)
        assert not await collector.release(60)
        wedge.release()
        collector._thread.submit(lambda: None).result(30)
        assert not driver.is_open


async def test_a_driver_upgraded_under_the_agent_asks_for_a_restart_when_it_stays_so() -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.unavailable = WRONG_VERSION
        assert (await collector.collect(at(1))).restart_because == ""
        assert (await collector.collect(at(1 + RESTART_AFTER_SECONDS))).restart_because == str(WRONG_VERSION)


async def test_an_upgrade_that_the_library_survives_needs_no_restart() -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.unavailable = WRONG_VERSION
        await collector.collect(at(1))
        driver.unavailable = None
        assert (await collector.collect(at(1 + NO_DRIVER.first_seconds))).outcome is Outcome.OK
        driver.unavailable = WRONG_VERSION
        assert (await collector.collect(at(1 + RESTART_AFTER_SECONDS))).restart_because == ""


async def test_an_agent_that_began_in_the_middle_of_an_upgrade_waits_for_the_module() -> None:
    driver = FakeNvml(h200(), unavailable=WRONG_VERSION)
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        assert (await collector.collect(at(10 * RESTART_AFTER_SECONDS))).restart_because == ""
