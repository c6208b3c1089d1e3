"""Thousands of rollouts in worlds where calls are lost, routers lie, replicas crash and drivers die.

A seed that fails is named; OPTIINFRA_TEST_ROLLOUT_SEED=<seed> plays it again, OPTIINFRA_TEST_ROLLOUTS says how many.
"""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from dataclasses import replace

import pytest

from control_plane.model.rollout import WHOLE, Event, State
from control_plane.rollouts.freezing import parse
from tests.fakes.virtual_time import run_virtually
from tests.simulation.rollout_world import (
    Driver,
    Fate,
    MemoryStore,
    Network,
    World,
    drawn_fate,
    drawn_plan,
    new_rollout,
)

SEEDS = int(os.environ.get("OPTIINFRA_TEST_ROLLOUTS", "10000"))
QUICK = 150


def play(seed: int) -> tuple[World, State]:
    """One world from its beginning to its end."""
    chance = random.Random(seed)
    fate, plan = drawn_fate(chance), drawn_plan(chance)
    store = MemoryStore(new_rollout(plan))
    world = World(fate, plan, chance, store)
    try:
        ended = run_virtually(Driver(world, Network(world), store).drive())
        check_end(world, ended.state)
    except Exception as error:
        tail = "\n".join(f"  {n.at:%H:%M:%S} {n.state} {n.event}: {n.because}" for n in store.notes[-25:])
        raise AssertionError(f"seed {seed}: {error}\n{fate}\n{plan}\n{tail}") from error
    return world, ended.state


def check_end(world: World, state: State) -> None:
    """What is true of every end."""
    if state is State.ROLLED_BACK and world.effects:
        assert world.share == 0
        assert not world.candidate
        assert world.stable == world.plan.replicas
    if state is State.SUCCEEDED:
        assert world.share == WHOLE
        assert world.stable == 0
        assert world.fate.candidate_bad < 0.3, "a bad candidate was promoted"
        assert not world.fate.lying_router or world.plan.shares[0] == WHOLE or world.handled, (
            "a lying router was believed"
        )
    keys = {note.details["key"] for note in world.store.notes if note.because == "decided"}
    assert set(world.effects) <= keys, "an effect that no note tells of"
    transitions = [note for note in world.store.notes if note.event in {str(event) for event in Event}]
    assert transitions, "a history that tells nothing"


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Thousands of lost calls are no news here."""
    logging.getLogger("control_plane.rollouts.running").setLevel(logging.ERROR)


def seeds(count: int) -> range | list[int]:
    one = os.environ.get("OPTIINFRA_TEST_ROLLOUT_SEED")
    return range(count) if one is None else [int(one)]


def test_whatever_goes_wrong_nobody_is_hurt() -> None:
    for seed in seeds(QUICK):
        play(seed)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_rollouts_hurt_nobody(part: int) -> None:
    ends: Counter[tuple[bool, State]] = Counter()
    for seed in seeds(SEEDS)[part::10]:
        world, state = play(1_000_000 + seed)
        ends[world.fate.good, state] += 1
    good = {state: count for (is_good, state), count in ends.items() if is_good}
    assert good[State.SUCCEEDED] > 0.6 * sum(good.values()), ends


@pytest.mark.parametrize("seed", range(20))
def test_a_good_candidate_in_a_calm_world_succeeds(seed: int) -> None:
    chance = random.Random(seed)
    plan = replace(drawn_plan(chance), approve_before=(), most_seconds=1500)
    store = MemoryStore(new_rollout(plan))
    world = World(Fate(), plan, chance, store)
    ended = run_virtually(Driver(world, Network(world), store).drive())
    assert ended.state is State.SUCCEEDED, store.notes[-5:]


@pytest.mark.parametrize("bad", [0.2, 0.5, 1.0])
def test_a_bad_candidate_is_rolled_back_within_seconds_of_its_first_requests(bad: float) -> None:
    """Ten requests a second on the candidate; in the middle of many worlds, as bad requests come by chance."""
    taken = []
    for seed in range(21):
        chance = random.Random(seed)
        plan = replace(drawn_plan(chance), shares=(2500, WHOLE), approve_before=())
        store = MemoryStore(new_rollout(plan))
        world = World(Fate(candidate_bad=bad), plan, chance, store)
        ended = run_virtually(Driver(world, Network(world), store).drive())
        assert ended.state is State.ROLLED_BACK
        asked = next(n.at for n in store.notes if n.event == "set_share")
        back = next(n.at for n in store.notes if n.state is State.ROLLING_BACK)
        taken.append((back - asked).total_seconds())
    assert sorted(taken)[10] <= 15
    assert max(taken) <= 30


@pytest.mark.parametrize("seed", range(3))
def test_a_candidate_as_bad_as_the_stable_version_is_rolled_back_by_its_objective_alone(seed: int) -> None:
    chance = random.Random(seed)
    plan = replace(drawn_plan(chance), shares=(2500, WHOLE), approve_before=())
    store = MemoryStore(new_rollout(plan))
    world = World(Fate(candidate_bad=0.4, stable_bad=0.4), plan, chance, store)
    ended = run_virtually(Driver(world, Network(world), store).drive())
    assert ended.state is State.ROLLED_BACK
    assert any("breaks its objective" in note.because for note in store.notes)


@pytest.mark.parametrize("seed", range(3))
def test_a_router_that_sends_more_than_it_says_is_found_out(seed: int) -> None:
    chance = random.Random(seed)
    plan = replace(drawn_plan(chance), shares=(500, WHOLE), approve_before=())
    store = MemoryStore(new_rollout(plan))
    world = World(Fate(lying_router=True), plan, chance, store)
    ended = run_virtually(Driver(world, Network(world), store).drive())
    assert ended.state is State.ROLLED_BACK
    assert any("more traffic than" in note.because for note in store.notes)


def test_a_rollout_that_is_asked_for_in_a_freeze_begins_when_it_is_over() -> None:
    chance = random.Random(1)
    plan = replace(drawn_plan(chance), approve_before=())
    store = MemoryStore(new_rollout(plan))
    world = World(Fate(), plan, chance, store)
    driver = Driver(world, Network(world), store)
    driver.freezes = [parse("2026-03-04T11:00Z - 2026-03-04T12:30Z")]
    assert run_virtually(driver.drive()).state is State.SUCCEEDED
    begun = next(note.at for note in store.notes if note.state is not State.PENDING)
    assert (begun.hour, begun.minute) == (12, 30)
    assert any("freeze" in note.because for note in store.notes)
