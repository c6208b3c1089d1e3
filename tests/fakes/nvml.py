"""An NVML without a GPU, whose every answer a test can set; `tests/fakes/gpus.py` has the GPUs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from node_agent.host.nvml_facts import (
    Bar1Memory,
    DeviceMemory,
    Fabric,
    GpuIdentity,
    GpuInstance,
    GpuProcess,
    NvLink,
    PowerSample,
    ProcessUtilization,
    Reading,
    Utilization,
    XidEvent,
)
from node_agent.host.nvml_fields import GpmMetric, GpuField, MediaEngine
from node_agent.host.nvml_protocol import GpuLost, NvmlError, NvmlRefused, NvmlUnavailable
from node_agent.model import Reason

Answer = TypeVar("Answer")

NO_LIBRARY = NvmlUnavailable("no NVIDIA driver on this host: libnvidia-ml.so.1 was not found", absent=True)
WRONG_VERSION = NvmlUnavailable("the NVIDIA driver was upgraded under this process", absent=False, needs_restart=True)


@dataclass(slots=True, kw_only=True)
class FakeInstance:
    """One GPU instance whose answers a test sets."""

    facts: GpuInstance
    memory: DeviceMemory
    sram_errors: int | Reason = 0
    gpm_rates: dict[GpmMetric, Reading] | Reason = Reason.UNSUPPORTED


@dataclass(slots=True, kw_only=True)
class FakeGpu:
    """One GPU whose answers a test sets; a Reason refuses."""

    identity: GpuIdentity
    memory: DeviceMemory
    bar1: Bar1Memory | Reason
    utilization: Utilization | Reason
    temperature_celsius: float
    power_usage_watts: float
    power_limit_watts: float
    energy_joules: float
    sm_clock_megahertz: int
    memory_clock_megahertz: int
    pcie_link_generation: int
    pcie_link_lanes: int
    field_values: dict[GpuField, Reading]
    gpm_rates: dict[GpmMetric, Reading] | Reason
    engines: dict[MediaEngine, float | Reason]
    nvlinks: list[NvLink] | Reason
    fabric: Fabric | Reason
    fan_speed_ratio: float | Reason
    process_utilization: list[ProcessUtilization] | Reason
    instances: list[FakeInstance] | Reason
    compute_processes: list[GpuProcess] = field(default_factory=list)
    power_samples: list[PowerSample] = field(default_factory=list)
    performance_state: int = 0
    persistence_enabled: bool = True
    clock_event_reasons: int = 4
    is_lost: bool = False
    refusals: dict[str, NvmlError] = field(default_factory=dict)  # by method name


def given(method: str, answer: Answer | Reason) -> Answer:
    """This will give the answer, or refuse with it."""
    if isinstance(answer, Reason):
        raise NvmlRefused(answer, f"{method}: {answer.name}")
    return answer


class FakeNvml:
    """Implements the Nvml protocol over FakeGpus."""

    def __init__(self, *gpus: FakeGpu, unavailable: NvmlUnavailable | None = None) -> None:
        self.gpus = list(gpus)
        self.unavailable = unavailable
        self.opened = 0
        self.xids: list[XidEvent] = []
        self.asked_fields: list[tuple[GpuField, ...]] = []
        self.asked: list[str] = []  # by method
        self.before_each_call: Callable[[], None] = lambda: None  # to wedge or to note the thread
        self.is_open = False
        self._gpm_begun: set[tuple[int, GpuInstance | None]] = set()

    def open(self) -> int:
        """This will count the attempt and give the number of GPUs."""
        self.before_each_call()
        self.opened += 1
        if self.unavailable is not None:
            raise self.unavailable
        self.is_open = True
        self._gpm_begun.clear()
        return len(self.gpus)

    def close(self) -> None:
        """This will void every index."""
        self.is_open = False

    def xid_events(self) -> Sequence[XidEvent]:
        """This will give each of the test's XIDs once."""
        self.before_each_call()
        if not self.is_open:
            raise NvmlUnavailable("NVML is not open", absent=False)
        events, self.xids = self.xids, []
        return events

    def identity(self, index: int) -> GpuIdentity:
        """This will give what the test set."""
        return self._gpu(index, "identity").identity

    def utilization(self, index: int) -> Utilization:
        """This will give what the test set."""
        return given("utilization", self._gpu(index, "utilization").utilization)

    def engine_utilization_ratio(self, index: int, engine: MediaEngine) -> float:
        """This will give what the test set."""
        return given(f"{engine}", self._gpu(index, "engine_utilization_ratio").engines[engine])

    def memory(self, index: int) -> DeviceMemory:
        """This will give what the test set."""
        return self._gpu(index, "memory").memory

    def bar1(self, index: int) -> Bar1Memory:
        """This will give what the test set."""
        return given("bar1", self._gpu(index, "bar1").bar1)

    def temperature_celsius(self, index: int) -> float:
        """This will give what the test set."""
        return self._gpu(index, "temperature_celsius").temperature_celsius

    def power_usage_watts(self, index: int) -> float:
        """This will give what the test set."""
        return self._gpu(index, "power_usage_watts").power_usage_watts

    def power_limit_watts(self, index: int) -> float:
        """This will give what the test set."""
        return self._gpu(index, "power_limit_watts").power_limit_watts

    def power_samples(self, index: int, *, since_microseconds: int) -> Sequence[PowerSample]:
        """This will give the samples that are newer."""
        samples = self._gpu(index, "power_samples").power_samples
        return [sample for sample in samples if sample.taken_at_microseconds > since_microseconds]

    def energy_joules(self, index: int) -> float:
        """This will give what the test set."""
        return self._gpu(index, "energy_joules").energy_joules

    def sm_clock_megahertz(self, index: int) -> int:
        """This will give what the test set."""
        return self._gpu(index, "sm_clock_megahertz").sm_clock_megahertz

    def memory_clock_megahertz(self, index: int) -> int:
        """This will give what the test set."""
        return self._gpu(index, "memory_clock_megahertz").memory_clock_megahertz

    def clock_event_reasons(self, index: int) -> int:
        """This will give what the test set."""
        return self._gpu(index, "clock_event_reasons").clock_event_reasons

    def performance_state(self, index: int) -> int:
        """This will give what the test set."""
        return self._gpu(index, "performance_state").performance_state

    def persistence_enabled(self, index: int) -> bool:
        """This will give what the test set."""
        return self._gpu(index, "persistence_enabled").persistence_enabled

    def fan_speed_ratio(self, index: int) -> float:
        """This will give what the test set."""
        return given("fans", self._gpu(index, "fan_speed_ratio").fan_speed_ratio)

    def pcie_link_generation(self, index: int) -> int:
        """This will give what the test set."""
        return self._gpu(index, "pcie_link_generation").pcie_link_generation

    def pcie_link_lanes(self, index: int) -> int:
        """This will give what the test set."""
        return self._gpu(index, "pcie_link_lanes").pcie_link_lanes

    def nvlinks(self, index: int) -> Sequence[NvLink]:
        """This will give what the test set."""
        return list(given("nvlinks", self._gpu(index, "nvlinks").nvlinks))

    def fabric(self, index: int) -> Fabric:
        """This will give what the test set."""
        return given("fabric", self._gpu(index, "fabric").fabric)

    def field_values(self, index: int, wanted: Collection[GpuField]) -> Mapping[GpuField, Reading]:
        """This will note what was wanted and give it."""
        gpu = self._gpu(index, "field_values")
        self.asked_fields.append(tuple(wanted))
        return {known: gpu.field_values[known] for known in wanted}

    def gpm_rates(self, index: int) -> Mapping[GpmMetric, Reading] | None:
        """This will give None on the first call after `open`."""
        rates = given("GPM", self._gpu(index, "gpm_rates").gpm_rates)
        if (index, None) not in self._gpm_begun:
            self._gpm_begun.add((index, None))
            return None
        return dict(rates)

    def compute_processes(self, index: int) -> Sequence[GpuProcess]:
        """This will give what the test set."""
        return list(self._gpu(index, "compute_processes").compute_processes)

    def process_utilization(self, index: int, *, since_microseconds: int) -> Sequence[ProcessUtilization]:
        """This will give the samples that are newer."""
        samples = given("process_utilization", self._gpu(index, "process_utilization").process_utilization)
        return [sample for sample in samples if sample.taken_at_microseconds > since_microseconds]

    def instances(self, index: int) -> Sequence[GpuInstance]:
        """This will give what the test set."""
        return [one.facts for one in given("instances", self._gpu(index, "instances").instances)]

    def instance_memory(self, index: int, gpu_instance_id: int) -> DeviceMemory:
        """This will give what the test set."""
        return self._instance(index, gpu_instance_id, "instance_memory").memory

    def instance_sram_errors(self, index: int, gpu_instance_id: int) -> int:
        """This will give what the test set."""
        return given("instance_sram_errors", self._instance(index, gpu_instance_id, "instance_sram_errors").sram_errors)

    def instance_gpm_rates(self, index: int, gpu_instance_id: int) -> Mapping[GpmMetric, Reading] | None:
        """This will give None on the first call after `open`, and of another instance with the same id."""
        instance = self._instance(index, gpu_instance_id, "instance_gpm_rates")
        rates, key = given("GPM", instance.gpm_rates), (index, instance.facts)
        if key not in self._gpm_begun:
            self._gpm_begun.add(key)
            return None
        return dict(rates)

    def _instance(self, index: int, gpu_instance_id: int, method: str) -> FakeInstance:
        instances = given(method, self._gpu(index, method).instances)
        for instance in instances:
            if instance.facts.gpu_instance_id == gpu_instance_id:
                return instance
        raise NvmlRefused(Reason.NOT_COLLECTED, f"{method}: GPU instance {gpu_instance_id} is not there any more")

    def _gpu(self, index: int, method: str) -> FakeGpu:
        self.before_each_call()
        self.asked.append(method)
        if not self.is_open or self.unavailable is not None:
            raise self.unavailable or NvmlUnavailable("NVML is not open", absent=False)
        if index >= len(self.gpus):
            raise NvmlRefused(Reason.ERROR, f"{method}: Invalid Argument")
        gpu = self.gpus[index]
        if gpu.is_lost:
            raise GpuLost(f"{method}: GPU is lost")
        if method in gpu.refusals:
            raise gpu.refusals[method]
        return gpu
