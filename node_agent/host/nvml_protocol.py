"""What the agent asks of NVML, and the answers in the agent's units. Importing it needs no NVML."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from node_agent.model import Reason

Reading = float | int | Reason


class NvmlError(Exception):
    """NVML did not give what was asked. Its text is a sentence for people."""


class NvmlUnavailable(NvmlError):
    """NVML as a whole cannot be used: every handle is void until `open` succeeds again."""

    def __init__(self, detail: str, *, absent: bool, needs_restart: bool = False) -> None:
        super().__init__(detail)
        self.absent = absent  # True: there is nothing to measure here. False: there is, and it is broken.
        self.needs_restart = needs_restart  # only a new process loads the library that fits the driver


class GpuLost(NvmlError):
    """One GPU fell off the bus. The others go on."""


class NvmlRefused(NvmlError):
    """One question has no answer on this GPU at this moment."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class GpuField(Enum):
    """The field values read in one batch. The numbers are NVML_FI_DEV_* of nvml.h."""

    RETIRED_PAGES_SINGLE_BIT = 29
    RETIRED_PAGES_DOUBLE_BIT = 30
    RETIRED_PAGES_PENDING = 31
    NVLINK_CRC_FLIT_ERRORS = 38
    NVLINK_CRC_DATA_ERRORS = 45
    NVLINK_REPLAYS = 52
    NVLINK_RECOVERIES = 59
    NVLINK_TRANSMIT_BYTES = 138
    NVLINK_RECEIVE_BYTES = 139
    RECOVERY_ACTION_CODE = 230
    ECC_CORRECTED_VOLATILE = 3
    ECC_UNCORRECTED_VOLATILE = 4
    ECC_CORRECTED_AGGREGATE = 5
    ECC_UNCORRECTED_AGGREGATE = 6
    THROTTLED_POWER_CAP_SECONDS = 74
    THROTTLED_SYNC_BOOST_SECONDS = 76
    TEMPERATURE_MEMORY_CELSIUS = 82
    PCIE_REPLAYS = 94
    REMAPPED_ROWS_CORRECTABLE = 142
    REMAPPED_ROWS_UNCORRECTABLE = 143
    REMAPPED_ROWS_PENDING = 144
    REMAPPED_ROWS_FAILURE = 145
    POWER_AVERAGE_WATTS = 185
    POWER_CURRENT_LIMIT_WATTS = 190
    THROTTLED_SOFTWARE_THERMAL_SECONDS = 269
    THROTTLED_HARDWARE_THERMAL_SECONDS = 270
    THROTTLED_POWER_BRAKE_SECONDS = 271


class MediaEngine(Enum):
    """The fixed-function engines beside the SMs."""

    ENCODER = "encoder"
    DECODER = "decoder"
    JPEG = "jpeg"
    OPTICAL_FLOW = "optical_flow"


