"""The replay's arithmetic: nobody beats the oracle, cold starts are paid, and what comes too much is counted."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import scaling_replay
from benchmarks.replicas import Fleet, needed, oracle
from benchmarks.scaling_replay import Outcome, Setting, replay
from benchmarks.traces import Trace, read_trace

TRACES = Path(__file__).parents[2] / "data" / "traces"
SETTING = Setting(
    capacity=10.0, cold_start_seconds=300, minimum=1, maximum=1000, overload_budget=0.0005, gpus_per_replica=1,
    interval_seconds=60,
)  # fmt: skip


def outcomes(trace: Trace, setting: Setting = SETTING) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in replay(trace, setting)}


def test_a_replica_serves_after_its_cold_start_and_is_paid_for_at_once() -> None:
    fleet = Fleet(ready=1, cold_start_steps=2)
    fleet.begin(0)
    fleet.scale(3, step=0)
    ready = []
    for step in (1, 2, 3):
        fleet.begin(step)
        ready.append(fleet.ready)
        assert fleet.there == 3
    assert ready == [1, 1, 3]


def test_the_last_to_be_asked_for_goes_first() -> None:
    fleet = Fleet(ready=4, cold_start_steps=5)
    fleet.scale(6, step=0)
    fleet.scale(9, step=1)
    fleet.scale(7, step=2)
    assert (fleet.ready, fleet.there, fleet.starting) == (4, 7, [(6, 2), (7, 1)])
    fleet.scale(3, step=3)
    assert (fleet.ready, fleet.there, fleet.starting) == (3, 3, [])


@settings(max_examples=60, deadline=None)
@given(need=st.lists(st.integers(0, 2), min_size=1, max_size=8), cold=st.integers(0, 4))
def test_no_plan_costs_less_than_the_oracle_s(need: list[int], cold: int) -> None:
    paid = oracle(np.array(need), cold_start_steps=cold)
    assert (paid >= need).all()
    # Every plan of when each of two replicas is there; one that begins to be there serves after the cold start.
    least = sum(
        min(cost for plan in itertools.product([0, 1], repeat=len(need))
            if (cost := cost_of(plan, [n >= level for n in need], cold)) is not None)
        for level in (1, 2)
    )  # fmt: skip
    assert paid.sum() == least


def cost_of(plan: tuple[int, ...], busy: list[bool], cold: int) -> int | None:
    """What a plan for one replica costs, or None when it leaves a busy bin without."""
    serves_from = 0
    for step, there in enumerate(plan):
        if there and step and not plan[step - 1]:
            serves_from = step + cold
        elif there and not step:
            serves_from = 0 if busy[0] else cold  # what the first bin needs is there from the start
        if busy[step] and not (there and step >= serves_from):
            return None
    return sum(plan)


def test_needs_are_rounded_up_but_not_by_a_float_s_rounding() -> None:
    assert needed(np.array([0.0, 0.1, 0.3, 30.0, 30.1]), 0.1).tolist() == [0, 1, 3, 300, 301]


def test_steady_traffic_costs_what_it_needs() -> None:
    trace = Trace(name="steady", bin_seconds=60, series={"requests": np.full(300, 1500.0)})  # 25/s: three replicas
    found = outcomes(trace)
    assert found["oracle"].gpu_hours == pytest.approx(15.0)
    assert found["static peak"].gpu_hours == pytest.approx(15.0)
    assert found["predictive"].gpu_hours == pytest.approx(15.0)
    assert found["predictive"].over_ratio == 0


def test_what_comes_over_capacity_is_counted_until_the_cold_start_is_over() -> None:
    requests = np.concatenate([np.full(60, 500.0), np.full(60, 1100.0)])  # one replica serves 600 a bin
    found = outcomes(Trace(name="step", bin_seconds=60, series={"requests": requests}))
    # Seen at the end of its first minute, answered five minutes later: six minutes of 500 too many.
    assert found["predictive"].minutes_over == 6
    assert found["predictive"].over_ratio == pytest.approx(6 * 500 / requests.sum())
    assert found["oracle"].over_ratio == 0


def test_while_nobody_counts_the_policy_holds_still() -> None:
    requests = np.full(240, 2900.0)
    requests[100:160] = np.nan
    found = outcomes(Trace(name="gap", bin_seconds=60, series={"requests": requests}))
    assert found["predictive"].changes == 0
    assert found["predictive"].gpu_hours == pytest.approx(20.0)


def test_on_real_traffic_the_budget_holds_and_the_simple_policies_cost_more() -> None:
    found = outcomes(read_trace(TRACES / "azure2024_conv_1m_3d.csv.gz", bin_seconds=10))
    ours = found["predictive"]
    assert ours.over_ratio <= 0.0005
    assert ours.gpu_hours < 1.08 * found["oracle"].gpu_hours
    for simple in ("static peak", "HPA, 70 %", "last + 20 %"):
        assert ours.gpu_hours < found[simple].gpu_hours


@pytest.mark.parametrize("cold", [0.0, 45.0, 7200.0])
@pytest.mark.parametrize("capacity", [0.01, 1.0, 1e6])
def test_other_cold_starts_and_capacities_have_an_answer(cold: float, capacity: float) -> None:
    trace = read_trace(TRACES / "azure2023_conv_10s.csv.gz", bin_seconds=10)
    setting = Setting(
        capacity=capacity, cold_start_seconds=cold, minimum=0, maximum=100_000, overload_budget=0.0005,
        gpus_per_replica=2, interval_seconds=60,
    )  # fmt: skip
    found = outcomes(trace, setting)
    assert found["oracle"].over_ratio == pytest.approx(0.0, abs=1e-12)
    for outcome in found.values():
        assert 0 <= outcome.over_ratio <= 1
        assert outcome.gpu_hours >= 0


def test_the_program_prints_its_table_and_its_definitions(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--trace", str(TRACES / "mooncake_synthetic_10s.csv.gz"), "--capacity", "1", "--cold-start", "60"]
    assert scaling_replay.main(asked) == 0
    out = capsys.readouterr().out
    for part in ("GPU-hours", "x oracle", "over capacity", "minutes over", "changes", "predictive", "static peak", "HPA",
                 "queue length", "last + 20 %", "oracle        the least GPU-hours", "bin of 10 s"):  # fmt: skip
        assert part in out


@pytest.mark.parametrize("wrong", [["--capacity", "0"], ["--cold-start", "-1"], ["--minimum", "5", "--maximum", "4"]])
def test_a_setting_without_sense_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--trace", "x.csv", "--capacity", "1", "--cold-start", "60", *wrong]
    with pytest.raises(SystemExit) as stopped:
        scaling_replay.main(asked)
    assert stopped.value.code == 2
    capsys.readouterr()


def test_a_capacity_in_the_wrong_unit_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("t_s,requests\n0,1000000\n10,1000000\n20,1000000\n")
    assert scaling_replay.main(["--trace", str(path), "--capacity", "0.0001", "--cold-start", "60"]) == 2
    assert "requests per second" in capsys.readouterr().err
