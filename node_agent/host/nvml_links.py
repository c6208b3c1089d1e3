"""NVLinks and the NVLink fabric, read through NVML."""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Sequence
from typing import Any

import pynvml

from node_agent.host.nvml_calls import ask, entry_reason, union
from node_agent.host.nvml_facts import Fabric, LinkState, NvLink
from node_agent.host.nvml_protocol import NvmlRefused
from node_agent.model import Reason

_api: Any = pynvml  # nvidia-ml-py carries no types

MOST_LINKS = 36  # nvml.h's GPM metrics count NVLink 0 to 35
_MEGABYTE = 1_000_000  # NVML_FI_DEV_NVLINK_GET_SPEED is in "MBps": an H100's link says 26562, its 25 GB/s and overhead

_VERSIONS = {1: "1.0", 2: "2.0", 3: "2.2", 4: "3.0", 5: "3.1", 6: "4.0", 7: "5.0", 8: "6.0"}  # nvmlNvlinkVersion_t

_STATE, _SPEED, _VERSION = (
    _api.NVML_FI_DEV_NVLINK_GET_STATE,
    _api.NVML_FI_DEV_NVLINK_GET_SPEED,
    _api.NVML_FI_DEV_NVLINK_GET_VERSION,
)


def read_links(handle: Any, known_links: Sequence[NvLink] | None) -> list[NvLink]:
    """This will read every link, in one call; NvmlRefused when the GPU has none.

    Where it is known which there are, only those are asked, and not for their version, which stays.
    """
    numbers = range(MOST_LINKS) if known_links is None else [link.number for link in known_links]
    versions = {} if known_links is None else {link.number: link.version for link in known_links}
    fields = (_STATE, _SPEED, _VERSION) if known_links is None else (_STATE, _SPEED)
    wanted = [(field, number) for number in numbers for field in fields]
    entries = ask("nvmlDeviceGetFieldValues", handle, wanted)
    known: dict[int, dict[int, float]] = {}
    for (field, number), entry in zip(wanted, entries, strict=True):
        if entry.nvmlReturn == pynvml.NVML_SUCCESS:
            known.setdefault(number, {})[field] = union(entry.value, entry.valueType)
        else:
            entry_reason(entry.nvmlReturn, "NVLINK_GET_STATE")  # raises when it is the GPU that has gone
    links = [_link(number, said, versions.get(number)) for number, said in known.items() if _STATE in said]
    if not links:
        raise NvmlRefused(Reason.UNSUPPORTED, "nvmlDeviceGetFieldValues: no NVLink")
    return links


def _link(number: int, said: dict[int, float], version: str | None) -> NvLink:
    state = int(said[_STATE])
    try:
        named = LinkState(state)
    except ValueError as error:
        raise NvmlRefused(Reason.ERROR, f"NVLink {number} is in the unknown state {state}") from error
    speed = said.get(_SPEED)
    return NvLink(
        number=number,
        state=named,
        speed_bytes_per_second=speed * _MEGABYTE if speed else None,
        version=_VERSIONS.get(int(said[_VERSION])) if _VERSION in said else version,
    )


def read_fabric(handle: Any) -> Fabric:
    """This will read how the GPU stands in the fabric; NvmlRefused where there is none."""
    try:
        info = _ask_fabric(handle, _api.c_nvmlGpuFabricInfo_v3_t())
    except NvmlRefused as refused:
        if refused.reason is not Reason.UNSUPPORTED:
            raise
        info = _ask_fabric(handle, _api.c_nvmlGpuFabricInfo_v2_t())  # drivers before 570 do not know version 3
    if info.state == _api.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED:
        raise NvmlRefused(Reason.UNSUPPORTED, "nvmlDeviceGetGpuFabricInfoV: no fabric")
    cluster = uuid.UUID(bytes=bytes(info.clusterUuid))
    return Fabric(
        state_code=int(info.state),
        status_code=int(info.status),
        cluster_uuid=str(cluster) if cluster.int else None,
        clique_id=int(info.cliqueId),
        health_mask=int(info.healthMask),
        health_summary_code=int(info.healthSummary) if hasattr(info, "healthSummary") else None,
    )


def _ask_fabric(handle: Any, info: Any) -> Any:
    ask("nvmlDeviceGetGpuFabricInfoV", handle, ctypes.byref(info))
    return info
