"""Processes on a GPU and what they make of it, read through NVML."""

from __future__ import annotations

from typing import Any

from node_agent.host.nvml_calls import ask, ask_first, instance_id
from node_agent.host.nvml_facts import GpuProcess, ProcessUtilization
from node_agent.host.nvml_protocol import NvmlRefused
from node_agent.host.nvml_units import PERCENT
from node_agent.model import Reason


def read_processes(handle: Any) -> list[GpuProcess]:
    """This will read the processes that have a compute context; of a GPU in MIG mode, those of all its instances."""
    # The unversioned wrapper turns "function not found" into an exception outside NVMLError's tree.
    processes = ask("nvmlDeviceGetComputeRunningProcesses_v3", handle)
    return [
        GpuProcess(
            pid=process.pid,
            used_bytes=process.usedGpuMemory,
            gpu_instance_id=instance_id(getattr(process, "gpuInstanceId", None)),
        )
        for process in processes
    ]


def read_process_utilization(handle: Any, since_microseconds: int) -> list[ProcessUtilization]:
    """This will read what processes did since the stamp.

    The newer function comes first: on some Blackwell boards the older one answers 0 for everything, as users of
    HAMi-core found. What is beyond 100 % is no measurement; users of nvtop have seen such.
    """
    names = ("nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetProcessUtilization")
    try:
        samples = ask_first(names, handle, since_microseconds)
    except NvmlRefused as refused:
        if refused.reason is Reason.NOT_COLLECTED:  # NOT_FOUND: nobody did anything
            return []
        raise
    return [
        ProcessUtilization(
            pid=int(sample.pid),
            taken_at_microseconds=int(sample.timeStamp),
            sm_utilization_ratio=sample.smUtil / PERCENT,
        )
        for sample in samples
        if sample.pid and sample.timeStamp > since_microseconds and sample.smUtil <= PERCENT
    ]
