"""What a GPU is and how it is set up, read through NVML."""

from __future__ import annotations

from collections.abc import Sequence
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


def read_identity(handle: Any, index: int, versions: tuple[str | None, str | None]) -> GpuIdentity:
    """This will read one GPU's identity; `versions` are those of the driver and of CUDA."""
    capability = optional("nvmlDeviceGetCudaComputeCapability", handle)
    memory = optional("nvmlDeviceGetMemoryInfo", handle)
    support = optional("nvmlGpmQueryDeviceSupport", handle)
    minimum, maximum = optional("nvmlDeviceGetPowerManagementLimitConstraints", handle) or (None, None)
    pci = optional("nvmlDeviceGetPciInfo", handle)
    mig, ecc = _mode(optional("nvmlDeviceGetMigMode", handle)), _mode(optional("nvmlDeviceGetEccMode", handle))
    persistence = optional("nvmlDeviceGetPersistenceMode", handle)
    return GpuIdentity(
        uuid=ask("nvmlDeviceGetUUID", handle),
        index=index,
        name=optional("nvmlDeviceGetName", handle),
        pci_bus_id=pci and pci.busId,
        serial=optional("nvmlDeviceGetSerial", handle),
        vbios_version=optional("nvmlDeviceGetVbiosVersion", handle),
        driver_version=versions[0],
        cuda_version=versions[1],
        architecture=_ARCHITECTURES.get(optional("nvmlDeviceGetArchitecture", handle)),
        compute_capability=capability and f"{capability[0]}.{capability[1]}",
        cuda_cores=optional("nvmlDeviceGetNumGpuCores", handle),
        memory_total_bytes=memory and memory.total,
        memory_bus_width_bits=optional("nvmlDeviceGetMemoryBusWidth", handle),
        sm_clock_maximum_megahertz=optional("nvmlDeviceGetMaxClockInfo", handle, pynvml.NVML_CLOCK_SM),
        memory_clock_maximum_megahertz=optional("nvmlDeviceGetMaxClockInfo", handle, pynvml.NVML_CLOCK_MEM),
        power_limit_default_watts=_watts(optional("nvmlDeviceGetPowerManagementDefaultLimit", handle)),
        power_limit_minimum_watts=_watts(minimum),
        power_limit_maximum_watts=_watts(maximum),
        temperature_shutdown_celsius=_threshold(handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
        temperature_slowdown_celsius=_threshold(handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
        temperature_memory_maximum_celsius=_threshold(handle, pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX),
        temperature_gpu_maximum_celsius=_threshold(handle, pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX),
        pcie_link_generation_maximum=optional("nvmlDeviceGetMaxPcieLinkGeneration", handle),
        pcie_link_width_maximum=optional("nvmlDeviceGetMaxPcieLinkWidth", handle),
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


def _threshold(handle: Any, kind: int) -> int | None:
    threshold: int | None = optional("nvmlDeviceGetTemperatureThreshold", handle, kind)
    return threshold
