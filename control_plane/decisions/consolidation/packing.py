"""Column generation: ways to fill one GPU, the cheapest mix of them, and a bound that no mix can beat.

Gilmore and Gomory, "A linear programming approach to the cutting-stock problem", Operations Research 9 (1961), with one
knapsack for each kind of GPU. Engines that are alike, and GPUs that are alike, are counted and not told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import highspy
import numpy as np
from highspy._core import _Highs  # the class around it prints a banner as it is made

from control_plane.decisions.consolidation.fleet import MOST_COMPUTE, MOST_MEMORY

Prices = np.ndarray[tuple[int], np.dtype[np.float64]]

ROUNDS = 500
FREE = 1e-6  # dollars below which another way to fill a GPU brings nothing
UNPLACED_USD = 1e6  # an hour, for an engine that is left out: only where it fits nowhere
GAP = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """Engines that are alike."""

    memory_bytes: float
    compute: float
    kinds: frozenset[str] | None
    apart: str | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """GPUs that are alike, and what of them is free for engines that may move."""

    name: str
    memory_bytes: float  # that may be filled
    compute: float
    usd_per_hour: float
    count: int
    closed: frozenset[str] = frozenset()  # words of `apart` that fixed engines on it have


@dataclass(frozen=True, slots=True)
class Pattern:
    """A way to fill one GPU of a kind."""

    kind: int
    counts: tuple[int, ...]  # of each class


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """How often each way is used."""

    patterns: Sequence[tuple[Pattern, int]]
    bound_usd_per_hour: float
    left_out: int


def pack(classes: Sequence[Class], kinds: Sequence[Kind], *, seconds: float, start: Sequence[Pattern] = ()) -> Packed:
    """This will find a mix within `seconds`; `start` are ways that are known, such as those in use."""
    patterns = list(dict.fromkeys([*start, *_single(classes, kinds)]))
    bound, used, spent = _generate(classes, kinds, patterns, seconds=0.7 * seconds)
    # What is left once every way is used a whole number of times is a small fleet of its own, with ways of its own.
    left = _left(classes, kinds, patterns, used)
    if left is not None:
        _generate(*left, patterns, seconds=0.1 * seconds)
    chosen, left_out = _Master(classes, kinds, patterns).whole(seconds=max(seconds - spent, 0.3 * seconds))
    return Packed(patterns=chosen, bound_usd_per_hour=max(bound, 0.0), left_out=left_out)


def _generate(
    classes: Sequence[Class], kinds: Sequence[Kind], patterns: list[Pattern], *, seconds: float
) -> tuple[float, Sequence[float], float]:
    """This will add ways to `patterns` until no more pay, and give the bound, how often each is used, and the time."""
    bound, spent = 0.0, 0.0
    known = set(patterns)
    for _ in range(ROUNDS):
        master = _Master(classes, kinds, patterns)
        value, of_class, of_kind, took = master.relaxed()
        spent += took
        # Filling greedily finds most ways in no time; the exact knapsacks say when there are no more.
        fresh = [p for p in _greedy(classes, kinds, of_class, of_kind) if p not in known]
        if not fresh:
            found, slack, took = _priced(classes, kinds, of_class, of_kind)
            spent += took
            # Lasdon's bound: each GPU of a kind can gain at most what its best way would.
            bound = max(bound, value + slack)
            fresh = [p for p in found if p not in known]
        if not fresh or spent > seconds:
            break
        patterns += fresh
        known |= set(fresh)
    return bound, master.used(), spent


def _left(
    classes: Sequence[Class], kinds: Sequence[Kind], patterns: Sequence[Pattern], used: Sequence[float]
) -> tuple[list[Class], list[Kind]] | None:
    """This will give what is left of the fleet beside whole numbers of ways; None when nothing is."""
    engines = [each.count for each in classes]
    gpus = [kind.count for kind in kinds]
    for pattern, often in zip(patterns, used, strict=False):
        whole = int(often + FREE)
        gpus[pattern.kind] -= whole
        engines = [max(n - whole * c, 0) for n, c in zip(engines, pattern.counts, strict=True)]
    if not any(engines):
        return None
    return (
        [replace(each, count=n) for each, n in zip(classes, engines, strict=True)],
        [replace(kind, count=max(n, 0)) for kind, n in zip(kinds, gpus, strict=True)],
    )


def _solver() -> _Highs:
    solver = _Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    return solver


def fits(each: Class, kind: Kind) -> bool:
    """This will say whether an engine of this class can be on a GPU of this kind at all."""
    allowed = each.kinds is None or kind.name in each.kinds
    return (
        allowed and each.memory_bytes <= kind.memory_bytes and each.compute <= kind.compute
        and (each.apart is None or each.apart not in kind.closed)
    )  # fmt: skip


def _single(classes: Sequence[Class], kinds: Sequence[Kind]) -> list[Pattern]:
    """This will give as many engines of one class as fit, for each class and kind."""
    out = []
    for place, each in enumerate(classes):
        for number, kind in enumerate(kinds):
            if fits(each, kind):
                limits = [each.count, 1 if each.apart is not None else each.count]
                if each.memory_bytes > 0:
                    limits.append(int(kind.memory_bytes / each.memory_bytes + 1e-9))
                if each.compute > 0:
                    limits.append(int(kind.compute / each.compute + 1e-9))
                counts = [0] * len(classes)
                counts[place] = max(min(limits), 1)
                out.append(Pattern(number, tuple(counts)))
    return out


class _Master:
    """Which ways, how often: each engine is somewhere, no kind is used more often than it is there."""

    def __init__(self, classes: Sequence[Class], kinds: Sequence[Kind], patterns: Sequence[Pattern]) -> None:
        self._classes, self._kinds, self._patterns = classes, kinds, patterns
        self._highs = _solver()
        rows = len(classes) + len(kinds)
        for each in classes:
            self._highs.addRow(float(each.count), highspy.kHighsInf, 0, np.array([], np.int32), np.array([]))
        for kind in kinds:
            self._highs.addRow(-highspy.kHighsInf, float(kind.count), 0, np.array([], np.int32), np.array([]))
        for pattern in patterns:
            at = [place for place, count in enumerate(pattern.counts) if count]
            index = np.array([*at, len(classes) + pattern.kind], np.int32)
            value = np.array([*(float(pattern.counts[place]) for place in at), 1.0])
            cost = kinds[pattern.kind].usd_per_hour
            self._highs.addCol(cost, 0.0, float(kinds[pattern.kind].count), len(index), index, value)
        for place, each in enumerate(classes):
            self._highs.addCol(UNPLACED_USD, 0.0, float(each.count), 1, np.array([place], np.int32), np.array([1.0]))
        assert rows == self._highs.getNumRow()

    def relaxed(self) -> tuple[float, Prices, Prices, float]:
        """This will give the value of the linear programme, its prices of classes and kinds, and its seconds."""
        self._highs.run()
        duals = np.array(self._highs.getSolution().row_dual)
        count = len(self._classes)
        value = float(self._highs.getInfo().objective_function_value)
        return value, duals[:count], duals[count:], float(self._highs.getRunTime())

    def used(self) -> Sequence[float]:
        """This will say how often the linear programme uses each way."""
        return list(self._highs.getSolution().col_value[: len(self._patterns)])

    def whole(self, *, seconds: float) -> tuple[list[tuple[Pattern, int]], int]:
        """This will give whole numbers of each way, and how many engines are left out."""
        total = len(self._patterns) + len(self._classes)
        for column in range(total):
            self._highs.changeColIntegrality(column, highspy.HighsVarType.kInteger)
        self._highs.setOptionValue("time_limit", float(self._highs.getRunTime()) + seconds)
        self._highs.setOptionValue("mip_rel_gap", GAP)
        self._highs.run()
        values = [round(v) for v in self._highs.getSolution().col_value[:total]]
        if len(values) < total:
            return [], sum(each.count for each in self._classes)
        used = [(p, n) for p, n in zip(self._patterns, values, strict=False) if n > 0]
        return used, sum(values[len(self._patterns) :])


def _greedy(
    classes: Sequence[Class], kinds: Sequence[Kind], of_class: Prices, of_kind: Prices
) -> list[Pattern]:  # fmt: skip
    """This will fill a GPU of each kind by what is worth most for its size, sizes being seen in several ways."""
    out = []
    for number, kind in enumerate(kinds):
        usable = [place for place, each in enumerate(classes) if of_class[place] > FREE and fits(each, kind)]
        sizes = {
            place: (classes[place].memory_bytes / kind.memory_bytes, classes[place].compute / kind.compute)
            for place in usable
        }
        tried = set()
        for memory_counts in (0.0, 0.25, 0.5, 0.75, 1.0):
            weight = {p: memory_counts * m + (1.0 - memory_counts) * c + 1e-9 for p, (m, c) in sizes.items()}
            counts = _filled(classes, sorted(usable, key=lambda p: -of_class[p] / weight[p]), sizes)
            worth = sum(float(of_class[place]) * counts[place] for place in usable)
            if counts not in tried and kind.usd_per_hour - worth - float(of_kind[number]) < -FREE:
                out.append(Pattern(number, counts))
            tried.add(counts)
    return out


def _filled(
    classes: Sequence[Class], order: Sequence[int], sizes: Mapping[int, tuple[float, float]]
) -> tuple[int, ...]:  # fmt: skip
    counts = [0] * len(classes)
    memory = compute = 1.0
    words: set[str] = set()
    for place in order:
        each, (m, c) = classes[place], sizes[place]
        if each.apart is not None and each.apart in words:
            continue
        most = 1 if each.apart is not None else each.count
        by_memory = int(memory / m) if m > 0 else most
        by_compute = int(compute / c) if c > 0 else most
        count = max(min(most, by_memory, by_compute), 0)
        if count:
            counts[place] = count
            memory, compute = memory - count * m, compute - count * c
            words |= {each.apart} if each.apart is not None else set()
    return tuple(counts)


def _priced(
    classes: Sequence[Class], kinds: Sequence[Kind], of_class: Prices, of_kind: Prices
) -> tuple[list[Pattern], float, float]:
    """This will give the way that gains most for each kind, what all of them could gain together, and the seconds."""
    found, slack, spent = [], 0.0, 0.0
    known: dict[tuple[object, ...], tuple[tuple[int, ...], float]] = {}
    for number, kind in enumerate(kinds):
        key = (kind.name, kind.memory_bytes, kind.compute, kind.closed)
        if key not in known:
            counts, worth, took = _knapsack(classes, kind, of_class)
            known[key] = (counts, worth)
            spent += took
        counts, worth = known[key]
        reduced = kind.usd_per_hour - worth - float(of_kind[number])
        if reduced < -FREE:
            found.append(Pattern(number, counts))
            slack += kind.count * reduced
    return found, slack, spent


def _knapsack(classes: Sequence[Class], kind: Kind, worth: Prices) -> tuple[tuple[int, ...], float, float]:
    """This will fill one GPU with what is worth most."""
    usable = [place for place, each in enumerate(classes) if worth[place] > FREE and fits(each, kind)]
    if not usable:
        return (0,) * len(classes), 0.0, 0.0
    highs = _solver()
    words = sorted({each.apart for place in usable if (each := classes[place]).apart is not None})
    nothing = (np.array([], np.int32), np.array([]))
    highs.addRow(-highspy.kHighsInf, 1.0, 0, *nothing)
    highs.addRow(-highspy.kHighsInf, 1.0, 0, *nothing)
    for _ in words:
        highs.addRow(-highspy.kHighsInf, 1.0, 0, *nothing)
    for column, place in enumerate(usable):
        each = classes[place]
        index, value = [0, 1], [each.memory_bytes / kind.memory_bytes, each.compute / kind.compute]
        if each.apart is not None:
            index.append(2 + words.index(each.apart))
            value.append(1.0)
        highs.addCol(
            -float(worth[place]), 0.0, float(each.count), len(index), np.array(index, np.int32), np.array(value)
        )
        highs.changeColIntegrality(column, highspy.HighsVarType.kInteger)
    highs.run()
    counts = [0] * len(classes)
    for column, place in enumerate(usable):
        counts[place] = round(highs.getSolution().col_value[column])
    gained = sum(float(worth[place]) * counts[place] for place in usable)
    return tuple(counts), gained, float(highs.getRunTime())


def room(memory_bytes: float, compute: float) -> tuple[float, float]:
    """This will give what of a GPU may be filled."""
    return memory_bytes * MOST_MEMORY, compute * MOST_COMPUTE
