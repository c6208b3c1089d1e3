"""The slow tier: read seldom, never passed off as fresh, and unknown with its reason."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from node_agent.attribution.step import AttributionStep
from node_agent.collectors.gpu_health import HEALTH_SECONDS, RECOVERY_ACTIONS, recovery_action
from node_agent.collectors.gpu_processes import shares_of
from node_agent.host.nvml_facts import GpuProcess, LinkState, NvLink, ProcessUtilization
from node_agent.host.nvml_fields import GpuField
from node_agent.host.nvml_protocol import NvmlRefused
from node_agent.host.ownership import Ownership
from node_agent.model import Outcome, Reason, Tick, Value
from tests.fakes.gpus import a100, b200, h100, h200, l4
from tests.fakes.nvml import WRONG_VERSION, FakeGpu, FakeNvml
from tests.unit.node_agent.test_gpu_collector import (
    EVERY_HEALTH_FIELD,
    at,
    collecting,
    only_values,
    values_of,
)
from tests.unit.node_agent.test_gpu_watchdog import hang


async def health_of(gpu: FakeGpu) -> Mapping[str, Value]:
    async with collecting(FakeNvml(gpu)) as collector:
        return only_values(await collector.collect(at(0)), "gpu_health")


async def test_the_slow_tier_is_read_at_the_first_look_and_then_every_ten_seconds() -> None:
    driver = FakeNvml(h100())
    async with collecting(driver) as collector:
        counts = [len(values_of(await collector.collect(at(second)), "gpu_health")) for second in range(21)]
    assert [second for second, count in enumerate(counts) if count] == [0, 10, 20]
    assert driver.asked.count("bar1") == 3


async def test_ticks_that_stray_by_milliseconds_do_not_delay_it() -> None:
    async with collecting(FakeNvml(h200())) as collector:
        stamps = [0.004, 5.001, 10.0, 15.003, 20.002]
        counts = [len(values_of(await collector.collect(at(stamp)), "gpu_health")) for stamp in stamps]
    assert counts == [1, 0, 1, 0, 1]


async def test_a_look_between_makes_only_the_cheap_calls() -> None:
    driver = FakeNvml(h100())
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.asked.clear()
        await collector.collect(at(1))
    dear = {"bar1", "nvlinks", "fabric", "fan_speed_ratio", "compute_processes", "process_utilization", "identity"}
    assert not dear & set(driver.asked)
    assert set(driver.asked_fields[-1]) == {
        GpuField.TEMPERATURE_MEMORY_CELSIUS, GpuField.POWER_AVERAGE_WATTS, GpuField.POWER_CURRENT_LIMIT_WATTS,
    }  # fmt: skip


async def test_a_gpu_that_cannot_be_read_has_no_health_either_and_shows_it_at_once_when_it_is_back() -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.unavailable = WRONG_VERSION
        down = await collector.collect(at(1))
        driver.unavailable = None
        back = await collector.collect(at(6))
    assert only_values(down, "gpu_health") == dict.fromkeys(EVERY_HEALTH_FIELD, Reason.ERROR)
    assert only_values(back, "gpu_health")["pcie_replays_total"] == 1


async def test_after_a_call_that_hung_the_health_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        wedge = await hang(collector, driver, monkeypatch)
        monkeypatch.setattr("node_agent.collectors.gpu.HUNG_AFTER_SECONDS", 30.0)
        wedge.release()
        collector._thread.submit(lambda: None).result(30)
        back = await collector.collect(at(3))
    assert only_values(back, "gpu_health")["recovery_action_code"] == 0


async def test_what_describes_a_gpu_stays_between_readings_and_goes_with_the_gpu() -> None:
    gpu = h100()
    gpu.field_values[GpuField.RECOVERY_ACTION_CODE] = 4
    async with collecting(FakeNvml(gpu)) as collector:
        await collector.collect(at(0))
        (between,) = (await collector.collect(at(1))).entities
        gpu.is_lost = True
        (lost,) = (await collector.collect(at(2))).entities
    assert between.attributes["recovery_action"] == "drain_and_reset"
    assert between.attributes["nvlink_version"] == "4.0"
    assert lost.attributes["recovery_action"] is None
    assert lost.attributes["nvlinks_inactive"] is None


async def test_an_h100_counts_its_links_and_names_those_that_are_down() -> None:
    gpu = h100()
    assert not isinstance(gpu.nvlinks, Reason)
    gpu.nvlinks[3] = NvLink(number=3, state=LinkState.INACTIVE)
    gpu.nvlinks[4] = NvLink(number=4, state=LinkState.SLEEP, speed_bytes_per_second=26.562e9)
    async with collecting(FakeNvml(gpu)) as collector:
        collected = await collector.collect(at(0))
    values = only_values(collected, "gpu_health")
    assert (values["nvlink_links_count"], values["nvlink_links_active_count"]) == (18, 17)
    assert (values["nvlink_links_sleeping_count"], values["nvlink_link_speed_bytes_per_second"]) == (1, 26.562e9)
    assert collected.entities[0].attributes["nvlinks_inactive"] == [3]
    assert (values["fabric_state_code"], values["fabric_status_code"]) == (3, 0)
    assert values["fabric_health_summary_code"] is Reason.UNSUPPORTED  # as the captured one says: N/A


async def test_a_blackwell_is_read_by_the_counters_of_nvlink_5() -> None:
    values = await health_of(b200())
    assert values["nvlink_transmit_bytes_total"] == 7_000_000_000_000
    assert values["nvlink_recoveries_total"] == 2
    assert (values["nvlink_symbol_errors_total"], values["nvlink_crc_flit_errors_total"]) == (31, Reason.UNSUPPORTED)
    assert values["nvlink_symbol_bit_error_ratio"] == 2e-14
    assert (values["fabric_route_unhealthy_flag"], values["fabric_health_summary_code"]) == (0, 1)


async def test_an_older_gpu_is_read_by_the_older_counters() -> None:
    values = await health_of(a100())
    assert (values["nvlink_transmit_bytes_total"], values["nvlink_crc_flit_errors_total"]) == (0, 0)
    assert values["nvlink_symbol_errors_total"] is Reason.UNSUPPORTED
    assert values["throttled_thermal_seconds_total"] == 0.0
    assert values["throttled_hardware_thermal_seconds_total"] is Reason.UNSUPPORTED


async def test_an_l4_has_no_links_and_says_so() -> None:
    values = await health_of(l4())
    names = [name for name in EVERY_HEALTH_FIELD if name.startswith(("nvlink_", "fabric_"))]
    assert {values[name] for name in names} == {Reason.UNSUPPORTED}
    assert (values["persistence_mode_flag"], values["pcie_link_generation_code"]) == (0, 4)


async def test_things_that_a_gpu_does_not_have_are_looked_for_once() -> None:
    driver = FakeNvml(l4())
    async with collecting(driver) as collector:
        for second in (0, HEALTH_SECONDS, 2 * HEALTH_SECONDS):
            await collector.collect(at(second))
    assert (driver.asked.count("nvlinks"), driver.asked.count("fabric")) == (1, 1)


async def test_what_is_wrong_with_the_slow_tier_is_said_until_it_is_read_again() -> None:
    gpu = h200()
    gpu.refusals = {"persistence_enabled": NvmlRefused(Reason.NO_PERMISSION, "nvmlDeviceGetPersistenceMode: no")}
    async with collecting(FakeNvml(gpu)) as collector:
        outcomes = [(await collector.collect(at(0))).outcome, (await collector.collect(at(1))).outcome]
        gpu.refusals = {}
        outcomes += [(await collector.collect(at(second))).outcome for second in (9, 10, 11)]
    assert outcomes == [Outcome.PARTIAL] * 3 + [Outcome.OK] * 2


def test_every_action_has_a_name_even_those_to_come() -> None:
    assert [recovery_action(code) for code in range(8)] == list(RECOVERY_ACTIONS)
    assert (recovery_action(42), recovery_action(Reason.UNSUPPORTED)) == ("action_42", None)


# -- processes ------------------------------------------------------------------------------------


def did(pid: int, ratio: float, stamp: int = 1) -> ProcessUtilization:
    return ProcessUtilization(pid=pid, taken_at_microseconds=stamp, sm_utilization_ratio=ratio)


@pytest.mark.parametrize(
    ("samples", "gpu_idle", "expected"),
    [
        ([did(7, 0.5), did(7, 0.7)], False, {7: 0.6, 8: 0.0}),
        ([], True, {7: 0.0, 8: 0.0}),
        ([], False, dict.fromkeys((7, 8), Reason.NOT_COLLECTED)),  # somebody works: the driver does not say who
        ([did(7, 0.5), did(4711, 0.5)], False, {7: 0.5, 8: Reason.NOT_COLLECTED}),  # pids of another namespace
    ],
)
def test_a_process_that_is_not_named_did_nothing_only_where_that_is_certain(
    samples: list[ProcessUtilization], gpu_idle: bool, expected: dict[int, object]
) -> None:
    assert shares_of([7, 8], samples, gpu_idle=gpu_idle) == pytest.approx(expected)


async def test_processes_carry_what_they_did_since_the_reading_before() -> None:
    gpu = h200()
    gpu.compute_processes = [GpuProcess(pid=7, used_bytes=1), GpuProcess(pid=8, used_bytes=2)]
    start = round(at(0).wall.timestamp() * 1e6)
    gpu.process_utilization = [did(7, 0.9, start - 1_000_000), did(7, 0.1, start - 3_000_000)]
    async with collecting(FakeNvml(gpu)) as collector:
        (first,) = (await collector.collect(at(0))).entities
        gpu.process_utilization.append(did(8, 0.25, start + 1_000_000))
        (second,) = (await collector.collect(at(HEALTH_SECONDS))).entities
    shares = [
        {process["pid"]: process["sm_utilization_ratio"] for process in entity.attributes["processes"]}
        for entity in (first, second)
        if isinstance(entity.attributes["processes"], list)
    ]
    assert shares == [{7: 0.9, 8: 0.0}, {7: 0.0, 8: 0.25}]


async def test_a_gpu_that_does_not_tell_what_processes_do_says_why() -> None:
    gpu = h200()
    gpu.compute_processes = [GpuProcess(pid=7, used_bytes=1)]
    gpu.process_utilization = Reason.UNSUPPORTED
    async with collecting(FakeNvml(gpu)) as collector:
        (entity,) = (await collector.collect(at(0))).entities
    assert isinstance(entity.attributes["processes"], list)
    (process,) = entity.attributes["processes"]
    assert (process["sm_utilization_ratio"], process["sm_utilization_unknown"]) == (None, "unsupported")


async def test_what_a_process_did_is_in_its_history_and_why_not() -> None:
    gpu = h200()
    gpu.compute_processes = [GpuProcess(pid=7, used_bytes=1)]
    ownership = Ownership(processes={7: None})
    step = AttributionStep(lambda: ownership, lambda _: None)
    shares = []
    async with collecting(FakeNvml(gpu)) as collector:
        for second, answer in ((0, [did(7, 0.5, round(at(0).wall.timestamp() * 1e6))]), (10, Reason.UNSUPPORTED)):
            gpu.process_utilization = answer
            collected = await collector.collect(at(second))
            tick = step(Tick(taken_at=at(second), entities=collected.entities, samples=collected.samples, reports=[]))
            shares += [s.values["sm_utilization_ratio"] for s in tick.samples if s.table == "gpu_process"]
    assert shares == [0.5, Reason.UNSUPPORTED]
