"""GpuCollector over a fake NVML: what is unknown and why, and how NVML's failures are lived through."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node_agent.clock import Instant
from node_agent.collectors.gpu import LOST_GPU, NO_DRIVER, GpuCollector
from node_agent.collectors.gpu_health import HEALTH_SECONDS
from node_agent.collectors.gpu_values import IDENTITY_SECONDS
from node_agent.host.nvml_facts import GpuProcess, PowerSample
from node_agent.host.nvml_fields import GpmMetric, GpuField, MediaEngine
from node_agent.host.nvml_protocol import Nvml, NvmlRefused
from node_agent.model import Collected, Outcome, Reason, Value
from optiinfra.catalogue import TABLES
from tests.fakes.gpus import GALLERY, a100, h200
from tests.fakes.nvml import NO_LIBRARY, WRONG_VERSION, FakeNvml

EVERY_FIELD = {spec.name for spec in TABLES["gpu"].fields}
EVERY_HEALTH_FIELD = {spec.name for spec in TABLES["gpu_health"].fields}
GPM_FIELDS = {metric.name.lower() for metric in GpmMetric}
MORNING = datetime(2026, 11, 22, 8, tzinfo=UTC)


def at(seconds: float) -> Instant:
    return Instant(wall=MORNING + timedelta(seconds=seconds), monotonic_seconds=1000 + seconds)


@asynccontextmanager
async def collecting(driver: Nvml, proc_root: Path = Path("/nonexistent")) -> AsyncIterator[GpuCollector]:
    collector = GpuCollector(driver, proc_root=proc_root, kernel_log=Path("/nonexistent"))
    try:
        yield collector
    finally:
        await collector.close()


def values_of(collected: Collected, table: str = "gpu") -> list[Mapping[str, Value]]:
    return [sample.values for sample in collected.samples if sample.table == table]


def only_values(collected: Collected, table: str = "gpu") -> Mapping[str, Value]:
    (values,) = values_of(collected, table)
    return values


async def second_look(driver: FakeNvml) -> Collected:
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        return await collector.collect(at(1))


async def test_every_field_of_the_catalogue_is_answered() -> None:
    for make in GALLERY:
        driver = FakeNvml(make())
        async with collecting(driver) as collector:
            first, second = await collector.collect(at(0)), await collector.collect(at(1))
        assert only_values(second).keys() == EVERY_FIELD
        assert only_values(first, "gpu_health").keys() == EVERY_HEALTH_FIELD


async def test_a_healthy_h200_is_read_whole() -> None:
    gpu = h200()
    gpu.power_samples = [PowerSample(taken_at_microseconds=1, watts=500.0)]
    driver = FakeNvml(gpu)
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        gpu.power_samples += [
            PowerSample(taken_at_microseconds=2, watts=400.0),
            PowerSample(taken_at_microseconds=3, watts=858.0),
        ]
        collected = await collector.collect(at(1))
    values = only_values(collected)
    assert (collected.outcome, collected.detail) == (Outcome.OK, "")
    assert not [name for name, value in values.items() if isinstance(value, Reason)]
    assert values["sm_active_ratio"] == 0.96313
    assert values["power_draw_watts"] == 79.717
    assert values["power_draw_mean_watts"] == 629.0
    assert values["power_draw_peak_watts"] == 858.0
    assert values["energy_joules_total"] == 6900.522


async def test_no_library_is_absent_and_never_zero() -> None:
    async with collecting(FakeNvml(unavailable=NO_LIBRARY)) as collector:
        collected = await collector.collect(at(0))
    assert collected.outcome is Outcome.ABSENT
    assert collected.detail == "no NVIDIA driver on this host: libnvidia-ml.so.1 was not found"
    assert not collected.samples and not collected.entities


async def test_a_driver_without_a_gpu_is_absent() -> None:
    async with collecting(FakeNvml()) as collector:
        collected = await collector.collect(at(0))
    assert collected.outcome is Outcome.ABSENT
    assert "no GPU" in collected.detail


async def test_a_broken_driver_is_a_failure_and_not_an_absence() -> None:
    async with collecting(FakeNvml(unavailable=WRONG_VERSION)) as collector:
        collected = await collector.collect(at(0))
    assert collected.outcome is Outcome.FAILED
    assert "upgraded" in collected.detail


async def test_a_late_driver_is_picked_up_without_trying_at_every_tick() -> None:
    driver = FakeNvml(h200(), unavailable=NO_LIBRARY)
    async with collecting(driver) as collector:
        for second in range(4):
            assert (await collector.collect(at(second))).outcome is Outcome.ABSENT
        assert driver.opened == 1
        driver.unavailable = None
        assert (await collector.collect(at(NO_DRIVER.first_seconds))).outcome is Outcome.OK


async def test_tries_grow_rarer_up_to_a_limit() -> None:
    driver = FakeNvml(unavailable=NO_LIBRARY)
    async with collecting(driver) as collector:
        for second in range(300):
            await collector.collect(at(second))
        assert driver.opened == 8  # after 0, 5, 15, 35, 75, 135, 195 and 255 s


async def test_a_lost_gpu_reports_device_lost_and_never_zero() -> None:
    driver = FakeNvml(h200(0), h200(1))
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.gpus[1].is_lost = True
        collected = await collector.collect(at(1))
    healthy, lost = values_of(collected)
    assert collected.outcome is Outcome.PARTIAL
    assert "GPU 1 (GPU-4572407f-88e2-a5aa-8176-d5a782c73001, PCI 00000000:01:06.0) is lost" in collected.detail
    assert lost == dict.fromkeys(EVERY_FIELD, Reason.DEVICE_LOST)
    assert healthy["sm_active_ratio"] == 0.96313


async def test_a_lost_gpu_stays_reported_until_it_is_back() -> None:
    driver = FakeNvml(h200(0), h200(1))
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.gpus[1].is_lost = True
        for seconds in (1, 2, 1 + LOST_GPU.first_seconds):  # the last one opens anew, in vain
            assert (await collector.collect(at(seconds))).outcome is Outcome.PARTIAL
        assert driver.opened == 2
        driver.gpus[1].is_lost = False
        back = await collector.collect(at(1 + 3 * LOST_GPU.first_seconds))
        assert (back.outcome, len(values_of(back))) == (Outcome.OK, 2)
        assert Reason.DEVICE_LOST not in values_of(back)[1].values()


async def test_a_gpu_that_left_the_bus_altogether_is_lost_and_not_forgotten() -> None:
    driver = FakeNvml(h200(0))
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.gpus[0].is_lost = True
        await collector.collect(at(1))
        driver.gpus.clear()
        collected = await collector.collect(at(1 + LOST_GPU.first_seconds))
    assert collected.outcome is Outcome.PARTIAL
    assert only_values(collected) == dict.fromkeys(EVERY_FIELD, Reason.DEVICE_LOST)


async def test_a_gpu_lost_before_the_agent_began_is_named_in_the_detail() -> None:
    driver = FakeNvml(h200(0), h200(1))
    driver.gpus[1].is_lost = True
    async with collecting(driver) as collector:
        collected = await collector.collect(at(0))
    assert (collected.outcome, len(values_of(collected))) == (Outcome.PARTIAL, 1)
    assert "the GPU at index 1 cannot be opened" in collected.detail


async def test_a_driver_that_goes_away_leaves_every_value_unknown() -> None:
    driver = FakeNvml(h200())
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.unavailable = WRONG_VERSION
        collected = await collector.collect(at(1))
        assert collected.outcome is Outcome.FAILED
        assert only_values(collected) == dict.fromkeys(EVERY_FIELD, Reason.ERROR)
        driver.unavailable = None
        assert (await collector.collect(at(1 + NO_DRIVER.first_seconds))).outcome is Outcome.OK


async def test_a_gpu_whose_values_are_unknown_shows_no_processes_of_the_past() -> None:
    driver = FakeNvml(h200())
    driver.gpus[0].compute_processes = [GpuProcess(pid=7, used_bytes=1)]
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.gpus[0].is_lost = True
        (entity,) = (await collector.collect(at(1))).entities
    assert entity.attributes["name"] == "NVIDIA H200"
    assert entity.attributes["processes"] is None


async def test_gpm_is_a_first_sample_then_a_value() -> None:
    async with collecting(FakeNvml(h200())) as collector:
        first = only_values(await collector.collect(at(0)))
        assert {first[name] for name in GPM_FIELDS} == {Reason.FIRST_SAMPLE}
        assert not isinstance(only_values(await collector.collect(at(1)))["sm_active_ratio"], Reason)


async def test_gpm_samples_closer_than_100_ms_are_not_collected() -> None:
    async with collecting(FakeNvml(h200())) as collector:
        await collector.collect(at(0))
        close = only_values(await collector.collect(at(0.09)))
        assert {close[name] for name in GPM_FIELDS} == {Reason.NOT_COLLECTED}
        assert only_values(await collector.collect(at(0.2)))["sm_active_ratio"] == 0.96313


async def test_a_gpu_without_gpm_says_unsupported_and_keeps_its_classic_values() -> None:
    values = only_values(await second_look(FakeNvml(a100())))
    assert {values[name] for name in GPM_FIELDS} == {Reason.UNSUPPORTED}
    assert values["gpu_utilization_ratio"] == 1.0


async def test_one_gpm_metric_that_the_gpu_lacks_does_not_take_the_others_along() -> None:
    gpu = h200()
    assert not isinstance(gpu.gpm_rates, Reason)
    gpu.gpm_rates[GpmMetric.NVLINK_TRANSMIT_BYTES_PER_SECOND] = Reason.UNSUPPORTED
    gpu.gpm_rates[GpmMetric.FP64_ACTIVE_RATIO] = float("nan")
    gpu.gpm_rates[GpmMetric.DRAM_ACTIVE_RATIO] = 1.0000001
    values = only_values(await second_look(FakeNvml(gpu)))
    assert values["nvlink_transmit_bytes_per_second"] is Reason.UNSUPPORTED
    assert values["fp64_active_ratio"] is Reason.NOT_A_NUMBER
    assert values["dram_active_ratio"] == 1.0
    assert values["sm_active_ratio"] == 0.96313


async def test_a_gpm_window_in_which_no_counter_moved_is_not_read_as_idle() -> None:
    gpu = h200()
    gpu.gpm_rates = {**dict.fromkeys(GpmMetric, 0.0), GpmMetric.DRAM_ACTIVE_RATIO: float("nan")}  # 20 ms on an H200
    values = only_values(await second_look(FakeNvml(gpu)))
    assert {values[name] for name in GPM_FIELDS} == {Reason.NOT_COLLECTED}


async def test_an_idle_gpu_is_idle_and_not_unknown() -> None:
    gpu = h200()
    gpu.gpm_rates = dict.fromkeys(GpmMetric, 0.0)
    assert only_values(await second_look(FakeNvml(gpu)))["sm_active_ratio"] == 0.0


async def test_fields_that_a_gpu_lacks_are_asked_for_once() -> None:
    driver = FakeNvml(a100())
    async with collecting(driver) as collector:
        first = await collector.collect(at(0))
        await collector.collect(at(HEALTH_SECONDS))
    fast, slow, fast_again, slow_again = map(set, driver.asked_fields)
    assert fast | slow == set(GpuField)
    assert (fast | slow) - (fast_again | slow_again) == {
        known for known, r in driver.gpus[0].field_values.items() if r is Reason.UNSUPPORTED
    }
    assert only_values(first, "gpu_health")["throttled_hardware_thermal_seconds_total"] is Reason.UNSUPPORTED


async def test_a_field_that_failed_once_is_asked_for_again() -> None:
    driver = FakeNvml(h200())
    driver.gpus[0].field_values[GpuField.PCIE_REPLAYS] = Reason.ERROR
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        await collector.collect(at(HEALTH_SECONDS))
    assert GpuField.PCIE_REPLAYS in driver.asked_fields[-1]


async def test_fields_are_probed_anew_when_the_mig_mode_changes() -> None:
    gpu = a100()
    driver = FakeNvml(gpu)
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        gpu.identity = replace(gpu.identity, mig_enabled=True)
        await collector.collect(at(IDENTITY_SECONDS))
    assert set(driver.asked_fields[-1]) | set(driver.asked_fields[-2]) == set(GpuField)


async def test_power_falls_back_where_the_driver_lacks_the_field() -> None:
    values = only_values(await second_look(FakeNvml(a100())))
    assert (values["power_draw_watts"], values["power_limit_watts"]) == (312.5, 400.0)


async def test_power_samples_from_before_the_first_tick_make_no_mean() -> None:
    gpu = h200()
    gpu.power_samples = [PowerSample(taken_at_microseconds=1, watts=500.0)]
    async with collecting(FakeNvml(gpu)) as collector:
        values = only_values(await collector.collect(at(0)))
        assert values["power_draw_mean_watts"] is Reason.FIRST_SAMPLE
        assert only_values(await collector.collect(at(1)))["power_draw_peak_watts"] is Reason.NOT_COLLECTED


async def test_a_clock_set_back_does_not_silence_power_samples_for_long() -> None:
    gpu = h200()
    gpu.power_samples = [PowerSample(taken_at_microseconds=9_000, watts=500.0)]
    async with collecting(FakeNvml(gpu)) as collector:
        await collector.collect(at(0))
        gpu.power_samples = [PowerSample(taken_at_microseconds=1_000, watts=300.0)]
        await collector.collect(at(1))  # nothing newer than 9000: starts anew
        await collector.collect(at(2))
        gpu.power_samples.append(PowerSample(taken_at_microseconds=2_000, watts=310.0))
        assert only_values(await collector.collect(at(3)))["power_draw_mean_watts"] == 310.0


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Reason.UNSUPPORTED, Outcome.OK),  # the GPU has no such thing: nothing is wrong
        (Reason.NO_PERMISSION, Outcome.PARTIAL),
        (Reason.ERROR, Outcome.PARTIAL),
    ],
)
async def test_a_refused_call_gives_its_reason_and_leaves_the_rest(reason: Reason, outcome: Outcome) -> None:
    gpu = h200()
    gpu.refusals = {"utilization": NvmlRefused(reason, "nvmlDeviceGetUtilizationRates: no")}
    collected = await second_look(FakeNvml(gpu))
    values = only_values(collected)
    assert values["gpu_utilization_ratio"] is reason
    assert values["memory_controller_utilization_ratio"] is reason
    assert values["temperature_gpu_celsius"] == 59.0
    assert collected.outcome is outcome
    assert ("nvmlDeviceGetUtilizationRates: no" in collected.detail) == (outcome is Outcome.PARTIAL)


async def test_a_refused_call_is_asked_again_at_the_next_tick() -> None:
    gpu = h200()
    gpu.refusals = {"utilization": NvmlRefused(Reason.UNSUPPORTED, "MIG is on")}
    async with collecting(FakeNvml(gpu)) as collector:
        assert only_values(await collector.collect(at(0)))["gpu_utilization_ratio"] is Reason.UNSUPPORTED
        gpu.refusals = {}
        assert only_values(await collector.collect(at(1)))["gpu_utilization_ratio"] == 1.0


async def test_the_entity_carries_the_identity_as_json(tmp_path: Path) -> None:
    gpu = h200()
    gpu.compute_processes = [GpuProcess(pid=41, used_bytes=9), GpuProcess(pid=42, used_bytes=None)]
    (tmp_path / "41").mkdir()
    (tmp_path / "41" / "comm").write_text("VLLM::EngineCor\n")
    async with collecting(FakeNvml(gpu), proc_root=tmp_path) as collector:
        collected = await collector.collect(at(0))
    (entity,) = collected.entities
    attributes = json.loads(json.dumps(entity.attributes))
    # The GPU works, and the driver names nobody: who did nothing cannot be told.
    nothing_done = {"sm_utilization_ratio": None, "sm_utilization_unknown": "not_collected", "gpu_instance_id": None}
    assert entity.key == gpu.identity.uuid
    assert attributes["sm_count"] == 132
    assert attributes["mig_enabled"] is False
    assert attributes["processes"] == [
        {"pid": 41, "name": "VLLM::EngineCor", "used_bytes": 9} | nothing_done,
        {"pid": 42, "name": None, "used_bytes": None} | nothing_done,
    ]
    assert only_values(collected, "gpu_health")["compute_processes_count"] == 2


async def test_a_changed_power_limit_shows_within_a_minute() -> None:
    gpu = h200()
    changed = h200()
    async with collecting(FakeNvml(gpu)) as collector:
        await collector.collect(at(0))
        gpu.identity = a100().identity
        assert (await collector.collect(at(1))).entities[0].attributes["name"] == changed.identity.name
        assert (await collector.collect(at(IDENTITY_SECONDS))).entities[0].attributes["name"] == gpu.identity.name


async def test_every_call_is_made_on_one_thread_that_is_not_the_event_loops() -> None:
    driver = FakeNvml(h200(0), h200(1))
    threads: set[int] = set()
    driver.before_each_call = lambda: threads.add(threading.get_ident())
    await second_look(driver)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def abandoned(collector: GpuCollector, wedge: threading.Event, set_wedge: Callable[[], None]) -> None:
    """Has a look wedged in the driver and gives it up, as the sampler does at its deadline."""
    set_wedge()
    look = asyncio.ensure_future(collector.collect(at(1)))
    await asyncio.get_running_loop().run_in_executor(None, wedge.wait)
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look


async def test_a_wedged_driver_is_never_called_twice_at_once() -> None:
    driver = FakeNvml(h200())
    wedged, release = threading.Event(), threading.Event()

    def wedge() -> None:
        wedged.set()
        release.wait(10)

    async with collecting(driver) as collector:
        await collector.collect(at(0))
        await abandoned(collector, wedged, lambda: setattr(driver, "before_each_call", wedge))
        stalled = await collector.collect(at(31))
        assert stalled.outcome is Outcome.TIMED_OUT
        assert "has not answered for 30 s" in stalled.detail
        assert only_values(stalled) == dict.fromkeys(EVERY_FIELD, Reason.HUNG)
        driver.before_each_call = lambda: None
        release.set()


async def test_closing_does_not_wait_for_a_wedged_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node_agent.collectors.gpu.CLOSE_SECONDS", 0.01)
    driver = FakeNvml(h200())
    wedged, release = threading.Event(), threading.Event()

    def wedge() -> None:
        wedged.set()
        release.wait(10)

    collector = GpuCollector(driver)
    await abandoned(collector, wedged, lambda: setattr(driver, "before_each_call", wedge))
    await collector.close()
    assert not release.is_set()
    release.set()


async def test_details_of_many_broken_gpus_stay_short() -> None:
    driver = FakeNvml(*(h200(index) for index in range(8)))
    for gpu in driver.gpus:
        gpu.is_lost = True
    async with collecting(driver) as collector:
        collected = await collector.collect(at(0))
    assert collected.detail.endswith("; and 3 more")


async def test_what_a_gpu_does_not_have_is_said_in_its_attributes_and_asked_once() -> None:
    gpu = a100()
    gpu.engines[MediaEngine.OPTICAL_FLOW] = Reason.UNSUPPORTED
    collected = await second_look(FakeNvml(gpu))
    unsupported = collected.entities[0].attributes["unsupported"]
    assert isinstance(unsupported, list)
    assert {"optical_flow_utilization_ratio", "sm_active_ratio"} <= set(unsupported)
    assert only_values(collected)["optical_flow_utilization_ratio"] is Reason.UNSUPPORTED
    assert only_values(collected)["encoder_utilization_ratio"] == 0.0
