"""Whether a resource is used too little or too much, and because of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How a resource is used."""

    OVER_USED = "over_used"  # work waits for it
    UNDER_USED = "under_used"  # most of it is not needed
    BALANCED = "balanced"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its reasons, which name their figures."""

    verdict: Verdict
    because: tuple[str, ...]


# A GPU near its roofline has nothing left; beyond so much time without work most of it is not needed.
FULL_ROOFLINE, IDLE_BUSY = 0.8, 0.3
# Seen for less than half of the window, it is not known what it did.
SEEN = 0.5
# Pressure stall information (kernel docs, accounting/psi): share of time in which some task waited for the resource.
CPU_WAITS, IO_WAITS, MEMORY_WAITS = 0.10, 0.10, 0.01
CPU_FULL, CPU_IDLE = 0.90, 0.10
MEMORY_LEFT, MEMORY_UNUSED = 0.05, 0.80
LINK_FULL, DISK_FULL = 0.80, 0.90


def of_gpu(body: Mapping[str, Any]) -> Judgement:
    """This will judge GPUs by what was found of their use."""
    if body["observed_ratio"] < SEEN or body["busy_ratio"] is None:
        return Judgement(verdict=Verdict.UNKNOWN, because=(f"seen for {body['observed_ratio']:.0%} of the time",))
    over = []
    if (body["roofline_ratio"] or 0.0) >= FULL_ROOFLINE:
        over.append(f"{body['roofline_ratio']:.0%} of the nearest limit is used")
    if (body["slowed_ratio"] or 0.0) >= 0.1:
        over.append(f"clocked down by heat or the power supply {body['slowed_ratio']:.0%} of the time")
    if over:
        return Judgement(verdict=Verdict.OVER_USED, because=tuple(over))
    under = []
    if body["busy_ratio"] < IDLE_BUSY:
        under.append(f"work ran {body['busy_ratio']:.0%} of the time")
    stuck = body["activity_shares"].get("stuck", 0.0)
    if stuck >= 0.05:
        under.append(f"stuck in a collective {stuck:.0%} of the time")
    useful = next((c["ratio"] for c in body["classes"] if c["class"] == "useful"), 0.0)
    if useful < IDLE_BUSY and not under:
        under.append(f"{useful:.0%} of the paid time was useful work")
    verdict = Verdict.UNDER_USED if under else Verdict.BALANCED
    return Judgement(verdict=verdict, because=tuple(under) or (f"work ran {body['busy_ratio']:.0%} of the time",))


def of_server(body: Mapping[str, Any]) -> Judgement:
    """This will judge an inference server, or a model, by its queue, its KV cache and its load."""
    running, waiting, usage = body["requests_running"], body["requests_waiting"], body["kv_cache_usage_ratio"]
    if running is None:
        return Judgement(verdict=Verdict.UNKNOWN, because=("its load is not known",))
    over = []
    if waiting is not None and waiting >= 1.0:
        over.append(f"{waiting:.1f} requests wait on average")
    if usage is not None and usage >= 0.8:
        over.append(f"{usage:.0%} of the KV cache is in use")
    if over:
        return Judgement(verdict=Verdict.OVER_USED, because=tuple(over))
    if running < 0.1:
        return Judgement(verdict=Verdict.UNDER_USED, because=(f"{running:.2f} requests run on average",))
    return Judgement(verdict=Verdict.BALANCED, because=(f"{running:.1f} requests run on average, none wait long",))


def of_cpu(busy: float | None, pressure: float | None) -> Judgement:
    """This will judge CPUs: pressure says that work waits, which a share of busy time does not."""
    if pressure is not None and pressure >= CPU_WAITS:
        return Judgement(verdict=Verdict.OVER_USED, because=(f"some task waits for a CPU {pressure:.0%} of the time",))
    if busy is None:
        return Judgement(verdict=Verdict.UNKNOWN, because=("neither load nor pressure is known",))
    if busy >= CPU_FULL:
        return Judgement(verdict=Verdict.OVER_USED, because=(f"busy {busy:.0%} of the time",))
    verdict = Verdict.UNDER_USED if busy < CPU_IDLE and (pressure or 0.0) < 0.01 else Verdict.BALANCED
    return Judgement(verdict=verdict, because=(f"busy {busy:.0%} of the time{_waits(pressure)}",))


def of_memory(available: float | None, pressure: float | None) -> Judgement:
    """This will judge the host's memory, by the share that is available and by pressure."""
    if pressure is not None and pressure >= MEMORY_WAITS:
        said = f"some task waits for memory {pressure:.1%} of the time"
        return Judgement(verdict=Verdict.OVER_USED, because=(said,))
    if available is None:
        return Judgement(verdict=Verdict.UNKNOWN, because=("what is available is not known",))
    if available < MEMORY_LEFT:
        return Judgement(verdict=Verdict.OVER_USED, because=(f"{available:.0%} is available",))
    verdict = Verdict.UNDER_USED if available >= MEMORY_UNUSED else Verdict.BALANCED
    return Judgement(verdict=verdict, because=(f"{available:.0%} is available{_waits(pressure)}",))


def of_disk(busy: float | None, pressure: float | None) -> Judgement:
    """This will judge disks by pressure, and by how busy the busiest is."""
    if pressure is not None and pressure >= IO_WAITS:
        return Judgement(verdict=Verdict.OVER_USED, because=(f"some task waits for a disk {pressure:.0%} of the time",))
    if busy is None:
        return Judgement(verdict=Verdict.UNKNOWN, because=("neither load nor pressure is known",))
    verdict = Verdict.OVER_USED if busy >= DISK_FULL else Verdict.BALANCED
    return Judgement(verdict=verdict, because=(f"the busiest is busy {busy:.0%} of the time{_waits(pressure)}",))


def of_network(share: float | None) -> Judgement:
    """This will judge network links by the fullest one."""
    if share is None:
        return Judgement(verdict=Verdict.UNKNOWN, because=("the speed of no link that carries anything is known",))
    verdict = Verdict.OVER_USED if share >= LINK_FULL else Verdict.BALANCED
    return Judgement(verdict=verdict, because=(f"the fullest link carries {share:.1%} of what it can",))


def _waits(pressure: float | None) -> str:
    return ", and its pressure is not known" if pressure is None else f", and somebody waits {pressure:.1%} of it"
