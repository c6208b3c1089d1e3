"""Registration and heartbeat with the fleet's orchestrator, for each role on its own.

One `turn` is one question; what comes of it decides what the next one is and when. The orchestrator is believed in
nothing but its id for us and how often it wants to hear: its answers name no place that we would go to.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from control_plane.model.errors import InvalidRequest, OptiInfraError
from control_plane.model.registration import Registration, Role
from control_plane.runtime import destinations, outbound
from control_plane.runtime.clock import Clock
from control_plane.runtime.destinations import Policy, Resolve, by_system
from control_plane.runtime.outbound import NotReached

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 300.0
SHORTEST_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS = 1.0, 300.0
LONGEST_ID = 256
GOODBYE_SECONDS = 2.0

# What each role can be asked for, as the paths of REST name it.
CAPABILITIES = {
    Role.RESOURCE: ("gpu", "system", "nodes", "lmcache", "analysis", "cost"),
    Role.PERFORMANCE: ("metrics", "inference", "slo"),
}

CREATED, OK, NO_CONTENT, GONE = 201, 200, 204, 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a role says of itself."""

    role: Role
    name: str
    host: str
    port: int
    capabilities: Sequence[str]
    version: str
    metadata: Mapping[str, Any]


class Attendance:
    """One role's way with the orchestrator: registered, heard of, and registered again when it was forgotten."""

    def __init__(
        self,
        introduction: Introduction,
        *,
        url: str,
        interval_seconds: float,
        health: Callable[[], Awaitable[str]],
        clock: Clock,
        resolve: Resolve = by_system,
    ) -> None:
        """`interval_seconds` holds until the orchestrator says another one; `health` gives the word for a heartbeat."""
        self._introduction, self._url, self._usual = introduction, url.rstrip("/"), interval_seconds
        self._health, self._clock, self._resolve = health, clock, resolve
        self.state = Registration(role=introduction.role)

    async def run(self) -> None:
        """This will attend until it is cancelled, and then say goodbye."""
        try:
            while True:
                pause = await self.turn()
                await asyncio.sleep(pause)
        finally:
            await self._leave()

    async def turn(self) -> float:
        """This will ask once and give the seconds until the next time. It raises nothing."""
        try:
            pause = await (self._register() if self.state.agent_id is None else self._beat())
        except (OptiInfraError, OSError) as error:
            return self._failed(str(error))
        except Exception as error:  # boundary: whatever an orchestrator answers, the control plane goes on
            log.exception("an answer of the orchestrator could not be dealt with")
            return self._failed(f"its answer could not be dealt with: {type(error).__name__}")
        if self.state.failures_in_a_row:
            log.info("the orchestrator at %s answers %s again", self._url, self.state.role)
        self.state.last_error, self.state.failures_in_a_row = None, 0
        return pause

    async def _register(self) -> float:
        said = self._introduction
        answer = await self._ask(
            "/agents/register",
            {
                "name": said.name, "type": said.role.value, "host": said.host, "port": said.port,
                "capabilities": list(said.capabilities), "version": said.version, "metadata": dict(said.metadata),
            },
        )  # fmt: skip
        if answer.status not in (OK, CREATED):
            raise NotReached(f"registration was answered with {answer.status}")
        body = answer.json()
        agent_id = body.get("agent_id") if isinstance(body, dict) else None
        if (
            not isinstance(agent_id, str | int)
            or isinstance(agent_id, bool)
            or not 0 < len(str(agent_id)) <= LONGEST_ID
        ):
            raise NotReached("registration was answered without an agent_id")
        self.state.agent_id, self.state.registered_at = str(agent_id), self._clock.now()
        log.info("registered with the orchestrator at %s as %s %s", self._url, said.role, agent_id)
        return self._interval(body.get("heartbeat_interval_seconds"))

    async def _beat(self) -> float:
        status = await self._health()
        answer = await self._ask(f"{self._own_path()}/heartbeat", {"status": status, "metadata": {}})
        if answer.status == GONE:
            log.info("the orchestrator has forgotten %s; it registers again", self.state.role)
            self.state.agent_id = self.state.registered_at = None
            return 0.0
        if answer.status not in (OK, CREATED, NO_CONTENT):
            raise NotReached(f"a heartbeat was answered with {answer.status}")
        self.state.last_heartbeat_at = self._clock.now()
        body = answer.json() if answer.content else {}
        return self._interval(body.get("next_interval_seconds") if isinstance(body, dict) else None)

    async def _leave(self) -> None:
        if self.state.agent_id is None:
            return
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._ask(f"{self._own_path()}/unregister", {})
        except (OptiInfraError, OSError, TimeoutError) as error:
            log.info("the orchestrator did not hear that %s ends: %s", self.state.role, error)
        self.state.agent_id = None

    def _own_path(self) -> str:
        return f"/agents/{quote(self.state.agent_id or '', safe='')}"

    async def _ask(self, path: str, body: Any) -> outbound.Answer:
        try:
            # The operator named it, so it may be anywhere.
            place = await destinations.check(f"{self._url}{path}", Policy.everywhere(), self._resolve)
        except InvalidRequest as error:
            raise NotReached(str(error)) from error
        return await outbound.ask(place, method="POST", body=body)

    def _interval(self, asked: Any) -> float:
        usable = isinstance(asked, int | float) and not isinstance(asked, bool) and math.isfinite(asked) and asked > 0
        seconds = float(asked) if usable else self._usual
        seconds = min(max(seconds, SHORTEST_INTERVAL_SECONDS), LONGEST_INTERVAL_SECONDS)
        self.state.heartbeat_interval_seconds = seconds
        return seconds

    def _failed(self, why: str) -> float:
        state = self.state
        if why != state.last_error:  # once for each reason, and not at every try
            log.warning("orchestrator, %s: %s", state.role, why)
        state.last_error, state.last_error_at = why, self._clock.now()
        state.failures_in_a_row += 1
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(state.failures_in_a_row, 16))
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreads a fleet, hides nothing
