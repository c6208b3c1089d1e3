"""What every Nvml must do: the fake, the real bindings over a recording, and the real driver on a real GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import pytest

from node_agent.collectors.gpu_gpm import GPM_NAMES
from node_agent.collectors.gpu_health import HEALTH_NAMES, fabric_values
from node_agent.collectors.gpu_instances import INSTANCE_METRICS
from node_agent.host.nvml import PynvmlDriver
from node_agent.host.nvml_facts import Bar1Memory, DeviceMemory, GpuInstance, PowerSample, Utilization
from node_agent.host.nvml_fields import GpmMetric, GpuField, MediaEngine
from node_agent.host.nvml_protocol import Nvml, NvmlError, NvmlRefused, NvmlUnavailable
from node_agent.model import Reason
from optiinfra.catalogue import TABLES
from tests.fakes.gpus import GALLERY
from tests.fakes.nvml import FakeGpu, FakeNvml
from tests.fakes.recorded_pynvml import RecordedPynvml


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An Nvml that is open, and how to let time pass for it."""

    nvml: Nvml
    pass_time: Callable[[], None]


def fake_subject(make: Callable[[], FakeGpu]) -> Callable[[pytest.MonkeyPatch], Subject]:
    def made(_: pytest.MonkeyPatch) -> Subject:
        gpu = make()

        def pass_time() -> None:
            last = gpu.power_samples[-1].taken_at_microseconds if gpu.power_samples else 0
            later = (last + n * 20_000 for n in (1, 2, 3))
            gpu.power_samples.extend(PowerSample(taken_at_microseconds=stamp, watts=400.0) for stamp in later)

        pass_time()
        return Subject(nvml=FakeNvml(gpu), pass_time=pass_time)

    return made


def recorded_subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    recording = RecordedPynvml()
    recording.install(monkeypatch)
    recording.add_power(400_000, 0, 410_000)
    return Subject(nvml=PynvmlDriver(), pass_time=lambda: recording.add_power(420_000, 430_000))


def recorded_mig_subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    recording = RecordedPynvml()
    recording.install(monkeypatch)
    recording.enter_mig_mode()
    recording.add_power(400_000, 410_000)
    return Subject(nvml=PynvmlDriver(), pass_time=lambda: recording.add_power(420_000, 430_000))


def real_subject(_: pytest.MonkeyPatch) -> Subject:
    driver = PynvmlDriver()
    try:
        count = driver.open()
    except NvmlUnavailable as unavailable:
        pytest.skip(f"NEEDS A REAL NVIDIA GPU: {unavailable}")
    if count == 0:
        pytest.skip("NEEDS A REAL NVIDIA GPU: the driver shows none")
    # A real driver takes its samples in real time: GPM wants 100 ms between two.
    return Subject(nvml=driver, pass_time=lambda: time.sleep(0.25))


SUBJECTS = [
    *(pytest.param(fake_subject(make), id=f"fake-{make.__name__}") for make in GALLERY),
    pytest.param(recorded_subject, id="recorded"),
    pytest.param(recorded_mig_subject, id="recorded-mig"),
    pytest.param(real_subject, id="real", marks=pytest.mark.gpu),
]


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    made: Subject = request.param(monkeypatch)
    assert made.nvml.open() > 0
    yield made
    made.nvml.close()


TABLES_OF_GPUS = ("gpu", "gpu_health", "gpu_instance")


def assert_possible(name: str, value: object) -> None:
    spec = {spec.name: spec for table in TABLES_OF_GPUS for spec in TABLES[table].fields}[name]
    assert isinstance(value, int | float), f"{name} is {value!r}"
    assert spec.minimum is not None and spec.maximum is not None
    assert spec.minimum <= value <= spec.maximum, f"{name} is {value}"


def test_an_identity_names_the_gpu(subject: Subject) -> None:
    identity = subject.nvml.identity(0)
    assert identity.uuid.startswith("GPU-")
    assert identity.index == 0
    assert identity.name and identity.driver_version
    assert identity.gpm_supported is not None


@pytest.mark.parametrize(
    ("shape", "method"), [(Utilization, "utilization"), (DeviceMemory, "memory"), (Bar1Memory, "bar1")]
)
def test_grouped_answers_bear_the_catalogues_names_and_ranges(subject: Subject, shape: type, method: str) -> None:
    try:
        answer = getattr(subject.nvml, method)(0)
    except NvmlRefused as refused:  # the classic utilisation, in MIG mode
        assert (shape, refused.reason) == (Utilization, Reason.UNSUPPORTED)
        assert subject.nvml.identity(0).mig_enabled
        return
    for part in fields(shape):
        assert_possible(part.name, getattr(answer, part.name))


