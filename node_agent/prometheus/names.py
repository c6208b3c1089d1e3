"""Which of our fields is which metric of dcgm-exporter and node_exporter, and in whose unit. Data, and nothing else.

Left out is what those tools count otherwise than we do: NVLink's bandwidth (its unit differs between releases of DCGM).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MEMORY_NAME = re.compile(r"[a-zA-Z0-9_]+")
_MIB = 1 / 2**20
_PERCENT = 100.0
_MILLI = 1000.0
# Older headers of DCGM call the unit of violations µs; NVML's counters behind them, newer headers, and dcgm-exporter's
# own help texts say ns (dcgm_fields.h; github.com/NVIDIA/dcgm-exporter/pull/589).
_NANO = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric as another exporter publishes it."""

    name: str
    kind: str  # counter or gauge
    factor: float | None = None  # ours times this is theirs; None: the same unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The metrics of one table. A label's value is the entity's key ("") or an attribute; `prefix` stands before it."""

    metrics: Mapping[str, Metric]  # by field
    labels: Mapping[str, str]  # theirs to ours
    prefixes: Mapping[str, str]  # by label


def _counter(name: str, factor: float | None = None) -> Metric:
    return Metric(name=name, kind="counter", factor=factor)


def _gauge(name: str, factor: float | None = None) -> Metric:
    return Metric(name=name, kind="gauge", factor=factor)


_GPU_LABELS = {
    "gpu": "index", "UUID": "", "pci_bus_id": "pci_bus_id", "device": "index", "modelName": "name",
    "DCGM_FI_DRIVER_VERSION": "driver_version",
}  # fmt: skip

