"""What a GPU was doing at each look, from what its parts did, and from the looks beside it.

One look tells a matrix multiplication from a copy. What a GPU does every other half second, a collective that never
ends, and kernels that are too short to count are only seen in several looks at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from control_plane.analysis.utilization.looks import SECOND_US, Flags, Looks, Numbers, most
from control_plane.model.activity import (
    BANDWIDTH_LIMIT_SHARE,
    BUSY_SHARE,
    PIPE_LIMIT_SHARE,
    TRANSFER_BYTES_PER_SECOND,
    Activity,
)

ACTIVITIES = tuple(Activity)
CODES = {activity: code for code, activity in enumerate(ACTIVITIES)}
Codes = npt.NDArray[np.int8]

# Busy for less of the time than this, a GPU stood still in between: work that keeps it busy shows 0.97 and more on an
# H200 (matrix products, prompt processing, decoding without gaps).
WHOLE_SHARE = 0.85
# Kernels that run all the time and each keep hardly an SM busy: back-to-back launches of tiny kernels show 0.7 % of
# the time with 0.4 % of the SMs in it on an H200; an idle context 0.006 %; a single request a second 1 % with 50 %.
LAUNCH_SHARE, LAUNCH_WIDTH = 0.002, 0.05
# Allocations of a program that starts look like that for a second.
LAUNCH_LOOKS, LAUNCH_SECONDS = 3, 2.0
# Of the speed that an NVLink 4 GPU has in one direction (450 GB/s), a ring all-reduce reaches 300; tensor-parallel
# prompt processing, which is compute-bound, shows 32.
NVLINK_LIMIT_BYTES_PER_SECOND = 1e11
# A collective that never ends: its spinning SMs do not move by a thousandth (0.182 and 0.008 of an H200's for minutes),
# and nothing else is touched. NCCL spins on at most a quarter of the SMs.
SPINNING_SHARE, SPINNING_MOVES = 0.35, 0.002
REST_DRAM_SHARE, REST_BYTES_PER_SECOND = 0.01, 5e7
STUCK_LOOKS, STUCK_SECONDS = 4, 8.0
# Busy at one look and idle at the next, three times in five looks, is one load that is there half of the time.
SWITCHES, SWITCHES_AMONG = 3, 5
# Beyond this two looks do not say that anything lasted.
MOST_APART_SECONDS = 90.0

POWER_CAP_BIT = 0x4  # nvmlClocksEventReasonSwPowerCap
SLOWED_BITS = 0x8 | 0x20 | 0x40 | 0x80  # hardware slowdown, software and hardware thermal, power brake
AT_LIMIT_SHARE = 0.97
# Without GPM: the memory controller is busy all the time when bandwidth binds (1.0 on an H200; a matrix product: 0.25).
CONTROLLER_LIMIT_SHARE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What each of n looks shows."""

    activity: Codes  # index into ACTIVITIES
    duty: Numbers  # 0..1: share of the time in which any work ran; NaN: unknown
    power_capped: Flags  # the power limit holds the clocks down
    slowed: Flags  # heat or the power supply holds the clocks down
    weak: Flags  # judged by the classic figures alone: GPM is missing


def judge(looks: Looks) -> Judged:
    """This will say what each look shows."""
    sm = looks.column("sm_active_ratio")
    classic = looks.column("gpu_utilization_ratio")
    graphics = looks.column("graphics_active_ratio")
    weak = np.isnan(sm)
    duty = _duty(classic, graphics, sm)
    bits = np.nan_to_num(looks.column("clock_event_reasons_bits")).astype(np.int64)
    capped = (bits & POWER_CAP_BIT) != 0
    activity = np.where(weak, _classic(looks, classic, capped), _by_parts(looks, sm, classic, graphics))
    activity = activity.astype(np.int8)
    _call_alternating(looks, activity, duty)
    _call_tiny_kernels(looks, activity)
    _call_stuck(looks, activity, sm)
    copying = activity == CODES[Activity.COPYING]
    return Judged(
        activity=activity,
        # A copy engine is no graphics engine: while it works the latter says 0.
        duty=np.where(copying, np.fmax(duty, classic), duty),
        power_capped=capped,
        slowed=(bits & SLOWED_BITS) != 0,
        weak=weak,
    )


