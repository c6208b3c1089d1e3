"""The slow tier of one GPU: what changes rarely, and counters that lose nothing when they are read less often.

It has a table of its own, so that each row's time is the time at which all of it was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node_agent.collectors.gpu_questions import Questions
from node_agent.host.nvml_facts import Bar1Memory, Fabric, LinkState, NvLink, Reading
from node_agent.host.nvml_fields import GpuField
from node_agent.host.nvml_protocol import Nvml
from node_agent.model import Reason, Value

# An operator acts on none of it within seconds. On an H200 it takes some 8 ms: 2 of them for the PCIe counters and
# 2 for the time throttled.
HEALTH_SECONDS = 10.0

# Fields that are read under one name or another: the second is that of NVLink 5 (nvml.h, NVML_FI_DEV_NVLINK_COUNT_*).
_EITHER: Mapping[str, tuple[GpuField, GpuField]] = {
    "nvlink_transmit_bytes_total": (GpuField.NVLINK_TRANSMIT_BYTES, GpuField.NVLINK5_TRANSMIT_BYTES),
    "nvlink_receive_bytes_total": (GpuField.NVLINK_RECEIVE_BYTES, GpuField.NVLINK5_RECEIVE_BYTES),
    "nvlink_recoveries_total": (GpuField.NVLINK_RECOVERIES, GpuField.NVLINK5_RECOVERIES),
}
# The others are read at every tick.
FAST_FIELDS = (GpuField.TEMPERATURE_MEMORY_CELSIUS, GpuField.POWER_AVERAGE_WATTS, GpuField.POWER_CURRENT_LIMIT_WATTS)
HEALTH_FIELDS = tuple(field for field in GpuField if field not in FAST_FIELDS)


def _name(field: GpuField) -> str:
    """This will give the catalogue's name: that of a field with a unit, flag or code says so itself."""
    name = field.name.lower()
    if name.endswith(("_pending", "_failure")):
        return f"{name}_flag"
    return name if name.endswith(("_code", "_ratio")) else f"{name}_total"


HEALTH_NAMES: Mapping[GpuField, str] = {
    field: _name(field) for field in HEALTH_FIELDS if not any(field in pair for pair in _EITHER.values())
}

RECOVERY_ACTIONS = (  # nvmlDeviceGpuRecoveryAction_t
    "none", "gpu_reset", "node_reboot", "drain_p2p", "drain_and_reset", "recover_imex_domain", "bus_reset",
    "system_reboot",
)  # fmt: skip

