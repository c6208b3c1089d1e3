"""ReleaseGpus: let go of the driver for a while, so that an administrator can reset a GPU or change MIG."""

from __future__ import annotations

from typing import Protocol

# A reset or a change of MIG takes seconds, a driver's upgrade minutes; nobody forgets an agent for longer than this.
LONGEST_SECONDS = 3600.0


class ReleasesGpus(Protocol):
    """What holds the driver and can let go of it."""

    async def release(self, seconds: float) -> bool:
        """This will let go of the driver, and take it again when the time is over; 0 takes it again now.

        False says that a call into the driver has not come back, so that it is still held.
        """
        ...


async def release_gpus(holder: ReleasesGpus | None, seconds: float) -> str | None:
    """This will have the driver let go of, or say why not. `holder` is None where no GPU is watched."""
    if holder is None:
        return "this agent holds no GPU that it could release"
    if not 0 <= seconds <= LONGEST_SECONDS:
        return f"{seconds:g} s is outside the 0 to {LONGEST_SECONDS:g} s that this host accepts"
    if not await holder.release(seconds):
        return "a call into the driver has not come back, so that the driver is still held"
    return None
