"""When a server that answers is called hung: never one that steps, always one that stands for longer than it may."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load_recording import Recording, recordings
from node_agent.clock import Instant
from node_agent.collectors.engines import progress
from node_agent.collectors.engines.progress import Progress, Work
from node_agent.collectors.engines.registry import ENGINES, WANTED, identify
from node_agent.collectors.exposition import read

DATA = Path(__file__).parents[2] / "data" / "engines"


def at(seconds: float) -> Instant:
    return Instant(wall=datetime.fromtimestamp(1_800_000_000.0 + seconds, UTC), monotonic_seconds=seconds)


def seen(body: bytes) -> dict[str, Work]:
    name = identify(body)
    assert name is not None
    return progress.work(ENGINES[name], read(body, WANTED[name]))


@pytest.mark.parametrize("recording", recordings(), ids=lambda recording: recording.name)
def test_no_recorded_server_stands_still_between_two_looks_while_it_works(recording: Recording) -> None:
    state = Progress()
    for seconds, body in recording.pages:
        now = at(float(seconds))
        state = progress.follow(state, seen(body), now)
        # recorded every 3 to 10 s: a server that never stands from one look to the next is never near hung
        assert all(each.since == now for each in state.ranks.values()), seconds


def test_a_stopped_worker_is_hung_after_its_patience_and_not_before() -> None:
    body = (DATA / "vllm-prefill-bound" / "0010.prom").read_bytes()  # every later look is the same one
    state = Progress()
    for second in range(60 + 1):
        state = progress.follow(state, seen(body), at(second))
        assert progress.hang(state, at(second), patience=60) is None
    state = progress.follow(state, seen(body), at(61))
    stuck = progress.hang(state, at(61), patience=60)
    assert stuck is not None
    assert (stuck.running, stuck.since, stuck.rank) == (6.0, at(0).wall, "0")
    assert "6 requests run on rank 0" in str(stuck)


def test_one_rank_that_stands_is_not_hidden_by_another_that_moves() -> None:
    state = Progress()
    for second in range(0, 80, 10):
        looks = {"0": Work(running=1, mark=second), "1": Work(running=3, mark=7)}
        state = progress.follow(state, looks, at(second))
    stuck = progress.hang(state, at(70), patience=60)
    assert stuck is not None
    assert stuck.rank == "1"


def test_a_server_that_does_not_say_how_long_its_prompts_are_gets_the_longest_patience() -> None:
    assert progress.patience_seconds(None) == progress.MOST_PATIENCE_SECONDS
    assert progress.patience_seconds(2048) == 60.0
    assert progress.patience_seconds(131_072) == pytest.approx(131.072)
    assert progress.patience_seconds(10_000_000) == 300.0


WORK = st.builds(Work, running=st.sampled_from([0.0, 2.0]), mark=st.integers(0, 1))
LOOKS = st.lists(st.tuples(st.floats(0.1, 30), st.dictionaries(st.sampled_from("01"), WORK)), max_size=40)


@given(looks=LOOKS, patience=st.floats(1, 100))
def test_only_a_rank_with_unchanged_work_for_longer_than_the_patience_is_hung(
    looks: list[tuple[float, dict[str, Work]]], patience: float
) -> None:
    state, seconds, stood = Progress(), 0.0, dict[str, tuple[Work, float]]()
    for step, ranks in looks:
        seconds += step
        state = progress.follow(state, ranks, at(seconds))
        stood = {
            rank: stood[rank] if rank in stood and stood[rank][0] == work else (work, seconds)
            for rank, work in ranks.items()
            if work.running > 0
        }
        expected = any(seconds - since > patience for _, since in stood.values())
        assert (progress.hang(state, at(seconds), patience=patience) is not None) == expected


@given(looks=LOOKS)
def test_ranks_that_step_together_stand_only_when_all_of_them_do(looks: list[tuple[float, dict[str, Work]]]) -> None:
    state, seconds, before, since = Progress(), 0.0, dict[str, Work](), 0.0
    for step, ranks in looks:
        seconds += step
        state = progress.follow(state, progress.in_step(ranks), at(seconds))
        if ranks != before or not any(work.running > 0 for work in ranks.values()):
            before, since = ranks, seconds
        busy = any(work.running > 0 for work in ranks.values())
        assert (progress.hang(state, at(seconds), patience=20) is not None) == (busy and seconds - since > 20)


def test_a_gauge_that_is_not_a_number_does_not_look_like_progress() -> None:
    body = b'sglang:num_running_reqs{tp_rank="0"} 1\nsglang:gen_throughput{tp_rank="0"} NaN\n'
    state = Progress()
    for second in (0, 61):
        state = progress.follow(state, seen(body), at(second))
    assert progress.hang(state, at(61), patience=60) is not None