def test_memory_used_does_not_contain_memory_reserved(subject: Subject) -> None:
    memory = subject.nvml.memory(0)
    assert (
        memory.memory_used_bytes + memory.memory_free_bytes + memory.memory_reserved_bytes <= memory.memory_total_bytes
    )


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("temperature_celsius", "temperature_gpu_celsius"),
        ("power_usage_watts", "power_draw_watts"),
        ("power_limit_watts", "power_limit_watts"),
        ("energy_joules", "energy_joules_total"),
        ("sm_clock_megahertz", "sm_clock_megahertz"),
        ("memory_clock_megahertz", "memory_clock_megahertz"),
        ("clock_event_reasons", "clock_event_reasons_bits"),
        ("performance_state", "performance_state_code"),
        ("pcie_link_generation", "pcie_link_generation_code"),
        ("pcie_link_lanes", "pcie_link_lanes_count"),
    ],
)
def test_single_answers_are_in_the_catalogues_units(subject: Subject, method: str, name: str) -> None:
    assert_possible(name, getattr(subject.nvml, method)(0))


@pytest.mark.parametrize("engine", list(MediaEngine))
def test_media_engines_are_ratios_or_refused(subject: Subject, engine: MediaEngine) -> None:
    try:
        ratio = subject.nvml.engine_utilization_ratio(0, engine)
    except NvmlRefused as refused:
        assert refused.reason is Reason.UNSUPPORTED
    else:
        assert_possible(f"{engine.value}_utilization_ratio", ratio)


def test_persistence_is_known(subject: Subject) -> None:
    assert subject.nvml.persistence_enabled(0) in (True, False)


def test_fans_are_a_ratio_or_refused(subject: Subject) -> None:
    try:
        ratio = subject.nvml.fan_speed_ratio(0)
    except NvmlRefused as refused:
        assert refused.reason is Reason.UNSUPPORTED
    else:
        assert_possible("fan_speed_ratio", ratio)


def test_nvlinks_are_each_told_once_and_the_same_ones_again(subject: Subject) -> None:
    try:
        first = subject.nvml.nvlinks(0)
    except NvmlRefused as refused:
        assert refused.reason is Reason.UNSUPPORTED
        return
    numbers = [link.number for link in first]
    assert numbers and len(numbers) == len(set(numbers))
    assert all(link.speed_bytes_per_second is None or 1e9 < link.speed_bytes_per_second < 1e12 for link in first)
    again = subject.nvml.nvlinks(0)
    assert [(link.number, link.version) for link in again] == [(link.number, link.version) for link in first]


def test_a_fabric_has_a_state_or_there_is_none(subject: Subject) -> None:
    try:
        fabric = subject.nvml.fabric(0)
    except NvmlRefused as refused:
        assert refused.reason is Reason.UNSUPPORTED
        return
    assert fabric.state_code in (1, 2, 3)
    assert all(name in fabric_values(fabric) for name in ("fabric_status_code", "fabric_route_unhealthy_flag"))


def test_power_is_in_watts_and_not_in_milliwatts(subject: Subject) -> None:
    assert 5 < subject.nvml.power_usage_watts(0) < 3000
    assert 50 < subject.nvml.power_limit_watts(0) < 3000


def test_every_wanted_field_is_answered_by_a_value_or_a_reason(subject: Subject) -> None:
    answers = subject.nvml.field_values(0, tuple(GpuField))
    assert set(answers) == set(GpuField)
    for wanted, name in HEALTH_NAMES.items():
        if not isinstance(answers[wanted], Reason):
            assert_possible(name, answers[wanted])


def test_only_wanted_fields_are_answered(subject: Subject) -> None:
    assert set(subject.nvml.field_values(0, [GpuField.PCIE_REPLAYS])) == {GpuField.PCIE_REPLAYS}
    assert subject.nvml.field_values(0, []) == {}


def test_power_samples_are_newer_than_asked_for_and_never_zero(subject: Subject) -> None:
    subject.pass_time()
    everything = subject.nvml.power_samples(0, since_microseconds=0)
    assert everything and all(sample.watts > 0 for sample in everything)
    newest = max(sample.taken_at_microseconds for sample in everything)
    subject.pass_time()
    newer = subject.nvml.power_samples(0, since_microseconds=newest)
    assert newer and all(sample.taken_at_microseconds > newest for sample in newer)


def test_no_power_samples_from_the_future(subject: Subject) -> None:
    assert list(subject.nvml.power_samples(0, since_microseconds=2**62)) == []


def require_gpm(subject: Subject) -> None:
    identity = subject.nvml.identity(0)
    if not identity.gpm_supported:
        pytest.skip("THIS GPU HAS NO GPM (it is older than Hopper)")
    if identity.mig_enabled:
        pytest.skip("THIS GPU IS IN MIG MODE: its instances are asked instead")


