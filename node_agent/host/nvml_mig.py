"""GPU instances of GPUs in MIG mode, read through NVML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pynvml

from node_agent.host.nvml_calls import ask, optional, translated
from node_agent.host.nvml_facts import ComputeInstance, DeviceMemory, GpuInstance
from node_agent.host.nvml_gpm import GpmWindow
from node_agent.host.nvml_protocol import NvmlRefused
from node_agent.model import Reason

_api: Any = pynvml  # nvidia-ml-py carries no types

_NO_DEVICE = (pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT)  # a slot that nothing is in
# The name of a MIG device ends in its profile; a compute instance of a part of a GPU instance puts "1c." before it.
_PROFILE = re.compile(r"\bMIG (?:\d+c\.)?(\S+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    instance: GpuInstance
    handle: Any  # of its first MIG device


class MigInstances:
    """The instances of one GPU, with what is held open for each. Not thread-safe, because NVML with GPM is not."""

    def __init__(self, gpu: Any, metric_ids: Sequence[int]) -> None:
        self._gpu = gpu
        self._metric_ids = metric_ids
        self._open: dict[int, _Open] = {}
        self._windows: dict[int, GpmWindow] = {}

    def refresh(self) -> list[GpuInstance]:
        """This will look which instances there are, and let go of those that are no more what they were."""
        current, _ = ask("nvmlDeviceGetMigMode", self._gpu)
        found = self._found() if current == pynvml.NVML_DEVICE_MIG_ENABLE else {}
        for number in [n for n in self._windows if n not in found or found[n].instance != self._open[n].instance]:
            self._forget(number)
        self._open = found
        return [one.instance for one in found.values()]

    def memory(self, gpu_instance_id: int) -> DeviceMemory:
        """This will give how the device memory of an instance is divided: its compute instances share it."""
        return read_memory(self._handle(gpu_instance_id))

    def sram_errors(self, gpu_instance_id: int) -> int:
        """This will give the errors of on-chip memory that were not corrected: the only ones told by instance."""
        kind, when = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        where = pynvml.NVML_MEMORY_LOCATION_SRAM
        return int(ask("nvmlDeviceGetMemoryErrorCounter", self._handle(gpu_instance_id), kind, when, where))

    def advance(self, gpu_instance_id: int) -> list[tuple[int, int, float]] | None:
        """This will close GPM's window over an instance and open the next. Raises pynvml.NVMLError."""
        self._handle(gpu_instance_id)
        if gpu_instance_id not in self._windows:
            take = partial(_api.nvmlGpmMigSampleGet, self._gpu, gpu_instance_id)
            self._windows[gpu_instance_id] = GpmWindow(take, self._metric_ids)
        return self._windows[gpu_instance_id].advance()

    def free(self) -> None:
        """This will give everything back. It never raises."""
        for number in list(self._windows):
            self._forget(number)

    def _forget(self, number: int) -> None:
        try:
            self._windows.pop(number).free()
        except pynvml.NVMLError:
            return  # a lost GPU or driver has already let go of it

    def _handle(self, gpu_instance_id: int) -> Any:
        if gpu_instance_id not in self._open:
            raise NvmlRefused(Reason.NOT_COLLECTED, f"GPU instance {gpu_instance_id} is not there any more")
        return self._open[gpu_instance_id].handle

    def _found(self) -> dict[int, _Open]:
        devices: dict[int, list[tuple[ComputeInstance, Any]]] = {}
        for slot in range(int(ask("nvmlDeviceGetMaxMigDeviceCount", self._gpu))):
            handle = self._device(slot)
            if handle is None:
                continue
            number = int(ask("nvmlDeviceGetGpuInstanceId", handle))
            devices.setdefault(number, []).append((_compute_instance(handle), handle))
        return {number: _instance(number, some) for number, some in sorted(devices.items())}

    def _device(self, slot: int) -> Any | None:
        try:
            return _api.nvmlDeviceGetMigDeviceHandleByIndex(self._gpu, slot)
        except pynvml.NVMLError as error:
            code: int = error.value  # type: ignore[attr-defined]  # nvidia-ml-py carries no types
            if code in _NO_DEVICE:
                return None
            raise translated("nvmlDeviceGetMigDeviceHandleByIndex", error) from error


def _compute_instance(handle: Any) -> ComputeInstance:
    attributes = optional("nvmlDeviceGetAttributes_v2", handle)
    return ComputeInstance(
        uuid=ask("nvmlDeviceGetUUID", handle),
        compute_instance_id=int(ask("nvmlDeviceGetComputeInstanceId", handle)),
        sm_count=None if attributes is None else int(attributes.multiprocessorCount),
    )


def _instance(number: int, devices: list[tuple[ComputeInstance, Any]]) -> _Open:
    devices.sort(key=lambda device: device[0].compute_instance_id)
    handle = devices[0][1]
    name = optional("nvmlDeviceGetName", handle)
    profile = None if name is None else _PROFILE.search(name)
    instance = GpuInstance(
        gpu_instance_id=number,
        compute_instances=tuple(device for device, _ in devices),
        name=name,
        profile=None if profile is None else profile[1],
    )
    return _Open(instance=instance, handle=handle)


def read_memory(handle: Any) -> DeviceMemory:
    """This will read how the memory of a GPU or of a MIG device is divided."""
    memory = ask("nvmlDeviceGetMemoryInfo", handle, pynvml.nvmlMemory_v2)
    return DeviceMemory(
        memory_total_bytes=memory.total,
        memory_used_bytes=memory.used,
        memory_free_bytes=memory.free,
        memory_reserved_bytes=memory.reserved,
    )
