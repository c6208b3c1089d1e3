"""When NVML is opened again after it could not be, or after a GPU was lost."""

from __future__ import annotations

from dataclasses import dataclass

from node_agent.clock import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDelays:
    """How long to wait before NVML is opened again, doubling. No jitter: the driver is this host's own."""

    first_seconds: float
    longest_seconds: float


# A failing nvmlInit may run nvidia-modprobe, so not every tick; a new driver should show within a minute.
NO_DRIVER = RetryDelays(first_seconds=5, longest_seconds=60)
# Opening anew voids every handle and costs the healthy GPUs one tick of GPM values; few lost GPUs come back.
LOST_GPU = RetryDelays(first_seconds=30, longest_seconds=600)


class Retry:
    """When to open NVML next."""

    def __init__(self) -> None:
        self._delay_seconds = 0.0
        self._due_at: float | None = 0.0  # None: everything is open

    def is_due(self, now: Instant) -> bool:
        """This will say whether it is time."""
        return self._due_at is not None and now.monotonic_seconds >= self._due_at

    def schedule(self, now: Instant, delays: RetryDelays) -> None:
        """This will set the next time, each one later than the one before."""
        doubled = max(self._delay_seconds * 2, delays.first_seconds)
        self._delay_seconds = min(doubled, delays.longest_seconds)
        self._due_at = now.monotonic_seconds + self._delay_seconds

    def schedule_if_none(self, now: Instant, delays: RetryDelays) -> None:
        """This will set a time unless one is set."""
        if self._due_at is None:
            self.schedule(now, delays)

    def settle(self) -> None:
        """This will forget about trying again: all is well."""
        self._delay_seconds, self._due_at = 0.0, None
