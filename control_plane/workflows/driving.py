"""Drives every rollout that is due: claims it, takes one turn, and lets it be until it is due again.

No task sleeps for a rollout: when it is due stands in the database, and whichever replica comes first drives it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from control_plane.model.errors import LeaseLost, OptiInfraError
from control_plane.rollouts import machine
from control_plane.rollouts.running import Runner
from control_plane.runtime.clock import Clock
from control_plane.storage.rollouts import RolloutStore, StoredRollout

log = logging.getLogger(__name__)

# How often the database is asked for what is due; the way back waits no longer than this between its tries.
POLL_SECONDS = 0.25
# Rollouts of different targets are driven side by side.
AT_ONCE = 8


@dataclass(slots=True, kw_only=True)
class Driver:
    """Drives rollouts until it is cancelled."""

    store: RolloutStore
    clock: Clock
    runner_for: Callable[[StoredRollout], Runner]  # by its settings; raises OptiInfraError for what is not configured
    last_error: str | None = None
    _runners: dict[str, Runner] = field(default_factory=dict)

    async def run(self) -> None:
        """This will drive whatever is due, on and on."""
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await slots.acquire()
                claimed = await self._claimed()
                if claimed is None:
                    slots.release()
                    await asyncio.sleep(POLL_SECONDS)
                else:
                    tasks.create_task(self._turn(claimed)).add_done_callback(lambda _: slots.release())

    async def once(self) -> bool:
        """This will take one turn of whatever has been due for longest, and say whether there was any."""
        claimed = await self._claimed()
        if claimed is not None:
            await self._turn(claimed)
        return claimed is not None

    async def _claimed(self) -> StoredRollout | None:
        try:
            return await self.store.claim_due(self.clock.now())
        except Exception as error:  # boundary: a database that is away comes back, and rollouts are driven on
            self._failed(error)
            return None

    async def _turn(self, claimed: StoredRollout) -> None:
        try:
            await self._take_turn(claimed)
            self.last_error = None
        except LeaseLost:
            pass  # somebody else drives it, or commanded: the next turn sees that
        except Exception as error:  # boundary: a turn that fails is tried again, and the others are driven on
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.last_error = f"{type(error).__name__}: {error}".splitlines()[0]
        log.warning("rollouts are not driven; it is tried again: %s", self.last_error)

    async def _take_turn(self, claimed: StoredRollout) -> None:
        rollout_id = claimed.rollout.rollout_id
        runner = self._runners.get(rollout_id)
        if runner is None:
            try:
                runner = self._runners[rollout_id] = self.runner_for(claimed)
            except OptiInfraError as error:
                log.error("rollout %s cannot be driven: %s", rollout_id, error)
                raise
        rollout = await runner.turn(claimed.rollout, claimed.version)
        if rollout.state != claimed.rollout.state:
            log.info("rollout %s of %s is %s: %s", rollout_id, rollout.target, rollout.state, rollout.because)
        if rollout.state in machine.ENDED:
            self._runners.pop(rollout_id, None)