class GpmMetric(Enum):
    """The GPM metrics read in one call. The numbers are NVML_GPM_METRIC_* of nvml.h."""

    GRAPHICS_ACTIVE_RATIO = 1
    SM_ACTIVE_RATIO = 2
    SM_OCCUPANCY_RATIO = 3
    TENSOR_ACTIVE_RATIO = 5
    DRAM_ACTIVE_RATIO = 10
    FP64_ACTIVE_RATIO = 11
    FP32_ACTIVE_RATIO = 12
    FP16_ACTIVE_RATIO = 13
    PCIE_TRANSMIT_BYTES_PER_SECOND = 20
    PCIE_RECEIVE_BYTES_PER_SECOND = 21
    NVLINK_RECEIVE_BYTES_PER_SECOND = 60
    NVLINK_TRANSMIT_BYTES_PER_SECOND = 61


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuIdentity:
    """What a GPU is and how it is set up. `None` means that the driver did not say."""

    uuid: str
    index: int  # not stable across reboots
    name: str | None = None
    pci_bus_id: str | None = None
    serial: str | None = None
    vbios_version: str | None = None
    driver_version: str | None = None
    cuda_version: str | None = None  # the newest CUDA that the driver can run
    architecture: str | None = None
    compute_capability: str | None = None  # "9.0"
    cuda_cores: int | None = None
    memory_total_bytes: int | None = None
    memory_bus_width_bits: int | None = None
    sm_clock_maximum_megahertz: int | None = None
    memory_clock_maximum_megahertz: int | None = None
    power_limit_default_watts: float | None = None
    power_limit_minimum_watts: float | None = None
    power_limit_maximum_watts: float | None = None
    temperature_shutdown_celsius: int | None = None
    temperature_slowdown_celsius: int | None = None
    temperature_memory_maximum_celsius: int | None = None
    temperature_gpu_maximum_celsius: int | None = None
    pcie_link_generation_maximum: int | None = None
    pcie_link_width_maximum: int | None = None
    pcie_link_width: int | None = None
    mig_enabled: bool | None = None
    ecc_enabled: bool | None = None
    persistence_enabled: bool | None = None
    recovery_action: str | None = None  # what the driver asks the operator to do; "none" when healthy
    gpm_supported: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilization:
    """The classic utilisation, averaged by the driver over its last sample period."""

    gpu_utilization_ratio: float
    memory_controller_utilization_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """Device memory; `used` does not contain `reserved`."""

    memory_total_bytes: int
    memory_used_bytes: int
    memory_free_bytes: int
    memory_reserved_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar1Memory:
    """The address window through which the CPU and peers see device memory."""

    bar1_used_bytes: int
    bar1_total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSample:
    """One of the driver's own power samples, about 20 ms apart."""

    taken_at_microseconds: int  # the driver's stamp: the node's wall clock
    watts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process with a compute context on a GPU."""

    pid: int  # of the host's namespace only when the agent shares it
    used_bytes: int | None  # None under MIG and in some containers


@dataclass(frozen=True, slots=True, kw_only=True)
class XidEvent:
    """An XID that the driver delivered, without the time at which it happened."""

    index: int | None  # None: the driver does not say any more of which GPU
    number: int


class Nvml(Protocol):
    """NVML, one synchronous question at a time, from one thread only.

    Every method but `close` may raise NvmlUnavailable; those that take an `index` may also raise
    GpuLost and NvmlRefused. An index is valid from one `open` to the next `close`.
    """

    def open(self) -> int:
        """This will start NVML and give the number of GPUs; NvmlUnavailable says why not."""
        ...

    def close(self) -> None:
        """This will let go of NVML, so that the driver can be reset or upgraded. It never raises."""
        ...

    def xid_events(self) -> Sequence[XidEvent]:
        """This will give the XIDs of all GPUs since the call before, without waiting for any.

        Those from before the first call after `open` are not among them. May raise NvmlRefused.
        """
        ...

    def identity(self, index: int) -> GpuIdentity:
        """This will give what the GPU is and how it is set up now. Costs several milliseconds."""
        ...

    def utilization(self, index: int) -> Utilization:
        """This will give the classic utilisation."""
        ...

    def engine_utilization_ratio(self, index: int, engine: MediaEngine) -> float:
        """This will give how busy a media engine was over the driver's last sample period."""
        ...

    def memory(self, index: int) -> DeviceMemory:
        """This will give how device memory is divided."""
        ...

    def bar1(self, index: int) -> Bar1Memory:
        """This will give how the BAR1 window is divided."""
        ...

    def temperature_celsius(self, index: int) -> float:
        """This will give the die temperature."""
        ...

    def power_usage_watts(self, index: int) -> float:
        """This will give the power draw, for drivers without the field POWER_AVERAGE."""
        ...

    def power_limit_watts(self, index: int) -> float:
        """This will give the power limit in force, for drivers without the field POWER_CURRENT_LIMIT."""
        ...

    def power_samples(self, index: int, *, since_microseconds: int) -> Sequence[PowerSample]:
        """This will give the driver's power samples newer than the stamp; empty when there are none.

        The driver keeps about 2.4 s of them. The value 0 marks a hole and is left out.
        """
        ...

    def energy_joules(self, index: int) -> float:
        """This will give the energy used since the driver was loaded."""
        ...

    def sm_clock_megahertz(self, index: int) -> int:
        """This will give the SM clock."""
        ...

    def memory_clock_megahertz(self, index: int) -> int:
        """This will give the memory clock."""
        ...

    def clock_event_reasons(self, index: int) -> int:
        """This will give the bit mask of why the clocks are where they are."""
        ...

    def field_values(self, index: int, wanted: Collection[GpuField]) -> Mapping[GpuField, Reading]:
        """This will give one answer per wanted field, in one call; a field without a value gives its reason."""
        ...

    def gpm_rates(self, index: int) -> Mapping[GpmMetric, Reading] | None:
        """This will give the averages since the call before; None on the first call.

        The two calls must lie at least 100 ms apart. Call it only where `gpm_supported`.
        """
        ...

    def compute_processes(self, index: int) -> Sequence[GpuProcess]:
        """This will give the processes that have a compute context on the GPU."""
        ...
