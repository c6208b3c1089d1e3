"""A world in which rollouts happen, in virtual time, and everything goes wrong that a seed says goes wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from control_plane.model.errors import LeaseLost
from control_plane.model.rollout import (
    WHOLE,
    Command,
    Effect,
    Intent,
    Note,
    Observed,
    Plan,
    Rollout,
    State,
    Strategy,
)  # fmt: skip
from control_plane.rollouts import machine
from control_plane.rollouts.actuators.base import Refused, Stale, Unreachable
from control_plane.rollouts.freezing import FreezeWindow
from control_plane.rollouts.running import Runner, Totals
from control_plane.workflows.guarding import CandidateGuard

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
REQUESTS_PER_SECOND = 40.0
# Whatever happens, a rollout has ended after this time, or waits for a person who does not come.
MOST_SECONDS = 8 * 3600.0


class Crash(BaseException):
    """The process that drives a rollout is gone, in the middle of whatever it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What goes wrong in one world, drawn from its seed."""

    lost: float = 0.0  # share of calls that never arrive, though it looks as if they might have
    unanswered: float = 0.0  # share of calls that are done, and never answered
    slow: float = 0.0  # share of calls that are done half a minute later
    lies: float = 0.0  # share of calls that say that they are done, and are not
    blind: float = 0.0  # share of looks that fail
    crashes: float = 0.0  # share of moments at which the driver dies
    zombies: float = 0.0  # share of turns in which another replica has driven meanwhile
    candidate_bad: float = 0.01
    stable_bad: float = 0.01
    loads: bool = True  # the candidate becomes ready
    dies_after: float | None = None  # seconds after which the candidate's replicas are gone
    handled_after: float | None = None  # seconds after which somebody sets the share by hand
    outage: tuple[float, float] = (0.0, 0.0)  # from, until: nothing answers
    lying_router: bool = False  # sends four times what it says

    @property
    def good(self) -> bool:
        """Nothing speaks against this candidate, and nobody meddles."""
        return (
            self.candidate_bad <= self.stable_bad and self.loads and self.dies_after is None
            and self.handled_after is None and not self.lying_router and self.outage[1] - self.outage[0] < 200
        )  # fmt: skip


def drawn_fate(chance: random.Random) -> Fate:
    """This will draw what goes wrong: in most worlds something, in some everything."""
    nasty = chance.choice((0.0, 0.02, 0.1, 0.25))
    began = chance.uniform(0, 600)
    return Fate(
        lost=nasty * chance.random(), unanswered=nasty * chance.random(), slow=nasty * chance.random(),
        lies=nasty * chance.random(), blind=nasty * chance.random(), crashes=nasty * chance.random() / 2,
        zombies=nasty * chance.random() / 2, candidate_bad=chance.choice((0.01, 0.01, 0.01, 0.3, 0.6, 1.0)),
        loads=chance.random() > 0.05, dies_after=chance.uniform(10, 900) if chance.random() < 0.15 else None,
        handled_after=chance.uniform(10, 900) if chance.random() < 0.1 else None,
        outage=(began, began + chance.uniform(0, 900)) if chance.random() < 0.15 else (0.0, 0.0),
        lying_router=chance.random() < 0.05,
    )  # fmt: skip


def drawn_plan(chance: random.Random) -> Plan:
    strategy = chance.choice(list(Strategy))
    shares = {
        Strategy.CANARY: (500, 2500, 5000, WHOLE), Strategy.AB: (5000, WHOLE), Strategy.BLUE_GREEN: (WHOLE,),
    }[strategy]  # fmt: skip
    return Plan(
        strategy=strategy, shares=shares, replicas=chance.choice((1, 2, 8)), least_seconds=60, most_seconds=300,
        least_requests=50, ready_seconds=200, warm_seconds=60, bake_seconds=60, drain_seconds=40,
        approve_before=(chance.choice(shares),) if chance.random() < 0.2 else (),
    )  # fmt: skip


@dataclass(slots=True)
class Clock:
    """The virtual loop's time."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass(slots=True)
class MemoryStore:
    """Rollouts in memory, with the promises of the real store."""

    rollout: Rollout
    version: int = 1
    due_at: datetime = START
    notes: list[Note] = field(default_factory=list)
    intents: dict[str, Intent] = field(default_factory=dict)

    async def commit(
        self, rollout: Rollout, version: int, notes: Sequence[Note], *, due_at: datetime | None, now: datetime
    ) -> int:
        if version != self.version:
            raise LeaseLost("another replica has driven this rollout")
        assert due_at is not None
        self.rollout, self.version, self.due_at = rollout, version + 1, due_at
        self.notes += notes
        if rollout.intent is not None:
            self.intents[rollout.intent.key] = rollout.intent
        return self.version

    async def remark(self, rollout_id: str, note: Note) -> None:
        self.notes.append(note)


