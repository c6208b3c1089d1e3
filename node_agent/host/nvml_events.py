"""NVML's event set: XIDs as the driver delivers them, fetched without waiting."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Mapping
from typing import Any

import pynvml

from node_agent.host.nvml_calls import ask, instance_id
from node_agent.host.nvml_facts import XidEvent
from node_agent.host.nvml_protocol import GpuLost, NvmlError, NvmlRefused
from node_agent.model import Reason

log = logging.getLogger(__name__)

_api: Any = pynvml  # nvidia-ml-py carries no types

MOST_EVENTS = 64  # in one look; what the driver still holds comes with the next
# nvml.h does not say that 0 is allowed. A driver that refuses it is asked for the shortest wait there is.
NO_WAIT_MILLISECONDS, SHORTEST_WAIT_MILLISECONDS = 0, 1


class XidWatch:
    """One event set over every GPU that can be watched. Events from before it was made are not delivered (nvml.h)."""

    def __init__(self, handles: Mapping[int, Any]) -> None:
        """This will watch what can be watched; NvmlRefused says why no GPU can."""
        self._wait_milliseconds = NO_WAIT_MILLISECONDS
        self._indexes = {_address(handle): index for index, handle in handles.items()}
        self._set = ask("nvmlEventSetCreate")
        try:
            refusals = [refused for handle in handles.values() if (refused := self._watch(handle)) is not None]
        except NvmlError:
            self._free_quietly()
            raise
        if handles and len(refusals) == len(handles):
            self._free_quietly()
            raise refusals[0]
        for refused in refusals:
            log.info("the event set leaves out a GPU: %s", refused)

    def _watch(self, handle: Any) -> NvmlError | None:
        """This will register one GPU, and give why it cannot be: the others are watched all the same."""
        kind = pynvml.nvmlEventTypeXidCriticalError
        try:
            if not ask("nvmlDeviceGetSupportedEventTypes", handle) & kind:
                return NvmlRefused(Reason.UNSUPPORTED, "nvmlDeviceGetSupportedEventTypes: no XIDs")
            ask("nvmlDeviceRegisterEvents", handle, kind, self._set)
        except (NvmlRefused, GpuLost) as error:
            return error
        return None

    def take(self) -> list[XidEvent]:
        """This will give what has come, in order. Nothing is waited for, so NVML keeps its one caller.

        What had come before a refusal is given all the same: the refusal comes again.
        """
        events: list[XidEvent] = []
        for _ in range(MOST_EVENTS):
            try:
                data = self._next()
            except NvmlError:
                if events:
                    return events
                raise
            if data is None:
                return events
            if data.eventType & pynvml.nvmlEventTypeXidCriticalError:
                events.append(
                    XidEvent(
                        index=self._index(data.device),
                        number=int(data.eventData),
                        gpu_instance_id=instance_id(data.gpuInstanceId),
                    )
                )
        return events

    def _next(self) -> Any | None:
        try:
            return ask("nvmlEventSetWait_v2", self._set, self._wait_milliseconds)
        except NvmlRefused as refused:
            if refused.reason is Reason.TIMED_OUT:  # nothing more
                return None
            if self._wait_milliseconds != NO_WAIT_MILLISECONDS or refused.reason is not Reason.ERROR:
                raise
            log.info("this driver wants to be waited for: %s", refused)
        self._wait_milliseconds = SHORTEST_WAIT_MILLISECONDS
        return self._next()

    def _index(self, device: Any) -> int | None:
        """This will say which GPU an event is about, without asking: one that has just died would not answer."""
        known = self._indexes.get(_address(device))
        if known is not None:
            return known
        try:
            return int(ask("nvmlDeviceGetIndex", device))
        except (NvmlRefused, GpuLost):
            return None

    def free(self) -> None:
        """This will give the set back. Raises pynvml.NVMLError."""
        _api.nvmlEventSetFree(self._set)

    def _free_quietly(self) -> None:
        try:
            self.free()
        except pynvml.NVMLError as error:
            log.info("the event set could not be given back: %s", error)


def _address(handle: Any) -> int | None:
    """This will give what tells one nvmlDevice_t from another: each look makes new Python objects of them."""
    return ctypes.cast(handle, ctypes.c_void_p).value
