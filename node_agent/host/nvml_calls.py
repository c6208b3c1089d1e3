"""One call into nvidia-ml-py: what it gave, or our error for what it raised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pynvml

from node_agent.host.nvml_protocol import GpuLost, NvmlError, NvmlRefused, NvmlUnavailable
from node_agent.model import Reason

_api: Any = pynvml  # nvidia-ml-py carries no types

_UNION_MEMBER = {  # nvmlValueType_t -> member of nvmlValue_t
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}

_REASONS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: Reason.UNSUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: Reason.UNSUPPORTED,  # the driver is older than the bindings
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: Reason.UNSUPPORTED,
    pynvml.NVML_ERROR_DEPRECATED: Reason.UNSUPPORTED,
    pynvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED: Reason.UNSUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION: Reason.NO_PERMISSION,
    pynvml.NVML_ERROR_TIMEOUT: Reason.TIMED_OUT,
    pynvml.NVML_ERROR_GPU_IS_LOST: Reason.DEVICE_LOST,
    pynvml.NVML_ERROR_GPU_NOT_FOUND: Reason.DEVICE_LOST,
    pynvml.NVML_ERROR_NOT_FOUND: Reason.NOT_COLLECTED,  # "no samples", not a failure
    pynvml.NVML_ERROR_NO_DATA: Reason.NOT_COLLECTED,
    pynvml.NVML_SUCCESS: Reason.NOT_COLLECTED,  # some wrappers raise NVMLError(0) when there is nothing to give
}

_NO_INSTANCE = 0xFFFFFFFF  # nvml.h, nvmlProcessInfo_t and nvmlEventData_t: the id outside of MIG mode

_VERSION_MISMATCH = (
    "the NVIDIA driver was upgraded under this process: libnvidia-ml and the kernel module have different versions, "
    "and only a restart of the agent loads the new library (or finish the upgrade: reload the module or reboot)"
)

_UNAVAILABLE = {  # error -> (sentence, absent)
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: ("no NVIDIA driver on this host: libnvidia-ml.so.1 was not found", True),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: ("no NVIDIA driver on this host: its kernel module is not loaded", True),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (_VERSION_MISMATCH, False),
    pynvml.NVML_ERROR_UNINITIALIZED: ("NVML is not open", False),
}


def ask(name: str, *arguments: Any) -> Any:
    """This will call one NVML function and turn its error into ours."""
    function = getattr(_api, name, None)
    if function is None:
        raise NvmlRefused(Reason.UNSUPPORTED, f"this nvidia-ml-py has no {name}")
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        raise translated(name, error) from error
    except UnicodeDecodeError as error:  # a damaged infoROM gives strings that are none
        raise NvmlRefused(Reason.ERROR, f"{name}: {error}") from error


def ask_first(names: Sequence[str], *arguments: Any) -> Any:
    """This will call the first of the functions that this driver has."""
    for name in names[:-1]:
        try:
            return ask(name, *arguments)
        except NvmlRefused as refused:
            if refused.reason is not Reason.UNSUPPORTED:
                raise
    return ask(names[-1], *arguments)


def optional(name: str, *arguments: Any) -> Any:
    """This will call one NVML function and give None when it has no answer."""
    try:
        return ask(name, *arguments)
    except NvmlRefused:
        return None


def translated(name: str, error: Any) -> NvmlError:
    """This will turn a pynvml.NVMLError into ours."""
    code = error.value
    if code in _UNAVAILABLE:
        sentence, absent = _UNAVAILABLE[code]
        mismatch = code == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
        return NvmlUnavailable(sentence, absent=absent, needs_restart=mismatch)
    reason = _REASONS.get(code, Reason.ERROR)
    text = f"{name}: {error}"
    return GpuLost(text) if reason is Reason.DEVICE_LOST else NvmlRefused(reason, text)


def entry_reason(code: int, name: str) -> Reason:
    """This will say why one entry of a batch has no value; GpuLost when it is the GPU that has gone."""
    if code == pynvml.NVML_ERROR_INVALID_ARGUMENT:  # a number that this driver does not know yet
        return Reason.UNSUPPORTED
    reason = _REASONS.get(code, Reason.ERROR)
    if reason is Reason.DEVICE_LOST:
        raise GpuLost(f"{name}: GPU is lost")
    return reason


def union(value: Any, value_type: int) -> float | int:
    """This will read an nvmlValue_t by its nvmlValueType_t."""
    if value_type not in _UNION_MEMBER:
        raise NvmlRefused(Reason.ERROR, f"NVML gave a value of the unknown type {value_type}")
    number: float | int = getattr(value, _UNION_MEMBER[value_type])
    return number


def instance_id(number: int | None) -> int | None:
    """This will read the id of a GPU instance; None stands for the whole GPU."""
    return None if number is None or number == _NO_INSTANCE else int(number)
