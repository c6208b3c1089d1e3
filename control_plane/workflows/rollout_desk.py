"""Where rollouts are asked for: which side is the candidate, whether a plan can be begun, who drives it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from control_plane.model.errors import Conflict, StorageUnavailable, UnknownResource
from control_plane.model.rollout import WHOLE, Command, Plan, Rollout, State
from control_plane.rollouts import machine
from control_plane.rollouts import plan as plans
from control_plane.rollouts.actuators.base import Refused, Unreachable
from control_plane.rollouts.actuators.haproxy import Haproxy
from control_plane.rollouts.actuators.haproxy_socket import AdminSocket
from control_plane.rollouts.deciding import EVENTS
from control_plane.rollouts.running import Runner
from control_plane.rollouts.targets import RolloutTarget
from control_plane.rollouts.traffic import HaproxyTraffic
from control_plane.rollouts.warming import ChatProbe
from control_plane.runtime.clock import Clock
from control_plane.storage.rollouts import RolloutStore, StoredRollout
from control_plane.workflows.guarding import CandidateGuard


class RolloutDesk:
    """Begins rollouts of the targets that the operator has named."""

    def __init__(self, store: RolloutStore, targets: Mapping[str, RolloutTarget], clock: Clock) -> None:
        """Without targets nothing can be begun; what was begun before is still shown."""
        self.store, self._targets, self._clock = store, targets, clock

    @property
    def targets(self) -> list[str]:
        """This will name the targets there are."""
        return sorted(self._targets)

    @property
    def servers(self) -> list[str]:
        """This will give the addresses of all targets' servers."""
        return [
            url for target in self._targets.values() for side in (target.blue, target.green) for url in side.servers
        ]

    async def plan(self, target: str, plan: Plan) -> tuple[Plan, Mapping[str, Any], list[str]]:
        """This will complete a plan, choose the candidate's side, and say what speaks against beginning now.

        Raises UnknownResource, InvalidRequest for a plan that makes no sense, and Conflict when the router gives
        traffic to both sides already.
        """
        known = self._target(target)
        green_is_candidate = await self._green_is_candidate(known)
        side = known.green if green_is_candidate else known.blue
        stable = known.blue if green_is_candidate else known.green
        whole = plans.checked(replace(plan, replicas=plan.replicas or len(stable.servers)))
        actuator = Haproxy(known.haproxy, candidate_is_green=green_is_candidate)
        try:
            problems = list(await actuator.preflight(whole))
        except Unreachable as error:
            problems = [str(error)]
        settings = {
            "candidate": "green" if green_is_candidate else "blue", "backend": side.backend,
            "servers": list(side.servers),
        }  # fmt: skip
        return whole, settings, problems

    async def start(self, target: str, plan: Plan) -> StoredRollout:
        """This will begin a rollout; the driver takes it from there. Raises what `plan` does, and Conflict."""
        whole, settings, _ = await self.plan(target, plan)
        rollout = Rollout(
            rollout_id=f"{target[:40]}-{secrets.token_hex(4)}", target=target, plan=whole, state=State.PENDING,
            since=self._clock.now(),
        )  # fmt: skip
        await self.store.start(rollout, settings)
        return await self.store.get(rollout.rollout_id)

    async def command(self, rollout_id: str, command: Command, *, by: str) -> StoredRollout:
        """This will hand a person's command to the next turn. To promote what waits for approval is to approve it.

        Raises UnknownResource, or Conflict when a rollout that stands there cannot do that.
        """
        state = (await self.store.get(rollout_id)).rollout.state
        if command is Command.PROMOTE and state is State.AWAITING_APPROVAL:
            command = Command.APPROVE
        possible = state is State.OBSERVING if command is Command.PROMOTE else machine.accepts(state, EVENTS[command])
        if not possible:
            raise Conflict(f"a rollout that is {state} cannot {command.value.replace('_', ' ')}")
        return await self.store.command(rollout_id, command, by=by, now=self._clock.now())

    def _target(self, name: str) -> RolloutTarget:
        found = self._targets.get(name)
        if found is None:
            there = ", ".join(self.targets) or "none; the operator names them in a file (--rollout-targets)"
            raise UnknownResource(f"there is no rollout target {name[:64]!r}; there are: {there}")
        return found

    async def _green_is_candidate(self, target: RolloutTarget) -> bool:
        socket, where = AdminSocket(target.haproxy.socket), str(target.haproxy.map_file)
        try:
            green = await socket.map_value(where, target.haproxy.key)
        except (Unreachable, Refused) as error:
            raise StorageUnavailable(f"the router of {target.name} does not answer: {error}") from error
        if green not in (0, WHOLE):
            has = "no number" if green is None else f"{green / 100:g} % of the traffic"
            raise Conflict(f"green has {has} in {where}; a rollout begins where one side has all: 0 or {WHOLE}")
        return green == 0

    def runner_for(self, stored: StoredRollout) -> Runner:
        """This will build what drives a stored rollout. Raises UnknownResource when its target is named no more."""
        target = self._target(stored.rollout.target)
        is_green = stored.settings["candidate"] == "green"
        candidate, stable = (target.green, target.blue) if is_green else (target.blue, target.green)
        return Runner(
            store=self.store,
            actuator=Haproxy(target.haproxy, candidate_is_green=is_green),
            traffic=HaproxyTraffic(
                socket=AdminSocket(target.haproxy.socket), candidate=candidate.backend, stable=stable.backend,
                candidate_servers=candidate.servers, stable_servers=stable.servers,
                ttft_limit_seconds=target.ttft_limit_seconds, clock=self._clock.monotonic,
            ),
            guard=CandidateGuard(),
            probe=ChatProbe(addresses=candidate.servers, model=target.model),
            clock=self._clock,
            freezes=target.freezes,
        )  # fmt: skip