def _duty(classic: Numbers, graphics: Numbers, sm: Numbers) -> Numbers:
    """This will give the share of time in which any work ran: never less than the share of SMs that had some."""
    return np.where(np.isnan(graphics), np.fmax(classic, sm), np.fmax(graphics, sm))


def _by_parts(looks: Looks, sm: Numbers, classic: Numbers, graphics: Numbers) -> Codes:
    pipes = [looks.column(f"{pipe}_active_ratio") for pipe in ("tensor", "fp32", "fp64", "fp16")]
    dram = looks.column("dram_active_ratio")
    nvlink = most([looks.column(f"nvlink_{way}_bytes_per_second") for way in ("transmit", "receive")])
    pcie = most([looks.column(f"pcie_{way}_bytes_per_second") for way in ("transmit", "receive")])
    moved = most([nvlink, pcie])
    duty = _duty(classic, graphics, sm)
    busiest = most(pipes)
    blind = np.isnan(dram) | np.isnan(looks.column("tensor_active_ratio")) | np.isnan(looks.column("fp32_active_ratio"))
    at_rest = (busiest < 0.01) & (dram < REST_DRAM_SHARE) & (moved < REST_BYTES_PER_SECOND)
    spinning = (duty >= 0.9) & (sm < SPINNING_SHARE) & at_rest
    works = sm >= BUSY_SHARE
    tiny = (graphics >= LAUNCH_SHARE) & (sm < graphics * LAUNCH_WIDTH) & ~works
    full_and_still = (classic >= PIPE_LIMIT_SHARE) & ~works
    choices = (
        (busiest >= PIPE_LIMIT_SHARE, Activity.COMPUTE_BOUND),
        (dram >= BANDWIDTH_LIMIT_SHARE, Activity.MEMORY_BOUND),
        (nvlink >= NVLINK_LIMIT_BYTES_PER_SECOND, Activity.COMMUNICATING),
        (~works & (pcie >= TRANSFER_BYTES_PER_SECOND), Activity.COPYING),
        (~works & (nvlink >= TRANSFER_BYTES_PER_SECOND), Activity.COPYING),
        (spinning, Activity.STALLED),
        (full_and_still & np.isnan(moved), Activity.BUSY_UNSPECIFIED),
        (full_and_still, Activity.STALLED),
        (works & (duty < WHOLE_SHARE), Activity.HALF_IDLE),
        (works & blind, Activity.BUSY_UNSPECIFIED),
        (works, Activity.UNDERUSED),
        (tiny, Activity.HOST_STARVED),
    )
    return np.select([where for where, _ in choices], [CODES[a] for _, a in choices], CODES[Activity.IDLE])


def _classic(looks: Looks, classic: Numbers, capped: Flags) -> Codes:
    """This will judge by the classic figures: they tell idle from busy, bandwidth at its limit, and a power cap."""
    controller = looks.column("memory_controller_utilization_ratio")
    watts, limit = looks.column("power_draw_watts"), looks.column("power_limit_watts")
    busy = classic >= PIPE_LIMIT_SHARE
    choices = (
        (np.isnan(classic), Activity.UNKNOWN),
        (classic < BUSY_SHARE, Activity.IDLE),
        (busy & (controller >= CONTROLLER_LIMIT_SHARE), Activity.MEMORY_BOUND),
        (busy & capped & (watts >= AT_LIMIT_SHARE * limit), Activity.COMPUTE_BOUND),
    )
    return np.select([where for where, _ in choices], [CODES[a] for _, a in choices], CODES[Activity.BUSY_UNSPECIFIED])


def _together(looks: Looks) -> Flags:
    """This will mark looks that belong to the one before: the same GPU, and not far apart."""
    together = ~looks.is_first
    together[1:] &= np.diff(looks.taken_at_us) <= MOST_APART_SECONDS * SECOND_US
    return together


