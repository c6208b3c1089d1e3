"""Workflows on a real Postgres: each step once, whoever dies; nobody drives what another drives."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from control_plane.model.errors import Conflict, StorageUnavailable, UnknownResource
from control_plane.model.workflow import STEPS, WorkflowState
from control_plane.runtime.clock import SystemClock
from control_plane.storage import workflows
from control_plane.storage.session import Database
from control_plane.workflows.optimise_driver import WorkflowDriver
from tests.fakes.clock import FakeClock
from tests.support.workflow_process import SlowWork

ONE_LOOK = {"watch_seconds": 60.0, "watch_looks": 1}


async def begin(database: Database, name: str, clock: Any, **asked: Any) -> None:
    given = {"number": 7, **ONE_LOOK, **asked}
    await workflows.start(
        database.engine, workflow_id=name, graph_version=1, asked=given, recommendation_id=None, by="test",
        now=clock.now(),
    )  # fmt: skip


async def drive(driver: WorkflowDriver) -> None:
    while await driver.once():
        pass


async def steps_of(database: Database, name: str) -> list[str]:
    return [step.step for step in await workflows.steps(database.engine, name)]


@pytest.fixture
async def driver(database: Database, clock: FakeClock) -> AsyncIterator[WorkflowDriver]:
    """A driver whose work takes no time."""
    made = WorkflowDriver(database, clock, SlowWork(0.0))
    yield made
    await made.close()


async def test_a_workflow_waits_for_a_person_and_then_for_its_time(
    database: Database, clock: FakeClock, driver: WorkflowDriver
) -> None:
    await begin(database, "a", clock)
    await drive(driver)
    found = await workflows.get(database.engine, "a")
    assert (found.state, found.due_at, found.recommendation_id) == (WorkflowState.AWAITING_APPROVAL, None, 7)
    assert await steps_of(database, "a") == ["collect", "analyse", "find", "predict", "rank"]
    said = {"approved": True, "by": "ada"}
    await workflows.answer(database.engine, "a", said, only_in=[WorkflowState.AWAITING_APPROVAL], now=clock.now())
    await drive(driver)
    found = await workflows.get(database.engine, "a")
    assert (found.state, found.pending) == (WorkflowState.WATCHING, None)
    assert found.due_at is not None and (found.due_at - clock.now()).total_seconds() == 60.0
    assert not await driver.once()  # nothing is due
    clock.advance(61)
    await drive(driver)
    found = await workflows.get(database.engine, "a")
    assert (found.state, found.due_at) == (WorkflowState.DONE, None)
    assert await steps_of(database, "a") == [*STEPS[:7], "watch 1", "record"]
    with pytest.raises(Conflict):
        await workflows.answer(database.engine, "a", said, only_in=[WorkflowState.AWAITING_APPROVAL], now=clock.now())
    with pytest.raises(UnknownResource):
        await workflows.answer(database.engine, "b", said, only_in=[WorkflowState.AWAITING_APPROVAL], now=clock.now())


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"approved": False, "by": "ada"}, WorkflowState.REJECTED),
        ({"approved": False, "cancel": True, "by": "ada"}, WorkflowState.CANCELLED),
    ],
)
async def test_who_is_asked_may_say_no(
    database: Database, clock: FakeClock, driver: WorkflowDriver, answer: dict[str, Any], state: WorkflowState
) -> None:
    await begin(database, "a", clock)
    await drive(driver)
    await workflows.answer(database.engine, "a", answer, only_in=list(WorkflowState), now=clock.now())
    await drive(driver)
    found = await workflows.get(database.engine, "a")
    assert (found.state, found.because) == (state, f"{state} by ada")
    assert "execute" not in await steps_of(database, "a")


async def test_one_that_was_approved_before_does_not_ask_and_can_be_cancelled_while_it_watches(
    database: Database, clock: FakeClock, driver: WorkflowDriver
) -> None:
    await begin(database, "a", clock, approved={"approved": True, "by": "ada"}, watch_looks=50)
    await drive(driver)
    assert (await workflows.get(database.engine, "a")).state is WorkflowState.WATCHING
    said = {"cancel": True, "approved": False, "by": "bob"}
    await workflows.answer(database.engine, "a", said, only_in=list(WorkflowState), now=clock.now())
    await drive(driver)
    assert (await workflows.get(database.engine, "a")).state is WorkflowState.CANCELLED
    assert (await steps_of(database, "a"))[-1] == "record"


async def test_two_workflows_are_never_about_one_recommendation(
    database: Database, clock: FakeClock, driver: WorkflowDriver
) -> None:
    await begin(database, "a", clock)
    await begin(database, "b", clock)
    await drive(driver)
    states = {name: (await workflows.get(database.engine, name)).state for name in ("a", "b")}
    assert states["a"] is WorkflowState.AWAITING_APPROVAL
    for _ in range(5):
        clock.advance(11)
        await drive(driver)
    found = await workflows.get(database.engine, "b")
    assert (found.state, found.because) == (WorkflowState.FAILED, "another workflow is about recommendation 7")


async def test_one_that_is_driven_is_left_alone_and_one_that_hangs_is_cut_off(
    database: Database, clock: FakeClock, driver: WorkflowDriver
) -> None:
    await begin(database, "a", clock)
    other = await workflows.connect(database.url)
    claim = await workflows.claim(other, clock.now())
    assert claim is not None
    assert not await driver.once()
    mine = await workflows.connect(database.url)
    assert await workflows.cut_off(mine, clock.now()) == 0
    clock.advance(121)
    assert await workflows.cut_off(mine, clock.now()) == 1
    with pytest.raises(psycopg.OperationalError):  # it wakes up, and nothing that it writes arrives
        await claim.note("collect", {}, clock.now())
    await drive(driver)
    assert (await workflows.get(database.engine, "a")).state is WorkflowState.AWAITING_APPROVAL
    await mine.close()


async def test_without_a_database_it_says_so(clock: FakeClock) -> None:
    with pytest.raises(StorageUnavailable):
        await workflows.connect("postgresql://nobody@127.0.0.1:9/none")
    del clock


class Herd:
    """Processes that drive workflows, killed and frozen at random."""

    def __init__(self, url: str, count: int, seconds: float) -> None:
        self._command = [sys.executable, "-m", "tests.support.workflow_process", url, str(seconds)]
        self._dice = random.Random(5)
        self.running = [self._start() for _ in range(count)]
        self.killed = 0

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill_one(self) -> None:
        """This will kill one and start another in its place."""
        place = self._dice.randrange(len(self.running))
        self.running[place].send_signal(signal.SIGKILL)
        self.running[place].wait()
        self.running[place] = self._start()
        self.killed += 1

    def freeze_one(self) -> None:
        """This will stop one for a moment, in the middle of whatever it does."""
        frozen = self.running[self._dice.randrange(len(self.running))]
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        frozen.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """This will end all."""
        for process in self.running:
            process.kill()
            process.wait()


async def _through_kills(database: Database, *, count: int, replicas: int, most_kills: int, seconds: float) -> int:
    """This will run workflows while processes die, and check that each did each step once. Gives the kills."""
    clock = SystemClock()
    for number in range(count):
        approved = {"approved": True, "by": "test"}
        await begin(database, f"w{number}", clock, number=number, approved=approved, watch_seconds=0.05, watch_looks=2)
    herd = Herd(database.url, replicas, seconds)
    try:
        while True:
            await asyncio.sleep(1.0)
            left = [w for w in await workflows.find(database.engine, limit=1000) if w.ended_at is None]
            if not left:
                break
            if herd.killed < most_kills:
                await asyncio.to_thread(herd.freeze_one)
                herd.kill_one()
    finally:
        herd.end()
    for found in await workflows.find(database.engine, limit=1000):
        assert found.state is WorkflowState.DONE, found
        did = {step.step: step.detail for step in await workflows.steps(database.engine, found.workflow_id)}
        assert did.keys() == {*STEPS[:7], "watch 1", "watch 2", "record"}
        assert did["execute"] == {"did": found.recommendation_id}
    return herd.killed


@pytest.mark.slow
async def test_few_workflows_do_each_step_once_though_processes_die(database: Database) -> None:
    assert await _through_kills(database, count=6, replicas=2, most_kills=3, seconds=0.1) >= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_two_hundred_workflows_on_three_replicas_lose_and_double_nothing(database: Database) -> None:
    assert await _through_kills(database, count=200, replicas=3, most_kills=40, seconds=0.02) >= 10


async def test_a_driver_that_dies_in_a_step_is_followed_by_one_that_does_the_rest(
    database: Database, clock: FakeClock
) -> None:
    """Without processes: the connection is cut in the middle of a step, as the kernel does it for who dies."""

    class Dying(SlowWork):
        async def predict(self, found: list[int]) -> dict[str, Any]:
            """This will die."""
            await first.close()
            raise psycopg.OperationalError("gone")

    await begin(database, "a", clock)
    first = WorkflowDriver(database, clock, Dying(0.0))
    with pytest.raises(psycopg.OperationalError):
        await first.once()
    assert await steps_of(database, "a") == ["collect", "analyse", "find"]
    second = WorkflowDriver(database, clock, SlowWork(0.0))
    await drive(second)
    assert await steps_of(database, "a") == ["collect", "analyse", "find", "predict", "rank"]
    await second.close()
