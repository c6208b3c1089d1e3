"""An NVML without a GPU: plays H200s, older GPUs, lost GPUs, missing and late drivers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from node_agent.host.nvml_protocol import (
    Bar1Memory,
    DeviceMemory,
    GpmMetric,
    GpuField,
    GpuIdentity,
    GpuLost,
    GpuProcess,
    MediaEngine,
    NvmlError,
    NvmlRefused,
    NvmlUnavailable,
    PowerSample,
    Reading,
    Utilization,
    XidEvent,
)
from node_agent.model import Reason

NO_LIBRARY = NvmlUnavailable("no NVIDIA driver on this host: libnvidia-ml.so.1 was not found", absent=True)
BUSY = Utilization(gpu_utilization_ratio=1.0, memory_controller_utilization_ratio=0.25)
MEMORY = DeviceMemory(
    memory_total_bytes=150754820096,
    memory_used_bytes=16741433344,
    memory_free_bytes=133368446976,
    memory_reserved_bytes=644939776,
)
BAR1 = Bar1Memory(bar1_used_bytes=1703936, bar1_total_bytes=274877906944)
WRONG_VERSION = NvmlUnavailable("the NVIDIA driver was upgraded under this process", absent=False, needs_restart=True)


def h200_fields() -> dict[GpuField, Reading]:
    """This will give the field values of an idle H200, from tests/data/nvml/h200.json."""
    counters: dict[GpuField, Reading] = dict.fromkeys(GpuField, 0)
    counters |= {known: 0.0 for known in GpuField if known.name.endswith("_SECONDS")}
    return counters | {
        GpuField.TEMPERATURE_MEMORY_CELSIUS: 39,
        GpuField.PCIE_REPLAYS: 1,
        GpuField.POWER_AVERAGE_WATTS: 79.717,
        GpuField.POWER_CURRENT_LIMIT_WATTS: 700.0,
    }


def busy_gpm() -> dict[GpmMetric, Reading]:
    """This will give the GPM rates of an H200 during a bf16 matrix product."""
    return {
        **dict.fromkeys(GpmMetric, 0.0),
        GpmMetric.GRAPHICS_ACTIVE_RATIO: 0.99893,
        GpmMetric.SM_ACTIVE_RATIO: 0.96313,
        GpmMetric.SM_OCCUPANCY_RATIO: 0.14233,
        GpmMetric.TENSOR_ACTIVE_RATIO: 0.93491,
        GpmMetric.DRAM_ACTIVE_RATIO: 0.17269,
        GpmMetric.PCIE_RECEIVE_BYTES_PER_SECOND: 13.659 * 1024 * 1024,
    }


@dataclass(slots=True, kw_only=True)
class FakeGpu:
    """One GPU whose answers a test sets. The defaults are an H200's."""

    identity: GpuIdentity
    utilization: Utilization = BUSY
    memory: DeviceMemory = MEMORY
    bar1: Bar1Memory = BAR1
    temperature_celsius: float = 59.0
    power_usage_watts: float = 690.162
    power_limit_watts: float = 700.0
    power_samples: list[PowerSample] = field(default_factory=list)
    energy_joules: float = 6900.522
    sm_clock_megahertz: int = 1425
    memory_clock_megahertz: int = 3201
    clock_event_reasons: int = 4
    field_values: dict[GpuField, Reading] = field(default_factory=h200_fields)
    gpm_rates: dict[GpmMetric, Reading] | None = field(default_factory=busy_gpm)
    compute_processes: list[GpuProcess] = field(default_factory=list)
    engines: dict[MediaEngine, float | Reason] = field(default_factory=lambda: dict.fromkeys(MediaEngine, 0.0))
    is_lost: bool = False
    refusals: dict[str, NvmlError] = field(default_factory=dict)  # by method name


