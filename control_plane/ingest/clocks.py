"""What time it was here when a node took a sample. Nodes' clocks lie, so theirs is only believed when it agrees."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

# NTP keeps hosts within milliseconds; two seconds is beyond any network's one-way delay that we
# would want to mistake for skew.
TOLERANCE_US = 2_000_000
# Readings kept. The link's delay only ever makes a reading larger, so the smallest of the last few
# is the truest; a few minutes at the usual heartbeat, so that drift does not pile up.
READINGS = 16


class Arrival(NamedTuple):  # one for every message: a tuple is made in a third of the time
    """When a message arrived, on both of our clocks."""

    unix_us: int
    monotonic_us: int


class Stamp(NamedTuple):
    """When a tick was taken."""

    taken_at_us: int  # the node's stamp where it agrees with our clock, else our own estimate
    clock_offset_seconds: float  # node's clock minus ours
    corrected: bool


class NodeClock:
    """Maps one agent process's monotonic clock onto ours.

    A monotonic clock cannot jump, so a node's or our own wall clock that is set back or forward,
    before or after a sample was buffered, changes no sample's age; the age alone makes the stamp.
    """

    def __init__(self) -> None:
        """The first reading comes with the Hello."""
        self._offsets_us: deque[int] = deque(maxlen=READINGS)

    def reading(self, *, node_monotonic_us: int, arrived: Arrival) -> None:
        """This will note that the node's monotonic clock showed a value just before it arrived here."""
        self._offsets_us.append(arrived.monotonic_us - node_monotonic_us)

    def stamp(self, *, node_unix_us: int, node_monotonic_us: int, arrived: Arrival) -> Stamp:
        """This will say when a tick was taken, by our clock."""
        age_us = arrived.monotonic_us - node_monotonic_us - min(self._offsets_us)
        if age_us < 0:
            # Nothing arrives before it was taken: a monotonic clock stood still here (a machine was
            # suspended) or leapt there, and this tick is the first reading that shows it.
            self.reading(node_monotonic_us=node_monotonic_us, arrived=arrived)
            age_us = 0
        estimate = arrived.unix_us - age_us
        offset = node_unix_us - estimate
        corrected = abs(offset) > TOLERANCE_US
        return Stamp(
            taken_at_us=estimate if corrected else node_unix_us,
            clock_offset_seconds=offset / 1e6,
            corrected=corrected,
        )
