"""Verdicts while samples come: real recordings followed look by look, and everything that could make them flap."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from control_plane.analysis.bottlenecks.following import HORIZON, Following, Settings
from control_plane.analysis.bottlenecks.gpu_facts import GpuLook
from control_plane.diagnose import Folder, load
from control_plane.model.bottleneck import Bottleneck as B
from control_plane.model.bottleneck import Habits, Spell
from control_plane.model.sample import Reading
from node_agent.__main__ import read_exposition

DATA = Path(__file__).parents[3] / "data"
BEGIN = datetime(1970, 1, 1, tzinfo=UTC)


def followed(folder: Folder, following: Following | None = None) -> list[Spell]:
    """This will give the spells of a recording, the open one last."""
    following = following or Following(1)
    of = folder.recorded
    following.settings = Settings(max_num_seqs=of.max_num_seqs, prefix_caching=of.prefix_caching)
    looks = list(of.gpu_looks)
    spells = []
    for reading in of.readings:
        while looks and looks[0][0] <= reading.taken_at:
            following.see_gpu(*looks.pop(0))
        following.see(reading)
        following.step(reading.taken_at)
        spells += following.take_closed()
    assert following.spell is not None
    return [*spells, following.spell]


@pytest.mark.parametrize(
    ("name", "bottleneck"),
    [
        ("vllm-cpu-healthy", B.HEALTHY),
        ("vllm-cpu-kv-bound", B.KV_CAPACITY_BOUND),
        ("vllm-cpu-queue-bound", B.BATCH_LIMITED),
        ("vllm-cpu-prefill-bound", B.PREFILL_BOUND),
        ("vllm-h200-max-num-seqs-8", B.BATCH_LIMITED),
        ("vllm-h200-prefill", B.PREFILL_BOUND),
        ("sglang-cpu-kv-bound", B.KV_CAPACITY_BOUND),
        ("sglang-cpu-queue-bound", B.BATCH_LIMITED),
    ],
)
def test_a_recording_followed_live_is_called_what_it_is_most_of_the_time(name: str, bottleneck: B) -> None:
    spells = followed(load(DATA / "engine-recordings" / name, read_exposition))
    seconds: dict[B, float] = {}
    for spell in spells:
        of = spell.verdict.bottleneck
        seconds[of] = seconds.get(of, 0.0) + (spell.until - spell.since).total_seconds()
    seconds.pop(B.IDLE, None)  # before the load, and after
    assert max(seconds, key=lambda of: seconds[of]) is bottleneck
    assert len(spells) <= 4, "it does not flap"


def test_a_ramp_into_overload_and_back_is_one_spell_of_it_between_two_of_health() -> None:
    spells = followed(load(DATA / "engine-recordings" / "vllm-cpu-ramp", read_exposition))
    calm, crowded, calm_again = spells
    assert calm.verdict.bottleneck is calm_again.verdict.bottleneck is B.HEALTHY
    assert crowded.verdict.bottleneck in (B.BATCH_LIMITED, B.QUEUE_BOUND)
    # It came at 25 s, and what had piled up was done at 55 s; a window is 15 s long.
    assert timedelta(seconds=20) <= crowded.since - BEGIN <= timedelta(seconds=40)
    assert timedelta(seconds=55) <= crowded.until - BEGIN <= timedelta(seconds=70)


@pytest.mark.parametrize("name", ["vllm-cpu-kv-bound", "vllm-h200-prefill", "sglang-cpu-queue-bound"])
def test_spells_follow_one_another_without_a_hole_and_never_repeat(name: str) -> None:
    for before, after in pairwise(followed(load(DATA / "engine-recordings" / name, read_exposition))):
        assert before.until == after.since
        assert before.verdict.bottleneck is not after.verdict.bottleneck


def reading(seconds: float, **values: float) -> Reading:
    usual = {
        "up_flag": 1.0, "requests_running_count": 2.0, "requests_waiting_count": 0.0, "kv_cache_usage_ratio": 0.1,
        "prompt_tokens_total": 100.0 * seconds, "generation_tokens_total": 10.0 * seconds,
        "requests_finished_total": seconds, "requests_aborted_total": 0.0, "counters_since_unix_seconds": 1.0,
    }  # fmt: skip
    return Reading(entity_id=1, taken_at=BEGIN + timedelta(seconds=seconds), values=usual | values, unknown={})


WAITS = {"requests_waiting_count": 50.0}


def run(following: Following, begin: int, end: int, **values: float) -> None:
    for seconds in range(begin, end, 5):
        following.see(reading(seconds, **values))
        following.step(BEGIN + timedelta(seconds=seconds))


def binds(following: Following) -> B | None:
    return None if following.spell is None else following.spell.verdict.bottleneck


def test_what_passes_within_seconds_changes_nothing_and_what_stays_does_with_its_beginning() -> None:
    following = Following(1)
    run(following, 0, 60)
    assert binds(following) is B.HEALTHY
    run(following, 60, 70, **WAITS)
    run(following, 70, 120)
    assert binds(following) is B.HEALTHY
    assert following.take_closed() == []
    run(following, 120, 180, **WAITS)
    assert binds(following) is not B.HEALTHY
    assert following.spell is not None
    assert timedelta(seconds=110) <= following.spell.since - BEGIN <= timedelta(seconds=125)
    (over,) = following.take_closed()
    assert (over.verdict.bottleneck, over.until) == (B.HEALTHY, following.spell.since)


def test_what_hovers_does_not_flap() -> None:
    following = Following(1)
    for number in range(200):
        following.see(reading(5.0 * number, requests_waiting_count=50.0 if number % 3 else 0.0))
    assert len(following.take_closed()) <= 1


def test_requests_that_get_nowhere_are_seen_within_two_windows_of_looks() -> None:
    following = Following(1)
    run(following, 0, 60)
    still = reading(60)
    for seconds in range(65, 85, 5):
        following.see(replace(still, taken_at=BEGIN + timedelta(seconds=seconds)))
    assert binds(following) is B.HUNG_ENGINE
    assert following.spell is not None
    assert following.spell.since == BEGIN + timedelta(seconds=65), "since nothing moved"


def test_silence_is_missing_data_and_never_what_was_before() -> None:
    following = Following(1)
    run(following, 0, 60)
    for seconds in range(60, 140, 5):
        following.step(BEGIN + timedelta(seconds=seconds))
    assert binds(following) is B.MISSING_DATA


def test_a_server_that_does_not_answer_is_not_idle() -> None:
    following = Following(1)
    for seconds in range(0, 100, 5):
        following.see_gpu(
            BEGIN + timedelta(seconds=seconds),
            GpuLook(gpu="a", classic_utilization=0.0, sm_active=0.0, tensor_active=0.0, dram_active=0.0),
        )
        at = BEGIN + timedelta(seconds=seconds)
        following.see(Reading(entity_id=1, taken_at=at, values={"up_flag": 0.0}, unknown={}))
    assert binds(following) is B.MISSING_DATA


def test_what_was_learnt_is_forgotten_with_another_start_and_kept_over_our_own() -> None:
    following = Following(1)
    run(following, 0, 60, **WAITS, requests_running_count=8.0)
    assert following.habits.most_running == 8.0
    again = Following(1, spell=following.spell, habits=following.habits)
    run(again, 60, 120, **WAITS, requests_running_count=8.0)
    assert again.habits.most_running == 8.0
    assert again.spell is not None
    assert following.spell is not None
    assert again.spell.since == following.spell.since, "the same goes on"
    run(again, 120, 180, **WAITS, requests_running_count=4.0, counters_since_unix_seconds=100.0)
    assert again.habits == Habits(counters_since=100.0, most_running=4.0)


def test_looks_that_were_judged_before_a_restart_are_not_judged_again() -> None:
    following = Following(1)
    run(following, 0, 60)
    again = Following(1, spell=following.spell, habits=following.habits)
    run(again, 30, 60, **WAITS)
    assert again.spell == following.spell


@pytest.fixture(scope="module")
def two_gpus(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two H200s: idle, then NCCL all-reduce, then a collective whose peers disagree, until they are killed."""
    folder = tmp_path_factory.mktemp("two-gpus")
    packed = (DATA / "nvml" / "h200-x2-allreduce-then-stuck.jsonl.gz").read_bytes()
    (folder / "gpu.jsonl").write_bytes(gzip.decompress(packed))
    return load(folder, read_exposition)


