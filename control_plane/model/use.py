"""What a GPU's time went into, and in which class of use or waste that falls."""

from __future__ import annotations

from enum import StrEnum


class UseClass(StrEnum):
    """What paid time is. The classes are disjoint and add up to all of it."""

    USEFUL = "useful"  # busy with work, near a limit of the GPU
    INEFFICIENT = "inefficient"  # busy, and held back: clocked down, starved, tiny batches
    STRANDED = "stranded"  # memory is held, and no work is done
    ALLOCATED_IDLE = "allocated_idle"  # given to somebody who does not use it
    UNALLOCATED = "unallocated"  # nobody has it
    UNKNOWN = "unknown"  # down, or not looked at


class Cause(StrEnum):
    """Why time falls into its class."""

    WORK = "work"
    BUSY_UNSPECIFIED = "busy_unspecified"  # a kernel was resident; GPM, which would tell with what, is missing
    SLOWED = "slowed"  # heat or the power supply holds the clocks down
    HOST_STARVED = "host_starved"  # the GPU waits for the CPU between kernels, while there is work
    COPYING = "copying"  # data moves, the SMs rest
    UNDERUSED = "underused"  # SMs work far below every limit
    STUCK = "stuck"  # a collective that never ends
    STALLED = "stalled"  # resident, and nothing is computed or moved
    MEMORY_HELD = "memory_held"  # idle, and weights or caches fill the memory
    ALLOCATED_UNUSED = "allocated_unused"  # idle and empty, and given to a pod
    UNALLOCATED = "unallocated"  # idle and empty, and given to nobody
    NOT_JUDGED = "not_judged"  # looked at, and what would tell is unknown
    NO_SAMPLES = "no_samples"  # down, disconnected, or samples were lost


CLASS_OF = {
    Cause.WORK: UseClass.USEFUL,
    Cause.BUSY_UNSPECIFIED: UseClass.USEFUL,
    Cause.SLOWED: UseClass.INEFFICIENT,
    Cause.HOST_STARVED: UseClass.INEFFICIENT,
    Cause.COPYING: UseClass.INEFFICIENT,
    Cause.UNDERUSED: UseClass.INEFFICIENT,
    Cause.STUCK: UseClass.STRANDED,
    Cause.STALLED: UseClass.STRANDED,
    Cause.MEMORY_HELD: UseClass.STRANDED,
    Cause.ALLOCATED_UNUSED: UseClass.ALLOCATED_IDLE,
    Cause.UNALLOCATED: UseClass.UNALLOCATED,
    Cause.NOT_JUDGED: UseClass.UNKNOWN,
    Cause.NO_SAMPLES: UseClass.UNKNOWN,
}
