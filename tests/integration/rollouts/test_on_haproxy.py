"""Rollouts for real: HAProxy, servers in processes, Postgres, and users who stream and count every token."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from control_plane.model.errors import Conflict, LeaseLost
from control_plane.model.rollout import WHOLE, Command, Effect, Event, State
from control_plane.rollouts.actuators.haproxy_socket import AdminSocket
from control_plane.trials.load.records import Outcome
from tests.support.haproxy import NEEDED
from tests.support.rollout_stage import CLOCK, OUTPUT_TOKENS, Stage, runner, stage
from tests.support.unhurried import Unhurried

pytestmark = [NEEDED, pytest.mark.slow, pytest.mark.timeout(300)]
RATE = 30.0


@pytest.fixture
async def on(tmp_path: Path, database_url: str) -> AsyncIterator[Stage]:
    """Everything, before anybody asks for anything."""
    async with stage(tmp_path, database_url) as made:
        yield made


@asynccontextmanager
async def driven(on: Stage) -> AsyncIterator[None]:
    """A driver in this process."""
    unhurried = Unhurried(on.store)
    driver = on.driver()
    driver.store = unhurried  # type: ignore[assignment]
    driver.runner_for = lambda stored: runner(unhurried, dict(stored.settings))  # type: ignore[arg-type]
    task = asyncio.get_running_loop().create_task(driver.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await unhurried.ended()


def complete(on: Stage) -> None:
    """Every user got every token."""
    outcomes = Counter(r.outcome for r in on.run.records)
    assert set(outcomes) == {Outcome.COMPLETED}, (outcomes, [r.detail for r in on.run.records if r.detail][:5])
    assert {r.output_tokens for r in on.run.records} == {OUTPUT_TOKENS}


async def test_a_good_change_is_promoted_and_no_user_loses_a_token(on: Stage) -> None:
    await on.start()
    async with on.users(RATE), driven(on):
        stored = await on.until(State.SUCCEEDED, State.ROLLED_BACK, State.PAUSED)
    assert stored.rollout.state is State.SUCCEEDED, stored.rollout.because
    complete(on)
    events = [note.event for note in await on.notes()]
    assert events.count(Event.SHIFTED) == 3
    intents = await on.store.intents("r1")
    assert [i.value for i in intents if i.effect is Effect.SET_SHARE] == [2500, 5000, WHOLE]
    assert on.haproxy.map_file.read_text().split()[-2:] == ["tiny", str(WHOLE)]


async def test_a_change_that_makes_it_slower_is_rolled_back_and_no_stream_is_cut(on: Stage) -> None:
    await asyncio.to_thread(on.green.behave, prefill_seconds=1.5)
    await on.start()
    async with on.users(RATE), driven(on):
        stored = await on.until(State.ROLLED_BACK, State.SUCCEEDED)
    assert stored.rollout.state is State.ROLLED_BACK
    complete(on)
    notes = await on.notes()
    assert any(n.event == Event.VIOLATION for n in notes)
    assert on.haproxy.map_file.read_text().split()[-2:] == ["tiny", "0"]


async def test_a_change_that_hangs_is_rolled_back_long_before_its_users_give_up(on: Stage) -> None:
    await on.start()
    async with on.users(RATE), driven(on):
        await on.until(State.OBSERVING)
        await asyncio.to_thread(on.green.behave, fault="hang")
        stored = await on.until(State.ROLLING_BACK, State.DRAINING, State.ROLLED_BACK, State.SUCCEEDED, seconds=60)
        assert stored.rollout.state is not State.SUCCEEDED
        on.green.process.kill()  # what hangs would be waited for
        await on.until(State.ROLLED_BACK)
    assert any(n.event == Event.VIOLATION for n in await on.notes())


async def test_a_change_that_crashes_is_rolled_back(on: Stage) -> None:
    await on.start()
    async with on.users(RATE), driven(on):
        await on.until(State.OBSERVING)
        on.green.process.kill()
        stored = await on.until(State.ROLLED_BACK, State.SUCCEEDED)
    assert stored.rollout.state is State.ROLLED_BACK
    failed = [r for r in on.run.records if r.outcome is not Outcome.COMPLETED]
    # Those that were on it, and those that came until the router saw: half a second of a quarter, and a little.
    assert len(failed) < RATE * 2


async def test_a_person_who_sets_the_share_is_obeyed_and_named(on: Stage) -> None:
    await on.start()
    async with on.users(RATE), driven(on):
        await on.until(State.OBSERVING)
        on.haproxy.map_file.write_text("tiny 100\n")
        await by_hand(on, f"set map {on.haproxy.map_file} tiny 100")
        stored = await on.until(State.TAKEN_OVER)
        assert "somebody else" in stored.rollout.because
        await asyncio.sleep(3)
        assert "tiny 100" in on.haproxy.map_file.read_text()
        with pytest.raises(Conflict):
            await on.start_another()
        await on.command(Command.ROLL_BACK)
        await on.until(State.ROLLED_BACK)
    complete(on)


async def by_hand(on: Stage, command: str) -> None:
    await AdminSocket(on.haproxy.socket).ask(command)


async def test_a_router_that_restarts_keeps_its_share_and_the_rollout_goes_on(on: Stage) -> None:
    await on.start()
    async with on.users(RATE), driven(on):
        await on.until(State.OBSERVING)
        on.haproxy.stop()
        await asyncio.to_thread(on.haproxy.start)
        stored = await on.until(State.SUCCEEDED, State.ROLLED_BACK, State.TAKEN_OVER, State.NEEDS_HUMAN)
    assert stored.rollout.state is State.SUCCEEDED, stored.rollout.because


async def test_a_pause_holds_and_the_guard_watches_on(on: Stage) -> None:
    await on.start()
    async with on.users(RATE), driven(on):
        await on.until(State.OBSERVING)
        await on.command(Command.PAUSE)
        await on.until(State.PAUSED)
        await asyncio.to_thread(on.green.behave, fault="http_500")
        stored = await on.until(State.ROLLED_BACK)
    assert any(n.event == Event.VIOLATION for n in await on.notes()), stored


async def test_a_driver_that_is_killed_in_every_state_changes_nothing_twice(on: Stage) -> None:
    """kill -9 again and again, whatever it is doing; each time another one goes on."""
    await on.start()
    kills, seen = 0, set()
    async with on.users(RATE):
        while (state := (await on.store.get("r1")).rollout.state) not in (State.SUCCEEDED, State.ROLLED_BACK):
            process = subprocess.Popen([sys.executable, "-m", "tests.support.rollout_driver", on.database_url])
            try:
                await moved_on(on, state)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
            kills += 1
            seen.add(state)
            await free_claim(on)
    assert (await on.store.get("r1")).rollout.state is State.SUCCEEDED
    assert kills >= 10
    assert {State.PENDING, State.PROVISIONING, State.WARMING, State.SHIFTING, State.OBSERVING, State.BAKING} <= seen
    complete(on)
    intents = await on.store.intents("r1")
    assert [i.value for i in intents if i.effect is Effect.SET_SHARE] == [2500, 5000, WHOLE]


async def moved_on(on: Stage, state: State) -> None:
    for _ in range(1200):
        stored = await on.store.get("r1")
        if stored.rollout.state is not state:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"it stays {state}: {stored.rollout.because}")


async def free_claim(on: Stage) -> None:
    """What was claimed by the dead is free after half a minute; no test waits for that."""
    async with on.store._engine.begin() as connection:
        await connection.execute(text("UPDATE rollout SET due_at = now() WHERE ended_at IS NULL"))


async def test_two_drivers_never_take_the_same_turn(on: Stage) -> None:
    await on.start()
    first = await on.store.claim_due(CLOCK.now())
    assert first is not None
    assert await on.store.claim_due(CLOCK.now()) is None
    await on.command(Command.PAUSE)
    with pytest.raises(LeaseLost):
        await on.store.commit(first.rollout, first.version, (), due_at=None, now=CLOCK.now())
