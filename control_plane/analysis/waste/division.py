"""Each look's time and energy, divided by what it went into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from control_plane.analysis.utilization.judging import ACTIVITIES, CODES, WHOLE_SHARE, Judged, runs_of
from control_plane.analysis.utilization.looks import SECOND_US, Flags, Looks, Numbers, Spans
from control_plane.model.activity import Activity
from control_plane.model.use import Cause

CAUSES = tuple(Cause)
NUMBER = {cause: number for number, cause in enumerate(CAUSES)}
Causes = npt.NDArray[np.int64]

# A CUDA context takes some 0.5 GiB, and a monitor may hold one: from here on it is somebody's data.
HELD_BYTES = 1e9

# Gaps that a host leaves between kernels are of milliseconds. A GPU that does nothing at all for so long, while its
# server counts requests as running, does not wait for the next kernel.
STILL_SHARE, STILL_SECONDS = 0.005, 10.0

# What time in which work ran went into.
_BUSY: Mapping[Activity, Cause] = {
    Activity.UNKNOWN: Cause.NOT_JUDGED,
    Activity.BUSY_UNSPECIFIED: Cause.BUSY_UNSPECIFIED,
    Activity.COMPUTE_BOUND: Cause.WORK,
    Activity.MEMORY_BOUND: Cause.WORK,
    Activity.COMMUNICATING: Cause.WORK,
    Activity.COPYING: Cause.COPYING,
    Activity.STUCK: Cause.STUCK,
    Activity.STALLED: Cause.STALLED,
    Activity.HOST_STARVED: Cause.HOST_STARVED,
    Activity.HALF_IDLE: Cause.WORK,
    Activity.UNDERUSED: Cause.UNDERUSED,
    Activity.IDLE: Cause.WORK,
}
# Their time is theirs wholly: standing still in between is what they are.
_WHOLLY = (Activity.UNKNOWN, Activity.COPYING, Activity.STUCK, Activity.STALLED, Activity.HOST_STARVED)
_SLOWS = (Cause.WORK, Cause.BUSY_UNSPECIFIED, Cause.UNDERUSED, Cause.HOST_STARVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Each look's span in two parts: while work ran, and while it did not."""

    busy_cause: Causes  # (n,), index into CAUSES
    rest_cause: Causes
    busy_seconds: Numbers
    rest_seconds: Numbers
    joules: Numbers  # over both; NaN: unknown

    def scaled(self, shares: Numbers) -> Division:
        """This will count each look for a share of a GPU only; joules are of the share already."""
        return replace(self, busy_seconds=self.busy_seconds * shares, rest_seconds=self.rest_seconds * shares)


def divided(
    looks: Looks, judged: Judged, whole: Spans, times: Spans, *, allocated: Mapping[int, bool | None]
) -> Division:
    """This will divide looks' spans, `times`, which are those of `whole` or cut out of them.

    `allocated` says by GPU whether it was given to somebody (None: not known).
    """
    seconds = times.seconds
    wholly = np.isin(judged.activity, [CODES[a] for a in _WHOLLY])
    duty = np.nan_to_num(judged.duty, nan=1.0)
    # Nearly all of the time is all of it: gaps between kernels are part of working.
    duty = np.where(wholly | (duty >= WHOLE_SHARE), 1.0, np.clip(duty, 0.0, 1.0))
    busy = np.array([NUMBER[_BUSY[a]] for a in ACTIVITIES])[judged.activity]
    busy = np.where(judged.slowed & np.isin(busy, [NUMBER[c] for c in _SLOWS]), NUMBER[Cause.SLOWED], busy)
    return Division(
        busy_cause=busy,
        rest_cause=_rest(looks, judged, allocated),
        busy_seconds=seconds * duty,
        rest_seconds=seconds * (1.0 - duty),
        joules=energy(looks, whole) * np.divide(seconds, whole.seconds, out=np.zeros(len(looks)), where=seconds > 0),
    )


def _rest(looks: Looks, judged: Judged, allocated: Mapping[int, bool | None]) -> Causes:
    """This will say what time in which nothing ran went into: who holds the GPU meanwhile."""
    held_bytes = looks.column("memory_used_bytes")
    waits = looks.column("requests_running_count") > 0
    given = np.array([_given(allocated.get(int(gpu))) for gpu in looks.gpu_ids], np.int8).reshape(len(looks))
    choices: tuple[tuple[Flags, Cause], ...] = (
        (judged.activity == CODES[Activity.UNKNOWN], Cause.NOT_JUDGED),
        (waits & _still(looks, judged), Cause.STALLED),  # a server that hangs, or whose other GPUs do the work
        (waits, Cause.HOST_STARVED),  # requests are being worked on, and the GPU stands still
        (held_bytes >= HELD_BYTES, Cause.MEMORY_HELD),
        (given == 1, Cause.ALLOCATED_UNUSED),
        (np.isnan(held_bytes), Cause.NOT_JUDGED),
    )
    return np.select([w for w, _ in choices], [NUMBER[c] for _, c in choices], NUMBER[Cause.UNALLOCATED])


def _still(looks: Looks, judged: Judged) -> Flags:
    """This will mark looks at GPUs that did nothing for long."""
    still = judged.duty < STILL_SHARE
    breaks = np.ones(len(looks), bool)
    breaks[1:] = still[1:] != still[:-1]
    runs = runs_of(looks, breaks)
    return np.asarray(still & (runs.seconds >= STILL_SECONDS)[runs.of_look])


def _given(allocated: bool | None) -> int:
    return -1 if allocated is None else int(allocated)


def energy(looks: Looks, whole: Spans) -> Numbers:
    """This will give the joules of each uncut span: by the energy counter, after a gap by the mean power.

    The counter's growth over a gap is of the gap, not of the look after it. One that fell began anew.
    """
    counter = looks.column("energy_joules_total")
    grown, distance = np.full(len(looks), np.nan), np.full(len(looks), np.nan)
    grown[1:] = np.where(looks.is_first[1:], np.nan, counter[1:] - counter[:-1])
    distance[1:] = np.diff(looks.taken_at_us) / SECOND_US
    watts = looks.column("power_draw_mean_watts")
    watts = np.where(np.isnan(watts), looks.column("power_draw_watts"), watts)
    return np.where((grown >= 0) & (distance == whole.seconds), grown, watts * whole.seconds)
