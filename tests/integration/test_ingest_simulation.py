"""Everything at once, by a seed: sends, resends, drops, reconnects, lies about the time, crashes of either side.

At the end each tick that was taken is either stored once or told as lost, and nothing else is stored.
"""

from __future__ import annotations

import asyncio
import math
import random
import struct
from collections import deque
from contextlib import AsyncExitStack

import pytest

from control_plane.ingest import writer
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.ingest import ControlPlane, RawAgent, Store, until
from tests.support.streams import F32, F64, RawStream, raw_entity, raw_schema, unix_us

STEPS = 60
EPOCH = b"simulated--epoch"


class SimulatedAgent:
    """An agent as the protocol allows it to be: it forgets some ticks, and sends the rest as often as it likes."""

    def __init__(self, chance: random.Random, planes: list[ControlPlane], clock: FakeClock) -> None:
        self.chance = chance
        self.planes = planes
        self.clock = clock
        self.node = FakeNodeClock(clock, ahead_seconds=chance.choice((0.0, 0.0, 7200.0, -7200.0)))
        self.taken: dict[int, float] = {}  # number → what a stored row must show; NaN: unknown
        self.kept: deque[telemetry_pb2.Batch] = deque()
        self.lost: set[int] = set()
        self.link: RawAgent | None = None
        self.stack = AsyncExitStack()

    async def connect(self) -> None:
        await self.disconnect()
        for _ in range(200):
            link = await self.stack.enter_async_context(
                RawAgent(self.chance.choice(self.planes), self.clock, epoch=EPOCH, node=self.node)
            )
            answer = await link.ask(hello=link.hello())
            if answer.WhichOneof("body") == "welcome":
                break
            await self.disconnect()  # Postgres was just cut off: come back
        self.link = link
        self.committed(answer.welcome.committed_seq)
        await link.send(
            announce=link_pb2.Announce(
                schemas=[raw_schema(3, "gpu", [("energy_joules_total", F64, 1), ("power_draw_watts", F32, 1)])],
                entities=[raw_entity(2, telemetry_pb2.ENTITY_KIND_GPU, "GPU-0")],
            )
        )

    async def disconnect(self) -> None:
        await self.stack.aclose()
        self.link = None

    def committed(self, seq: int) -> None:
        while self.kept and self.kept[0].seq <= seq:
            self.kept.popleft()

    def sample(self) -> None:
        self.clock.advance(self.chance.uniform(0.5, 10))
        seq = len(self.taken) + 1
        watts = self.chance.choice((100.0, 100.0, math.nan, -7.0))
        self.taken[seq] = watts if watts > 0 else math.nan
        row = struct.pack("<Idf", 2, float(seq), watts)
        self.kept.append(telemetry_pb2.Batch(seq=seq, ticks=[RawStream(self.node).tick([(3, row)])]))

    def drop_oldest(self) -> None:
        for _ in range(self.chance.randint(1, 4)):
            if len(self.kept) > 1:
                self.lost.add(self.kept.popleft().seq)

    async def send(self, *, all_of_it: bool = False) -> None:
        """Losses before the first kept batch, then batches from the first on; some of them twice."""
        if self.link is None or not self.kept:
            return
        first = self.kept[0].seq
        if self.lost and min(self.lost) < first:
            told = sorted(s for s in self.lost if s < first)
            at = unix_us(self.node)
            await self.link.send(
                loss=link_pb2.Loss(
                    first_seq=told[0], last_seq=first - 1, first_taken_at_unix_us=at, last_taken_at_unix_us=at,
                    tick_count=first - told[0], reason="full",
                )
            )  # fmt: skip
        batches = list(self.kept) if all_of_it else list(self.kept)[: self.chance.randint(1, 8)]
        for batch in batches:
            for _ in range(self.chance.choice((1, 1, 1, 2))):
                await self.link.send(batch=batch)

    async def hear(self) -> None:
        """What has been acknowledged may be forgotten."""
        if self.link is not None:
            await self.link.settled()
            self.committed(self.link.acked_seq)


async def _step(agent: SimulatedAgent, store: Store, chance: random.Random) -> None:
    match chance.choice(
        ("sample",) * 6 + ("send",) * 4 + ("hear",) * 3 + ("connect", "drop", "jump", "ours", "cut", "crash")
    ):
        case "sample":
            agent.sample()
        case "send":
            await agent.send()
        case "hear":
            await agent.hear()
        case "connect":
            await agent.connect()
        case "drop":
            agent.drop_oldest()
        case "jump":
            agent.node.jump(chance.uniform(-20_000, 20_000))
        case "ours":
            agent.clock.jump(chance.uniform(-2000, 2000))
        case "cut":
            store.end_connections()
        case "crash":
            plane = chance.choice(agent.planes)
            await agent.disconnect()
            await plane.crash()
            await plane.start()
            await agent.connect()


async def simulate(seed: int, url: str, clock: FakeClock) -> None:
    chance = random.Random(seed)
    store = Store(url)
    async with ControlPlane(url, clock) as one, ControlPlane(url, clock) as two:
        agent = SimulatedAgent(chance, [one, two], clock)
        try:
            await agent.connect()
            for _ in range(STEPS):
                await _step(agent, store, chance)
            agent.sample()  # so that the newest is kept, as a ring keeps it
            await agent.connect()
            await agent.send(all_of_it=True)
            assert agent.link is not None
            await agent.link.acked(len(agent.taken))
        finally:
            await agent.disconnect()
        await until(
            lambda: not one.service.counters.pending_bytes + two.service.counters.pending_bytes, "all is settled"
        )
    _check(agent, store)


def _check(agent: SimulatedAgent, store: Store) -> None:
    rows = store.rows("SELECT energy_joules_total, power_draw_watts FROM gpu_sample ORDER BY 1")
    stored = [int(seq) for seq, _ in rows]
    assert len(stored) == len(set(stored)), "nothing is stored twice"
    for seq, watts in rows:
        expected = agent.taken[int(seq)]
        assert watts == expected if not math.isnan(expected) else watts is None
    told = [
        seq
        for first, last in store.rows("SELECT first_seq, last_seq FROM sample_loss")
        for seq in range(first, last + 1)
    ]
    assert len(told) == len(set(told)), "nothing is told lost twice"
    assert not set(stored) & set(told), "what is stored is not lost"
    assert set(stored) | set(told) == set(agent.taken), "nothing is silently absent"
    assert set(told) <= agent.lost, "only what the agent dropped is lost"
    assert store.rows("SELECT * FROM ingest_refusal") == []
    ((ticks,),) = store.rows("SELECT coalesce(sum(tick_count), 0) FROM sample_loss")
    assert int(ticks) == len(told)
    newest = max(stored)
    assert store.one("SELECT count(*) FROM gpu_latest") == 1
    assert store.one("SELECT committed_seq FROM ingest_cursor") == len(agent.taken) >= newest


@pytest.fixture(autouse=True)
def _quick_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GATHER_SECONDS", 0.002)
    monkeypatch.setattr(writer, "RETRY_SECONDS", (0.01,))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_every_tick_is_stored_once_or_told_lost_whatever_happens(
    seed: int, database_url: str, clock: FakeClock
) -> None:
    async with asyncio.timeout(60):
        await simulate(seed, database_url, clock)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
async def test_every_tick_is_stored_once_or_told_lost_by_many_more_seeds(
    seed: int, database_url: str, clock: FakeClock
) -> None:
    async with asyncio.timeout(60):
        await simulate(seed, database_url, clock)
