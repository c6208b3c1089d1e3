"""What a GPU is and how it is set up, read through NVML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pynvml

from node_agent.host.nvml_calls import ask, optional
from node_agent.host.nvml_facts import GpuIdentity

_MILLI = 1000  # NVML speaks mW

_ARCHITECTURES = {  # nvmlDeviceArchitecture_t
    2: "kepler", 3: "maxwell", 4: "pascal", 5: "volta", 6: "turing", 7: "ampere", 8: "ada", 9: "hopper",
    10: "blackwell", 13: "rubin",
}  # fmt: skip


def read_versions() -> tuple[str | None, str | None]:
    """This will give the versions of the driver and of the newest CUDA that it can run."""
    cuda = optional("nvmlSystemGetCudaDriverVersion_v2")
    return optional("nvmlSystemGetDriverVersion"), None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"


def _bus_id(handle: Any) -> str | None:
    pci = optional("nvmlDeviceGetPciInfo", handle)
    return None if pci is None else str(pci.busId)


def _capability(handle: Any) -> str | None:
    capability = optional("nvmlDeviceGetCudaComputeCapability", handle)
    return capability and f"{capability[0]}.{capability[1]}"


def _threshold(kind: int) -> Callable[[Any], Any]:
    return lambda handle: optional("nvmlDeviceGetTemperatureThreshold", handle, kind)


def _plain(function: str, *arguments: Any) -> Callable[[Any], Any]:
    return lambda handle: optional(function, handle, *arguments)


_OF_THE_BOARD: Mapping[str, Callable[[Any], Any]] = {  # what a GPU is made of does not change while NVML is open
    "name": _plain("nvmlDeviceGetName"),
    "pci_bus_id": _bus_id,
    "serial": _plain("nvmlDeviceGetSerial"),
    "vbios_version": _plain("nvmlDeviceGetVbiosVersion"),
    "architecture": lambda handle: _ARCHITECTURES.get(optional("nvmlDeviceGetArchitecture", handle)),
    "compute_capability": _capability,
    "cuda_cores": _plain("nvmlDeviceGetNumGpuCores"),
    "memory_bus_width_bits": _plain("nvmlDeviceGetMemoryBusWidth"),
    "sm_clock_maximum_megahertz": _plain("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM),
    "memory_clock_maximum_megahertz": _plain("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_MEM),
    "power_limit_default_watts": lambda handle: _watts(optional("nvmlDeviceGetPowerManagementDefaultLimit", handle)),
    "temperature_shutdown_celsius": _threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
    "temperature_slowdown_celsius": _threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
    "temperature_memory_maximum_celsius": _threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX),
    "temperature_gpu_maximum_celsius": _threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX),
    "pcie_link_generation_maximum": _plain("nvmlDeviceGetMaxPcieLinkGeneration"),
    "pcie_link_width_maximum": _plain("nvmlDeviceGetMaxPcieLinkWidth"),
}


def read_identity(
    handle: Any, index: int, versions: tuple[str | None, str | None], before: GpuIdentity | None = None
) -> GpuIdentity:
    """This will read one GPU's identity; `versions` are those of the driver and of CUDA.

    What the GPU is made of is taken from `before`, the same GPU's identity since NVML was opened: on an H200 its
    clocks and thresholds alone cost 5 ms. What could not be read then is asked again.
    """
    uuid = ask("nvmlDeviceGetUUID", handle)
    known = before if before is not None and before.uuid == uuid else None
    board = {}
    for name, read in _OF_THE_BOARD.items():
        value = getattr(known, name, None)
        board[name] = read(handle) if value is None else value
    memory = optional("nvmlDeviceGetMemoryInfo", handle)
    support = optional("nvmlGpmQueryDeviceSupport", handle)
    minimum, maximum = optional("nvmlDeviceGetPowerManagementLimitConstraints", handle) or (None, None)
    mig, ecc = _mode(optional("nvmlDeviceGetMigMode", handle)), _mode(optional("nvmlDeviceGetEccMode", handle))
    persistence = optional("nvmlDeviceGetPersistenceMode", handle)
    return GpuIdentity(
        **board,
        uuid=uuid,
        index=index,
        driver_version=versions[0],
        cuda_version=versions[1],
        memory_total_bytes=memory and memory.total,
        power_limit_minimum_watts=_watts(minimum),
        power_limit_maximum_watts=_watts(maximum),
        pcie_link_width=optional("nvmlDeviceGetCurrPcieLinkWidth", handle),
        mig_enabled=mig[0],
        mig_enabled_after_reset=mig[1],
        ecc_enabled=ecc[0],
        ecc_enabled_after_reset=ecc[1],
        persistence_enabled=None if persistence is None else bool(persistence),
        gpm_supported=None if support is None else bool(support.isSupportedDevice),
    )


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / _MILLI


def _mode(modes: Sequence[int] | None) -> tuple[bool | None, bool | None]:
    """This will read a mode that is told as [now, after the next reset]."""
    return (None, None) if modes is None else (bool(modes[0]), bool(modes[1]))
