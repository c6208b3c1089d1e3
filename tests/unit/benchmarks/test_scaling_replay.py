"""The replay pays for what starts, counts what lacks, and its floor cannot be undercut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scaling_replay import compare, least_possible, limits_of, main, play


def test_a_replica_is_paid_for_from_its_order_and_serves_after_its_cold_start() -> None:
    demand = np.array([10.0, 20.0, 20.0, 20.0, 20.0])
    played = play("two", demand, lambda *_: 2, capacity=10, boot=2, first=1)
    assert played.replica_bins == 1 + 2 * 4
    assert played.over == 10 * 2  # the second replica, ordered after the first bin, serves from the fourth on
    assert played.changes == 1


def test_what_nobody_counted_is_neither_over_nor_told() -> None:
    seen = []
    demand = np.array([10.0, np.nan, 10.0])
    play("any", demand, lambda known, *_: seen.append(known) or 1, capacity=10, boot=1, first=1)
    assert seen == [10.0, None, 10.0]


def test_the_least_possible_bridges_gaps_that_are_cheaper_than_a_start() -> None:
    demand = np.array([5.0, 15, 5, 15, 5, 5, 5, 5, 15, 5])
    assert least_possible(demand, capacity=10, boot=2).replica_bins == 10 + 3 + 2 + 1 + 2


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=20, max_size=60), st.integers(5, 80), st.sampled_from([0.0, 60.0, 300.0]))
def test_nobody_who_never_lacks_pays_less_than_the_least_possible(
    demand: list[int], capacity: int, cold: float
) -> None:
    limits = limits_of(str(capacity), cold, 60)
    played = compare(np.array(demand, dtype=np.float64), limits)
    least = played[-1]
    for one in played[:-1]:
        if one.over == 0 and one.name not in ("oracle",):
            assert (
                one.replica_bins >= least.replica_bins - 1e-6 - limits.cold_start_seconds / 60 * max(demand) / capacity
            )


def test_the_command_prints_all_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("t_s,requests\n" + "\n".join(f"{60 * i},{1000 + 300 * (i % 7)}" for i in range(60)))
    assert main(["--trace", str(path), "--capacity", "100", "--cold-start", "120"]) == 0
    printed = capsys.readouterr().out
    for name in ("OptiInfra", "static peak", "HPA", "queue length", "last value", "oracle", "least possible"):
        assert name in printed
    assert main(["--trace", str(path), "--capacity", "-1", "--cold-start", "120"]) == 2
    assert main(["--trace", str(tmp_path / "absent.csv"), "--capacity", "1", "--cold-start", "120"]) == 2
