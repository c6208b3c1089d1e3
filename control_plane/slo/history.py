"""What samples of before an objective was made say of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.model.sample import Reading
from control_plane.model.slo import Indicator, Slo
from control_plane.slo.counting import Track, counted
from control_plane.slo.watching import Tally

# Whether anything serves, and how much comes out of all together, is judged from moment to moment: looks that are
# minutes apart do not say it.
WITHOUT_HISTORY = frozenset({Indicator.AVAILABILITY, Indicator.THROUGHPUT_FLOOR})


def tallied(slo: Slo, looks: Sequence[Reading], *, into: Tally) -> None:
    """This will count what happened between looks at servers in scope; each server's come in the order of time."""
    tracks: dict[int, Track] = {}
    for reading in looks:
        track, found = counted(slo.definition, tracks.get(reading.entity_id, Track()), reading)
        tracks[reading.entity_id] = track
        if found is not None and found.events.total:
            into.add(slo.slo_id, reading.entity_id, reading.taken_at, found.events)
