"""One GPU's values, tick after tick: what to ask of NVML, and what its silence means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TypeVar

from node_agent.clock import Instant
from node_agent.host.nvml_protocol import (
    Bar1Memory,
    DeviceMemory,
    GpmMetric,
    GpuField,
    GpuIdentity,
    GpuProcess,
    MediaEngine,
    Nvml,
    NvmlRefused,
    PowerSample,
    Reading,
    Utilization,
)
from node_agent.model import Reason, Value

Answer = TypeVar("Answer")

IDENTITY_SECONDS = 60.0  # power limits, MIG mode and link width can change under way; reading them costs 5 ms
GPM_WINDOW_SECONDS = 0.1  # nvml.h, nvmlGpmMetricsGet: the two samples must be more than 100 ms apart
RATIO_SLACK = 0.01  # GPM's percentages are quotients of two counters: 100.0001 is full, not impossible

FIELD_NAMES: Mapping[GpuField, str] = {  # all but power draw and power limit, which have a second source
    GpuField.ECC_CORRECTED_VOLATILE: "ecc_corrected_volatile_total",
    GpuField.ECC_UNCORRECTED_VOLATILE: "ecc_uncorrected_volatile_total",
    GpuField.RETIRED_PAGES_SINGLE_BIT: "retired_pages_single_bit_total",
    GpuField.RETIRED_PAGES_DOUBLE_BIT: "retired_pages_double_bit_total",
    GpuField.RETIRED_PAGES_PENDING: "retired_pages_pending_flag",
    GpuField.NVLINK_CRC_FLIT_ERRORS: "nvlink_crc_flit_errors_total",
    GpuField.NVLINK_CRC_DATA_ERRORS: "nvlink_crc_data_errors_total",
    GpuField.NVLINK_REPLAYS: "nvlink_replays_total",
    GpuField.NVLINK_RECOVERIES: "nvlink_recoveries_total",
    GpuField.NVLINK_TRANSMIT_BYTES: "nvlink_transmit_bytes_total",
    GpuField.NVLINK_RECEIVE_BYTES: "nvlink_receive_bytes_total",
    GpuField.RECOVERY_ACTION_CODE: "recovery_action_code",
    GpuField.ECC_CORRECTED_AGGREGATE: "ecc_corrected_aggregate_total",
    GpuField.ECC_UNCORRECTED_AGGREGATE: "ecc_uncorrected_aggregate_total",
    GpuField.THROTTLED_POWER_CAP_SECONDS: "throttled_power_cap_seconds_total",
    GpuField.THROTTLED_SYNC_BOOST_SECONDS: "throttled_sync_boost_seconds_total",
    GpuField.THROTTLED_SOFTWARE_THERMAL_SECONDS: "throttled_software_thermal_seconds_total",
    GpuField.THROTTLED_HARDWARE_THERMAL_SECONDS: "throttled_hardware_thermal_seconds_total",
    GpuField.THROTTLED_POWER_BRAKE_SECONDS: "throttled_power_brake_seconds_total",
    GpuField.TEMPERATURE_MEMORY_CELSIUS: "temperature_memory_celsius",
    GpuField.PCIE_REPLAYS: "pcie_replays_total",
    GpuField.REMAPPED_ROWS_CORRECTABLE: "remapped_rows_correctable_total",
    GpuField.REMAPPED_ROWS_UNCORRECTABLE: "remapped_rows_uncorrectable_total",
    GpuField.REMAPPED_ROWS_PENDING: "remapped_rows_pending_flag",
    GpuField.REMAPPED_ROWS_FAILURE: "remapped_rows_failure_flag",
}

GPM_NAMES: Mapping[GpmMetric, str] = {metric: metric.name.lower() for metric in GpmMetric}

# FP32 lanes per SM by compute capability: _ConvertSMVer2Cores in NVIDIA/cuda-samples, Common/helper_cuda.h.
_CORES_PER_SM = {
    "6.0": 64, "6.1": 128, "7.0": 64, "7.2": 64, "7.5": 64, "8.0": 64, "8.6": 128, "8.7": 128, "8.9": 128,
    "9.0": 128, "10.0": 128, "10.3": 128, "12.0": 128, "12.1": 128,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLook:
    """One look at one GPU: a value or a reason for every field of the catalogue's gpu table."""

    values: Mapping[str, Value]
    attributes: Mapping[str, object]
    complaints: Sequence[str]  # what NVML refused and should not have, for people