@dataclass(slots=True)
class World:
    """Servers, a router and requests. It checks at every change that nothing happens which must not."""

    fate: Fate
    plan: Plan
    chance: random.Random
    store: MemoryStore
    share: int = 0
    candidate: list[float] = field(default_factory=list)  # when each replica is ready
    dead: bool = False
    stable: int = 0
    handled: bool = False
    share_changed_at: float = 0.0
    counted_at: float = 0.0
    counts: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    effects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stable = self.plan.replicas

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def _pass_time(self) -> None:
        """Requests end; replicas die; people meddle."""
        now, fate = self.now(), self.fate
        self._count(now)
        if fate.dies_after is not None and now > fate.dies_after and not self.dead:
            self.dead, self.candidate = True, []
        if fate.handled_after is not None and now > fate.handled_after and not self.handled:
            state = self.store.rollout.state
            if state in (*machine.FORWARD, *machine.WAITING) and state is not State.RETIRING:
                self.handled = True
                self.share, self.share_changed_at = self.chance.choice((0, 1234, 7777)), now

    def _count(self, now: float) -> None:
        requests = (now - self.counted_at) * REQUESTS_PER_SECOND
        self.counted_at = now
        real = min(WHOLE, self.share * (4 if self.fate.lying_router else 1)) / WHOLE
        if not self.ready():
            real = 0.0  # the router goes round servers that are not there
        for side, share, bad in ((0, real, self.fate.candidate_bad), (2, 1 - real, self.fate.stable_bad)):
            ended = self._about(requests * share)
            failed = self._about(ended * bad)
            self.counts[side] += max(0.0, ended - failed)
            self.counts[side + 1] += min(ended, failed)

    def _about(self, mean: float) -> float:
        """A whole number of requests: Poisson, and normal where that is the same."""
        return float(max(0, round(self.chance.gauss(mean, mean**0.5)))) if mean > 30 else float(self._few(mean))

    def _few(self, mean: float) -> int:
        count, left = 0, mean
        while left > 0 and (gap := self.chance.expovariate(1.0)) <= left:
            count, left = count + 1, left - gap
        return count

    def ready(self) -> int:
        return sum(at <= self.now() for at in self.candidate)

    def observed(self) -> Observed:
        self._pass_time()
        streaming = self.share > 0 or self.now() - self.share_changed_at < 20
        return Observed(
            share=self.share, candidate_ready=self.ready(), candidate_running=len(self.candidate),
            candidate_in_flight=7 if streaming and self.ready() else 0, stable_ready=self.stable,
            stable_running=self.stable,
        )  # fmt: skip

    def apply(self, intent: Intent, expected: int | None) -> None:
        """Something changes."""
        self._pass_time()
        rollout = self.store.rollout
        assert intent.key in self.store.intents, f"{intent.key} was never stored"
        self.effects.append(intent.key)
        match intent.effect:
            case Effect.ENSURE_CANDIDATE:
                if not self.dead:
                    load = self.chance.uniform(5, 60) if self.fate.loads else 1e9
                    self.candidate += [self.now() + load] * (intent.value - len(self.candidate))
            case Effect.SET_SHARE:
                if expected is not None and expected != self.share:
                    raise Stale("the share has changed")
                self._check_share(intent.value, rollout)
                self.share, self.share_changed_at = intent.value, self.now()
            case Effect.RETIRE_STABLE:
                assert rollout.state in (State.RETIRING, State.SUCCEEDED), "the stable version goes last"
                self.stable = 0
            case Effect.REMOVE_CANDIDATE:
                assert self.share == 0, "a candidate with traffic is never removed"
                assert rollout.state in (State.REMOVING, State.ROLLED_BACK)
                drained = self.now() - self.share_changed_at
                assert drained >= min(20, self.plan.drain_seconds) or self.handled or not self.ready(), (
                    "streams were cut"
                )
                self.candidate = []

    def _check_share(self, share: int, rollout: Rollout) -> None:
        if share > self.share and not self.handled:
            assert rollout.state in machine.FORWARD, f"the candidate gets more while the rollout is {rollout.state}"
        assert share <= self.plan.shares[rollout.step], "never more than the step allows"
        if share > 0:
            assert self.stable == self.plan.replicas, "the stable version is whole while the candidate is on trial"


