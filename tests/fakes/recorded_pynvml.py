"""nvidia-ml-py's functions answering from a recording, so that PynvmlDriver runs without libnvidia-ml."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

RECORDING = Path(__file__).parents[1] / "data" / "nvml" / "h200.json"
POWER_PERIOD_MICROSECONDS = 20_000
_api: Any = pynvml  # nvidia-ml-py carries no types
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t


def handle_at(address: int) -> Any:
    """This will give an nvmlDevice_t: an address, and nothing is ever read there."""
    return ctypes.cast(ctypes.c_void_p(address), pynvml.c_nvmlDevice_t)


def address_of(handle: Any) -> int:
    """This will give where a handle points."""
    return int(ctypes.cast(handle, ctypes.c_void_p).value or 0)


HANDLE = handle_at(0x1000)
MIG_ADDRESS = 0x2000  # of the device in slot 0


class RecordedPynvml:
    """One H200. A test may change `answers`, `fields`, `gpm`, `power` and `errors` (function name -> code)."""

    def __init__(self) -> None:
        recording = json.loads(RECORDING.read_text())
        self.driver: str = recording["driver"]
        self.cuda: int = recording["cuda_driver_version"]
        self.answers: dict[str, Any] = recording["calls"]
        self.fields: dict[int, dict[str, Any]] = {int(number): entry for number, entry in recording["fields"].items()}
        self.gpm: dict[int, tuple[int, float]] = {
            getattr(pynvml, name): (code, value) for name, (code, value) in recording["gpm"].items()
        }
        self.power: list[tuple[int, int]] = []  # (microseconds, mW)
        self.errors: dict[str, int] = {}
        self.mig: list[dict[str, Any] | None] = []  # by slot, of a GPU in MIG mode
        self.xids: list[int] = []
        self.xid_address = 0x1000  # of the GPU that they are from
        self.xid_instance = 0xFFFFFFFF
        self.no_more_xids = pynvml.NVML_ERROR_TIMEOUT
        self.shortest_wait = 0
        self.event_sets: list[object] = []
        self.scopes: dict[int, set[int]] = {}  # by field, of those that were asked with one
        self.scoped: dict[tuple[int, int], dict[str, Any]] = {}  # answers by field and scope
        self.fabric: dict[str, int] = {"state": pynvml.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED}
        self.newest_fabric_info: int = _api.nvmlGpuFabricInfo_v3
        self.process_utilization: list[dict[str, int]] = []
        self.calls: list[str] = []
        self.keeps_calls = True
        self.calls_total = 0
        self.gpm_buffers: set[int] = set()
        self.times_open = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """This will put the recording in the place of every function that would call the library."""
        for name in [name for name in dir(pynvml) if name.startswith("nvml") and callable(getattr(pynvml, name))]:
            if name[4].isupper() and not isinstance(getattr(pynvml, name), type):
                monkeypatch.setattr(pynvml, name, self._function(name))
        monkeypatch.setattr(pynvml, "c_nvmlGpmMetricsGet_t", _GpmRequest)

    def enter_mig_mode(self) -> None:
        """This will play a GPU in MIG mode, as a captured H100 looks in it (tests/fakes/gpus.py says which).

        Slot 1 is empty; instance 2 is shared by two compute instances, which the capture has none of.
        """
        self.answers["nvmlDeviceGetMigMode"] = [1, 1]
        for name in ("UtilizationRates", "EncoderUtilization", "DecoderUtilization", "JpgUtilization"):
            self.errors[f"nvmlDeviceGet{name}"] = pynvml.NVML_ERROR_NOT_SUPPORTED
        for name in ("nvmlDeviceGetProcessUtilization", "nvmlGpmSampleGet"):
            self.errors[name] = pynvml.NVML_ERROR_NOT_SUPPORTED
        self.mig = [
            _mig_device(2, 1, "1c.3g.40gb", sms=28),
            None,
            _mig_device(2, 0, "2c.3g.40gb", sms=32),
            _mig_device(9, 0, "1g.10gb", sms=16),
        ]

    def _mig_device(self, handle: Any) -> dict[str, Any]:
        slot = address_of(handle) - MIG_ADDRESS
        device = self.mig[slot] if slot < len(self.mig) else None
        if device is None:
            raise _api.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return device

    def _is_mig_device(self, handle: Any) -> bool:
        return isinstance(handle, pynvml.c_nvmlDevice_t) and address_of(handle) >= MIG_ADDRESS

    def _nvmlDeviceGetMaxMigDeviceCount(self, _: Any) -> int:
        return len(self.mig)

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, _: Any, slot: int) -> Any:
        if self.mig[slot] is None:
            raise _api.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return handle_at(MIG_ADDRESS + slot)

    def _nvmlGpmMigSampleGet(self, gpu: Any, gpu_instance_id: int, buffer: SimpleNamespace) -> None:
        assert address_of(gpu) == address_of(HANDLE), "the parent is asked, with the instance's id"
        if gpu_instance_id not in {device["nvmlDeviceGetGpuInstanceId"] for device in self.mig if device}:
            raise _api.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        buffer.taken = self.calls_total

    def add_power(self, *milliwatts: int) -> None:
        """This will let the driver take power samples, 20 ms apart."""
        last = self.power[-1][0] if self.power else 1_795_321_786_000_000
        for number, value in enumerate(milliwatts, start=1):
            self.power.append((last + number * POWER_PERIOD_MICROSECONDS, value))

    def show(self, row: Mapping[str, Any]) -> None:
        """This will let the GPU be as a row of a recording has it, in NVML's own names and units."""
        self.answers["nvmlDeviceGetUtilizationRates"] = {"gpu": row["util_gpu"], "memory": row["util_mem"]}
        memory = {"total": row["mem_total"], "used": row["mem_used"], "free": row["mem_total"] - row["mem_used"]}
        self.answers["nvmlDeviceGetMemoryInfo"] = memory
        self.answers[f"nvmlDeviceGetMemoryInfo[{pynvml.nvmlMemory_v2}]"] |= memory
        self.fields.pop(pynvml.NVML_FI_DEV_POWER_AVERAGE, None)  # the rows have nvmlDeviceGetPowerUsage
        single = {
            "nvmlDeviceGetTemperature[0]": "temp",
            "nvmlDeviceGetTotalEnergyConsumption": "energy_mj",
            "nvmlDeviceGetPowerUsage": "power_mw",
            f"nvmlDeviceGetClockInfo[{pynvml.NVML_CLOCK_SM}]": "sm_mhz",
            f"nvmlDeviceGetClockInfo[{pynvml.NVML_CLOCK_MEM}]": "mem_mhz",
            "nvmlDeviceGetCurrentClocksEventReasons": "reasons",
        }
        self.answers |= {call: row[key] for call, key in single.items() if key in row}
        self.gpm = {
            getattr(pynvml, f"NVML_GPM_METRIC_{name.upper()}"): (0, row[name])
            for name in row
            if hasattr(pynvml, f"NVML_GPM_METRIC_{name.upper()}")
        }

    def _function(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls_total += 1
            if self.keeps_calls:
                self.calls.append(name)
            if name in self.errors:
                raise _api.NVMLError(self.errors[name])
            if name != "nvmlInit" and not self.times_open:
                raise _api.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
            if arguments and self._is_mig_device(arguments[0]):
                answer = self._mig_device(arguments[0])[name]
                return SimpleNamespace(**answer) if isinstance(answer, dict) else answer
            special = getattr(self, f"_{name}", None)
            return special(*arguments) if special else self._recorded(name, arguments)

        return call

    def _recorded(self, name: str, arguments: tuple[Any, ...]) -> Any:
        key = f"{name}[{arguments[1]}]" if len(arguments) > 1 else name
        if key not in self.answers:
            raise _api.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        answer = self.answers[key]
        if isinstance(answer, dict) and "error" in answer:
            raise _api.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(**answer) if isinstance(answer, dict) else answer

    def _nvmlInit(self) -> None:
        self.times_open += 1

    def _nvmlShutdown(self) -> None:
        self.times_open -= 1

    def _nvmlDeviceGetCount(self) -> int:
        return 1

    def _nvmlSystemGetDriverVersion(self) -> str:
        return self.driver

    def _nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        if index != 0:
            raise _api.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return HANDLE

    def _nvmlDeviceGetEncoderUtilization(self, _: str) -> list[int]:
        return [25, 100_000]  # percent, and the sample period in us, as on the H200

    _nvmlDeviceGetDecoderUtilization = _nvmlDeviceGetEncoderUtilization
    _nvmlDeviceGetJpgUtilization = _nvmlDeviceGetEncoderUtilization

    def _nvmlEventSetCreate(self) -> object:
        made = object()
        self.event_sets.append(made)
        return made

    def _nvmlEventSetFree(self, event_set: object) -> None:
        self.event_sets.remove(event_set)

    def _nvmlDeviceGetSupportedEventTypes(self, _: str) -> int:
        return 0xFFFF

    def _nvmlDeviceRegisterEvents(self, _: str, types: int, __: object) -> None:
        assert types == pynvml.nvmlEventTypeXidCriticalError

    def _nvmlDeviceGetIndex(self, _: str) -> int:
        return 0

    def _nvmlEventSetWait_v2(self, _: object, milliseconds: int) -> Any:
        assert milliseconds in (0, 1), "a wait would hold up every other question"
        if milliseconds < self.shortest_wait:
            raise _api.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        if not self.xids:
            raise _api.NVMLError(self.no_more_xids)
        kind = pynvml.nvmlEventTypeXidCriticalError
        return SimpleNamespace(
            device=handle_at(self.xid_address),
            eventType=kind,
            eventData=self.xids.pop(0),
            gpuInstanceId=self.xid_instance,
            computeInstanceId=0xFFFFFFFF,
        )

    def _nvmlDeviceGetGpuFabricInfoV(self, _: Any, reference: Any) -> int:
        """What the H200 answers is not recorded: the probe's call failed. A virtual machine without links has none."""
        info = reference._obj  # of ctypes.byref
        if info.version > self.newest_fabric_info:
            raise _api.NVMLError(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        for name, value in self.fabric.items():
            if name in dict(info._fields_):
                setattr(info, name, value)
        return pynvml.NVML_SUCCESS

    def _nvmlDeviceGetProcessUtilization(self, _: Any, since: int) -> list[Any]:
        newer = [sample for sample in self.process_utilization if sample["timeStamp"] > since]
        if not newer:
            raise _api.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return [SimpleNamespace(**sample) for sample in newer]

    def _nvmlDeviceGetPowerManagementLimitConstraints(self, _: str) -> list[int]:
        return [200000, 700000]

    def _nvmlDeviceGetComputeRunningProcesses_v3(self, handle: str) -> list[Any]:
        processes = self._recorded("nvmlDeviceGetComputeRunningProcesses", (handle,))
        return [SimpleNamespace(**process) for process in processes]

    def _nvmlDeviceGetSamples(self, _: str, kind: int, since: int) -> tuple[int, list[Any]]:
        assert kind == pynvml.NVML_TOTAL_POWER_SAMPLES
        newer = [(stamp, value) for stamp, value in self.power if stamp > since]
        if not newer:
            raise _api.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        samples = [SimpleNamespace(timeStamp=stamp, sampleValue=SimpleNamespace(uiVal=value)) for stamp, value in newer]
        return pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, samples

    def _nvmlDeviceGetFieldValues(self, _: str, wanted: list[int | tuple[int, int]]) -> list[Any]:
        for field, scope in (entry for entry in wanted if isinstance(entry, tuple)):
            self.scopes.setdefault(field, set()).add(scope)
        return [self._field(*entry) if isinstance(entry, tuple) else self._field(entry) for entry in wanted]

    def _field(self, number: int, scope: int | None = None) -> Any:
        entry = self.fields.get(number, {"error": pynvml.NVML_ERROR_NOT_SUPPORTED})
        if scope is not None:
            entry = self.scoped.get((number, scope), entry)
        if "error" in entry:
            return SimpleNamespace(nvmlReturn=entry["error"])
        value = SimpleNamespace(**{_MEMBERS[entry["value_type"]]: entry["value"]})
        return SimpleNamespace(nvmlReturn=pynvml.NVML_SUCCESS, valueType=entry["value_type"], value=value)

    def _nvmlGpmSampleAlloc(self) -> SimpleNamespace:
        buffer = SimpleNamespace(taken=0)
        self.gpm_buffers.add(id(buffer))
        return buffer

    def _nvmlGpmSampleFree(self, buffer: SimpleNamespace) -> None:
        self.gpm_buffers.remove(id(buffer))

    def _nvmlGpmSampleGet(self, _: str, buffer: SimpleNamespace) -> None:
        buffer.taken = self.calls_total

    def _nvmlGpmMetricsGet(self, request: _GpmRequest) -> None:
        assert request.version == pynvml.NVML_GPM_METRICS_GET_VERSION
        assert 0 < request.sample1.taken < request.sample2.taken, "the older sample must come first"
        for metric in request.metrics[: request.numMetrics]:
            absent = (pynvml.NVML_ERROR_NOT_SUPPORTED, 0.0)
            metric.nvmlReturn, metric.value = self.gpm.get(metric.metricId, absent)


def _mig_device(gpu_instance: int, compute_instance: int, profile: str, *, sms: int) -> dict[str, Any]:
    return {
        "nvmlDeviceGetGpuInstanceId": gpu_instance,
        "nvmlDeviceGetComputeInstanceId": compute_instance,
        "nvmlDeviceGetUUID": f"MIG-00000000-0000-5000-8000-00000000{gpu_instance:02}{compute_instance:02}",
        "nvmlDeviceGetName": f"NVIDIA H100 80GB HBM3 MIG {profile}",
        "nvmlDeviceGetAttributes_v2": {"multiprocessorCount": sms},
        "nvmlDeviceGetMemoryInfo": {"total": 42413850624, "reserved": 0, "free": 30782930944, "used": 11630919680},
        "nvmlDeviceGetMemoryErrorCounter": 0,
    }


class _GpmRequest:
    def __init__(self) -> None:
        self.version = 0
        self.numMetrics = 0
        self.sample1: Any = None
        self.sample2: Any = None
        self.metrics = [SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0) for _ in range(pynvml.NVML_GPM_METRIC_MAX)]