def _call_alternating(looks: Looks, activity: Codes, duty: Numbers) -> None:
    """This will call looks that switch between busy and idle one load that is there part of the time."""
    if len(looks) < SWITCHES_AMONG:
        return
    busy = duty >= 0.5
    switched = np.zeros(len(looks), bool)
    switched[1:] = busy[1:] != busy[:-1]
    joined = _together(looks)
    # Windows of five looks: the first of them may begin a GPU, the other four belong to the look before.
    switches = sum(switched[1 + i : len(looks) - 3 + i].astype(np.int8) for i in range(SWITCHES_AMONG - 1))
    whole = np.logical_and.reduce([joined[1 + i : len(looks) - 3 + i] for i in range(SWITCHES_AMONG - 1)])
    changing = (switches >= SWITCHES) & whole
    marked = np.zeros(len(looks), bool)
    for i in range(SWITCHES_AMONG):
        marked[i : len(looks) - SWITCHES_AMONG + 1 + i] |= changing
    # What stays as it was on both sides was steady before the changes began, or after they ended.
    beside = switched.copy()
    beside[:-1] |= switched[1:]
    marked &= beside
    named = (CODES[Activity.COMPUTE_BOUND], CODES[Activity.MEMORY_BOUND], CODES[Activity.COMMUNICATING],
             CODES[Activity.UNDERUSED], CODES[Activity.IDLE])  # fmt: skip
    activity[marked & np.isin(activity, named)] = CODES[Activity.HALF_IDLE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Stretches of neighbouring looks that are alike: where each begins, how many looks, how long."""

    of_look: npt.NDArray[np.int64]  # (n,), which run a look is in
    looks: npt.NDArray[np.int64]
    seconds: Numbers


def runs_of(looks: Looks, breaks: Flags) -> Runs:
    """This will divide looks into runs: one begins at each of `breaks`, at a GPU's first look, and after a gap."""
    begins = breaks | ~_together(looks)
    of_look = np.cumsum(begins) - 1
    starts = np.flatnonzero(begins)
    counts = np.diff(np.append(starts, len(looks)))
    ends = starts + counts - 1
    seconds = (looks.taken_at_us[ends] - looks.taken_at_us[starts]) / SECOND_US
    # The first look speaks for the time before it too.
    seconds = seconds * np.where(counts > 1, counts / np.maximum(counts - 1, 1), 0.0)
    return Runs(of_look=of_look, looks=counts, seconds=seconds)


def _call_tiny_kernels(looks: Looks, activity: Codes) -> None:
    """This will take a host that starves its GPU back to idle where it did not last."""
    starved = activity == CODES[Activity.HOST_STARVED]
    if not starved.any():
        return
    breaks = np.ones(len(looks), bool)
    breaks[1:] = starved[1:] != starved[:-1]
    runs = runs_of(looks, breaks)
    brief = (runs.looks < LAUNCH_LOOKS) | (runs.seconds < LAUNCH_SECONDS)
    # A single look a minute apart says as much as many close together.
    brief &= runs.seconds < LAUNCH_LOOKS * LAUNCH_SECONDS * 5
    activity[starved & brief[runs.of_look]] = CODES[Activity.IDLE]


def _call_stuck(looks: Looks, activity: Codes, sm: Numbers) -> None:
    """This will call a stall stuck when the same few SMs have spun without a tremor for long."""
    stalled = activity == CODES[Activity.STALLED]
    if not stalled.any():
        return
    breaks = np.ones(len(looks), bool)
    breaks[1:] = (stalled[1:] != stalled[:-1]) | (np.abs(sm[1:] - sm[:-1]) > SPINNING_MOVES)
    runs = runs_of(looks, breaks)
    lasting = (runs.looks >= STUCK_LOOKS) & (runs.seconds >= STUCK_SECONDS)
    spins = stalled & (sm > 0) & lasting[runs.of_look]
    activity[spins] = CODES[Activity.STUCK]
