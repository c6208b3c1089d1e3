"""What is judged of all servers in scope together: does any serve, and do enough tokens come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.model.entity import Entity
from control_plane.model.sample import Reading
from control_plane.model.slo import Events, SloDefinition, SloScope
from control_plane.slo.counting import NOT_SERVING, flight_of

# A look that is older says nothing of now: three of the usual intervals, as for nodes.
FRESH = timedelta(seconds=15)
# A server that has gone for longer was taken away on purpose.
MISSED = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerNow:
    """A server at the newest look at it."""

    entity: Entity
    reading: Reading | None  # None: never sampled

    @property
    def state(self) -> str | None:
        """This will give its state in its agent's word."""
        state = self.entity.attributes.get("state")
        return state if isinstance(state, str) else None


def matches(scope: SloScope, entity: Entity) -> bool:
    """This will say whether a server is in scope."""
    said: Mapping[str, object] = entity.attributes
    pairs = (
        (scope.model, said.get("model")), (scope.engine, said.get("engine")), (scope.server, entity.key),
        (scope.node, entity.node_name), (scope.namespace, said.get("namespace")),
    )  # fmt: skip
    return all(wanted is None or wanted == found for wanted, found in pairs)


def serves(server: ServerNow, now: datetime) -> bool | None:
    """This will say whether a server answers and makes progress; None when nobody has looked of late."""
    if server.state == "not_watched":
        return None
    if server.state == "gone":
        return False if now - server.entity.state_since <= MISSED else None
    if server.reading is None or now - server.reading.taken_at > FRESH:
        return None
    return server.reading.values.get("up_flag") == 1 and server.state not in NOT_SERVING


def availability(servers: Sequence[ServerNow], now: datetime, seconds: float) -> Events | None:
    """This will give the stretch of time as good or bad; None when it is not known whether anything serves.

    One server that serves is enough. One that nobody has looked at may serve.
    """
    found = [serves(server, now) for server in servers]
    if any(found):
        return Events(good=seconds)
    if None in found or not found:
        return None
    return Events(bad=seconds)


def throughput(
    definition: SloDefinition, pairs: Sequence[tuple[Reading, Reading]], seconds: float
) -> tuple[Events, float | None]:
    """This will judge the tokens that came out while requests waited, and give their rate.

    `pairs` are two looks at each server. Where nothing waits a low rate is a lack of demand, and no event.
    """
    assert definition.floor_tokens_per_second is not None
    rate, waits = 0.0, False
    for before, after in pairs:
        start, end = flight_of(before), flight_of(after)
        length = (after.taken_at - before.taken_at).total_seconds()
        if length <= 0 or None in (start.tokens, end.tokens, start.first_tokens, end.first_tokens):
            return Events(), None
        grown = (end.tokens or 0.0) - (start.tokens or 0.0) + (end.first_tokens or 0.0) - (start.first_tokens or 0.0)
        if grown < 0:
            return Events(), None
        rate += grown / length
        waits |= min(start.waiting or 0.0, end.waiting or 0.0) >= 1.0
    if not pairs or not waits:
        return Events(), rate if pairs else None
    is_enough = rate >= definition.floor_tokens_per_second
    return Events(good=seconds if is_enough else 0.0, bad=0.0 if is_enough else seconds), rate
