"""HAProxy before two sets of servers, blue and green: a number in a map says how much of the traffic green gets.

The number is set at run time and in the map's file, so that a restart or a reload of HAProxy keeps it. Whichever set
has all traffic is the stable version; the other is the candidate of the next rollout. Servers are started by others:
here they are only put into rotation and taken out of it. docs/rollouts.md has the configuration that this needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from control_plane.model.rollout import WHOLE, Effect, Intent, Observed, Plan
from control_plane.rollouts.actuators.base import Refused, Stale
from control_plane.rollouts.actuators.haproxy_socket import (
    AdminSocket,
    Server,
    file_value,
    plain,
    write_file_value,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HaproxyTarget:
    """What one HAProxy divides."""

    socket: Path
    map_file: Path  # as HAProxy's configuration names it
    key: str  # the model's, in the map
    blue: str  # backends
    green: str


class Haproxy:
    """One rollout's view of a target."""

    def __init__(self, target: HaproxyTarget, *, candidate_is_green: bool) -> None:
        """Raises Refused for names that HAProxy cannot be told."""
        for name in (target.key, target.blue, target.green, str(target.map_file)):
            plain(name)
        self._target, self._green = target, candidate_is_green
        self._socket = AdminSocket(target.socket)
        self.candidate = target.green if candidate_is_green else target.blue
        self.stable = target.blue if candidate_is_green else target.green

    async def preflight(self, plan: Plan) -> Sequence[str]:
        """This will say what speaks against a plan."""
        problems = []
        try:
            candidate, stable = await self._both()
        except Refused as error:
            return (str(error),)
        if len(candidate) < plan.replicas:
            problems.append(f"{self.candidate} has {len(candidate)} servers, and {plan.replicas} are needed")
        if (ready := _ready(stable)) < plan.replicas:
            problems.append(f"{ready} servers of {self.stable} are up, and {plan.replicas} are needed")
        kept = file_value(self._target.map_file, self._target.key)
        if kept != await self._socket.map_value(str(self._target.map_file), self._target.key):
            problems.append("the map's file and HAProxy do not say the same share")
        return problems

    async def observe(self) -> Observed:
        """This will read what is."""
        green = await self._socket.map_value(str(self._target.map_file), self._target.key)
        kept = file_value(self._target.map_file, self._target.key)
        lines = await self._socket.servers(self.candidate)
        candidate, stable = _servers(lines), _servers(await self._socket.servers(self.stable))
        return Observed(
            share=None if green is None else self._of_candidate(green),
            share_kept=green == kept,
            candidate_ready=_ready(candidate),
            candidate_running=_running(candidate),
            candidate_in_flight=sum(line.in_flight for line in candidate),
            stable_ready=_ready(stable),
            stable_running=_running(stable),
        )

    def _of_candidate(self, green: int) -> int:
        return green if self._green else WHOLE - green

    async def _both(self) -> tuple[Sequence[Server], Sequence[Server]]:
        return _servers(await self._socket.servers(self.candidate)), _servers(await self._socket.servers(self.stable))

    async def carry_out(self, intent: Intent, *, seen: Observed | None) -> None:
        """This will do what was decided."""
        match intent.effect:
            case Effect.SET_SHARE:
                await self._set_share(intent.value, seen)
            case Effect.ENSURE_CANDIDATE:
                await self._ensure(intent.value)
            case Effect.RETIRE_STABLE:
                await self._take_out(self.stable)
            case Effect.REMOVE_CANDIDATE:
                await self._take_out(self.candidate)
            case _:
                assert_never(intent.effect)

    async def _set_share(self, share: int, seen: Observed | None) -> None:
        name, key = str(self._target.map_file), self._target.key
        green = share if self._green else WHOLE - share
        if seen is None:  # the way back: the requests first, the file after
            await self._socket.set_map_value(name, key, green)
            await asyncio.to_thread(write_file_value, self._target.map_file, key, green)
            return
        now = await self._socket.map_value(name, key)
        if now is None or self._of_candidate(now) not in (seen.share, share):
            raise Stale(f"the share of green is {now}, and was another when this was decided")
        await asyncio.to_thread(write_file_value, self._target.map_file, key, green)
        await self._socket.set_map_value(name, key, green)

    async def _ensure(self, replicas: int) -> None:
        servers = _servers(await self._socket.servers(self.candidate))
        if len(servers) < replicas:
            raise Refused(f"{self.candidate} has {len(servers)} servers, and {replicas} are needed")
        missing = replicas - _running(servers)
        for server in [s for s in servers if _out(s)][: max(0, missing)]:
            await self._socket.ask(f"set server {plain(self.candidate)}/{plain(server.name)} state ready")

    async def _take_out(self, backend: str) -> None:
        for server in _servers(await self._socket.servers(backend)):
            if not _out(server):
                await self._socket.ask(f"set server {plain(backend)}/{plain(server.name)} state maint")


def _servers(lines: Sequence[Server]) -> list[Server]:
    return [line for line in lines if line.name != "BACKEND"]


def _out(server: Server) -> bool:
    return server.status.startswith("MAINT")


def _ready(servers: Sequence[Server]) -> int:
    # "UP 1/3" is one failed check away from being down, and serves.
    return sum(server.status.startswith("UP") or server.status == "no check" for server in servers)


def _running(servers: Sequence[Server]) -> int:
    return sum(not _out(server) for server in servers)
