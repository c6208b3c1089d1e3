"""The account of one fault: each tick that an agent took, and what became of it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from benchmarks.ledger import Number, Taken

# A row has the node's own stamp where its clock is right, and one that was mapped by its monotonic clock where it is
# not: a few ms off. Ticks are half a second apart or more.
SAME_TICK_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of the ticks. `neither` and `both` must be 0."""

    sampled: int
    committed: int
    lost: int
    neither: int  # nobody knows of them
    both: int  # stored twice, stored and reported lost, or a row that no agent sampled


def account(ticks: Sequence[Taken], rows: Sequence[float], lost: Collection[Number]) -> Account:
    """This will find each row's tick by its time and each loss's by its number. `rows` are wall times."""
    ordered = sorted(ticks, key=lambda tick: tick.at)
    stored, strangers = _matched([tick.at for tick in ordered], sorted(rows))
    told = set(lost)
    sampled = [
        (index in stored, tick.number in told)
        for index, tick in enumerate(ordered)
        if tick.number is not None or index in stored
    ]
    numbered = {tick.number for tick in ticks}
    unnumbered = sum(tick.number is None and index not in stored for index, tick in enumerate(ordered))
    # A number that was given in the moment of the kill may be told as lost by the gap that it left.
    unknown = max(0, len(told - numbered) - unnumbered)
    also_lost = len(told - numbered) - unknown
    return Account(
        sampled=len(sampled) + also_lost,
        committed=len(rows),
        lost=len(told),
        neither=sum(not is_stored and not is_told for is_stored, is_told in sampled),
        both=sum(is_stored and is_told for is_stored, is_told in sampled) + strangers + unknown,
    )


def _matched(ticks: Sequence[float], rows: Sequence[float]) -> tuple[set[int], int]:
    """This will give which ticks have a row, and how many rows have none left."""
    stored: set[int] = set()
    strangers = 0
    for row in rows:
        after = bisect_left(ticks, row)
        near = [i for i in (after - 1, after) if 0 <= i < len(ticks) and abs(ticks[i] - row) <= SAME_TICK_SECONDS]
        free = [i for i in near if i not in stored]
        if free:
            stored.add(min(free, key=lambda i: abs(ticks[i] - row)))
        else:
            strangers += 1
    return stored, strangers
