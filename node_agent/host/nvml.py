"""NVML through nvidia-ml-py: the only door to it. Units are converted here, once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import pynvml

from node_agent.host.nvml_calls import ask, ask_first, entry_reason, translated, union
from node_agent.host.nvml_events import XidWatch
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
from node_agent.host.nvml_gpm import GpmWindow
from node_agent.host.nvml_identity import read_identity, read_versions
from node_agent.host.nvml_links import read_fabric, read_links
from node_agent.host.nvml_mig import MigInstances, read_memory
from node_agent.host.nvml_processes import read_process_utilization, read_processes
from node_agent.host.nvml_protocol import NvmlError, NvmlRefused, NvmlUnavailable
from node_agent.host.nvml_units import GPM_SCALE, MILLI, PERCENT, SCOPES, in_our_unit
from node_agent.model import Reason

_api: Any = pynvml  # nvidia-ml-py carries no types

_ENGINES = {
    MediaEngine.ENCODER: "nvmlDeviceGetEncoderUtilization",
    MediaEngine.DECODER: "nvmlDeviceGetDecoderUtilization",
    MediaEngine.JPEG: "nvmlDeviceGetJpgUtilization",
    MediaEngine.OPTICAL_FLOW: "nvmlDeviceGetOfaUtilization",
}

_GPM_IDS = [metric.value for metric in GpmMetric]
_UNKNOWN_STATE = 32  # nvml.h, NVML_PSTATE_UNKNOWN


class PynvmlDriver:
    """The real NVML. Not thread-safe, because NVML with GPM is not."""

    def __init__(self) -> None:
        self._is_open = False
        self._handles: dict[int, Any] = {}
        self._gpm: dict[int, GpmWindow] = {}
        self._identities: dict[int, GpuIdentity] = {}
        self._links: dict[int, list[NvLink]] = {}
        self._instances: dict[int, MigInstances] = {}
        self._xids: XidWatch | None = None
        self._count = 0
        self._versions: tuple[str | None, str | None] = (None, None)

    def open(self) -> int:
        """This will start NVML and give the number of GPUs; NvmlUnavailable says why not."""
        self.close()
        try:
            ask("nvmlInit")
            self._is_open = True
            self._versions = read_versions()
            self._count = int(ask("nvmlDeviceGetCount"))
            return self._count
        except NvmlUnavailable:
            self.close()
            raise
        except NvmlError as error:
            self.close()
            raise NvmlUnavailable(f"NVML did not start: {error}", absent=False) from error

    def close(self) -> None:
        """This will let go of NVML, so that the driver can be reset or upgraded. It never raises."""
        windows, self._gpm, self._handles, self._links = list(self._gpm.values()), {}, {}, {}
        instances, self._instances, self._identities = list(self._instances.values()), {}, {}
        if not self._is_open:
            return
        self._is_open = False
        xids, self._xids = self._xids, None
        for some in instances:
            some.free()
        frees = [window.free for window in windows] + ([xids.free] if xids else [])
        for close in (*frees, _api.nvmlShutdown):
            try:
                close()
            except pynvml.NVMLError:
                continue  # a lost GPU or driver has already let go of it

    def xid_events(self) -> Sequence[XidEvent]:
        """This will give the XIDs of all GPUs since the call before, without waiting for any."""
        if self._xids is None:
            self._xids = XidWatch({index: self._handle(index) for index in range(self._count)})
        return self._xids.take()

    def identity(self, index: int) -> GpuIdentity:
        """This will give what the GPU is and how it is set up now. The first time costs several milliseconds."""
        before = self._identities.get(index)
        identity = self._identities[index] = read_identity(self._handle(index), index, self._versions, before)
        return identity

    def utilization(self, index: int) -> Utilization:
        """This will give the classic utilisation."""
        rates = ask("nvmlDeviceGetUtilizationRates", self._handle(index))
        return Utilization(
            gpu_utilization_ratio=rates.gpu / PERCENT, memory_controller_utilization_ratio=rates.memory / PERCENT
        )

    def engine_utilization_ratio(self, index: int, engine: MediaEngine) -> float:
        """This will give how busy a media engine was over the driver's last sample period."""
        percent, _ = ask(_ENGINES[engine], self._handle(index))
        return float(percent / PERCENT)

    def memory(self, index: int) -> DeviceMemory:
        """This will give how device memory is divided.

        Only version 2 of the call tells `used` from `reserved`: a driver without it gives nothing.
        """
        return read_memory(self._handle(index))

    def bar1(self, index: int) -> Bar1Memory:
        """This will give how the BAR1 window is divided."""
        memory = ask("nvmlDeviceGetBAR1MemoryInfo", self._handle(index))
        return Bar1Memory(bar1_used_bytes=memory.bar1Used, bar1_total_bytes=memory.bar1Total)

    def temperature_celsius(self, index: int) -> float:
        """This will give the die temperature."""
        names = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")  # the second goes in CUDA 14
        return float(ask_first(names, self._handle(index), pynvml.NVML_TEMPERATURE_GPU))

    def power_usage_watts(self, index: int) -> float:
        """This will give the power draw, for drivers without the field POWER_AVERAGE."""
        return float(ask("nvmlDeviceGetPowerUsage", self._handle(index)) / MILLI)

    def power_limit_watts(self, index: int) -> float:
        """This will give the power limit in force, for drivers without the field POWER_CURRENT_LIMIT."""
        return float(ask("nvmlDeviceGetEnforcedPowerLimit", self._handle(index)) / MILLI)

    def power_samples(self, index: int, *, since_microseconds: int) -> Sequence[PowerSample]:
        """This will give the driver's power samples newer than the stamp; empty when there are none."""
        kind = pynvml.NVML_TOTAL_POWER_SAMPLES
        try:
            value_type, samples = ask("nvmlDeviceGetSamples", self._handle(index), kind, since_microseconds)
        except NvmlRefused as refused:
            if refused.reason is Reason.NOT_COLLECTED:  # NOT_FOUND: nothing newer
                return ()
            raise
        stamped = ((sample.timeStamp, union(sample.sampleValue, value_type) / MILLI) for sample in samples)
        return [
            PowerSample(taken_at_microseconds=stamp, watts=watts)
            for stamp, watts in stamped
            if watts > 0 and stamp > since_microseconds
        ]

    def energy_joules(self, index: int) -> float:
        """This will give the energy used since the driver was loaded."""
        return float(ask("nvmlDeviceGetTotalEnergyConsumption", self._handle(index)) / MILLI)

    def sm_clock_megahertz(self, index: int) -> int:
        """This will give the SM clock."""
        return int(ask("nvmlDeviceGetClockInfo", self._handle(index), pynvml.NVML_CLOCK_SM))

    def memory_clock_megahertz(self, index: int) -> int:
        """This will give the memory clock."""
        return int(ask("nvmlDeviceGetClockInfo", self._handle(index), pynvml.NVML_CLOCK_MEM))

    def clock_event_reasons(self, index: int) -> int:
        """This will give the bit mask of why the clocks are where they are."""
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        return int(ask_first(names, self._handle(index)))

    def performance_state(self, index: int) -> int:
        """This will give the performance state, 0 (fastest) to 15."""
        state = int(ask("nvmlDeviceGetPerformanceState", self._handle(index)))
        if state == _UNKNOWN_STATE:
            raise NvmlRefused(Reason.NOT_COLLECTED, "nvmlDeviceGetPerformanceState: unknown")
        return state

    def persistence_enabled(self, index: int) -> bool:
        """This will say whether the driver stays loaded while nothing uses the GPU."""
        return bool(ask("nvmlDeviceGetPersistenceMode", self._handle(index)))

    def fan_speed_ratio(self, index: int) -> float:
        """This will give the intended speed of the fastest fan; it may exceed 1."""
        handle = self._handle(index)
        fans = range(int(ask("nvmlDeviceGetNumFans", handle)))
        if not fans:
            raise NvmlRefused(Reason.UNSUPPORTED, "nvmlDeviceGetNumFans: none")
        return max(float(ask("nvmlDeviceGetFanSpeed_v2", handle, fan)) for fan in fans) / PERCENT

    def pcie_link_generation(self, index: int) -> int:
        """This will give the generation that the PCIe link runs at now."""
        return int(ask("nvmlDeviceGetCurrPcieLinkGeneration", self._handle(index)))

    def pcie_link_lanes(self, index: int) -> int:
        """This will give the number of lanes that the PCIe link runs with now."""
        return int(ask("nvmlDeviceGetCurrPcieLinkWidth", self._handle(index)))

    def nvlinks(self, index: int) -> Sequence[NvLink]:
        """This will give the state of every NVLink that the GPU has; refused where it has none."""
        links = self._links[index] = read_links(self._handle(index), self._links.get(index))
        return links

    def fabric(self, index: int) -> Fabric:
        """This will give how the GPU stands in the NVLink fabric; refused where there is none."""
        return read_fabric(self._handle(index))

    def field_values(self, index: int, wanted: Collection[GpuField]) -> Mapping[GpuField, Reading]:
        """This will give one answer per wanted field, in one call; a field without a value gives its reason."""
        if not wanted:
            return {}
        entries = ask(
            "nvmlDeviceGetFieldValues",
            self._handle(index),
            [(f.value, SCOPES[f]) if f in SCOPES else f.value for f in wanted],
        )
        answers: dict[GpuField, Reading] = {}
        for field, entry in zip(wanted, entries, strict=True):
            if entry.nvmlReturn == pynvml.NVML_SUCCESS:
                answers[field] = in_our_unit(field, union(entry.value, entry.valueType))
            else:
                answers[field] = entry_reason(entry.nvmlReturn, field.name)
        return answers

    def gpm_rates(self, index: int) -> Mapping[GpmMetric, Reading] | None:
        """This will give the averages since the call before; None on the first call."""
        handle = self._handle(index)
        try:
            if index not in self._gpm:
                self._gpm[index] = GpmWindow(partial(_api.nvmlGpmSampleGet, handle), _GPM_IDS)
            return _rates(self._gpm[index].advance())
        except pynvml.NVMLError as error:
            raise translated("GPM", error) from error

    def instances(self, index: int) -> Sequence[GpuInstance]:
        """This will give the instances of a GPU in MIG mode that hold a compute instance; none when the mode is off."""
        return self._mig(index).refresh()

    def instance_memory(self, index: int, gpu_instance_id: int) -> DeviceMemory:
        """This will give how the device memory of an instance is divided."""
        return self._mig(index).memory(gpu_instance_id)

    def instance_sram_errors(self, index: int, gpu_instance_id: int) -> int:
        """This will give the errors of an instance's on-chip memory that were not corrected."""
        return self._mig(index).sram_errors(gpu_instance_id)

    def instance_gpm_rates(self, index: int, gpu_instance_id: int) -> Mapping[GpmMetric, Reading] | None:
        """This will give the averages since the call before; None on the first call."""
        instances = self._mig(index)
        try:
            return _rates(instances.advance(gpu_instance_id))
        except pynvml.NVMLError as error:
            raise translated("GPM", error) from error

    def _mig(self, index: int) -> MigInstances:
        handle = self._handle(index)
        if index not in self._instances:
            self._instances[index] = MigInstances(handle, _GPM_IDS)
        return self._instances[index]

    def compute_processes(self, index: int) -> Sequence[GpuProcess]:
        """This will give the processes that have a compute context on the GPU, or on an instance of it."""
        return read_processes(self._handle(index))

    def process_utilization(self, index: int, *, since_microseconds: int) -> Sequence[ProcessUtilization]:
        """This will give what processes did since the stamp; one that did nothing is not among them."""
        return read_process_utilization(self._handle(index), since_microseconds)

    def _handle(self, index: int) -> Any:
        if not self._is_open:
            raise NvmlUnavailable("NVML is not open", absent=False)
        if index not in self._handles:
            self._handles[index] = ask("nvmlDeviceGetHandleByIndex", index)
        return self._handles[index]


def _rates(answers: Sequence[tuple[int, int, float]] | None) -> Mapping[GpmMetric, Reading] | None:
    """This will give GPM's answers in our units; a metric without a value gives its reason."""
    if answers is None:
        return None
    rates: dict[GpmMetric, Reading] = {}
    for number, code, value in answers:
        metric = GpmMetric(number)
        succeeded = code == pynvml.NVML_SUCCESS
        rates[metric] = value * GPM_SCALE[metric] if succeeded else entry_reason(code, metric.name)
    return rates