@dataclass(slots=True)
class Network:
    """Between a driver and the world: it loses, delays and lies, and drivers die on it."""

    world: World
    late: list[asyncio.Task[None]] = field(default_factory=list)

    def _die(self) -> None:
        if self.world.chance.random() < self.world.fate.crashes:
            raise Crash

    def _away(self) -> bool:
        return self.world.fate.outage[0] <= self.world.now() < self.world.fate.outage[1]

    async def preflight(self, plan: Plan) -> Sequence[str]:
        return ()

    async def observe(self) -> Observed:
        self._die()
        if self._away() or self.world.chance.random() < self.world.fate.blind:
            raise Unreachable("no answer")
        return self.world.observed()

    async def carry_out(self, intent: Intent, *, seen: Observed | None) -> None:
        self._die()
        fate, luck = self.world.fate, self.world.chance.random()
        if self._away():
            raise Unreachable("no answer")
        expected = None if seen is None else seen.share
        for share, what in ((fate.lost, "lost"), (fate.lies, "lie"), (fate.slow, "slow"), (fate.unanswered, "mute")):
            if luck < share:
                await self._badly(what, intent, expected)
                return
            luck -= share
        self.world.apply(intent, expected)
        self._die()

    async def _badly(self, what: str, intent: Intent, expected: int | None) -> None:
        if what == "lie":
            return
        if what == "slow" and intent.effect is Effect.SET_SHARE:
            self.late.append(asyncio.get_running_loop().create_task(self._later(intent, expected)))
        elif what == "mute":
            self.world.apply(intent, expected)
        await asyncio.sleep(3600)  # the driver's patience ends before

    async def _later(self, intent: Intent, expected: int | None) -> None:
        await asyncio.sleep(30)
        if expected is None and self.world.share == 0:
            return
        try:
            self.world.apply(intent, expected)
        except (Stale, Refused):
            return

    async def totals(self, target: str) -> Totals | None:
        self._die()
        if self._away():
            raise Unreachable("no answer")
        self.world._pass_time()
        good, bad, stable_good, stable_bad = self.world.counts
        return Totals(candidate_good=good, candidate_bad=bad, stable_good=stable_good, stable_bad=stable_bad)

    async def warm(self, target: str) -> bool:
        self._die()
        return self.world.ready() > 0


@dataclass(slots=True)
class Driver:
    """Processes that drive the rollout one after the other, and the person who is asked."""

    world: World
    network: Network
    store: MemoryStore
    waited: int = 0
    freezes: Sequence[FreezeWindow] = ()

    def _runner(self) -> Runner:
        return Runner(
            store=self.store, actuator=self.network, traffic=self.network, guard=CandidateGuard(), probe=self.network,
            clock=Clock(), freezes=self.freezes,
        )  # fmt: skip

    async def drive(self) -> Rollout:
        runner = self._runner()
        while self.store.rollout.state not in machine.ENDED:
            assert self.world.now() < MOST_SECONDS, f"it has not ended: {self.store.rollout}"
            try:
                rollout, version = self.store.rollout, self.store.version
                if self.world.chance.random() < self.world.fate.zombies:
                    self.store.version += 1  # another replica stores something while this one thinks
                await runner.turn(rollout, version)
                wake = (self.store.due_at - runner.clock.now()).total_seconds()
            except Crash:
                runner, wake = self._runner(), self.world.chance.uniform(0, 20)
            except LeaseLost:
                wake = 1.0
            self._ask_person()
            await asyncio.sleep(max(0.0, wake))
        for task in self.network.late:
            task.cancel()
        return self.store.rollout

    def _ask_person(self) -> None:
        """A person looks after what waits, a minute later and not always wisely."""
        rollout, chance = self.store.rollout, self.world.chance
        if rollout.state not in (*machine.WAITING, State.NEEDS_HUMAN, State.TAKEN_OVER) or chance.random() > 0.1:
            return
        self.waited += 1
        wishes = [Command.APPROVE, Command.RESUME] if self.waited < 6 else [Command.ROLL_BACK]
        self.store.rollout = _with_command(rollout, chance.choice([*wishes, Command.ROLL_BACK]))
        self.store.version += 1


def _with_command(rollout: Rollout, command: Command) -> Rollout:
    return replace(rollout, command=command, commanded_by="somebody")


def new_rollout(plan: Plan, memory: Mapping[str, object] | None = None) -> Rollout:
    return Rollout(rollout_id="r", target="t", plan=plan, state=State.PENDING, since=START, guard=memory)
