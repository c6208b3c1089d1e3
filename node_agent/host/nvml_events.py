"""NVML's event set: XIDs as the driver delivers them, fetched without waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pynvml

from node_agent.host.nvml_calls import ask
from node_agent.host.nvml_protocol import NvmlRefused, XidEvent
from node_agent.model import Reason

_api: Any = pynvml  # nvidia-ml-py carries no types

MOST_EVENTS = 64  # in one look; what the driver still holds comes with the next


class XidWatch:
    """One event set over every GPU. Events from before it was made are not delivered (nvml.h)."""

    def __init__(self, handles: Mapping[int, Any]) -> None:
        self._set = ask("nvmlEventSetCreate")
        for handle in handles.values():
            supported = ask("nvmlDeviceGetSupportedEventTypes", handle)
            if supported & pynvml.nvmlEventTypeXidCriticalError:
                ask("nvmlDeviceRegisterEvents", handle, pynvml.nvmlEventTypeXidCriticalError, self._set)

    def take(self) -> list[XidEvent]:
        """This will give what has come, in order. Nothing is waited for, so NVML keeps its one caller."""
        events: list[XidEvent] = []
        while len(events) < MOST_EVENTS:
            try:
                data = ask("nvmlEventSetWait_v2", self._set, 0)
            except NvmlRefused as refused:
                if refused.reason is Reason.TIMED_OUT:  # nothing more
                    return events
                raise
            if data.eventType & pynvml.nvmlEventTypeXidCriticalError:
                index = int(ask("nvmlDeviceGetIndex", data.device))
                events.append(XidEvent(index=index, number=int(data.eventData)))
        return events

    def free(self) -> None:
        """This will give the set back. Raises pynvml.NVMLError."""
        _api.nvmlEventSetFree(self._set)
