"""One GPU, tick after tick: what to ask of NVML, how often, and what its silence means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from node_agent.clock import Instant
from node_agent.collectors.every import Every
from node_agent.collectors.gpu_gpm import GpmValues
from node_agent.collectors.gpu_health import FAST_FIELDS, HEALTH_SECONDS, HealthLook, HealthReader, still_wanted
from node_agent.collectors.gpu_instances import InstanceLook, InstancesReader
from node_agent.collectors.gpu_power import PowerWindow
from node_agent.collectors.gpu_processes import ProcessesLook, ProcessReader
from node_agent.collectors.gpu_questions import Questions
from node_agent.host.nvml_facts import DeviceMemory, GpuIdentity, Reading, Utilization
from node_agent.host.nvml_fields import GpmMetric, GpuField, MediaEngine
from node_agent.host.nvml_protocol import Nvml
from node_agent.model import Reason, Value

IDENTITY_SECONDS = 60.0  # power limits and modes can change under way; reading them costs 5 to 10 ms

# FP32 lanes per SM by compute capability: _ConvertSMVer2Cores in NVIDIA/cuda-samples, Common/helper_cuda.h.
_CORES_PER_SM = {
    "6.0": 64, "6.1": 128, "7.0": 64, "7.2": 64, "7.5": 64, "8.0": 64, "8.6": 128, "8.7": 128, "8.9": 128,
    "9.0": 128, "10.0": 128, "10.3": 128, "12.0": 128, "12.1": 128,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLook:
    """One look at one GPU: a value or a reason for every field of the tables that were due."""

    values: Mapping[str, Value]  # table gpu
    health: Mapping[str, Value] | None  # table gpu_health; None: not due in this tick
    instances: Sequence[InstanceLook]
    attributes: Mapping[str, object]
    complaints: Sequence[str]  # what NVML refused and should not have, for people


class GpuReader:
    """Reads one open GPU, and remembers between ticks what the next look needs.

    GpuLost and NvmlUnavailable go through to the caller: then no value of the tick counts.
    """

    def __init__(self, driver: Nvml, index: int, *, now: Instant, proc_root: Path) -> None:
        self._driver = driver
        self._index = index
        self.identity = driver.identity(index)
        self._identity_due = Every(IDENTITY_SECONDS)
        self._identity_due.is_due(now)
        self._questions = Questions(f"GPU {index}")
        self._wanted: tuple[GpuField, ...] = FAST_FIELDS
        self._gpm = GpmValues(lambda: driver.gpm_rates(index), tuple(GpmMetric))
        self._power_stamp = 0
        self._slow_due = Every(HEALTH_SECONDS)
        self._health_reader = HealthReader(driver, index)
        self._instances_reader = InstancesReader(driver, index)
        self._process_reader = ProcessReader(driver, index, proc_root)
        self._health: HealthLook | None = None  # as it was read last: entities carry what describes the GPU
        self._processes: ProcessesLook | None = None
        self._described: Mapping[str, object] = {}
        self._unsupported: list[str] = []
        self._slow_complaints: list[str] = []  # they hold until the slow tier is read again

    def look(self, now: Instant, *, renew: bool = False) -> GpuLook:
        """This will read every value once that is due. `renew` makes all of it due."""
        refreshed = self._refresh_identity(now)
        if renew:
            self._slow_due.at_once()
        values = self._fast(now)
        complaints = self._questions.complaints()
        slow = self._slow_due.is_due(now)
        if slow:
            self._look_slowly(now, gpu_idle=values["gpu_utilization_ratio"] == 0)
            self._slow_complaints = self._questions.complaints()
        elif self._instances_reader.is_doubtful:
            self._instances_reader.look_again(self._questions)
            refreshed = True
        processes = self._processes
        by_instance = None if processes is None or isinstance(processes.processes, Reason) else processes.by_instance
        instances = self._instances_reader.look(now, self._questions, gpu=self.identity, processes=by_instance)
        return GpuLook(
            values=values,
            health=self._health.values if slow and self._health is not None else None,
            instances=instances,
            attributes=self._attributes(values, renewed=slow or refreshed),
            complaints=[*complaints, *self._slow_complaints, *self._questions.complaints()],
        )

    def _fast(self, now: Instant) -> dict[str, Value]:
        driver, index, ask = self._driver, self._index, self._questions.ask
        gpm = self._gpm
        return {
            **self._questions.ask_group(Utilization, lambda: driver.utilization(index)),
            **(gpm.look(now, self._questions) if self.identity.gpm_supported else gpm.unknown(Reason.UNSUPPORTED)),
            **self._questions.ask_group(DeviceMemory, lambda: driver.memory(index)),
            "temperature_gpu_celsius": ask(lambda: driver.temperature_celsius(index)),
            **self._power_window(),
            **self._fields(),
            **self._engines(),
            "energy_joules_total": ask(lambda: driver.energy_joules(index)),
            "sm_clock_megahertz": ask(lambda: driver.sm_clock_megahertz(index)),
            "memory_clock_megahertz": ask(lambda: driver.memory_clock_megahertz(index)),
            "performance_state_code": ask(lambda: driver.performance_state(index)),
            "clock_event_reasons_bits": ask(lambda: driver.clock_event_reasons(index)),
        }

    def _look_slowly(self, now: Instant, *, gpu_idle: bool) -> None:
        self._instances_reader.refresh(self._questions)
        self._processes = self._process_reader.look(now, self._questions, gpu_idle=gpu_idle)
        self._health = self._health_reader.look(self._questions, processes_count=self._processes.count)

    def _attributes(self, values: Mapping[str, Value], *, renewed: bool) -> Mapping[str, object]:
        """This will describe the GPU. Between two readings of the slow tier only what is unsupported can change."""
        unsupported = [name for name, value in values.items() if value is Reason.UNSUPPORTED]
        if not renewed and unsupported == self._unsupported:
            return self._described
        health, processes = self._health, self._processes
        assert health is not None, "the first look reads everything"
        assert processes is not None
        lacking = [name for name, value in health.values.items() if value is Reason.UNSUPPORTED]
        self._unsupported = unsupported
        self._described = {
            **attributes_of(
                self.identity,
                processes=None if isinstance(processes.processes, Reason) else processes.processes,
            ),
            **health.attributes,
            "gpu_instances_count": self._instances_reader.count if self.identity.mig_enabled else None,
            "unsupported": sorted(unsupported + lacking),
        }
        return self._described

    def _refresh_identity(self, now: Instant) -> bool:
        """This will read it when that is due, and say whether it did."""
        if not self._identity_due.is_due(now):
            return False
        identity = self._questions.ask(lambda: self._driver.identity(self._index))
        if isinstance(identity, Reason):
            return False
        if identity.mig_enabled != self.identity.mig_enabled:  # what answers depends on the MIG mode
            self._questions.forget()
            self._health_reader.forget()
            self._wanted = FAST_FIELDS
            self._slow_due.at_once()
        self.identity = identity
        return True

    def _fields(self) -> dict[str, Value]:
        ask, driver, index = self._questions.ask, self._driver, self._index
        answers = ask(lambda: driver.field_values(index, self._wanted))
        if isinstance(answers, Reason):
            readings: dict[GpuField, Reading] = dict.fromkeys(FAST_FIELDS, answers)
        else:
            readings = {wanted: answers.get(wanted, Reason.UNSUPPORTED) for wanted in FAST_FIELDS}
            self._wanted = still_wanted(readings)
        draw = readings[GpuField.POWER_AVERAGE_WATTS]
        limit = readings[GpuField.POWER_CURRENT_LIMIT_WATTS]
        return {
            "temperature_memory_celsius": readings[GpuField.TEMPERATURE_MEMORY_CELSIUS],
            "power_draw_watts": ask(lambda: driver.power_usage_watts(index)) if isinstance(draw, Reason) else draw,
            "power_limit_watts": ask(lambda: driver.power_limit_watts(index)) if isinstance(limit, Reason) else limit,
        }

    def _engines(self) -> dict[str, Value]:
        return {
            f"{engine.value}_utilization_ratio": self._questions.ask_if_there(
                engine.value, partial(self._driver.engine_utilization_ratio, self._index, engine)
            )
            for engine in MediaEngine
        }

    def _power_window(self) -> dict[str, Value]:
        since = self._power_stamp
        samples = self._questions.ask(lambda: self._driver.power_samples(self._index, since_microseconds=since))
        window = PowerWindow.of(samples, is_first=since == 0)
        self._power_stamp = window.next_stamp
        return {"power_draw_mean_watts": window.mean_watts, "power_draw_peak_watts": window.peak_watts}


def sm_count(identity: GpuIdentity) -> int | None:
    """This will give the number of SMs, which NVML itself tells only of MIG devices."""
    per_sm = _CORES_PER_SM.get(identity.compute_capability or "")
    return None if per_sm is None or identity.cuda_cores is None else identity.cuda_cores // per_sm


def attributes_of(identity: GpuIdentity, *, processes: Sequence[Mapping[str, object]] | None) -> dict[str, object]:
    """This will give a GPU's attributes as its entity carries them; `processes` is None when unknown."""
    return {**asdict(identity), "sm_count": sm_count(identity), "processes": processes}
