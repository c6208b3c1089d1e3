"""Nobody waits for somebody else's flood: turns by bytes, order within a stream, nothing lost and nothing twice."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.ingest.fair import FairQueue

QUANTUM = 100
NODES = st.integers(0, 4)
SIZES = st.integers(0, 350)
# (node, size, backlog) of a put, or how much to take.
STEPS = st.lists(
    st.one_of(st.tuples(NODES, SIZES, st.booleans()), st.tuples(st.integers(1, 1000), st.integers(1, 20))), max_size=80
)


@settings(deadline=None)
@given(STEPS)
def test_everything_comes_out_once_and_each_stream_in_its_order(steps: list[tuple[int, ...]]) -> None:
    queue: FairQueue[tuple[int, bool, int]] = FairQueue(QUANTUM)
    put: dict[tuple[int, bool], list[int]] = defaultdict(list)
    out: dict[tuple[int, bool], list[int]] = defaultdict(list)

    def note(taken: list[tuple[int, bool, int]]) -> None:
        for node, backlog, number in taken:
            out[node, backlog].append(number)

    for number, step in enumerate(steps):
        if len(step) == 3:
            node, size, backlog = step[0], step[1], bool(step[2])
            queue.put(node, (node, backlog, number), size_bytes=size, backlog=backlog)
            put[node, backlog].append(number)
        else:
            taken = queue.take(most_bytes=step[0], most_items=step[1])
            assert len(taken) <= step[1]
            note(taken)
        assert len(queue) == sum(map(len, put.values())) - sum(map(len, out.values()))
    while len(queue):
        taken = queue.take(most_bytes=1, most_items=1)
        assert len(taken) == 1, "something is taken as long as something waits"
        note(taken)
    assert out == put


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 350), min_size=1, max_size=60), min_size=2, max_size=5), st.integers(50, 3000))
def test_while_two_nodes_wait_neither_gets_more_than_a_quantum_and_an_item_ahead(
    sizes: list[list[int]], budget: int
) -> None:
    queue: FairQueue[tuple[int, int]] = FairQueue(QUANTUM)
    left = {node: sum(items) for node, items in enumerate(sizes)}
    for node, items in enumerate(sizes):
        for size in items:
            queue.put(node, (node, size), size_bytes=size)
    served = dict.fromkeys(left, 0)
    while len(queue):
        for node, size in queue.take(most_bytes=budget, most_items=1000):
            served[node] += size
            left[node] -= size
        waiting = [served[node] for node in served if left[node]]
        if len(waiting) > 1:
            assert max(waiting) - min(waiting) <= QUANTUM + 350


def test_a_flood_of_one_node_leaves_the_others_their_place_in_the_next_commit() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(10_000):
        queue.put(1, "flood", size_bytes=8192)
    for node in range(2, 102):
        queue.put(node, "tick", size_bytes=8192)
    taken = queue.take(most_bytes=2 * 1024 * 1024, most_items=4000)
    assert taken.count("tick") == 100


def test_live_goes_before_what_waited_through_an_outage() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put(1, "old", size_bytes=1, backlog=True)
    queue.put(1, "new", size_bytes=1)
    assert queue.take(most_bytes=100, most_items=10) == ["new", "old"]


def test_an_item_larger_than_many_quanta_comes_through() -> None:
    queue: FairQueue[str] = FairQueue(10)
    queue.put(1, "large", size_bytes=1_000_000)
    queue.put(2, "small", size_bytes=1)
    assert queue.take(most_bytes=1_000_000, most_items=10) == ["small", "large"]