class GpuReader:
    """Reads one open GPU, and remembers between ticks what the next look needs.

    GpuLost and NvmlUnavailable go through to the caller: then no value of the tick counts.
    """

    def __init__(self, driver: Nvml, index: int, *, now: Instant, proc_root: Path) -> None:
        self._driver = driver
        self._index = index
        self._proc_root = proc_root
        self.identity = driver.identity(index)
        self._identity_at = now
        self._wanted = tuple(GpuField)
        self._engines_wanted = list(MediaEngine)
        self._power_stamp = 0
        self._gpm_at: Instant | None = None
        self._complaints: list[str] = []

    def look(self, now: Instant) -> GpuLook:
        """This will read every value once."""
        self._complaints = []
        self._refresh_identity(now)
        driver = self._driver
        values: dict[str, Value] = {
            **self._group(Utilization, driver.utilization),
            **self._gpm(now),
            **self._group(DeviceMemory, driver.memory),
            **self._group(Bar1Memory, driver.bar1),
            "temperature_gpu_celsius": self._one(driver.temperature_celsius),
            **self._power_window(),
            **self._fields(),
            **self._engines(),
            "energy_joules_total": self._one(driver.energy_joules),
            "sm_clock_megahertz": self._one(driver.sm_clock_megahertz),
            "memory_clock_megahertz": self._one(driver.memory_clock_megahertz),
            "clock_event_reasons_bits": self._one(driver.clock_event_reasons),
        }
        processes = self._one(driver.compute_processes)
        values["compute_processes_count"] = processes if isinstance(processes, Reason) else len(processes)
        known = None if isinstance(processes, Reason) else [named(process, self._proc_root) for process in processes]
        return GpuLook(
            values=values,
            attributes={
                **attributes_of(self.identity, processes=known),
                "unsupported": sorted(name for name, value in values.items() if value is Reason.UNSUPPORTED),
            },
            complaints=tuple(self._complaints),
        )

    def _refresh_identity(self, now: Instant) -> None:
        if now.monotonic_seconds - self._identity_at.monotonic_seconds < IDENTITY_SECONDS:
            return
        self._identity_at = now
        identity = self._one(lambda index: self._driver.identity(index))
        if isinstance(identity, Reason):
            return
        if identity.mig_enabled != self.identity.mig_enabled:
            self._engines_wanted = list(MediaEngine)
            self._wanted = tuple(GpuField)  # which fields answer depends on the MIG mode
        self.identity = identity

    def _one(self, ask: Callable[[int], Answer]) -> Answer | Reason:
        return self._answer(lambda: ask(self._index))

    def _answer(self, ask: Callable[[], Answer]) -> Answer | Reason:
        try:
            return ask()
        except NvmlRefused as refused:
            if refused.reason not in (Reason.UNSUPPORTED, Reason.NOT_COLLECTED):
                self._complaints.append(f"GPU {self._index}: {refused}")
            return refused.reason

    def _group(self, shape: type, ask: Callable[[int], object]) -> dict[str, Value]:
        """This will spread an answer whose attributes bear the catalogue's names."""
        answer = self._one(ask)
        names = [part.name for part in fields(shape)]
        return {name: answer if isinstance(answer, Reason) else getattr(answer, name) for name in names}

    def _fields(self) -> dict[str, Value]:
        answers = self._answer(lambda: self._driver.field_values(self._index, self._wanted))
        if isinstance(answers, Reason):
            readings: dict[GpuField, Reading] = dict.fromkeys(GpuField, answers)
        else:
            readings = {wanted: answers.get(wanted, Reason.UNSUPPORTED) for wanted in GpuField}
            self._wanted = still_wanted(readings)
        draw = readings[GpuField.POWER_AVERAGE_WATTS]
        limit = readings[GpuField.POWER_CURRENT_LIMIT_WATTS]
        return {
            **{name: readings[known] for known, name in FIELD_NAMES.items()},
            "power_draw_watts": self._one(self._driver.power_usage_watts) if isinstance(draw, Reason) else draw,
            "power_limit_watts": self._one(self._driver.power_limit_watts) if isinstance(limit, Reason) else limit,
        }

    def _engines(self) -> dict[str, Value]:
        values: dict[str, Value] = {f"{engine.value}_utilization_ratio": Reason.UNSUPPORTED for engine in MediaEngine}
        for engine in self._engines_wanted:
            ask = partial(self._driver.engine_utilization_ratio, self._index, engine)
            values[f"{engine.value}_utilization_ratio"] = self._answer(ask)
        self._engines_wanted = [
            engine
            for engine in self._engines_wanted
            if values[f"{engine.value}_utilization_ratio"] is not Reason.UNSUPPORTED
        ]
        return values

    def _power_window(self) -> dict[str, Value]:
        since = self._power_stamp
        samples = self._answer(lambda: self._driver.power_samples(self._index, since_microseconds=since))
        window = PowerWindow.of(samples, is_first=since == 0)
        self._power_stamp = window.next_stamp
        return {"power_draw_mean_watts": window.mean_watts, "power_draw_peak_watts": window.peak_watts}

    def _gpm(self, now: Instant) -> dict[str, Value]:
        if not self.identity.gpm_supported:
            return dict.fromkeys(GPM_NAMES.values(), Reason.UNSUPPORTED)
        if self._gpm_at and now.monotonic_seconds - self._gpm_at.monotonic_seconds <= GPM_WINDOW_SECONDS:
            return dict.fromkeys(GPM_NAMES.values(), Reason.NOT_COLLECTED)
        rates = self._one(self._driver.gpm_rates)
        if isinstance(rates, Reason):
            return dict.fromkeys(GPM_NAMES.values(), rates)
        self._gpm_at = now
        if rates is None:
            return dict.fromkeys(GPM_NAMES.values(), Reason.FIRST_SAMPLE)
        if is_empty_window(rates.values()):
            return dict.fromkeys(GPM_NAMES.values(), Reason.NOT_COLLECTED)
        return {name: gpm_value(name, rates.get(metric, Reason.UNSUPPORTED)) for metric, name in GPM_NAMES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerWindow:
    """The driver's power samples between two ticks, in two numbers."""

    mean_watts: float | Reason
    peak_watts: float | Reason
    next_stamp: int = field(default=0)  # ask for samples newer than this; 0 asks for all

    @classmethod
    def of(cls, samples: Sequence[PowerSample] | Reason, *, is_first: bool) -> PowerWindow:
        """This will sum up a window.

        The first answer holds samples from before the first tick: only its last stamp is of use.
        After an empty answer the next window starts anew, because a clock that was set back
        would else hide every new sample until it has caught up.
        """
        if isinstance(samples, Reason):
            return cls(mean_watts=samples, peak_watts=samples)
        if not samples:
            return cls(mean_watts=Reason.NOT_COLLECTED, peak_watts=Reason.NOT_COLLECTED)
        next_stamp = max(sample.taken_at_microseconds for sample in samples)
        if is_first:
            return cls(mean_watts=Reason.FIRST_SAMPLE, peak_watts=Reason.FIRST_SAMPLE, next_stamp=next_stamp)
        watts = [sample.watts for sample in samples]
        return cls(mean_watts=math.fsum(watts) / len(watts), peak_watts=max(watts), next_stamp=next_stamp)


def still_wanted(readings: Mapping[GpuField, Reading]) -> tuple[GpuField, ...]:
    """This will leave out the fields that this GPU does not have, so that the next batch is cheaper."""
    return tuple(wanted for wanted, reading in readings.items() if reading is not Reason.UNSUPPORTED)


def is_empty_window(readings: Iterable[Reading]) -> bool:
    """This will tell a window in which GPM's counters did not advance from one in which the GPU was idle.

    A tick that was held up can be read closer to the next than `now` says. NVML then answers
    with success, NaN for the DRAM bandwidth (0/0) and 0 for everything else: seen on an H200
    (driver 580) with samples up to 20 ms apart. An idle GPU still shows the PCIe traffic of the question.
    """
    numbers = [reading for reading in readings if not isinstance(reading, Reason)]
    return any(math.isnan(number) for number in numbers) and all(
        number == 0 or math.isnan(number) for number in numbers
    )


def gpm_value(name: str, reading: Reading) -> Reading:
    """This will make a GPM reading fit for the catalogue: no NaN, and full is 1."""
    if isinstance(reading, Reason):
        return reading
    if not math.isfinite(reading):
        return Reason.NOT_A_NUMBER
    if name.endswith("_ratio") and 1 < reading <= 1 + RATIO_SLACK:
        return 1.0
    return reading


def sm_count(identity: GpuIdentity) -> int | None:
    """This will give the number of SMs, which NVML itself tells only of MIG devices."""
    per_sm = _CORES_PER_SM.get(identity.compute_capability or "")
    return None if per_sm is None or identity.cuda_cores is None else identity.cuda_cores // per_sm


def attributes_of(identity: GpuIdentity, *, processes: Sequence[Mapping[str, object]] | None) -> dict[str, object]:
    """This will give a GPU's attributes as its entity carries them; `processes` is None when unknown."""
    return {**asdict(identity), "sm_count": sm_count(identity), "processes": processes}


def named(process: GpuProcess, proc_root: Path) -> dict[str, object]:
    """This will describe a process, with its name where /proc has it."""
    try:
        name: str | None = (proc_root / str(process.pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        name = None
    return {"pid": process.pid, "name": name, "used_bytes": process.used_bytes}
