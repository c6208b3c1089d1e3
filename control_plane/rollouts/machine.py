"""The life of a rollout: one table. The diagram in docs/rollouts.md is drawn from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from control_plane.model.errors import OptiInfraError
from control_plane.model.rollout import Event, State

_E, _S = Event, State

# Entering these, the candidate may have traffic: the guard watches, and the way back is open.
FORWARD = (_S.PROVISIONING, _S.WARMING, _S.SHIFTING, _S.OBSERVING, _S.BAKING)
WAITING = (_S.AWAITING_APPROVAL, _S.PAUSED)
BACKWARD = (_S.ROLLING_BACK, _S.DRAINING, _S.REMOVING)
ENDED = (_S.SUCCEEDED, _S.ROLLED_BACK, _S.REFUSED)
GUARDED = (*FORWARD, *WAITING, _S.NEEDS_HUMAN)


def _table() -> dict[tuple[State, Event], State]:
    table = {
        (_S.PENDING, _E.PREFLIGHT_PASSED): _S.PROVISIONING,
        (_S.PENDING, _E.PREFLIGHT_FAILED): _S.REFUSED,
        (_S.PENDING, _E.APPROVAL_NEEDED): _S.AWAITING_APPROVAL,
        (_S.PENDING, _E.ROLL_BACK): _S.ROLLED_BACK,
        (_S.AWAITING_APPROVAL, _E.APPROVED): _S.PROVISIONING,
        (_S.PROVISIONING, _E.READY): _S.WARMING,
        (_S.WARMING, _E.WARMED): _S.SHIFTING,
        (_S.SHIFTING, _E.SHIFTED): _S.OBSERVING,
        (_S.OBSERVING, _E.STEP_PASSED): _S.PROVISIONING,
        (_S.OBSERVING, _E.APPROVAL_NEEDED): _S.AWAITING_APPROVAL,
        (_S.OBSERVING, _E.LAST_STEP_PASSED): _S.BAKING,
        (_S.OBSERVING, _E.INCONCLUSIVE): _S.PAUSED,
        (_S.PAUSED, _E.RESUME): _S.PROVISIONING,
        (_S.BAKING, _E.BAKED): _S.RETIRING,
        (_S.RETIRING, _E.RETIRED): _S.SUCCEEDED,
        (_S.ROLLING_BACK, _E.SHARE_IS_ZERO): _S.DRAINING,
        (_S.DRAINING, _E.DRAINED): _S.REMOVING,
        (_S.REMOVING, _E.REMOVED): _S.ROLLED_BACK,
        (_S.NEEDS_HUMAN, _E.RESUME): _S.PROVISIONING,
        (_S.TAKEN_OVER, _E.RESUME): _S.PROVISIONING,
        (_S.TAKEN_OVER, _E.ROLL_BACK): _S.ROLLING_BACK,
    }
    for state in GUARDED:
        table |= {(state, event): _S.ROLLING_BACK for event in (_E.VIOLATION, _E.CANDIDATE_LOST, _E.ROLL_BACK)}
    for state in (*FORWARD, *WAITING):
        table[state, _E.CHANGED_BY_HAND] = _S.TAKEN_OVER
    for state in FORWARD:
        table[state, _E.PAUSE] = _S.PAUSED
        table[state, _E.CANNOT_ACT] = _S.NEEDS_HUMAN
    for state in (_S.PROVISIONING, _S.WARMING):
        table[state, _E.TOO_LONG] = _S.ROLLING_BACK
    return table


TABLE: Mapping[tuple[State, Event], State] = MappingProxyType(_table())


class ImpossibleTransition(OptiInfraError):
    """A rollout was asked to go where no line of the table leads."""


def after(state: State, event: Event) -> State:
    """This will give the state that follows. Raises ImpossibleTransition where the table has no line."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleTransition(f"a rollout that is {state} cannot take {event}") from None


def accepts(state: State, event: Event) -> bool:
    """This will say whether the table has such a line."""
    return (state, event) in TABLE


def diagram(lines: Iterable[tuple[tuple[State, Event], State]] = tuple(TABLE.items())) -> str:
    """This will draw the table as a Mermaid state diagram; events between the same two states share an arrow."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, event), following in lines:
        arrows.setdefault((state, following), []).append(event.replace("_", " "))
    drawn = [f"    {a} --> {b}: {', '.join(sorted(events))}" for (a, b), events in sorted(arrows.items())]
    ends = [f"    {state} --> [*]" for state in ENDED]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.PENDING}", *drawn, *ends])