_FABRIC_FLAGS: Mapping[str, int] = {  # nvml.h, NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_*: two bits each, 1 true, 2 false
    "fabric_bandwidth_degraded_flag": 0,
    "fabric_route_recovery_flag": 2,
    "fabric_route_unhealthy_flag": 4,
    "fabric_access_timeout_recovery_flag": 6,
}
_FABRIC_CONFIGURATION_SHIFT = 8  # four bits
_FABRIC_NAMES = (
    "fabric_state_code", "fabric_status_code", "fabric_health_summary_code", "fabric_incorrect_configuration_code",
    *_FABRIC_FLAGS,
)  # fmt: skip
_FABRIC_COMPLETED = 3  # nvml.h, NVML_GPU_FABRIC_STATE_COMPLETED
_LINK_NAMES = (
    "nvlink_links_count", "nvlink_links_active_count", "nvlink_links_sleeping_count",
    "nvlink_link_speed_bytes_per_second",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLook:
    """One reading of the slow tier: a value or a reason for every field of gpu_health, and what describes the GPU."""

    values: Mapping[str, Value]
    attributes: Mapping[str, object]


class HealthReader:
    """Reads the slow tier of one GPU, and remembers which fields it has."""

    def __init__(self, driver: Nvml, index: int) -> None:
        self._driver = driver
        self._index = index
        self._wanted = HEALTH_FIELDS

    def forget(self) -> None:
        """This will ask for every field again: which answer depends on the MIG mode."""
        self._wanted = HEALTH_FIELDS

    def look(self, questions: Questions, *, processes_count: int | Reason) -> HealthLook:
        """This will read all of it. The processes are counted by whoever lists them."""
        driver, index, ask = self._driver, self._index, questions.ask
        persistence = ask(lambda: driver.persistence_enabled(index))
        fields = self._fields(questions)
        links = questions.ask_if_there("nvlinks", lambda: driver.nvlinks(index))
        fabric = questions.ask_if_there("fabric", lambda: driver.fabric(index))
        values: dict[str, Value] = {
            "compute_processes_count": processes_count,
            "persistence_mode_flag": persistence if isinstance(persistence, Reason) else int(persistence),
            "fan_speed_ratio": questions.ask_if_there("fans", lambda: driver.fan_speed_ratio(index)),
            **questions.ask_group(Bar1Memory, lambda: driver.bar1(index)),
            "pcie_link_generation_code": ask(lambda: driver.pcie_link_generation(index)),
            "pcie_link_lanes_count": ask(lambda: driver.pcie_link_lanes(index)),
            **fields,
            **link_values(links),
            **fabric_values(fabric),
        }
        return HealthLook(values=values, attributes=_attributes(values["recovery_action_code"], links, fabric))

    def _fields(self, questions: Questions) -> dict[str, Value]:
        answers = questions.ask(lambda: self._driver.field_values(self._index, self._wanted))
        if isinstance(answers, Reason):
            return dict.fromkeys((*HEALTH_NAMES.values(), *_EITHER), answers)
        readings = {field: answers.get(field, Reason.UNSUPPORTED) for field in HEALTH_FIELDS}
        self._wanted = still_wanted(readings)
        return {
            **{name: readings[field] for field, name in HEALTH_NAMES.items()},
            **{name: _either(readings[old], readings[new]) for name, (old, new) in _EITHER.items()},
        }


def still_wanted(readings: Mapping[GpuField, Reading]) -> tuple[GpuField, ...]:
    """This will leave out the fields that this GPU does not have, so that the next batch is cheaper."""
    return tuple(wanted for wanted, reading in readings.items() if reading is not Reason.UNSUPPORTED)


def _either(first: Reading, second: Reading) -> Reading:
    return second if first is Reason.UNSUPPORTED else first


def link_values(links: Sequence[NvLink] | Reason) -> dict[str, Value]:
    """This will count links by their state."""
    if isinstance(links, Reason):
        return dict.fromkeys(_LINK_NAMES, links)
    up = [link for link in links if link.state is not LinkState.INACTIVE]
    speeds = [link.speed_bytes_per_second for link in up if link.speed_bytes_per_second is not None]
    return {
        "nvlink_links_count": len(links),
        "nvlink_links_active_count": len(up),
        "nvlink_links_sleeping_count": sum(link.state is LinkState.SLEEP for link in links),
        "nvlink_link_speed_bytes_per_second": min(speeds) if speeds else Reason.NOT_COLLECTED,
    }


def fabric_values(fabric: Fabric | Reason) -> dict[str, Value]:
    """This will unpack the state of the fabric. What the hardware does not judge is unsupported, not healthy."""
    if isinstance(fabric, Reason):
        return dict.fromkeys(_FABRIC_NAMES, fabric)
    mask, unsupported = fabric.health_mask, Reason.UNSUPPORTED
    flags: dict[str, Value] = {
        name: {1: 1, 2: 0}.get(mask >> shift & 0b11, unsupported) for name, shift in _FABRIC_FLAGS.items()
    }
    return flags | {
        "fabric_state_code": fabric.state_code,
        # It means nothing before (nvml.h, nvmlGpuFabricInfo_v3_t).
        "fabric_status_code": fabric.status_code if fabric.state_code == _FABRIC_COMPLETED else Reason.NOT_COLLECTED,
        "fabric_health_summary_code": fabric.health_summary_code or unsupported,  # 0: not supported
        "fabric_incorrect_configuration_code": (mask >> _FABRIC_CONFIGURATION_SHIFT & 0xF) or unsupported,
    }


def _attributes(recovery: Value, links: Sequence[NvLink] | Reason, fabric: Fabric | Reason) -> Mapping[str, object]:
    said: dict[str, object] = {"recovery_action": recovery_action(recovery)}
    if isinstance(links, Reason):
        said |= {"nvlink_version": None, "nvlinks_inactive": None}
    else:
        inactive = [link.number for link in links if link.state is LinkState.INACTIVE]
        said |= {"nvlink_version": next((link.version for link in links), None), "nvlinks_inactive": inactive}
    if isinstance(fabric, Reason):
        return said | {"fabric_cluster_uuid": None, "fabric_clique_id": None}
    return said | {"fabric_cluster_uuid": fabric.cluster_uuid, "fabric_clique_id": fabric.clique_id}


def recovery_action(code: Value) -> str | None:
    """This will name what the driver asks the operator to do; "none" when the GPU is well."""
    if not isinstance(code, int | float):
        return None
    number = int(code)
    return RECOVERY_ACTIONS[number] if 0 <= number < len(RECOVERY_ACTIONS) else f"action_{number}"
