"""The field catalogue. Generated from proto/metrics.toml by proto/generate.py: do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One value of one table; see docs/metrics.md for all of them."""

    name: str
    type: str  # real, double, bigint, real[], histogram
    unit: str  # the unit its name ends in; "count" for plain counters
    is_counter: bool
    minimum: float | None  # smallest possible value; below it a reading is impossible
    maximum: float | None
    source: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """The values that are sampled together for one kind of entity."""

    name: str
    entity: str
    doc: str
    fields: tuple[FieldSpec, ...]
    moved_from: str = ""  # the table in which older agents send fields of this one

    def field(self, name: str) -> FieldSpec:
        """This will give the field called `name`; KeyError when there is none."""
        for spec in self.fields:
            if spec.name == name:
                return spec
        raise KeyError(f"table {self.name} has no field {name}")

    @property
    def scalars(self) -> tuple[FieldSpec, ...]:
        """This will give the fields that hold one number."""
        return tuple(f for f in self.fields if f.type in ("real", "double", "bigint"))

    @property
    def histograms(self) -> tuple[FieldSpec, ...]:
        """This will give the fields that hold a distribution."""
        return tuple(f for f in self.fields if f.type == "histogram")


_TABLES: dict[str, TableSpec] = {}

_TABLES["gpu"] = TableSpec(
    name="gpu",
    entity="gpu",
    doc='One GPU at every sample, as NVML and its GPM counters see it. What changes slowly is in `gpu_health`.',
    fields=(
        FieldSpec(name="gpu_utilization_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetUtilizationRates.gpu', doc='Share of time in which at least one kernel was resident. The classic figure: it reads 1 during a mere copy.'),
        FieldSpec(name="memory_controller_utilization_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetUtilizationRates.memory', doc='Share of time in which device memory was being read or written.'),
        FieldSpec(name="graphics_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='GPM 1 GRAPHICS_UTIL', doc='Share of time in which the compute or graphics engine was active.'),
        FieldSpec(name="sm_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='GPM 2 SM_UTIL', doc='Share of the SMs that had a warp resident, averaged over the interval. The honest utilisation.'),
        FieldSpec(name="sm_occupancy_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='GPM 3 SM_OCCUPANCY', doc='Resident warps over the most the SMs could hold.'),
        FieldSpec(name="tensor_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='GPM 5 ANY_TENSOR_UTIL', doc='Share of cycles in which a tensor pipe was busy.'),
        FieldSpec(name="fp64_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='GPM 11 FP64_UTIL', doc='Share of cycles in which the FP64 pipe was busy.'),
        FieldSpec(name="fp32_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='GPM 12 FP32_UTIL', doc='Share of cycles in which the FP32 pipe was busy.'),
        FieldSpec(name="fp16_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='GPM 13 FP16_UTIL', doc='Share of cycles in which the FP16 pipe was busy.'),
        FieldSpec(name="dram_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='GPM 10 DRAM_BW_UTIL', doc='Device memory bandwidth used, over its maximum.'),
        FieldSpec(name="pcie_transmit_bytes_per_second", type="real", unit="bytes_per_second", is_counter=False, minimum=0, maximum=1000000000000.0, source='GPM 20 PCIE_TX_PER_SEC', doc='Bytes the GPU sent over PCIe.'),
        FieldSpec(name="pcie_receive_bytes_per_second", type="real", unit="bytes_per_second", is_counter=False, minimum=0, maximum=1000000000000.0, source='GPM 21 PCIE_RX_PER_SEC', doc='Bytes the GPU received over PCIe.'),
        FieldSpec(name="nvlink_transmit_bytes_per_second", type="real", unit="bytes_per_second", is_counter=False, minimum=0, maximum=10000000000000.0, source='GPM 61 NVLINK_TOTAL_TX_PER_SEC', doc='Bytes the GPU sent over all NVLinks.'),
        FieldSpec(name="nvlink_receive_bytes_per_second", type="real", unit="bytes_per_second", is_counter=False, minimum=0, maximum=10000000000000.0, source='GPM 60 NVLINK_TOTAL_RX_PER_SEC', doc='Bytes the GPU received over all NVLinks.'),
        FieldSpec(name="memory_total_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetMemoryInfo_v2.total', doc='Device memory.'),
        FieldSpec(name="memory_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetMemoryInfo_v2.used', doc='Device memory held by processes; a held byte need not be worked on.'),
        FieldSpec(name="memory_free_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetMemoryInfo_v2.free', doc='Device memory that can be allocated.'),
        FieldSpec(name="memory_reserved_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetMemoryInfo_v2.reserved', doc='Device memory that driver and firmware keep for themselves.'),
        FieldSpec(name="temperature_gpu_celsius", type="real", unit="celsius", is_counter=False, minimum=-50, maximum=200, source='nvmlDeviceGetTemperature(GPU)', doc='Die temperature.'),
        FieldSpec(name="temperature_memory_celsius", type="real", unit="celsius", is_counter=False, minimum=-50, maximum=200, source='field 82 MEMORY_TEMP', doc='HBM temperature.'),
        FieldSpec(name="power_draw_watts", type="real", unit="watts", is_counter=False, minimum=0, maximum=20000, source='field 185 POWER_AVERAGE, else nvmlDeviceGetPowerUsage', doc='Power, averaged by the driver over about a second.'),
        FieldSpec(name="power_draw_mean_watts", type="real", unit="watts", is_counter=False, minimum=0, maximum=20000, source='nvmlDeviceGetSamples(TOTAL_POWER)', doc="Mean of the driver's 20 ms power samples since the sample before."),
        FieldSpec(name="power_draw_peak_watts", type="real", unit="watts", is_counter=False, minimum=0, maximum=20000, source='nvmlDeviceGetSamples(TOTAL_POWER)', doc="Largest of the driver's 20 ms power samples since the sample before."),
        FieldSpec(name="power_limit_watts", type="real", unit="watts", is_counter=False, minimum=0, maximum=20000, source='field 190 POWER_CURRENT_LIMIT, else nvmlDeviceGetEnforcedPowerLimit', doc='Power limit in force.'),
        FieldSpec(name="energy_joules_total", type="double", unit="joules", is_counter=True, minimum=0, maximum=1000000000000000.0, source='nvmlDeviceGetTotalEnergyConsumption', doc='Energy since the driver was loaded.'),
        FieldSpec(name="sm_clock_megahertz", type="real", unit="megahertz", is_counter=False, minimum=0, maximum=20000, source='nvmlDeviceGetClockInfo(SM)', doc='SM clock.'),
        FieldSpec(name="memory_clock_megahertz", type="real", unit="megahertz", is_counter=False, minimum=0, maximum=40000, source='nvmlDeviceGetClockInfo(MEM)', doc='Memory clock.'),
        FieldSpec(name="performance_state_code", type="real", unit="code", is_counter=False, minimum=0, maximum=15, source='nvmlDeviceGetPerformanceState', doc='Performance state: 0 is the fastest, 15 the slowest.'),
        FieldSpec(name="clock_event_reasons_bits", type="bigint", unit="bits", is_counter=False, minimum=0, maximum=9007199254740991, source='nvmlDeviceGetCurrentClocksEventReasons', doc='Bit mask of why clocks are where they are; a momentary flag, so bursts between samples are missed.'),
        FieldSpec(name="xid_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='NVML event set and /dev/kmsg', doc='XID errors that the driver reported since the agent started; each is an event too.'),
        FieldSpec(name="encoder_utilization_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetEncoderUtilization', doc='Share of time in which the encoder engine was busy.'),
        FieldSpec(name="decoder_utilization_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetDecoderUtilization', doc='Share of time in which the decoder engine was busy.'),
        FieldSpec(name="jpeg_utilization_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetJpgUtilization', doc='Share of time in which the jpeg engine was busy.'),
        FieldSpec(name="optical_flow_utilization_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetOfaUtilization', doc='Share of time in which the optical flow engine was busy.'),
    ),
)
_TABLES["gpu_health"] = TableSpec(
    name="gpu_health",
    entity="gpu",
    doc='What changes slowly about one GPU, and counters that lose nothing when they are read less often: every ten seconds, with its own time. Release 0.1 sent those that it had in `gpu`.',
    fields=(
        FieldSpec(name="recovery_action_code", type="real", unit="code", is_counter=False, minimum=0, maximum=255, source='field 230 GET_GPU_RECOVERY_ACTION', doc="What the driver asks for: 0 nothing, 1 reset the GPU, 2 reboot the node, 3 drain P2P, 4 drain and reset, 5 recover the IMEX domain, 6 reset the bus, 7 reboot the system; the GPU's attribute recovery_action names it."),
        FieldSpec(name="compute_processes_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1000000.0, source='nvmlDeviceGetComputeRunningProcesses', doc='Processes with a compute context on the GPU.'),
        FieldSpec(name="persistence_mode_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetPersistenceMode', doc='1 when the driver stays loaded while nothing uses the GPU; without it the first use after a pause takes seconds.'),
        FieldSpec(name="fan_speed_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=2, source='nvmlDeviceGetFanSpeed_v2, the fastest', doc='Speed that the fastest fan is told to have, over the highest that the board calls quiet; it can exceed 1.'),
        FieldSpec(name="bar1_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetBAR1MemoryInfo.bar1Used', doc='BAR1 address space in use (mapped for the CPU or peers).'),
        FieldSpec(name="bar1_total_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetBAR1MemoryInfo.bar1Total', doc='BAR1 address space.'),
        FieldSpec(name="throttled_power_cap_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='field 74 CLOCKS_EVENT_REASON_SW_POWER_CAP', doc='Time throttled because the power limit was reached.'),
        FieldSpec(name="throttled_sync_boost_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='field 76 CLOCKS_EVENT_REASON_SYNC_BOOST', doc='Time throttled to stay in step with another GPU.'),
        FieldSpec(name="throttled_software_thermal_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='field 269 CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN', doc='Time throttled by the driver because of temperature.'),
        FieldSpec(name="throttled_hardware_thermal_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='field 270 CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN', doc='Time throttled by the hardware because of temperature.'),
        FieldSpec(name="throttled_power_brake_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='field 271 CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN', doc='Time throttled by an external power brake.'),
        FieldSpec(name="throttled_thermal_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='field 75 PERF_POLICY_THERMAL', doc='Time throttled because of temperature, by whomever; the only figure of drivers before 570.'),
        FieldSpec(name="throttled_board_limit_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='field 77 PERF_POLICY_BOARD_LIMIT', doc='Time throttled because of a limit of the board.'),
        FieldSpec(name="throttled_reliability_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='field 79 PERF_POLICY_RELIABILITY', doc='Time throttled so that the voltage stays reliable.'),
        FieldSpec(name="low_utilization_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='field 78 PERF_POLICY_LOW_UTILIZATION', doc='Time at low clocks because there was too little to do: not throttling.'),
        FieldSpec(name="ecc_corrected_volatile_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 3 ECC_SBE_VOL_TOTAL', doc='ECC errors corrected since the driver was loaded.'),
        FieldSpec(name="ecc_uncorrected_volatile_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 4 ECC_DBE_VOL_TOTAL', doc='ECC errors not corrected since the driver was loaded.'),
        FieldSpec(name="ecc_corrected_aggregate_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 5 ECC_SBE_AGG_TOTAL', doc="ECC errors corrected over the board's life."),
        FieldSpec(name="ecc_uncorrected_aggregate_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 6 ECC_DBE_AGG_TOTAL', doc="ECC errors not corrected over the board's life."),
        FieldSpec(name="remapped_rows_correctable_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=1000000000.0, source='field 142 REMAPPED_COR', doc='Memory rows remapped because of correctable errors.'),
        FieldSpec(name="remapped_rows_uncorrectable_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=1000000000.0, source='field 143 REMAPPED_UNC', doc='Memory rows remapped because of uncorrectable errors.'),
        FieldSpec(name="remapped_rows_pending_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='field 144 REMAPPED_PENDING', doc='1 when a row waits for a GPU reset to be remapped.'),
        FieldSpec(name="remapped_rows_failure_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='field 145 REMAPPED_FAILURE', doc='1 when remapping failed: the board should be replaced.'),
        FieldSpec(name="retired_pages_single_bit_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=1000000000.0, source='field 29 RETIRED_SBE', doc='Memory pages retired because of single bit errors; GPUs older than Ampere.'),
        FieldSpec(name="retired_pages_double_bit_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=1000000000.0, source='field 30 RETIRED_DBE', doc='Memory pages retired because of double bit errors; GPUs older than Ampere.'),
        FieldSpec(name="retired_pages_pending_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='field 31 RETIRED_PENDING', doc='1 when a page waits for a reset to be retired.'),
        FieldSpec(name="pcie_link_generation_code", type="real", unit="code", is_counter=False, minimum=0, maximum=16, source='nvmlDeviceGetCurrPcieLinkGeneration', doc="Generation that the PCIe link runs at; it may fall while the GPU idles. The GPU's attribute pcie_link_generation_maximum has the highest."),
        FieldSpec(name="pcie_link_lanes_count", type="real", unit="count", is_counter=False, minimum=0, maximum=64, source='nvmlDeviceGetCurrPcieLinkWidth', doc="Lanes that the PCIe link runs with. The GPU's attribute pcie_link_width_maximum has the most."),
        FieldSpec(name="pcie_replays_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 94 PCIE_REPLAY_COUNTER', doc='PCIe packets sent again.'),
        FieldSpec(name="pcie_replay_rollovers_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 95 PCIE_REPLAY_ROLLOVER_COUNTER', doc='Times that the count of replays began anew at 0.'),
        FieldSpec(name="pcie_recoveries_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 169 PCIE_L0_TO_RECOVERY_COUNTER', doc='Times that the link went from working to recovery.'),
        FieldSpec(name="pcie_correctable_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 173 PCIE_COUNT_CORRECTABLE_ERRORS', doc='PCIe errors that the hardware corrected.'),
        FieldSpec(name="pcie_non_fatal_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 179 PCIE_COUNT_NON_FATAL_ERROR', doc='PCIe errors after which the link went on.'),
        FieldSpec(name="pcie_fatal_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 180 PCIE_COUNT_FATAL_ERROR', doc='PCIe errors after which the link is not reliable.'),
        FieldSpec(name="pcie_unsupported_requests_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 181 PCIE_COUNT_UNSUPPORTED_REQ', doc='PCIe requests that the receiver does not support.'),
        FieldSpec(name="pcie_naks_received_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 174 PCIE_COUNT_NAKS_RECEIVED', doc='Packets that the other side did not accept.'),
        FieldSpec(name="pcie_naks_sent_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 177 PCIE_COUNT_NAKS_SENT', doc='Packets that the GPU did not accept.'),
        FieldSpec(name="pcie_receiver_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 175 PCIE_COUNT_RECEIVER_ERROR', doc='Errors of the electrical receiver.'),
        FieldSpec(name="pcie_bad_transaction_packets_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 176 PCIE_COUNT_BAD_TLP', doc='Transaction layer packets that were damaged.'),
        FieldSpec(name="pcie_bad_link_packets_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 178 PCIE_COUNT_BAD_DLLP', doc='Data link layer packets that were damaged.'),
        FieldSpec(name="pcie_lcrc_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 182 PCIE_COUNT_LCRC_ERROR', doc='Packets whose link CRC was wrong.'),
        FieldSpec(name="pcie_lane_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 183 PCIE_COUNT_LANE_ERROR', doc='Errors of single lanes.'),
        FieldSpec(name="nvlink_links_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1024, source='field 91 NVLINK_LINK_COUNT', doc='NVLinks that the GPU has.'),
        FieldSpec(name="nvlink_links_active_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1024, source='field 165 NVLINK_GET_STATE of each link', doc="NVLinks that are up, those asleep included; the GPU's attribute nvlinks_inactive names the others."),
        FieldSpec(name="nvlink_links_sleeping_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1024, source='field 165 NVLINK_GET_STATE of each link', doc='Of these, NVLinks that sleep to save power.'),
        FieldSpec(name="nvlink_link_speed_bytes_per_second", type="real", unit="bytes_per_second", is_counter=False, minimum=0, maximum=10000000000000.0, source='field 164 NVLINK_GET_SPEED of each link that is up, the slowest', doc='Speed of an NVLink.'),
        FieldSpec(name="nvlink_transmit_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='field 138 NVLINK_THROUGHPUT_DATA_TX, else 202 NVLINK_COUNT_XMIT_BYTES, all links', doc='Payload that the GPU sent over NVLink; without protocol overhead.'),
        FieldSpec(name="nvlink_receive_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='field 139 NVLINK_THROUGHPUT_DATA_RX, else 204 NVLINK_COUNT_RCV_BYTES, all links', doc='Payload that the GPU received over NVLink; without protocol overhead.'),
        FieldSpec(name="nvlink_crc_flit_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 38 NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL', doc='Flow control CRC errors over all NVLinks; GPUs older than Blackwell.'),
        FieldSpec(name="nvlink_crc_data_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 45 NVLINK_CRC_DATA_ERROR_COUNT_TOTAL', doc='Data CRC errors over all NVLinks; GPUs older than Blackwell.'),
        FieldSpec(name="nvlink_replays_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 52 NVLINK_REPLAY_ERROR_COUNT_TOTAL', doc='NVLink packets sent again; GPUs older than Blackwell.'),
        FieldSpec(name="nvlink_recoveries_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 59 NVLINK_RECOVERY_ERROR_COUNT_TOTAL, else 215 NVLINK_COUNT_LINK_RECOVERY_EVENTS', doc='Times that an NVLink had to recover.'),
        FieldSpec(name="nvlink_recoveries_failed_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 214 NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS, all links', doc='Recoveries of an NVLink that failed: the link is down. Blackwell and newer.'),
        FieldSpec(name="nvlink_receive_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 208 NVLINK_COUNT_RCV_ERRORS, all links', doc='Packets with errors that were received. Blackwell and newer.'),
        FieldSpec(name="nvlink_receive_remote_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 209 NVLINK_COUNT_RCV_REMOTE_ERRORS, all links', doc='Packets received that the other side had marked as bad. Blackwell and newer.'),
        FieldSpec(name="nvlink_receive_general_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 210 NVLINK_COUNT_RCV_GENERAL_ERRORS, all links', doc='Packets received whose header did not match. Blackwell and newer.'),
        FieldSpec(name="nvlink_malformed_packets_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 206 NVLINK_COUNT_MALFORMED_PACKET_ERRORS, all links', doc='Packets received that were malformed. Blackwell and newer.'),
        FieldSpec(name="nvlink_buffer_overruns_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 207 NVLINK_COUNT_BUFFER_OVERRUN_ERRORS, all links', doc='Packets thrown away because the receive buffer was full. Blackwell and newer.'),
        FieldSpec(name="nvlink_integrity_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 211 NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS, all links', doc='Times that local errors exceeded their threshold. Blackwell and newer.'),
        FieldSpec(name="nvlink_transmit_discards_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 212 NVLINK_COUNT_XMIT_DISCARDS, all links', doc='Packets thrown away instead of sent. Blackwell and newer.'),
        FieldSpec(name="nvlink_effective_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 219 NVLINK_COUNT_EFFECTIVE_ERRORS, all links', doc='Errors that error correction left. Blackwell and newer.'),
        FieldSpec(name="nvlink_symbol_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='field 221 NVLINK_COUNT_SYMBOL_ERRORS, all links', doc='Errors in received symbols. Blackwell and newer.'),
        FieldSpec(name="nvlink_effective_bit_error_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='field 220 NVLINK_COUNT_EFFECTIVE_BER, all links', doc='Bits that are wrong after error correction. Blackwell and newer.'),
        FieldSpec(name="nvlink_symbol_bit_error_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='field 222 NVLINK_COUNT_SYMBOL_BER, all links', doc='Bits that are wrong in received symbols. Blackwell and newer.'),
        FieldSpec(name="fabric_state_code", type="real", unit="code", is_counter=False, minimum=0, maximum=255, source='nvmlDeviceGetGpuFabricInfoV.state', doc='Joining the NVLink fabric: 1 not begun, 2 under way, 3 done; unknown where there is no fabric.'),
        FieldSpec(name="fabric_status_code", type="real", unit="code", is_counter=False, minimum=0, maximum=1000, source='nvmlDeviceGetGpuFabricInfoV.status', doc='What came of it once it is done: 0 success, else the nvmlReturn_t.'),
        FieldSpec(name="fabric_health_summary_code", type="real", unit="code", is_counter=False, minimum=0, maximum=255, source='nvmlDeviceGetGpuFabricInfoV.healthSummary', doc='The fabric as the GPU sees it: 1 healthy, 2 unhealthy, 3 with limited capacity.'),
        FieldSpec(name="fabric_bandwidth_degraded_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetGpuFabricInfoV.healthMask', doc='1 when the GPU has less NVLink bandwidth than it should.'),
        FieldSpec(name="fabric_route_recovery_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetGpuFabricInfoV.healthMask', doc='1 while routes are being recovered.'),
        FieldSpec(name="fabric_route_unhealthy_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetGpuFabricInfoV.healthMask', doc='1 when a route is unhealthy.'),
        FieldSpec(name="fabric_access_timeout_recovery_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetGpuFabricInfoV.healthMask', doc='1 while recovering from accesses that timed out.'),
        FieldSpec(name="fabric_incorrect_configuration_code", type="real", unit="code", is_counter=False, minimum=0, maximum=255, source='nvmlDeviceGetGpuFabricInfoV.healthMask', doc='What is wrong with how the GPU was put into the fabric: 1 nothing, 2 system GUID, 3 chassis serial number, 4 no partition, 5 too few NVLinks, 6 firmware, 7 location, 8 state.'),
    ),
    moved_from="gpu",
)
_TABLES["host"] = TableSpec(
    name="host",
    entity="node",
    doc='The machine: CPU, memory, pressure, limits.',
    fields=(
        FieldSpec(name="cpu_busy_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='/proc/stat', doc='Share of CPU time that was neither idle nor waiting for I/O.'),
        FieldSpec(name="cpu_user_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='/proc/stat user + nice', doc='Share of CPU time in programs.'),
        FieldSpec(name="cpu_system_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='/proc/stat system + irq + softirq', doc='Share of CPU time in the kernel.'),
        FieldSpec(name="cpu_iowait_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='/proc/stat iowait', doc='Share of CPU time idle while I/O was outstanding.'),
        FieldSpec(name="cpu_steal_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='/proc/stat steal', doc='Share of CPU time that the hypervisor gave to others.'),
        FieldSpec(name="cpu_core_busy_ratio", type="real[]", unit="ratio", is_counter=False, minimum=0, maximum=1, source='/proc/stat cpuN', doc="The busy share of each logical CPU, in the kernel's order."),
        FieldSpec(name="cpu_logical_count", type="real", unit="count", is_counter=False, minimum=1, maximum=1000000.0, source='/proc/stat', doc='Logical CPUs online.'),
        FieldSpec(name="load_1m_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='/proc/loadavg', doc='Mean of runnable and uninterruptible tasks over 1 minute.'),
        FieldSpec(name="load_5m_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='/proc/loadavg', doc='The same over 5 minutes.'),
        FieldSpec(name="load_15m_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='/proc/loadavg', doc='The same over 15 minutes.'),
        FieldSpec(name="memory_total_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='/proc/meminfo MemTotal', doc='Main memory.'),
        FieldSpec(name="memory_available_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='/proc/meminfo MemAvailable', doc='Memory that programs can get without swapping.'),
        FieldSpec(name="memory_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='MemTotal - MemAvailable', doc='Memory that programs cannot get.'),
        FieldSpec(name="memory_cached_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='/proc/meminfo Cached + SReclaimable', doc='Page cache and reclaimable slab.'),
        FieldSpec(name="swap_total_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='/proc/meminfo SwapTotal', doc='Swap space.'),
        FieldSpec(name="swap_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='SwapTotal - SwapFree', doc='Swap space in use.'),
        FieldSpec(name="pressure_cpu_some_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='/proc/pressure/cpu some total', doc='Time in which at least one task waited for a CPU.'),
        FieldSpec(name="pressure_memory_some_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='/proc/pressure/memory some total', doc='Time in which at least one task waited for memory.'),
        FieldSpec(name="pressure_memory_full_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='/proc/pressure/memory full total', doc='Time in which every task waited for memory.'),
        FieldSpec(name="pressure_io_some_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='/proc/pressure/io some total', doc='Time in which at least one task waited for I/O.'),
        FieldSpec(name="pressure_io_full_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='/proc/pressure/io full total', doc='Time in which every task waited for I/O.'),
        FieldSpec(name="pressure_cpu_some_10s_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='/proc/pressure/cpu some avg10', doc='The same as a share of the last 10 s.'),
        FieldSpec(name="pressure_memory_some_10s_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='/proc/pressure/memory some avg10', doc='The same as a share of the last 10 s.'),
        FieldSpec(name="pressure_io_some_10s_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='/proc/pressure/io some avg10', doc='The same as a share of the last 10 s.'),
        FieldSpec(name="cgroup_memory_limit_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='cgroup v2 memory.max', doc="Memory limit of the agent's own control group; unknown when there is none."),
        FieldSpec(name="cgroup_memory_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='cgroup v2 memory.current', doc="Memory charged to the agent's own control group."),
        FieldSpec(name="cgroup_cpu_limit_cores", type="real", unit="cores", is_counter=False, minimum=0, maximum=1000000.0, source='cgroup v2 cpu.max', doc="CPU limit of the agent's own control group; unknown when there is none."),
        FieldSpec(name="cgroup_cpu_throttled_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='cgroup v2 cpu.stat throttled_usec', doc="Time the agent's own control group was held back by its CPU limit."),
        FieldSpec(name="uptime_seconds", type="double", unit="seconds", is_counter=False, minimum=0, maximum=100000000000.0, source='/proc/uptime', doc='Time since the machine started.'),
        FieldSpec(name="agent_cpu_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='/proc/self/stat', doc='CPU time that the agent itself has used.'),
        FieldSpec(name="agent_resident_memory_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=10000000000000.0, source='/proc/self/statm', doc='Memory that the agent itself holds.'),
        FieldSpec(name="oom_kills_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/vmstat oom_kill', doc='Processes that the kernel killed because memory ran out, in any control group.'),
        FieldSpec(name="huge_pages_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000000.0, source='/proc/meminfo HugePages_Total', doc='Huge pages of the default size that are set aside.'),
        FieldSpec(name="huge_pages_free_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000000.0, source='/proc/meminfo HugePages_Free', doc='Of these, pages that nobody has taken.'),
        FieldSpec(name="huge_page_size_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='/proc/meminfo Hugepagesize', doc='Size of one of these.'),
    ),
)
_TABLES["disk"] = TableSpec(
    name="disk",
    entity="disk",
    doc='One block device.',
    fields=(
        FieldSpec(name="read_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/diskstats', doc='Bytes read.'),
        FieldSpec(name="written_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/diskstats', doc='Bytes written.'),
        FieldSpec(name="reads_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/diskstats', doc='Reads completed.'),
        FieldSpec(name="writes_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/diskstats', doc='Writes completed.'),
        FieldSpec(name="busy_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='/proc/diskstats io_ticks', doc='Time in which the device had I/O in flight.'),
    ),
)
_TABLES["filesystem"] = TableSpec(
    name="filesystem",
    entity="filesystem",
    doc='One mounted file system.',
    fields=(
        FieldSpec(name="total_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=9007199254740991, source='statvfs', doc='Size.'),
        FieldSpec(name="used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=9007199254740991, source='statvfs', doc='In use.'),
        FieldSpec(name="available_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=9007199254740991, source='statvfs', doc='Free for ordinary users.'),
        FieldSpec(name="inodes_total_count", type="bigint", unit="count", is_counter=False, minimum=0, maximum=9007199254740991, source='statvfs', doc='Inodes.'),
        FieldSpec(name="inodes_free_count", type="bigint", unit="count", is_counter=False, minimum=0, maximum=9007199254740991, source='statvfs', doc='Free inodes.'),
    ),
)
_TABLES["network"] = TableSpec(
    name="network",
    entity="network_interface",
    doc='One network interface.',
    fields=(
        FieldSpec(name="received_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/net/dev', doc='Bytes received.'),
        FieldSpec(name="transmitted_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/net/dev', doc='Bytes sent.'),
        FieldSpec(name="received_packets_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/net/dev', doc='Packets received.'),
        FieldSpec(name="transmitted_packets_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/net/dev', doc='Packets sent.'),
        FieldSpec(name="receive_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/net/dev', doc='Packets received with an error.'),
        FieldSpec(name="transmit_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/net/dev', doc='Packets that could not be sent.'),
        FieldSpec(name="receive_drops_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/net/dev', doc='Packets received and dropped.'),
        FieldSpec(name="transmit_drops_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/proc/net/dev', doc='Packets dropped before they were sent.'),
        FieldSpec(name="link_up_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='/sys/class/net/*/operstate', doc='1 when the link is up, 0 when it is not; unknown where the driver does not say.'),
        FieldSpec(name="link_speed_bytes_per_second", type="real", unit="bytes_per_second", is_counter=False, minimum=0, maximum=10000000000000.0, source='/sys/class/net/*/speed', doc='What the link can carry in each direction; virtual links have none.'),
        FieldSpec(name="carrier_changes_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/net/*/carrier_changes', doc='How often the link went up or down: a number that grows is a loose cable.'),
    ),
)
_TABLES["infiniband"] = TableSpec(
    name="infiniband",
    entity="infiniband_port",
    doc="One port of an InfiniBand or RoCE device, as the kernel's RDMA core counts it.",
    fields=(
        FieldSpec(name="received_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9e+18, source='/sys/class/infiniband/*/ports/*/counters/port_rcv_data × 4', doc='Bytes received; the kernel counts words of four bytes. A port of 400 Gb/s passes 2^53 within days.'),
        FieldSpec(name="transmitted_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9e+18, source='/sys/class/infiniband/*/ports/*/counters/port_xmit_data × 4', doc='Bytes sent; the kernel counts words of four bytes. A port of 400 Gb/s passes 2^53 within days.'),
        FieldSpec(name="received_packets_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/counters/port_rcv_packets', doc='Packets received.'),
        FieldSpec(name="transmitted_packets_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/counters/port_xmit_packets', doc='Packets sent.'),
        FieldSpec(name="transmit_waits_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/counters/port_xmit_wait', doc='Ticks in which there was data to send and no credit or permission: congestion.'),
        FieldSpec(name="receive_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/counters/port_rcv_errors', doc='Packets received with an error.'),
        FieldSpec(name="transmit_discards_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/counters/port_xmit_discards', doc='Packets dropped because the port was down or congested.'),
        FieldSpec(name="symbol_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/counters/symbol_error', doc='Minor errors on the physical lanes.'),
        FieldSpec(name="link_downs_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/counters/link_downed', doc='How often the link failed and could not recover by itself.'),
        FieldSpec(name="link_recoveries_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/counters/link_error_recovery', doc='How often the link failed and recovered by itself.'),
        FieldSpec(name="integrity_errors_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/counters/local_link_integrity_errors', doc='How often local physical errors passed their threshold.'),
        FieldSpec(name="out_of_sequence_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/hw_counters/out_of_sequence', doc='RoCE packets that arrived out of order.'),
        FieldSpec(name="congestion_notifications_sent_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/hw_counters/np_cnp_sent', doc='RoCE congestion notifications that the port sent as a receiver.'),
        FieldSpec(name="congestion_notifications_handled_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/hw_counters/rp_cnp_handled', doc='RoCE congestion notifications that slowed the port down as a sender.'),
        FieldSpec(name="acknowledgement_timeouts_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='/sys/class/infiniband/*/ports/*/hw_counters/local_ack_timeout_err', doc='RoCE requests whose acknowledgement did not come in time.'),
        FieldSpec(name="link_up_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='/sys/class/infiniband/*/ports/*/state', doc='1 when the port is ACTIVE, 0 in every other state.'),
        FieldSpec(name="link_speed_bytes_per_second", type="real", unit="bytes_per_second", is_counter=False, minimum=0, maximum=10000000000000.0, source='/sys/class/infiniband/*/ports/*/rate', doc='Signalling rate of the port in each direction.'),
    ),
)
_TABLES["agent"] = TableSpec(
    name="agent",
    entity="node",
    doc='The agent itself: what it costs, whether it keeps its cadence, and what it has not delivered yet.',
    fields=(
        FieldSpec(name="cpu_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='/proc/self/stat', doc='CPU time that the agent has used.'),
        FieldSpec(name="resident_memory_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=10000000000000.0, source='/proc/self/statm', doc='Memory that the agent holds.'),
        FieldSpec(name="open_files_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1000000000.0, source='/proc/self/fd', doc='File descriptors that the agent holds open.'),
        FieldSpec(name="threads_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1000000.0, source='/proc/self/stat', doc='Threads of the agent.'),
        FieldSpec(name="tick_seconds", type="real", unit="seconds", is_counter=False, minimum=0, maximum=1000000.0, source="the agent's sampler", doc='How long the tick before this one took, all collectors together.'),
        FieldSpec(name="tick_lateness_seconds", type="real", unit="seconds", is_counter=False, minimum=0, maximum=1000000.0, source="the agent's sampler", doc='How long after its point of the grid this tick began; 0 for a tick that a command asked for.'),
        FieldSpec(name="ticks_skipped_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source="the agent's sampler", doc='Points of the grid at which no tick began, because the one before was still running or the machine slept.'),
        FieldSpec(name="collectors_failing_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1000000.0, source="the agent's sampler", doc='Collectors whose last run failed or came too late.'),
        FieldSpec(name="spool_batches_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1000000000000.0, source="the agent's spool", doc='Batches that the control plane has not acknowledged yet.'),
        FieldSpec(name="spool_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=9007199254740991, source="the agent's spool", doc='What these batches take.'),
        FieldSpec(name="ticks_lost_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source="the agent's spool", doc="Ticks that were dropped before they could be delivered, since the agent's epoch began."),
        FieldSpec(name="reconnects_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source="the agent's uplink", doc='How often the link to the control plane was made again after it had been lost.'),
        FieldSpec(name="acknowledgement_age_seconds", type="double", unit="seconds", is_counter=False, minimum=0, maximum=1000000000000.0, source="the agent's uplink", doc='How long ago the control plane last acknowledged something.'),
    ),
)
_TABLES["inference"] = TableSpec(
    name="inference",
    entity="inference_server",
    doc='One inference server, as its own /metrics says; ranks are summed (KV-cache usage: the fullest rank).',
    fields=(
        FieldSpec(name="up_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='the scrape itself', doc='1 when /metrics answered, 0 when it did not.'),
        FieldSpec(name="scrape_seconds", type="real", unit="seconds", is_counter=False, minimum=0, maximum=3600, source='the scrape itself', doc='How long /metrics took.'),
        FieldSpec(name="counters_since_unix_seconds", type="double", unit="seconds", is_counter=False, minimum=0, maximum=100000000000.0, source="process_start_time_seconds, else the process's start, else the first reset seen", doc='When the counters below began at zero.'),
        FieldSpec(name="ranks_count", type="real", unit="count", is_counter=False, minimum=0, maximum=100000.0, source='distinct engine or dp_rank labels', doc='Data-parallel ranks behind this server.'),
        FieldSpec(name="requests_running_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='vllm:num_requests_running, sglang:num_running_reqs, tgi_batch_current_size', doc='Requests being worked on.'),
        FieldSpec(name="requests_waiting_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='vllm:num_requests_waiting, sglang:num_queue_reqs, tgi_queue_size', doc='Requests waiting to be scheduled.'),
        FieldSpec(name="kv_cache_usage_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1.0001, source='vllm:kv_cache_usage_perc, sglang:token_usage', doc='KV cache in use, over its capacity.'),
        FieldSpec(name="kv_cache_capacity_tokens", type="bigint", unit="tokens", is_counter=False, minimum=0, maximum=10000000000000.0, source='vllm:cache_config_info, sglang:max_total_num_tokens, tgi_batch_max_total_tokens', doc='Tokens that the KV cache can hold.'),
        FieldSpec(name="prompt_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:prompt_tokens_total, sglang:prompt_tokens_total, tgi_request_input_length_sum', doc='Prompt tokens; SGLang and TGI count them when a request ends.'),
        FieldSpec(name="generation_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:generation_tokens_total, sglang:generation_tokens_total, tgi_request_generated_tokens_sum', doc='Generated tokens; SGLang and TGI count them when a request ends.'),
        FieldSpec(name="prompt_tokens_live_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='sglang:realtime_tokens_total{mode=prefill_*}', doc='Prompt tokens counted as they are processed, where that is a separate counter.'),
        FieldSpec(name="generation_tokens_live_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='sglang:realtime_tokens_total{mode=decode}', doc="Tokens counted as they are decoded (without each request's first), where that is a separate counter."),
        FieldSpec(name="prompt_tokens_cached_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:prompt_tokens_cached_total, sglang:cached_tokens_total', doc='Prompt tokens that needed no prefill.'),
        FieldSpec(name="prefix_cache_queries_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:prefix_cache_queries_total, sglang:prompt_tokens_total', doc='Tokens looked up in the prefix cache.'),
        FieldSpec(name="prefix_cache_hits_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:prefix_cache_hits_total, sglang:cached_tokens_total', doc='Tokens found in the prefix cache.'),
        FieldSpec(name="preemptions_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:num_preemptions_total, sglang:num_retracted_requests_total', doc='Requests thrown back because the KV cache was full.'),
        FieldSpec(name="requests_finished_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:request_success_total (stop, length, repetition), sglang:num_requests_total, tgi_request_success', doc='Requests that ended as they should.'),
        FieldSpec(name="requests_aborted_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:request_success_total{abort}, sglang:num_aborted_requests_total', doc='Requests that the client or server gave up.'),
        FieldSpec(name="requests_failed_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:request_success_total{error}, tgi_request_failure', doc='Requests that ended in an error.'),
        FieldSpec(name="ttft_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:time_to_first_token_seconds, sglang:time_to_first_token_seconds', doc='Time from arrival to the first token.'),
        FieldSpec(name="inter_token_latency_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:inter_token_latency_seconds (before 0.11: time_per_output_token_seconds), sglang:inter_token_latency_seconds', doc='Time between two tokens of one request.'),
        FieldSpec(name="time_per_output_token_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:request_time_per_output_token_seconds, sglang:request_time_per_output_token_seconds, tgi_request_mean_time_per_token_duration', doc="A request's mean time per token after the first."),
        FieldSpec(name="queue_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:request_queue_time_seconds, sglang:queue_time_seconds, tgi_request_queue_duration', doc='Time from arrival until scheduled.'),
        FieldSpec(name="prefill_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:request_prefill_time_seconds, sglang:per_stage_req_latency_seconds{stage=prefill_forward}', doc='Time from scheduled to the first token.'),
        FieldSpec(name="decode_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:request_decode_time_seconds', doc='Time from the first token to the last.'),
        FieldSpec(name="end_to_end_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:e2e_request_latency_seconds, sglang:e2e_request_latency_seconds, tgi_request_duration', doc='Time from arrival to the last token.'),
        FieldSpec(name="prompt_length_tokens", type="histogram", unit="tokens", is_counter=False, minimum=None, maximum=None, source='vllm:request_prompt_tokens, sglang:prompt_tokens_histogram, tgi_request_input_length', doc='Prompt length of finished requests.'),
        FieldSpec(name="output_length_tokens", type="histogram", unit="tokens", is_counter=False, minimum=None, maximum=None, source='vllm:request_generation_tokens, sglang:generation_tokens_histogram, tgi_request_generated_tokens', doc='Output length of finished requests.'),
        FieldSpec(name="iteration_tokens", type="histogram", unit="tokens", is_counter=False, minimum=None, maximum=None, source='vllm:iteration_tokens_total', doc='Tokens that one engine step worked on.'),
        FieldSpec(name="requests_running_rank_max_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='vllm:num_requests_running by engine, sglang:num_running_reqs by dp_rank', doc='Requests being worked on by the data-parallel rank that has most.'),
        FieldSpec(name="requests_running_rank_min_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='vllm:num_requests_running by engine, sglang:num_running_reqs by dp_rank', doc='Requests being worked on by the data-parallel rank that has fewest.'),
        FieldSpec(name="requests_waiting_capacity_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='vllm:num_requests_waiting_by_reason{capacity}', doc='Requests that wait for room in the batch or the KV cache.'),
        FieldSpec(name="requests_waiting_deferred_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='vllm:num_requests_waiting_by_reason{deferred}, sglang:num_grammar_queue_reqs', doc='Requests that wait for something else: a grammar, an adapter, a KV transfer.'),
        FieldSpec(name="requests_swapped_count", type="real", unit="count", is_counter=False, minimum=0, maximum=10000000.0, source='vllm:num_requests_swapped (before 0.11)', doc="Requests whose KV cache was moved to the host's memory."),
        FieldSpec(name="requests_rejected_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:admission_rejections_total, tgi_request_failure{overloaded}', doc='Requests refused because too many waited.'),
        FieldSpec(name="external_prefix_cache_queries_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:external_prefix_cache_queries_total', doc='Tokens looked up in a KV cache outside of the engine, such as LMCache.'),
        FieldSpec(name="external_prefix_cache_hits_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:external_prefix_cache_hits_total, sglang:prefill_effective_tokens_total{host_hit, storage_hit}', doc='Tokens found in a KV cache outside of the GPU.'),
        FieldSpec(name="multimodal_cache_queries_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:mm_cache_queries_total', doc='Images and other inputs looked up in the cache of processed inputs.'),
        FieldSpec(name="multimodal_cache_hits_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:mm_cache_hits_total', doc='Images and other inputs found there.'),
        FieldSpec(name="spec_decode_drafts_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:spec_decode_num_drafts_total, sglang:spec_verify_calls_total', doc='Drafts that speculative decoding made.'),
        FieldSpec(name="spec_decode_draft_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:spec_decode_num_draft_tokens_total', doc='Tokens in those drafts.'),
        FieldSpec(name="spec_decode_accepted_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:spec_decode_num_accepted_tokens_total', doc='Drafted tokens that the model accepted.'),
        FieldSpec(name="spec_decode_acceptance_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1.0001, source='sglang:spec_accept_rate, vllm:spec_decode_draft_acceptance_rate (before 0.9)', doc='Accepted over drafted tokens of late, where the engine says it itself.'),
        FieldSpec(name="asleep_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='vllm:engine_sleep_state', doc='1 when a rank sleeps: its weights are offloaded or discarded.'),
        FieldSpec(name="lora_adapters_active_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1000000.0, source='vllm:lora_requests_info{running_lora_adapters}, sglang:lora_pool_slots_used', doc='LoRA adapters in use.'),
        FieldSpec(name="lora_adapters_maximum_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1000000.0, source='vllm:lora_requests_info{max_lora}, sglang:lora_pool_slots_total', doc='LoRA adapters that may be in use at once.'),
        FieldSpec(name="estimated_flops_per_gpu_total", type="double", unit="count", is_counter=True, minimum=0, maximum=1e+30, source='vllm:estimated_flops_per_gpu_total (with --enable-mfu-metrics), sglang:estimated_flops_per_gpu_total', doc='Floating-point operations per GPU that the model needed; of several ranks the most.'),
        FieldSpec(name="estimated_read_bytes_per_gpu_total", type="double", unit="count", is_counter=True, minimum=0, maximum=1e+30, source='vllm:estimated_read_bytes_per_gpu_total, sglang:estimated_read_bytes_per_gpu_total', doc='Bytes of device memory per GPU that the model had to read; of several ranks the most.'),
        FieldSpec(name="estimated_write_bytes_per_gpu_total", type="double", unit="count", is_counter=True, minimum=0, maximum=1e+30, source='vllm:estimated_write_bytes_per_gpu_total, sglang:estimated_write_bytes_per_gpu_total', doc='Bytes of device memory per GPU that the model had to write; of several ranks the most.'),
        FieldSpec(name="kv_offload_load_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:kv_offload_load_bytes_total (before: kv_offload_total_bytes_total{CPU_to_GPU}), sglang:load_back_bytes_total', doc='Bytes of KV cache loaded back from the host.'),
        FieldSpec(name="kv_offload_store_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='vllm:kv_offload_store_bytes_total (before: kv_offload_total_bytes_total{GPU_to_CPU}), sglang:hicache_backup_bytes_total', doc='Bytes of KV cache stored on the host.'),
        FieldSpec(name="kv_offload_usage_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1.0001, source='vllm:cpu_cache_usage_perc, sglang:hicache_host_used_tokens over hicache_host_total_tokens', doc="Use of the host's KV cache, over its capacity."),
        FieldSpec(name="kv_cache_evicted_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='sglang:evicted_tokens_total', doc='Tokens thrown out of the prefix cache.'),
        FieldSpec(name="inference_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:request_inference_time_seconds, tgi_request_inference_duration', doc='Time from scheduled to the last token.'),
        FieldSpec(name="requested_output_tokens", type="histogram", unit="tokens", is_counter=False, minimum=None, maximum=None, source='vllm:request_params_max_tokens, tgi_request_max_new_tokens', doc='The most tokens that a request asked for.'),
        FieldSpec(name="prefill_computed_tokens", type="histogram", unit="tokens", is_counter=False, minimum=None, maximum=None, source='vllm:request_prefill_kv_computed_tokens, sglang:uncached_prompt_tokens_histogram', doc='Prompt tokens of a request that no cache held.'),
        FieldSpec(name="kv_block_lifetime_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:kv_block_lifetime_seconds (with --kv-cache-metrics)', doc='How long a KV block lived; a sample of blocks.'),
        FieldSpec(name="kv_block_idle_before_eviction_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:kv_block_idle_before_evict_seconds (with --kv-cache-metrics)', doc='How long a KV block lay unused before it was evicted.'),
        FieldSpec(name="kv_block_reuse_gap_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='vllm:kv_block_reuse_gap_seconds (with --kv-cache-metrics)', doc='Time between two uses of a KV block.'),
    ),
)
_TABLES["lmcache"] = TableSpec(
    name="lmcache",
    entity="cache_server",
    doc='One LMCache: a server of its own, a controller, or the part inside of an inference server.',
    fields=(
        FieldSpec(name="up_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='the scrape itself', doc='1 when /metrics answered, 0 when it did not.'),
        FieldSpec(name="scrape_seconds", type="real", unit="seconds", is_counter=False, minimum=0, maximum=3600, source='the scrape itself', doc='How long /metrics took.'),
        FieldSpec(name="counters_since_unix_seconds", type="double", unit="seconds", is_counter=False, minimum=0, maximum=100000000000.0, source="process_start_time_seconds, else the process's start, else the first reset seen", doc='When the counters below began at zero.'),
        FieldSpec(name="healthy_flag", type="real", unit="flag", is_counter=False, minimum=0, maximum=1, source='GET /healthcheck, lmcache:lmcache_is_healthy', doc='1 when the cache says that it works, 0 when it is bypassed or dead.'),
        FieldSpec(name="workers_count", type="real", unit="count", is_counter=False, minimum=0, maximum=1000000000.0, source='lmcache:cache_controller_registered_workers_count', doc='Workers that are registered with the controller.'),
        FieldSpec(name="keys_count", type="double", unit="count", is_counter=False, minimum=0, maximum=1000000000000000.0, source='lmcache:cache_controller_kv_pool_keys_count, lmcache:local_cpu_hot_cache_count', doc='Pieces of KV cache that are known.'),
        FieldSpec(name="memory_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+18, source='lmcache_mp_l1_memory_usage_bytes, lmcache:local_cache_usage', doc="KV cache held in the host's memory."),
        FieldSpec(name="memory_capacity_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+18, source='GET /status: memory_total_bytes', doc="KV cache that the host's memory may hold."),
        FieldSpec(name="memory_usage_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1.0001, source='lmcache_mp_l1_usage_ratio', doc='Memory in use, over its capacity; of several stores the fullest.'),
        FieldSpec(name="storage_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+18, source='lmcache_mp_l2_usage_bytes, lmcache:local_storage_usage', doc='KV cache held on disk or another second level.'),
        FieldSpec(name="remote_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+18, source='lmcache:remote_cache_usage', doc='KV cache held by a remote store.'),
        FieldSpec(name="lookups_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_lookups_requests_total, lmcache:num_lookup_requests_total', doc='Lookups made.'),
        FieldSpec(name="lookup_requested_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_lookup_requested_tokens_total, lmcache:num_lookup_tokens_total', doc='Tokens looked up; whole chunks only.'),
        FieldSpec(name="lookup_hit_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_lookup_hit_tokens_total, lmcache:num_lookup_hits_total', doc='Tokens found, as one prefix.'),
        FieldSpec(name="lookup_hit_memory_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_lookup_hit_l1_tokens_total', doc='Of these, tokens that memory held.'),
        FieldSpec(name="lookup_hit_storage_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_lookup_hit_l2_tokens_total', doc='Of these, tokens that the second level added.'),
        FieldSpec(name="stores_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_num_finished_stores_total, lmcache:num_store_requests_total', doc='Requests to store.'),
        FieldSpec(name="retrieves_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_num_finished_retrieves_total, lmcache:num_retrieve_requests_total', doc='Requests to retrieve.'),
        FieldSpec(name="stored_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache:num_stored_tokens_total', doc='Tokens stored.'),
        FieldSpec(name="retrieved_tokens_total", type="bigint", unit="tokens", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache:num_hit_tokens_total', doc='Tokens retrieved.'),
        FieldSpec(name="stored_chunks_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_l1_write_chunks_total', doc='Chunks written to memory.'),
        FieldSpec(name="retrieved_chunks_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_l1_read_chunks_total', doc='Chunks read from memory.'),
        FieldSpec(name="evicted_chunks_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_l1_evicted_chunks_total, lmcache:local_cpu_evict_keys_count_total', doc='Chunks thrown out of memory.'),
        FieldSpec(name="remote_read_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache:num_remote_read_bytes_total', doc='Bytes read from a remote store.'),
        FieldSpec(name="remote_written_bytes_total", type="bigint", unit="bytes", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache:num_remote_write_bytes_total', doc='Bytes written to a remote store.'),
        FieldSpec(name="store_failures_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_l1_allocation_failure_chunks_total, lmcache:put_failed_count', doc='Chunks that could not be stored.'),
        FieldSpec(name="retrieve_failures_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_l1_read_failure_chunks_total, lmcache:get_blocking_failed_count', doc='Chunks that could not be read.'),
        FieldSpec(name="prefetch_failures_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_l2_prefetch_failure_chunks_total', doc='Chunks that the second level did not bring.'),
        FieldSpec(name="timeouts_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_timeouts_total', doc='Operations that took too long.'),
        FieldSpec(name="events_dropped_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='lmcache_mp_event_bus_dropped_events_total', doc='Events lost inside: the other counters are too low by what they held.'),
        FieldSpec(name="lookup_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='lmcache:time_to_lookup', doc='Time of a lookup.'),
        FieldSpec(name="retrieve_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='lmcache:time_to_retrieve', doc='Time to bring tokens back.'),
        FieldSpec(name="store_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='lmcache:time_to_store', doc='Time to store tokens.'),
        FieldSpec(name="chunk_reuse_gap_seconds", type="histogram", unit="seconds", is_counter=False, minimum=None, maximum=None, source='lmcache_mp_l1_chunk_reuse_gap_seconds', doc='Time between two uses of a chunk: what a larger cache would keep.'),
    ),
)
_TABLES["gpu_process"] = TableSpec(
    name="gpu_process",
    entity="gpu_process",
    doc='One process on one GPU, every ten seconds: what it held and burnt, so that a cost can be laid to its pod and namespace.',
    fields=(
        FieldSpec(name="memory_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetComputeRunningProcesses.usedGpuMemory', doc='Device memory that the process holds.'),
        FieldSpec(name="sm_utilization_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlDeviceGetProcessUtilization.smUtil', doc="Share of time in which the process had a kernel on an SM, by the driver's own sampling."),
        FieldSpec(name="host_resident_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='/proc/<pid>/stat rss', doc='Host memory that the process has resident.'),
        FieldSpec(name="host_cpu_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='/proc/<pid>/stat utime + stime', doc='CPU time of the process since it started.'),
    ),
)
_TABLES["server_cgroup"] = TableSpec(
    name="server_cgroup",
    entity="inference_server",
    doc="The control group (version 2) that an inference server's listening process is in: its container, or its systemd unit. Counters begin with the group, not with the server; everything is unknown in the root group and where control groups are version 1.",
    fields=(
        FieldSpec(name="cpu_limit_cores", type="real", unit="cores", is_counter=False, minimum=0, maximum=1000000.0, source='cpu.max, quota over period', doc='CPUs that the group may use: the smallest limit of it and of the groups above; unknown when there is none.'),
        FieldSpec(name="cpu_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='cpu.stat usage_usec', doc="CPU time that the group's processes used."),
        FieldSpec(name="cpu_periods_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='cpu.stat nr_periods', doc="Periods in which the group's own limit was in force and it wanted to run."),
        FieldSpec(name="cpu_throttled_periods_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='cpu.stat nr_throttled', doc='Of these, periods in which it used its quota up and was held back.'),
        FieldSpec(name="cpu_throttled_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='cpu.stat throttled_usec', doc='Time that its CPUs were held back, added up over CPUs.'),
        FieldSpec(name="memory_limit_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='memory.max', doc='Memory that the group may use: the smallest limit of it and of the groups above; unknown when there is none.'),
        FieldSpec(name="memory_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='memory.current', doc='Memory charged to the group, with page cache: a file that was read counts until the memory is wanted.'),
        FieldSpec(name="memory_working_set_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=1e+16, source='memory.current - memory.stat inactive_file', doc='The same without page cache that can be dropped at once: what the kubelet evicts by.'),
        FieldSpec(name="oom_kills_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='memory.events oom_kill', doc='Processes of the group that were killed because memory ran out.'),
        FieldSpec(name="pressure_cpu_some_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='cpu.pressure some total', doc='Time in which at least one task of the group waited for a CPU, its limit included.'),
        FieldSpec(name="pressure_cpu_full_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='cpu.pressure full total', doc='Time in which every task of the group did.'),
        FieldSpec(name="pressure_memory_some_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='memory.pressure some total', doc='Time in which at least one task of the group waited for memory.'),
        FieldSpec(name="pressure_memory_full_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='memory.pressure full total', doc='Time in which every task of the group did.'),
        FieldSpec(name="pressure_io_some_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='io.pressure some total', doc='Time in which at least one task of the group waited for I/O.'),
        FieldSpec(name="pressure_io_full_seconds_total", type="double", unit="seconds", is_counter=True, minimum=0, maximum=1000000000000.0, source='io.pressure full total', doc='Time in which every task of the group did.'),
    ),
)
_TABLES["gpu_instance"] = TableSpec(
    name="gpu_instance",
    entity="gpu_instance",
    doc="One GPU instance of a GPU in MIG mode. Power, temperature, clocks and links are the GPU's and not divided; its attribute gpu names it.",
    fields=(
        FieldSpec(name="memory_total_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetMemoryInfo_v2.total of a MIG device', doc='Device memory of the instance.'),
        FieldSpec(name="memory_used_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetMemoryInfo_v2.used of a MIG device', doc='Of it, held by processes.'),
        FieldSpec(name="memory_free_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetMemoryInfo_v2.free of a MIG device', doc='Of it, to be had.'),
        FieldSpec(name="memory_reserved_bytes", type="bigint", unit="bytes", is_counter=False, minimum=0, maximum=100000000000000.0, source='nvmlDeviceGetMemoryInfo_v2.reserved of a MIG device', doc='Of it, kept by driver and firmware.'),
        FieldSpec(name="ecc_uncorrected_sram_volatile_total", type="bigint", unit="count", is_counter=True, minimum=0, maximum=9007199254740991, source='nvmlDeviceGetMemoryErrorCounter(UNCORRECTED, VOLATILE, SRAM) of a MIG device', doc='ECC errors of on-chip memory that were not corrected since the driver was loaded; those of DRAM are counted for the whole GPU.'),
        FieldSpec(name="graphics_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlGpmMigSampleGet, GPM 1 GRAPHICS_UTIL', doc='Share of time in which the compute or graphics engine was active.'),
        FieldSpec(name="sm_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlGpmMigSampleGet, GPM 2 SM_UTIL', doc='Share of its SMs that had a warp resident, averaged over the interval. The honest utilisation.'),
        FieldSpec(name="sm_occupancy_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlGpmMigSampleGet, GPM 3 SM_OCCUPANCY', doc='Resident warps over the most the SMs could hold.'),
        FieldSpec(name="tensor_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlGpmMigSampleGet, GPM 5 ANY_TENSOR_UTIL', doc='Share of cycles in which a tensor pipe was busy.'),
        FieldSpec(name="fp64_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlGpmMigSampleGet, GPM 11 FP64_UTIL', doc='Share of cycles in which the FP64 pipe was busy.'),
        FieldSpec(name="fp32_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlGpmMigSampleGet, GPM 12 FP32_UTIL', doc='Share of cycles in which the FP32 pipe was busy.'),
        FieldSpec(name="fp16_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlGpmMigSampleGet, GPM 13 FP16_UTIL', doc='Share of cycles in which the FP16 pipe was busy.'),
        FieldSpec(name="dram_active_ratio", type="real", unit="ratio", is_counter=False, minimum=0, maximum=1, source='nvmlGpmMigSampleGet, GPM 10 DRAM_BW_UTIL', doc='Its device memory bandwidth used, over its maximum.'),
        FieldSpec(name="pcie_transmit_bytes_per_second", type="real", unit="bytes_per_second", is_counter=False, minimum=0, maximum=1000000000000.0, source='nvmlGpmMigSampleGet, GPM 20 PCIE_TX_PER_SEC', doc='Bytes the instance sent over PCIe.'),
        FieldSpec(name="pcie_receive_bytes_per_second", type="real", unit="bytes_per_second", is_counter=False, minimum=0, maximum=1000000000000.0, source='nvmlGpmMigSampleGet, GPM 21 PCIE_RX_PER_SEC', doc='Bytes the instance received over PCIe.'),
    ),
)

TABLES: Mapping[str, TableSpec] = MappingProxyType(_TABLES)
