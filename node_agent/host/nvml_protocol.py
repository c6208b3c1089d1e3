"""What the agent asks of NVML, and how it fails. Importing it needs no NVML."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

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
from node_agent.model import Reason


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

    def performance_state(self, index: int) -> int:
        """This will give the performance state, 0 (fastest) to 15."""
        ...

    def persistence_enabled(self, index: int) -> bool:
        """This will say whether the driver stays loaded while nothing uses the GPU."""
        ...

    def fan_speed_ratio(self, index: int) -> float:
        """This will give the intended speed of the fastest fan; it may exceed 1."""
        ...

    def pcie_link_generation(self, index: int) -> int:
        """This will give the generation that the PCIe link runs at now."""
        ...

    def pcie_link_lanes(self, index: int) -> int:
        """This will give the number of lanes that the PCIe link runs with now."""
        ...

    def nvlinks(self, index: int) -> Sequence[NvLink]:
        """This will give the state of every NVLink that the GPU has; refused where it has none."""
        ...

    def fabric(self, index: int) -> Fabric:
        """This will give how the GPU stands in the NVLink fabric; refused where there is none."""
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
        """This will give the processes that have a compute context on the GPU, or on an instance of it."""
        ...

    def process_utilization(self, index: int, *, since_microseconds: int) -> Sequence[ProcessUtilization]:
        """This will give what processes did since the stamp; one that did nothing is not among them."""
        ...

    def instances(self, index: int) -> Sequence[GpuInstance]:
        """This will give the instances of a GPU in MIG mode that hold a compute instance; none when the mode is off.

        Refused where the GPU knows no such mode. The methods below take ids out of the newest answer.
        """
        ...

    def instance_memory(self, index: int, gpu_instance_id: int) -> DeviceMemory:
        """This will give how the device memory of an instance is divided."""
        ...

    def instance_sram_errors(self, index: int, gpu_instance_id: int) -> int:
        """This will give the errors of an instance's on-chip memory that were not corrected."""
        ...

    def instance_gpm_rates(self, index: int, gpu_instance_id: int) -> Mapping[GpmMetric, Reading] | None:
        """This will give the averages since the call before; None on the first call. As `gpm_rates`."""
        ...