@pytest.mark.parametrize("every_seconds", [0.5, 2.0, 5.0])
def test_a_recorded_collective_that_never_ends_is_stuck_until_it_is_killed(
    two_gpus: Folder, every_seconds: float
) -> None:
    subjects: dict[str, Following] = {}
    spells: dict[str, list[Spell]] = {}
    at_last: dict[str, datetime] = {}
    for at, look in two_gpus.recorded.gpu_looks:
        if look.gpu in at_last and at - at_last[look.gpu] < timedelta(seconds=every_seconds - 0.1):
            continue
        at_last[look.gpu] = at
        subject = subjects.setdefault(look.gpu, Following(len(subjects)))
        subject.see_gpu(at, look)
        subject.step(at)
        spells.setdefault(look.gpu, []).extend(subject.take_closed())
    assert len(subjects) == 2
    for gpu, subject in subjects.items():
        assert subject.spell is not None
        stuck = [s for s in (*spells[gpu], subject.spell) if s.verdict.bottleneck is B.STUCK_COLLECTIVE]
        assert len(stuck) == 1
        assert {e.name for e in stuck[0].verdict.evidence} >= {"gpu_utilization_ratio", "sm_active_spread"}
        assert B.HUNG_ENGINE in stuck[0].verdict.cannot_tell, "no engine was seen"


def test_where_looks_are_rare_one_is_enough() -> None:
    following = Following(1)
    for minute in range(10):
        following.see(reading(60.0 * minute, **(WAITS if minute >= 5 else {})))
    assert binds(following) is not B.HEALTHY
    assert len(following.take_closed()) == 1
    assert timedelta(minutes=1) > HORIZON
