"""Packing engines onto fewer GPUs: never a broken constraint, near what no plan can beat."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.decisions.consolidation.fleet import Bin, Engine, Plan, broken
from control_plane.decisions.consolidation.planning import plan
from control_plane.decisions.policies.consolidate import consolidate
from control_plane.model.recommendation import Recommendation
from control_plane.model.scaling import Because, NoAction

KINDS = (("H100", 80e9, 1.0, 2.5), ("A100", 80e9, 0.4, 1.6), ("L40S", 48e9, 0.3, 0.9))


def random_fleet(seed: int, gpus: int) -> tuple[list[Bin], list[Engine]]:
    """Engines of 25 models, one on most GPUs; some choosy, some replicas of each other, some fixed."""
    dice = random.Random(seed)
    bins = []
    for n in range(gpus):
        kind, memory, compute, usd = dice.choice(KINDS)
        at = f"n{n // 8}"
        bins.append(Bin(name=f"g{n}", kind=kind, node=at, memory_bytes=memory, compute=compute, usd_per_hour=usd))
    sizes, loads = (8e9, 16e9, 20e9, 30e9, 36e9, 60e9), (0.02, 0.05, 0.1, 0.15, 0.2)
    models = [
        (dice.choice(sizes), dice.choice(loads), dice.random() < 0.3, dice.random() < 0.3) for _ in range(25)
    ]  # fmt: skip
    engines = []
    for n, b in enumerate(bins):
        fitting = [
            m for m, (memory, compute, _, choosy) in enumerate(models)
            if memory <= b.memory_bytes * 0.92 and compute <= b.compute * 0.8 and not (choosy and b.kind == "L40S")
        ]  # fmt: skip
        if dice.random() < 0.15 or not fitting:
            continue
        model = dice.choice(fitting)
        memory, compute, replicas, choosy = models[model]
        engines.append(
            Engine(
                name=f"e{n}", at=b.name, memory_bytes=memory, compute=compute,
                kinds=frozenset({"H100", "A100"}) if choosy else None, apart=f"m{model}" if replicas else None,
                fixed=dice.random() < 0.1,
            )
        )  # fmt: skip
    return bins, engines


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 24))
def test_no_plan_breaks_a_constraint_or_costs_more(seed: int, gpus: int) -> None:
    bins, engines = random_fleet(seed, gpus)
    found = plan(bins, engines, seconds=1.0)
    if isinstance(found, NoAction):
        assert found.explanation
        return
    assert broken(bins, engines, found.places) == []
    assert found.usd_per_hour < found.before_usd_per_hour
    assert found.usd_per_hour >= found.bound_usd_per_hour - 1e-6
    assert {name for name, _, _ in found.moves} == {e.name for e in engines if found.places[e.name] != e.at}
    assert not set(found.freed) & set(found.places.values())


def test_a_fleet_of_sixty_comes_within_two_per_cent_of_the_bound() -> None:
    bins, engines = random_fleet(12, 60)
    found = plan(bins, engines, seconds=3.0)
    assert isinstance(found, Plan)
    assert found.usd_per_hour <= 1.02 * found.bound_usd_per_hour


def gpu(name: str, **changed: float) -> Bin:
    usual = Bin(name=name, kind="H100", node="n", memory_bytes=80e9, compute=1.0, usd_per_hour=2.0)
    return replace(usual, **changed)  # type: ignore[arg-type]


def engine(**changed: object) -> Engine:
    return replace(Engine(name="x", at="a", memory_bytes=1.0, compute=0.1), **changed)  # type: ignore[arg-type]


def test_two_halves_share_a_gpu_unless_they_are_replicas_of_one_model() -> None:
    bins = [gpu("a"), gpu("b")]
    halves = [Engine(name=n, at=at, memory_bytes=30e9, compute=0.2) for n, at in (("x", "a"), ("y", "b"))]
    found = consolidate(bins, halves)
    assert isinstance(found, Recommendation)
    assert len(found.moves) == 1
    assert found.effect.gpus == -1.0
    assert found.payback_hours is not None and found.payback_hours < 1.0
    apart = [Engine(name=e.name, at=e.at, memory_bytes=30e9, compute=0.2, apart="llama") for e in halves]
    assert isinstance(consolidate(bins, apart), NoAction)


@pytest.mark.parametrize(
    ("bins", "engines", "because"),
    [
        ([], [], Because.MISSING_DATA),
        ([gpu("a", memory_bytes=float("nan"))], [engine()], Because.ABSURD_DATA),
        ([gpu("a")], [engine(memory_bytes=-1.0)], Because.ABSURD_DATA),
        ([gpu("a")], [engine(at="gone")], Because.MISSING_DATA),
        ([gpu("a")], [engine(fixed=True)], Because.NOTHING_BINDS),
        ([gpu("a"), gpu("a")], [engine()], Because.ABSURD_DATA),
        ([gpu("a")], [engine(memory_bytes=9e10)], Because.DOES_NOT_FIT),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(bins: list[Bin], engines: list[Engine], because: Because) -> None:
    found = consolidate(bins, engines)
    assert isinstance(found, NoAction)
    assert found.because is because