def h200(index: int = 0) -> FakeGpu:
    """This will give an H200 under a bf16 matrix product."""
    return FakeGpu(
        identity=GpuIdentity(
            uuid=f"GPU-4572407f-88e2-a5aa-8176-d5a782c7300{index}",
            index=index,
            name="NVIDIA H200",
            pci_bus_id=f"00000000:0{index}:06.0",
            serial="1650000000000",
            vbios_version="96.00.A5.00.1A",
            driver_version="580.159.04",
            cuda_version="13.0",
            architecture="hopper",
            compute_capability="9.0",
            cuda_cores=16896,
            memory_total_bytes=150754820096,
            memory_bus_width_bits=6016,
            sm_clock_maximum_megahertz=1980,
            memory_clock_maximum_megahertz=3201,
            power_limit_default_watts=700.0,
            power_limit_minimum_watts=200.0,
            power_limit_maximum_watts=700.0,
            mig_enabled=False,
            gpm_supported=True,
        )
    )


def a100(index: int = 0) -> FakeGpu:
    """This will give an A100: no GPM, and a driver too old for the thermal counters and averaged power."""
    gpu = h200(index)
    gpu.identity = GpuIdentity(
        uuid=f"GPU-a1000000-0000-0000-0000-00000000000{index}",
        index=index,
        name="NVIDIA A100-SXM4-80GB",
        architecture="ampere",
        compute_capability="8.0",
        cuda_cores=6912,
        gpm_supported=False,
    )
    gpu.gpm_rates = None
    gpu.power_usage_watts, gpu.power_limit_watts = 312.5, 400.0
    for missing in (
        GpuField.THROTTLED_SOFTWARE_THERMAL_SECONDS,
        GpuField.THROTTLED_HARDWARE_THERMAL_SECONDS,
        GpuField.THROTTLED_POWER_BRAKE_SECONDS,
        GpuField.POWER_AVERAGE_WATTS,
        GpuField.POWER_CURRENT_LIMIT_WATTS,
    ):
        gpu.field_values[missing] = Reason.UNSUPPORTED
    return gpu


class FakeNvml:
    """Implements the Nvml protocol over FakeGpus."""

    def __init__(self, *gpus: FakeGpu, unavailable: NvmlUnavailable | None = None) -> None:
        self.gpus = list(gpus)
        self.unavailable = unavailable
        self.opened = 0
        self.xids: list[XidEvent] = []
        self.asked_fields: list[tuple[GpuField, ...]] = []
        self.before_each_call: Callable[[], None] = lambda: None  # to wedge or to note the thread
        self.is_open = False
        self._gpm_begun: set[int] = set()

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
        return self._gpu(index, "utilization").utilization

    def engine_utilization_ratio(self, index: int, engine: MediaEngine) -> float:
        """This will give what the test set."""
        answer = self._gpu(index, "engine_utilization_ratio").engines[engine]
        if isinstance(answer, Reason):
            raise NvmlRefused(answer, f"{engine}: no")
        return answer

    def memory(self, index: int) -> DeviceMemory:
        """This will give what the test set."""
        return self._gpu(index, "memory").memory

    def bar1(self, index: int) -> Bar1Memory:
        """This will give what the test set."""
        return self._gpu(index, "bar1").bar1

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

    def field_values(self, index: int, wanted: Collection[GpuField]) -> Mapping[GpuField, Reading]:
        """This will note what was wanted and give it."""
        gpu = self._gpu(index, "field_values")
        self.asked_fields.append(tuple(wanted))
        return {known: gpu.field_values[known] for known in wanted}

    def gpm_rates(self, index: int) -> Mapping[GpmMetric, Reading] | None:
        """This will give None on the first call after `open`."""
        gpu = self._gpu(index, "gpm_rates")
        if gpu.gpm_rates is None:
            raise NvmlRefused(Reason.UNSUPPORTED, "GPM: Not Supported")
        if index not in self._gpm_begun:
            self._gpm_begun.add(index)
            return None
        return dict(gpu.gpm_rates)

    def compute_processes(self, index: int) -> Sequence[GpuProcess]:
        """This will give what the test set."""
        return list(self._gpu(index, "compute_processes").compute_processes)

    def _gpu(self, index: int, method: str) -> FakeGpu:
        self.before_each_call()
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
