"""Which NVML call is running, told to those who wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from node_agent.host.nvml_protocol import Nvml


class CallWatch:
    """The call that the NVML thread is in. Written by that thread, read by the event loop."""

    def __init__(self) -> None:
        self.current: tuple[str, int | None] | None = None  # method and index of the GPU; one store, so never half

    def sentence(self) -> str:
        """This will name the call that is running."""
        match self.current:
            case None:
                return "a call into it is still running"
            case (method, None):
                return f"the call {method} is still running"
            case (method, index):
                return f"the call {method} on the GPU at index {index} is still running"


class _Watched:
    """An Nvml that tells a CallWatch of each call. Methods are wrapped when first used."""

    def __init__(self, driver: Nvml, watch: CallWatch) -> None:
        self._driver = driver
        self._watch = watch

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method, watch = getattr(self._driver, name), self._watch

        def call(*arguments: Any, **named: Any) -> Any:
            watch.current = (name, arguments[0] if arguments else None)
            try:
                return method(*arguments, **named)
            finally:
                watch.current = None

        setattr(self, name, call)
        return call


def watched(driver: Nvml, watch: CallWatch) -> Nvml:
    """This will give the same Nvml, with every call told to `watch`."""
    return cast(Nvml, _Watched(driver, watch))
