"""What every actuator can do, and the ways in which it may refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from control_plane.model.errors import OptiInfraError
from control_plane.model.rollout import Intent, Observed, Plan


class Unreachable(OptiInfraError):
    """It does not answer, or not in time; what was asked may have been done all the same."""


class Refused(OptiInfraError):
    """It answers, and does not do that: a right, a quota, a limit is missing."""


class Stale(OptiInfraError):
    """It has changed since it was looked at: look again before anything is done."""


class Actuator(Protocol):
    """One target: a stable version, a candidate, and what divides traffic between them."""

    async def preflight(self, plan: Plan) -> Sequence[str]:
        """This will say what speaks against a plan: rights, quota, room, the shape of the route. () is nothing."""
        ...

    async def observe(self) -> Observed:
        """This will read what is, from the outside and not from memory. Raises Unreachable."""
        ...

    async def carry_out(self, intent: Intent, *, seen: Observed | None) -> None:
        """This will do what was decided, and return before it has taken hold.

        `seen` is what the decision rests on: a share is set only while the router still has the share that was seen
        (None: the way back, at any price). Raises Unreachable, Refused or Stale.
        """
        ...