def instances_of(subject: Subject) -> Sequence[GpuInstance]:
    try:
        found = subject.nvml.instances(0)
    except NvmlRefused as refused:
        assert refused.reason is Reason.UNSUPPORTED
        found = ()
    if not found:
        pytest.skip("THIS GPU HAS NO INSTANCES (MIG mode is off, or it knows none)")
    return found


def test_only_a_gpu_in_mig_mode_has_instances(subject: Subject) -> None:
    try:
        found = subject.nvml.instances(0)
    except NvmlRefused as refused:
        assert refused.reason is Reason.UNSUPPORTED
        found = ()
    assert subject.nvml.identity(0).mig_enabled or not found


def test_instances_have_ids_compute_instances_and_memory(subject: Subject) -> None:
    found = instances_of(subject)
    numbers = [one.gpu_instance_id for one in found]
    assert len(numbers) == len(set(numbers))
    for one in found:
        assert one.compute_instances and all(part.uuid.startswith("MIG-") for part in one.compute_instances)
        assert one.profile and "." in one.profile and "c." not in one.profile
        memory = subject.nvml.instance_memory(0, one.gpu_instance_id)
        for part in fields(DeviceMemory):
            assert_possible(part.name, getattr(memory, part.name))
        assert subject.nvml.instance_sram_errors(0, one.gpu_instance_id) >= 0
    assert list(subject.nvml.instances(0)) == list(found)


def test_gpm_tells_of_an_instance_what_it_tells_of_a_gpu(subject: Subject) -> None:
    (first, *_) = instances_of(subject)
    if not subject.nvml.identity(0).gpm_supported:
        with pytest.raises(NvmlRefused):
            subject.nvml.instance_gpm_rates(0, first.gpu_instance_id)
        return
    assert subject.nvml.instance_gpm_rates(0, first.gpu_instance_id) is None
    subject.pass_time()
    rates = subject.nvml.instance_gpm_rates(0, first.gpu_instance_id)
    assert rates is not None
    for metric in INSTANCE_METRICS:
        if not isinstance(rates.get(metric, Reason.UNSUPPORTED), Reason):
            assert_possible(GPM_NAMES[metric], rates[metric])


def test_an_instance_that_does_not_exist_is_refused(subject: Subject) -> None:
    instances_of(subject)
    for ask in (subject.nvml.instance_memory, subject.nvml.instance_sram_errors, subject.nvml.instance_gpm_rates):
        with pytest.raises(NvmlRefused):
            ask(0, 99)


def test_gpm_has_nothing_to_say_at_first_and_then_answers_every_metric(subject: Subject) -> None:
    require_gpm(subject)
    assert subject.nvml.gpm_rates(0) is None
    subject.pass_time()
    rates = subject.nvml.gpm_rates(0)
    assert rates is not None and set(rates) == set(GpmMetric)
    for metric, name in GPM_NAMES.items():
        if not isinstance(rates[metric], Reason):
            assert_possible(name, rates[metric])


def test_opening_anew_begins_gpm_anew(subject: Subject) -> None:
    require_gpm(subject)
    assert subject.nvml.gpm_rates(0) is None
    subject.nvml.close()
    assert subject.nvml.open() > 0
    assert subject.nvml.gpm_rates(0) is None


def test_processes_have_pids(subject: Subject) -> None:
    assert all(process.pid > 0 for process in subject.nvml.compute_processes(0))


def test_what_processes_do_is_a_share_of_time(subject: Subject) -> None:
    try:
        samples = subject.nvml.process_utilization(0, since_microseconds=0)
    except NvmlRefused as refused:
        assert refused.reason is Reason.UNSUPPORTED
        return
    assert all(sample.pid > 0 and 0 <= sample.sm_utilization_ratio <= 1 for sample in samples)
    assert list(subject.nvml.process_utilization(0, since_microseconds=2**62)) == []


def test_xids_are_given_without_waiting_for_any(subject: Subject) -> None:
    assert all(event.index is not None and event.number > 0 for event in subject.nvml.xid_events())
    assert list(subject.nvml.xid_events()) == []


def test_an_index_that_does_not_exist_is_refused(subject: Subject) -> None:
    with pytest.raises(NvmlRefused):
        subject.nvml.temperature_celsius(99)


def test_nothing_answers_after_close(subject: Subject) -> None:
    subject.nvml.close()
    with pytest.raises(NvmlUnavailable):
        subject.nvml.utilization(0)


def test_closing_twice_does_no_harm(subject: Subject) -> None:
    subject.nvml.close()
    subject.nvml.close()
    assert subject.nvml.open() > 0


def test_every_refusal_is_a_sentence(subject: Subject) -> None:
    with pytest.raises(NvmlError) as caught:
        subject.nvml.utilization(99)
    assert "nvml" in str(caught.value).lower() or "utilization" in str(caught.value)
