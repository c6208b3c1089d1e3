"""Asks NVML about one GPU: an answer or a reason, what the GPU does not have at all, and what people should know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

from node_agent.host.nvml_protocol import NvmlRefused
from node_agent.model import Reason, Value

Answer = TypeVar("Answer")


class Questions:
    """GpuLost and NvmlUnavailable go through to the caller: then no value of the tick counts."""

    def __init__(self, subject: str) -> None:
        """`subject` names what is asked about, for people."""
        self._subject = subject
        self._absent: set[str] = set()
        self._complaints: list[str] = []

    def ask(self, call: Callable[[], Answer]) -> Answer | Reason:
        """This will ask."""
        try:
            return call()
        except NvmlRefused as refused:
            if refused.reason not in (Reason.UNSUPPORTED, Reason.NOT_COLLECTED):
                self._complaints.append(f"{self._subject}: {refused}")
            return refused.reason

    def ask_if_there(self, name: str, call: Callable[[], Answer]) -> Answer | Reason:
        """This will ask for a thing that the GPU may not have at all: then once, until `forget`."""
        if name in self._absent:
            return Reason.UNSUPPORTED
        answer = self.ask(call)
        if answer is Reason.UNSUPPORTED:
            self._absent.add(name)
        return answer

    def ask_group(self, shape: type, call: Callable[[], object]) -> dict[str, Value]:
        """This will spread an answer whose attributes bear the catalogue's names."""
        answer = self.ask(call)
        names = [part.name for part in fields(shape)]
        return {name: answer if isinstance(answer, Reason) else getattr(answer, name) for name in names}

    def forget(self) -> None:
        """This will ask for everything again: the GPU was set up anew."""
        self._absent.clear()

    def complaints(self) -> list[str]:
        """This will give what NVML refused and should not have, since the call before."""
        said, self._complaints = self._complaints, []
        return said
