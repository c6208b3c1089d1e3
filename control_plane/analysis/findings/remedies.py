"""What may be done about each cause of waste, what that costs, and how much of it can be had back."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.model.use import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What may be done about one cause of waste."""

    cause: Cause
    kind: str
    title: str
    remedy: str
    to_do: str  # what doing it costs
    effort: str  # low, medium, high
    # How much of the time can be had back: at least, likely, at most. A judgement, not a measurement.
    recoverable: tuple[float, float, float]


RULES = (
    Rule(
        cause=Cause.STUCK, kind="end_stuck_job", title="End jobs that hang in a collective",
        remedy="look at the job's ranks (optiinfra diagnose), then end it; set NCCL and job timeouts",
        to_do="the job is lost; it was not getting anywhere", effort="low", recoverable=(0.9, 1.0, 1.0),
    ),
    Rule(
        cause=Cause.STALLED, kind="end_stalled_work", title="Look at work that is resident and does nothing",
        remedy="look at the processes on these GPUs; end those that are stuck",
        to_do="what they held in memory is lost", effort="low", recoverable=(0.3, 0.7, 1.0),
    ),
    Rule(
        cause=Cause.MEMORY_HELD, kind="release_held_memory", title="Share, or free, GPUs that only hold memory",
        remedy="serve several models on one GPU, scale idle servers down, end processes that nobody uses",
        to_do="a cold start of 2 to 7 minutes when work comes back, and warm caches are lost", effort="medium",
        recoverable=(0.3, 0.7, 1.0),
    ),
    Rule(
        cause=Cause.ALLOCATED_UNUSED, kind="give_back_allocation", title="Give back GPUs that pods hold and do not use",
        remedy="end the pods, or lower what they ask for; GET /gpu/attribution?finding=allocated_but_unused",
        to_do="the pod must be scheduled again when it is needed", effort="low", recoverable=(0.7, 1.0, 1.0),
    ),
    Rule(
        cause=Cause.UNALLOCATED, kind="return_unallocated", title="Return, or fill, GPUs that nobody has",
        remedy="scale the node pool down, or move work to them before renting more",
        to_do="a node takes minutes to hours to come back; commitments may run on", effort="medium",
        recoverable=(0.5, 0.9, 1.0),
    ),
    Rule(
        cause=Cause.HOST_STARVED, kind="remove_host_bottleneck", title="Let GPUs wait less for the CPU",
        remedy="CUDA graphs (no eager mode), asynchronous scheduling, more CPU cores, larger batches",
        to_do="a restart of the server with other flags, and a load test before", effort="medium",
        recoverable=(0.1, 0.4, 0.7),
    ),
    Rule(
        cause=Cause.UNDERUSED, kind="fill_or_shrink", title="Fill GPUs that work far below their limits",
        remedy="raise max_num_seqs or the batch, put more load on each GPU, or use a smaller GPU",
        to_do="a restart with other flags; time per token grows with the batch", effort="medium",
        recoverable=(0.1, 0.4, 0.6),
    ),
    Rule(
        cause=Cause.COPYING, kind="stop_copying", title="Stop moving the same data again and again",
        remedy="keep weights on the node or in page cache, less KV offloading, pinned memory",
        to_do="local disk or memory for weights", effort="medium", recoverable=(0.2, 0.5, 0.8),
    ),
    Rule(
        cause=Cause.SLOWED, kind="cool_or_power", title="Give slowed GPUs cooling or power",
        remedy="check fans, air flow and power supplies: GET /gpu/temperature names the reasons",
        to_do="work on the machine; drain it first", effort="high", recoverable=(0.05, 0.2, 0.4),
    ),
)  # fmt: skip