# dcgm-exporter: etc/default-counters.csv, with the lines that are commented out there; units as its help texts say.
GPU = Family(
    metrics={
        "gpu_utilization_ratio": _gauge("DCGM_FI_DEV_GPU_UTIL", _PERCENT),
        "memory_controller_utilization_ratio": _gauge("DCGM_FI_DEV_MEM_COPY_UTIL", _PERCENT),
        "sm_clock_megahertz": _gauge("DCGM_FI_DEV_SM_CLOCK"),
        "memory_clock_megahertz": _gauge("DCGM_FI_DEV_MEM_CLOCK"),
        "temperature_gpu_celsius": _gauge("DCGM_FI_DEV_GPU_TEMP"),
        "temperature_memory_celsius": _gauge("DCGM_FI_DEV_MEMORY_TEMP"),
        "power_draw_watts": _gauge("DCGM_FI_DEV_POWER_USAGE"),
        "energy_joules_total": _counter("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", _MILLI),
        "memory_used_bytes": _gauge("DCGM_FI_DEV_FB_USED", _MIB),
        "memory_free_bytes": _gauge("DCGM_FI_DEV_FB_FREE", _MIB),
        "memory_reserved_bytes": _gauge("DCGM_FI_DEV_FB_RESERVED", _MIB),
        "memory_total_bytes": _gauge("DCGM_FI_DEV_FB_TOTAL", _MIB),
        "encoder_utilization_ratio": _gauge("DCGM_FI_DEV_ENC_UTIL", _PERCENT),
        "decoder_utilization_ratio": _gauge("DCGM_FI_DEV_DEC_UTIL", _PERCENT),
        "performance_state_code": _gauge("DCGM_FI_DEV_PSTATE"),
        "graphics_active_ratio": _gauge("DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
        "sm_active_ratio": _gauge("DCGM_FI_PROF_SM_ACTIVE"),
        "sm_occupancy_ratio": _gauge("DCGM_FI_PROF_SM_OCCUPANCY"),
        "tensor_active_ratio": _gauge("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"),
        "fp64_active_ratio": _gauge("DCGM_FI_PROF_PIPE_FP64_ACTIVE"),
        "fp32_active_ratio": _gauge("DCGM_FI_PROF_PIPE_FP32_ACTIVE"),
        "fp16_active_ratio": _gauge("DCGM_FI_PROF_PIPE_FP16_ACTIVE"),
        "dram_active_ratio": _gauge("DCGM_FI_PROF_DRAM_ACTIVE"),
        "pcie_transmit_bytes_per_second": _gauge("DCGM_FI_PROF_PCIE_TX_BYTES"),
        "pcie_receive_bytes_per_second": _gauge("DCGM_FI_PROF_PCIE_RX_BYTES"),
        "nvlink_transmit_bytes_per_second": _gauge("DCGM_FI_PROF_NVLINK_TX_BYTES"),
        "nvlink_receive_bytes_per_second": _gauge("DCGM_FI_PROF_NVLINK_RX_BYTES"),
        "power_limit_watts": _gauge("DCGM_FI_DEV_ENFORCED_POWER_LIMIT"),
    },
    labels=_GPU_LABELS,
    prefixes={"device": "nvidia"},
)

# The same file; its names for what is in our slow tier.
GPU_HEALTH = Family(
    metrics={
        "throttled_power_cap_seconds_total": _counter("DCGM_FI_DEV_POWER_VIOLATION", _NANO),
        "throttled_thermal_seconds_total": _counter("DCGM_FI_DEV_THERMAL_VIOLATION", _NANO),
        "throttled_sync_boost_seconds_total": _counter("DCGM_FI_DEV_SYNC_BOOST_VIOLATION", _NANO),
        "throttled_board_limit_seconds_total": _counter("DCGM_FI_DEV_BOARD_LIMIT_VIOLATION", _NANO),
        "low_utilization_seconds_total": _counter("DCGM_FI_DEV_LOW_UTIL_VIOLATION", _NANO),
        "throttled_reliability_seconds_total": _counter("DCGM_FI_DEV_RELIABILITY_VIOLATION", _NANO),
        "throttled_software_thermal_seconds_total": _counter(
            "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS", _NANO
        ),
        "throttled_hardware_thermal_seconds_total": _counter(
            "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS", _NANO
        ),
        "throttled_power_brake_seconds_total": _counter(
            "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS", _NANO
        ),
        "pcie_replays_total": _counter("DCGM_FI_DEV_PCIE_REPLAY_COUNTER"),
        "ecc_corrected_volatile_total": _counter("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL"),
        "ecc_uncorrected_volatile_total": _counter("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"),
        "ecc_corrected_aggregate_total": _counter("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL"),
        "ecc_uncorrected_aggregate_total": _counter("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL"),
        "remapped_rows_correctable_total": _counter("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS"),
        "remapped_rows_uncorrectable_total": _counter("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"),
        "remapped_rows_failure_flag": _gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE"),
        "retired_pages_single_bit_total": _counter("DCGM_FI_DEV_RETIRED_SBE"),
        "retired_pages_double_bit_total": _counter("DCGM_FI_DEV_RETIRED_DBE"),
        "retired_pages_pending_flag": _gauge("DCGM_FI_DEV_RETIRED_PENDING"),
        "nvlink_crc_flit_errors_total": _counter("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL"),
        "nvlink_crc_data_errors_total": _counter("DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL"),
        "nvlink_replays_total": _counter("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL"),
        "nvlink_recoveries_total": _counter("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL"),
    },
    labels=_GPU_LABELS,
    prefixes={"device": "nvidia"},
)

# Of a GPU instance only what its GPU does not tell in MIG mode: memory would be counted twice.
GPU_INSTANCE = Family(
    metrics={
        name: metric
        for name, metric in GPU.metrics.items()
        if metric.name.startswith("DCGM_FI_PROF_") and not name.startswith("nvlink_")
    },
    labels={
        "gpu": "gpu_index", "UUID": "gpu", "device": "gpu_index", "modelName": "name",
        "GPU_I_PROFILE": "profile", "GPU_I_ID": "gpu_instance_id",
    },
    prefixes={"device": "nvidia"},
)  # fmt: skip

# node_exporter 1.5 and later: collector/{loadavg,meminfo,pressure,vmstat}_linux.go.
HOST = Family(
    metrics={
        "load_1m_count": _gauge("node_load1"),
        "load_5m_count": _gauge("node_load5"),
        "load_15m_count": _gauge("node_load15"),
        "memory_total_bytes": _gauge("node_memory_MemTotal_bytes"),
        "memory_available_bytes": _gauge("node_memory_MemAvailable_bytes"),
        "swap_total_bytes": _gauge("node_memory_SwapTotal_bytes"),
        "huge_pages_count": _gauge("node_memory_HugePages_Total"),
        "huge_pages_free_count": _gauge("node_memory_HugePages_Free"),
        "huge_page_size_bytes": _gauge("node_memory_Hugepagesize_bytes"),
        "pressure_cpu_some_seconds_total": _counter("node_pressure_cpu_waiting_seconds_total"),
        "pressure_memory_some_seconds_total": _counter("node_pressure_memory_waiting_seconds_total"),
        "pressure_memory_full_seconds_total": _counter("node_pressure_memory_stalled_seconds_total"),
        "pressure_io_some_seconds_total": _counter("node_pressure_io_waiting_seconds_total"),
        "pressure_io_full_seconds_total": _counter("node_pressure_io_stalled_seconds_total"),
        "oom_kills_total": _counter("node_vmstat_oom_kill"),
    },
    labels={},
    prefixes={},
)

# collector/{cpu,boot_time,uname,time}.go: of the machine itself, beside its samples.
CPU_SECONDS = _counter("node_cpu_seconds_total")  # labels cpu and mode
BOOT_TIME = _gauge("node_boot_time_seconds")
TIME = _gauge("node_time_seconds")
UNAME = _gauge("node_uname_info")


def memory_metric(line: str) -> Metric | None:
    """This will name a line of /proc/meminfo as meminfo_linux.go does; None where a sample shows it already."""
    name = f"node_memory_{line.replace('(', '_').replace(')', '')}_bytes"
    if _MEMORY_NAME.fullmatch(name) is None or name in {metric.name for metric in HOST.metrics.values()}:
        return None
    return _gauge(name)


# collector/diskstats_linux.go
DISK = Family(
    metrics={
        "read_bytes_total": _counter("node_disk_read_bytes_total"),
        "written_bytes_total": _counter("node_disk_written_bytes_total"),
        "reads_total": _counter("node_disk_reads_completed_total"),
        "writes_total": _counter("node_disk_writes_completed_total"),
        "busy_seconds_total": _counter("node_disk_io_time_seconds_total"),
    },
    labels={"device": ""},
    prefixes={},
)

# collector/filesystem_common.go
FILESYSTEM = Family(
    metrics={
        "total_bytes": _gauge("node_filesystem_size_bytes"),
        "available_bytes": _gauge("node_filesystem_avail_bytes"),
        "inodes_total_count": _gauge("node_filesystem_files"),
        "inodes_free_count": _gauge("node_filesystem_files_free"),
    },
    labels={"mountpoint": "", "device": "device", "fstype": "type"},
    prefixes={},
)

# collector/netdev_common.go and netclass_linux.go
NETWORK = Family(
    metrics={
        "received_bytes_total": _counter("node_network_receive_bytes_total"),
        "transmitted_bytes_total": _counter("node_network_transmit_bytes_total"),
        "received_packets_total": _counter("node_network_receive_packets_total"),
        "transmitted_packets_total": _counter("node_network_transmit_packets_total"),
        "receive_errors_total": _counter("node_network_receive_errs_total"),
        "transmit_errors_total": _counter("node_network_transmit_errs_total"),
        "receive_drops_total": _counter("node_network_receive_drop_total"),
        "transmit_drops_total": _counter("node_network_transmit_drop_total"),
        "link_up_flag": _gauge("node_network_up"),
        "link_speed_bytes_per_second": _gauge("node_network_speed_bytes"),
        "carrier_changes_total": _counter("node_network_carrier_changes_total"),
    },
    labels={"device": ""},
    prefixes={},
)

# collector/infiniband_linux.go
INFINIBAND = Family(
    metrics={
        "received_bytes_total": _counter("node_infiniband_port_data_received_bytes_total"),
        "transmitted_bytes_total": _counter("node_infiniband_port_data_transmitted_bytes_total"),
        "received_packets_total": _counter("node_infiniband_port_packets_received_total"),
        "transmitted_packets_total": _counter("node_infiniband_port_packets_transmitted_total"),
        "transmit_waits_total": _counter("node_infiniband_port_transmit_wait_total"),
        "receive_errors_total": _counter("node_infiniband_port_errors_received_total"),
        "transmit_discards_total": _counter("node_infiniband_port_discards_transmitted_total"),
        "symbol_errors_total": _counter("node_infiniband_symbol_error_total"),
        "link_downs_total": _counter("node_infiniband_link_downed_total"),
        "link_recoveries_total": _counter("node_infiniband_link_error_recovery_total"),
        "integrity_errors_total": _counter("node_infiniband_local_link_integrity_errors_total"),
        "link_speed_bytes_per_second": _gauge("node_infiniband_rate_bytes_per_second"),
    },
    labels={"device": "device", "port": "port"},
    prefixes={},
)

FAMILIES: Mapping[str, Family] = {
    "gpu": GPU,
    "gpu_health": GPU_HEALTH,
    "gpu_instance": GPU_INSTANCE,
    "host": HOST,
    "disk": DISK,
    "filesystem": FILESYSTEM,
    "network": NETWORK,
    "infiniband": INFINIBAND,
}
