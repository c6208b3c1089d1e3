"""The life of a recommendation: one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from control_plane.model.decision import RecommendationState as S

TRANSITIONS: Mapping[S, frozenset[S]] = MappingProxyType(
    {
        S.OPEN: frozenset({S.APPROVED, S.REJECTED, S.SUPERSEDED, S.EXPIRED, S.EXECUTING}),
        S.APPROVED: frozenset({S.REJECTED, S.SUPERSEDED, S.EXPIRED, S.EXECUTING}),
        S.EXECUTING: frozenset({S.EXECUTED, S.FAILED, S.CANCELLED}),
        S.EXECUTED: frozenset(),
        S.FAILED: frozenset(),
        S.CANCELLED: frozenset(),
        S.REJECTED: frozenset(),
        S.SUPERSEDED: frozenset(),
        S.EXPIRED: frozenset(),
    }
)


def may(before: S, after: S) -> bool:
    """This will say whether a recommendation may go from one state to another."""
    return after in TRANSITIONS[before]
