"""What NVML tells of a GPU, in the agent's units. Importing it needs no NVML."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from node_agent.model import Reason

Reading = float | int | Reason


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
    mig_enabled_after_reset: bool | None = None
    ecc_enabled: bool | None = None
    ecc_enabled_after_reset: bool | None = None
    persistence_enabled: bool | None = None
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
    used_bytes: int | None  # None in some containers
    gpu_instance_id: int | None = None  # None: on the whole GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUtilization:
    """What a process made of a GPU over one of the driver's sample periods. One that did nothing has none."""

    pid: int
    taken_at_microseconds: int  # the driver's stamp: the node's wall clock
    sm_utilization_ratio: float


class LinkState(Enum):
    """The state of an NVLink. The numbers are NVML_NVLINK_STATE_* of nvml.h."""

    INACTIVE = 0
    ACTIVE = 1
    SLEEP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NvLink:
    """One NVLink of a GPU."""

    number: int
    state: LinkState
    speed_bytes_per_second: float | None = None  # None: the driver did not say
    version: str | None = None  # "4.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """How a GPU stands in the NVLink fabric, by the numbers of nvml.h."""

    state_code: int  # NVML_GPU_FABRIC_STATE_*
    status_code: int  # nvmlReturn_t; of worth only when the state is 3, completed
    cluster_uuid: str | None  # None: nil, as outside of multi-node systems
    clique_id: int
    health_mask: int
    health_summary_code: int | None  # NVML_GPU_FABRIC_HEALTH_SUMMARY_*; None: the driver is too old to say


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeInstance:
    """A part of a GPU instance that a container or program is given; NVML calls it a MIG device."""

    uuid: str  # "MIG-…": what the kubelet and CUDA_VISIBLE_DEVICES name it by
    compute_instance_id: int
    sm_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInstance:
    """One instance of a GPU in MIG mode. Its id may come again for another instance."""

    gpu_instance_id: int
    compute_instances: tuple[ComputeInstance, ...]  # at least one, by their ids
    name: str | None = None
    profile: str | None = None  # "3g.40gb"


@dataclass(frozen=True, slots=True, kw_only=True)
class XidEvent:
    """An XID that the driver delivered, without the time at which it happened."""

    index: int | None  # None: the driver does not say any more of which GPU
    number: int
    gpu_instance_id: int | None = None  # None: of the whole GPU
