"""Whose turn it is when more has arrived than one commit takes: deficit round robin by bytes. No I/O.

M. Shreedhar and G. Varghese, "Efficient Fair Queueing using Deficit Round Robin", SIGCOMM 1995. Each node with
something waiting gets a quantum of bytes a round and saves what it could not use, so over any stretch of time two
nodes that both have enough waiting differ by less than a quantum and one item, however large one's items are and
however many it sends. Within a node what is live goes before what waited through an outage, and each stream keeps
its order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

# Several ticks of a host with eight GPUs: a node that is not behind is served whole in one round.
QUANTUM_BYTES = 64 * 1024


@dataclass(slots=True)
class _Lane(Generic[Item]):
    """What waits of one node."""

    live: deque[tuple[int, Item]] = field(default_factory=deque)
    backlog: deque[tuple[int, Item]] = field(default_factory=deque)
    deficit: int = 0  # bytes it may still take
    in_turn: bool = False  # its quantum of this round is in the deficit

    def waiting(self) -> deque[tuple[int, Item]]:
        return self.live or self.backlog


class FairQueue(Generic[Item]):
    """Items by node, taken in turns."""

    def __init__(self, quantum_bytes: int = QUANTUM_BYTES) -> None:
        """`quantum_bytes` is what a node gets in each round."""
        self._quantum = quantum_bytes
        self._lanes: dict[int, _Lane[Item]] = {}  # only nodes with something waiting
        self._turns: deque[int] = deque()  # the same nodes; the first is served next
        self._count = self._bytes = 0

    def __len__(self) -> int:
        return self._count

    def put(self, node_id: int, item: Item, *, size_bytes: int, backlog: bool = False) -> None:
        """This will let an item wait behind those of its stream."""
        lane = self._lanes.get(node_id)
        if lane is None:
            lane = self._lanes[node_id] = _Lane()
            self._turns.append(node_id)
        (lane.backlog if backlog else lane.live).append((size_bytes, item))
        self._count += 1
        self._bytes += size_bytes

    def take(self, *, most_bytes: int, most_items: int) -> list[Item]:
        """This will take what comes next. The last item may go over `most_bytes`."""
        if self._bytes <= most_bytes and self._count <= most_items:
            return self._all()
        taken: list[Item] = []
        left = most_bytes
        while self._turns and left > 0 and len(taken) < most_items:
            lane = self._lanes[self._turns[0]]
            if not lane.in_turn:
                lane.deficit += self._quantum
                lane.in_turn = True
            while (
                (waiting := lane.waiting()) and waiting[0][0] <= lane.deficit and left > 0 and len(taken) < most_items
            ):
                size_bytes, item = waiting.popleft()
                taken.append(item)
                lane.deficit -= size_bytes
                left -= size_bytes
            self._next_turn(lane)
        self._count -= len(taken)
        self._bytes -= most_bytes - left
        return taken

    def _all(self) -> list[Item]:
        """This will take everything: nobody has to wait for anybody."""
        lanes = self._lanes.values()
        taken = [item for lane in lanes for waiting in (lane.live, lane.backlog) for _, item in waiting]
        self._lanes.clear()
        self._turns.clear()
        self._count = self._bytes = 0
        return taken

    def _next_turn(self, lane: _Lane[Item]) -> None:
        """This will pass the turn on, unless only the commit is full."""
        waiting = lane.waiting()
        if not waiting:
            del self._lanes[self._turns.popleft()]  # who has nothing waiting saves nothing
        elif waiting[0][0] > lane.deficit:
            lane.in_turn = False
            self._turns.rotate(-1)
