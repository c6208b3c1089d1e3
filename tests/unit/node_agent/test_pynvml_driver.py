"""PynvmlDriver over recorded answers of a real H200: units, error codes, buffers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pynvml
import pytest

from node_agent.clock import Instant
from node_agent.collectors.gpu_health import HEALTH_FIELDS, fabric_values
from node_agent.collectors.gpu_values import GpuReader
from node_agent.host.nvml import PynvmlDriver
from node_agent.host.nvml_facts import LinkState
from node_agent.host.nvml_fields import GpmMetric, GpuField
from node_agent.host.nvml_protocol import GpuLost, NvmlRefused, NvmlUnavailable
from node_agent.model import Reason
from tests.fakes.recorded_pynvml import RECORDING, RecordedPynvml

PHASES = {
    row["phase"]: row for row in map(json.loads, (RECORDING.parent / "h200-phases.jsonl").read_text().splitlines())
}


def at(seconds: float) -> Instant:
    return Instant(
        wall=datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=seconds), monotonic_seconds=1000 + seconds
    )


@pytest.fixture
def h200(monkeypatch: pytest.MonkeyPatch) -> RecordedPynvml:
    recording = RecordedPynvml()
    recording.install(monkeypatch)
    return recording


@pytest.fixture
def driver(h200: RecordedPynvml) -> PynvmlDriver:
    driver = PynvmlDriver()
    assert driver.open() == 1
    return driver


def test_the_identity_of_a_recorded_h200(driver: PynvmlDriver) -> None:
    identity = driver.identity(0)
    assert identity.name == "NVIDIA H200"
    assert identity.pci_bus_id == "00000000:00:06.0"
    assert (identity.driver_version, identity.cuda_version) == ("580.159.04", "13.0")
    assert (identity.architecture, identity.compute_capability, identity.cuda_cores) == ("hopper", "9.0", 16896)
    assert (identity.power_limit_minimum_watts, identity.power_limit_maximum_watts) == (200.0, 700.0)
    assert (identity.temperature_shutdown_celsius, identity.temperature_slowdown_celsius) == (95, 89)
    assert (identity.mig_enabled, identity.ecc_enabled, identity.persistence_enabled) == (False, True, True)
    assert identity.gpm_supported is True


def test_what_a_board_is_made_of_is_read_once_and_what_failed_again(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.errors["nvmlDeviceGetSerial"] = pynvml.NVML_ERROR_TIMEOUT
    first = driver.identity(0)
    assert first.serial is None
    del h200.errors["nvmlDeviceGetSerial"]
    h200.answers["nvmlDeviceGetPersistenceMode"] = 0
    h200.calls.clear()
    second = driver.identity(0)
    assert "nvmlDeviceGetMaxClockInfo" not in h200.calls
    assert "nvmlDeviceGetTemperatureThreshold" not in h200.calls
    assert second.serial is not None
    assert second.sm_clock_maximum_megahertz == first.sm_clock_maximum_megahertz is not None
    assert (first.persistence_enabled, second.persistence_enabled) == (True, False)
    h200.answers["nvmlDeviceGetUUID"] = "GPU-another"  # another board at this index
    h200.calls.clear()
    driver.identity(0)
    assert "nvmlDeviceGetMaxClockInfo" in h200.calls


def test_units_are_converted_once(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.fields[74]["value"] = 1_500_000_000  # ns
    h200.gpm[pynvml.NVML_GPM_METRIC_SM_UTIL] = (0, 96.313)  # percent
    h200.gpm[pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC] = (0, 2.0)  # MiB/s
    fields = driver.field_values(0, tuple(GpuField))
    assert fields[GpuField.POWER_AVERAGE_WATTS] == 79.717
    assert fields[GpuField.THROTTLED_POWER_CAP_SECONDS] == 1.5
    assert driver.energy_joules(0) == 2180.464
    assert driver.power_usage_watts(0) == 116.069
    driver.gpm_rates(0)
    rates = driver.gpm_rates(0)
    assert rates is not None
    assert rates[GpmMetric.SM_ACTIVE_RATIO] == pytest.approx(0.96313)
    assert rates[GpmMetric.PCIE_RECEIVE_BYTES_PER_SECOND] == 2 * 1024 * 1024


def test_no_call_is_ever_made_to_the_20_ms_pcie_counter(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    reader = GpuReader(driver, 0, now=at(0), proc_root=Path("/nonexistent"))
    reader.look(at(0))
    reader.look(at(61))
    assert "nvmlDeviceGetPcieThroughput" not in h200.calls
    assert h200.calls.count("nvmlGpmSampleAlloc") == 2


@pytest.mark.parametrize(
    ("code", "absent", "words"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, True, "libnvidia-ml.so.1 was not found"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, True, "kernel module is not loaded"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, False, "only a restart of the agent"),
        (pynvml.NVML_ERROR_NO_PERMISSION, False, "Insufficient Permissions"),
        (pynvml.NVML_ERROR_UNKNOWN, False, "Unknown Error"),
    ],
)
def test_a_driver_that_does_not_start_says_why(h200: RecordedPynvml, code: int, absent: bool, words: str) -> None:
    h200.errors["nvmlInit"] = code
    with pytest.raises(NvmlUnavailable, match=words) as caught:
        PynvmlDriver().open()
    assert caught.value.absent is absent


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_NOT_SUPPORTED, Reason.UNSUPPORTED),
        (pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, Reason.UNSUPPORTED),
        (pynvml.NVML_ERROR_NO_PERMISSION, Reason.NO_PERMISSION),
        (pynvml.NVML_ERROR_TIMEOUT, Reason.TIMED_OUT),
        (pynvml.NVML_ERROR_NOT_FOUND, Reason.NOT_COLLECTED),
        (pynvml.NVML_SUCCESS, Reason.NOT_COLLECTED),
        (pynvml.NVML_ERROR_RESET_REQUIRED, Reason.ERROR),
        (4711, Reason.ERROR),  # a code of a driver to come
    ],
)
def test_each_error_code_has_its_reason(h200: RecordedPynvml, driver: PynvmlDriver, code: int, reason: Reason) -> None:
    h200.errors["nvmlDeviceGetUtilizationRates"] = code
    with pytest.raises(NvmlRefused) as caught:
        driver.utilization(0)
    assert caught.value.reason is reason
    assert "nvmlDeviceGetUtilizationRates" in str(caught.value)


def test_a_lost_gpu_is_told_from_a_refused_call(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.errors["nvmlDeviceGetUtilizationRates"] = pynvml.NVML_ERROR_GPU_IS_LOST
    with pytest.raises(GpuLost):
        driver.utilization(0)


def test_a_gpu_lost_in_the_middle_of_a_batch_is_lost(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.fields[94] = {"error": pynvml.NVML_ERROR_GPU_IS_LOST}
    with pytest.raises(GpuLost):
        driver.field_values(0, tuple(GpuField))


def test_one_field_that_fails_does_not_take_the_batch_along(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.fields[270] = {"error": pynvml.NVML_ERROR_INVALID_ARGUMENT}  # what old drivers say to new numbers
    h200.fields[94] = {"error": pynvml.NVML_ERROR_UNKNOWN}
    answers = driver.field_values(0, tuple(GpuField))
    assert answers[GpuField.THROTTLED_HARDWARE_THERMAL_SECONDS] is Reason.UNSUPPORTED
    assert answers[GpuField.PCIE_REPLAYS] is Reason.ERROR
    assert answers[GpuField.TEMPERATURE_MEMORY_CELSIUS] == 39


@pytest.mark.parametrize("name", ["nvmlDeviceGetTemperatureV", "nvmlDeviceGetCurrentClocksEventReasons"])
def test_older_drivers_are_asked_by_the_older_name(h200: RecordedPynvml, driver: PynvmlDriver, name: str) -> None:
    h200.errors[name] = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    h200.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = 4
    assert driver.temperature_celsius(0) == 38.0
    assert driver.clock_event_reasons(0) in (1, 4)


def test_power_samples_of_zero_are_holes(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.add_power(400_000, 0, 858_000)
    assert [sample.watts for sample in driver.power_samples(0, since_microseconds=0)] == [400.0, 858.0]


def test_a_process_without_a_size_keeps_an_unknown_size(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.answers["nvmlDeviceGetComputeRunningProcesses"] = [{"pid": 7, "usedGpuMemory": None}]
    (process,) = driver.compute_processes(0)
    assert (process.pid, process.used_bytes) == (7, None)


def test_closing_gives_the_gpm_buffers_back(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    driver.gpm_rates(0)
    assert len(h200.gpm_buffers) == 2
    driver.close()
    assert not h200.gpm_buffers


def test_closing_survives_a_driver_that_has_gone(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    driver.gpm_rates(0)
    gone = pynvml.NVML_ERROR_UNINITIALIZED
    h200.errors |= {"nvmlShutdown": gone, "nvmlGpmSampleFree": gone}
    driver.close()
    with pytest.raises(NvmlUnavailable):
        driver.utilization(0)


def play(h200: RecordedPynvml, phase: str) -> None:
    """Puts one row of the phases recording into the answers."""
    h200.show(PHASES[phase])


@pytest.mark.parametrize(
    ("phase", "classic", "sm_active", "tensor_active", "dram_active"),
    [
        ("idle", 0.0, 0.0, 0.0, 0.0),
        ("bf16_matmul", 1.0, 0.96, 0.93, 0.17),
        ("mem_copy", 1.0, 1.0, 0.0, 0.89),
        ("pcie_h2d", 1.0, 0.0, 0.0, 0.01),
        ("decode_like_gemv", 0.99, 0.84, 0.03, 0.81),
    ],
)
def test_gpm_tells_loads_apart_that_look_alike_to_the_classic_utilisation(
    h200: RecordedPynvml,
    driver: PynvmlDriver,
    phase: str,
    classic: float,
    sm_active: float,
    tensor_active: float,
    dram_active: float,
) -> None:
    play(h200, phase)
    reader = GpuReader(driver, 0, now=at(0), proc_root=Path("/nonexistent"))
    reader.look(at(0))
    values = reader.look(at(1)).values
    assert values["gpu_utilization_ratio"] == classic
    assert values["sm_active_ratio"] == pytest.approx(sm_active, abs=0.01)
    assert values["tensor_active_ratio"] == pytest.approx(tensor_active, abs=0.01)
    assert values["dram_active_ratio"] == pytest.approx(dram_active, abs=0.01)


def test_nvlink_traffic_is_that_of_all_links_and_in_bytes(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.fields[138] = {"value_type": 3, "value": 5}  # made by hand: the recorded H200 has no links; KiB
    answers = driver.field_values(0, [GpuField.NVLINK_TRANSMIT_BYTES])
    assert answers == {GpuField.NVLINK_TRANSMIT_BYTES: 5120}
    assert h200.scopes == {138: {0xFFFFFFFF}}


def test_xids_of_the_event_set_are_given_once(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.xids = [79, 31]
    assert [event.number for event in driver.xid_events()] == [79, 31]
    assert list(driver.xid_events()) == []


def test_a_driver_that_refuses_not_to_wait_is_waited_for_as_briefly_as_can_be(
    h200: RecordedPynvml, driver: PynvmlDriver
) -> None:
    h200.shortest_wait, h200.xids = 1, [79]
    assert [event.number for event in driver.xid_events()] == [79]
    assert list(driver.xid_events()) == []


def test_a_driver_without_an_event_set_is_refused_and_nothing_is_kept(
    h200: RecordedPynvml, driver: PynvmlDriver
) -> None:
    h200.errors["nvmlDeviceRegisterEvents"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    for _ in range(3):
        with pytest.raises(NvmlRefused, match="nvmlDeviceRegisterEvents"):
            driver.xid_events()
    assert not h200.event_sets


def test_what_came_before_a_gpu_fell_off_the_bus_is_told(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.xids, h200.no_more_xids = [79], pynvml.NVML_ERROR_GPU_IS_LOST
    h200.errors["nvmlDeviceGetIndex"] = pynvml.NVML_ERROR_GPU_IS_LOST  # its address is known all the same
    assert [(event.index, event.number) for event in driver.xid_events()] == [(0, 79)]
    with pytest.raises(GpuLost):
        driver.xid_events()


def test_an_xid_of_a_gpu_that_nobody_can_name_is_not_lost(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    h200.xids, h200.xid_address = [79], 0x9999
    h200.errors["nvmlDeviceGetIndex"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert [(event.index, event.number) for event in driver.xid_events()] == [(None, 79)]


def test_the_counters_of_nvlink_5_are_those_of_all_links(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    packed = 2 << 8 | 14  # made by hand: a mantissa and a negative exponent
    h200.fields[202] = {"value_type": 3, "value": 7_000}
    h200.fields[222] = {"value_type": 3, "value": packed}
    h200.fields[220] = {"value_type": 3, "value": 0xFFF}
    answers = driver.field_values(0, HEALTH_FIELDS)
    assert answers[GpuField.NVLINK5_TRANSMIT_BYTES] == 7_000
    assert answers[GpuField.NVLINK_SYMBOL_BIT_ERROR_RATIO] == pytest.approx(2e-14)
    assert answers[GpuField.NVLINK_EFFECTIVE_BIT_ERROR_RATIO] == 0.0
    assert h200.scopes[202] == h200.scopes[222] == {0xFFFFFFFF}


def test_only_links_that_are_there_are_asked_again(h200: RecordedPynvml, driver: PynvmlDriver) -> None:
    for link, state in ((0, 1), (1, 0), (2, 2)):
        h200.scoped |= {
            (165, link): {"value_type": 1, "value": state},
            (164, link): {"value_type": 1, "value": 26562 if state else 0},
            (166, link): {"value_type": 1, "value": 6},
        }
    links = driver.nvlinks(0)
    assert [link.state for link in links] == [LinkState.ACTIVE, LinkState.INACTIVE, LinkState.SLEEP]
    assert [link.speed_bytes_per_second for link in links] == [26.562e9, None, 26.562e9]
    h200.scopes.clear()
    assert driver.nvlinks(0) == links
    assert h200.scopes == {165: {0, 1, 2}, 164: {0, 1, 2}}
    assert {link.version for link in links} == {"4.0"}


def test_a_gpu_without_links_and_fabric_says_so(driver: PynvmlDriver) -> None:
    for ask in (driver.nvlinks, driver.fabric, driver.fan_speed_ratio):
        with pytest.raises(NvmlRefused) as caught:
            ask(0)
        assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("newest", ["nvmlGpuFabricInfo_v2", "nvmlGpuFabricInfo_v3"])
def test_the_fabric_is_read_by_what_the_driver_knows(h200: RecordedPynvml, driver: PynvmlDriver, newest: str) -> None:
    h200.newest_fabric_info = getattr(pynvml, newest)
    h200.fabric = {"state": 3, "status": 0, "cliqueId": 7, "healthMask": 0x21AA, "healthSummary": 1}
    fabric = driver.fabric(0)
    values = fabric_values(fabric)
    assert (fabric.state_code, fabric.clique_id, fabric.cluster_uuid) == (3, 7, None)
    assert values["fabric_route_unhealthy_flag"] == 0
    assert values["fabric_incorrect_configuration_code"] == 1
    assert values["fabric_health_summary_code"] == (1 if newest.endswith("3") else Reason.UNSUPPORTED)


def test_what_processes_did_comes_from_the_older_call_where_the_newer_is_missing(
    h200: RecordedPynvml, driver: PynvmlDriver
) -> None:
    absurd = {"pid": 8, "timeStamp": 12, "smUtil": 4_000_000_000}  # seen by users of nvtop
    h200.process_utilization = [
        {"pid": 7, "timeStamp": 11, "smUtil": 40},
        absurd,
        {"pid": 7, "timeStamp": 9, "smUtil": 1},
    ]
    found = driver.process_utilization(0, since_microseconds=10)
    assert [(sample.pid, sample.sm_utilization_ratio) for sample in found] == [(7, 0.4)]
    assert driver.process_utilization(0, since_microseconds=99) == []
