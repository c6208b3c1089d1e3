"""What GPUs were doing, held against recordings of H200s under known loads (tests/data/nvml)."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.nvml_recording import FOLDER, looks_of, rows, thinned
from benchmarks.phases import TRUTH
from control_plane.analysis.utilization.judging import ACTIVITIES, judge
from control_plane.analysis.utilization.looks import FIELDS, SECOND_US, Looks, spans, usual_interval_us, within
from control_plane.analysis.utilization.summary import Signal, added, summary
from control_plane.model.activity import HONEST_SIGNAL, Activity, honest_signal
from optiinfra.catalogue import TABLES

PHASES, STUCK = FOLDER / "h200-phases-whole.jsonl.gz", FOLDER / "h200-x2-allreduce-then-stuck.jsonl.gz"
GPM = tuple(f for f in FIELDS if f.endswith(("active_ratio", "per_second")))


def shares(looks: Looks) -> dict[Activity, float]:
    """The share of the observed time in each activity."""
    judged = judge(looks)
    seconds = spans(looks, interval_us=usual_interval_us(looks)).seconds
    found: dict[Activity, float] = defaultdict(float)
    for code, length in zip(judged.activity, seconds, strict=True):
        found[ACTIVITIES[code]] += length / seconds.sum()
    return found


@pytest.mark.parametrize("every", [1, 2])
def test_each_phase_is_called_what_it_is_within_five_points_of_its_share_of_time(every: int) -> None:
    recorded = thinned(rows(PHASES), every)
    looks = looks_of(recorded)
    seconds = spans(looks, interval_us=usual_interval_us(looks)).seconds
    truth: dict[Activity, float] = defaultdict(float)
    for row, length in zip(recorded, seconds, strict=True):
        truth[TRUTH[str(row["phase"])]] += length / seconds.sum()
    found = shares(looks)
    for activity in Activity:
        assert found[activity] == pytest.approx(truth[activity], abs=0.05), activity


def test_most_of_every_phase_is_called_what_it_is() -> None:
    recorded = rows(PHASES)
    judged = judge(looks_of(recorded))
    right: Counter[str] = Counter()
    for row, code in zip(recorded, judged.activity, strict=True):
        right[str(row["phase"])] += ACTIVITIES[code] is TRUTH[str(row["phase"])]
    of = Counter(str(row["phase"]) for row in recorded)
    assert set(of) == set(TRUTH)
    for phase, count in of.items():
        assert right[phase] >= 0.9 * count, phase


def test_a_matrix_product_at_the_power_cap_is_compute_bound_and_power_capped() -> None:
    recorded = rows(PHASES)
    judged = judge(looks_of(recorded))
    phase = np.array([row["phase"] for row in recorded])
    computing = judged.activity == ACTIVITIES.index(Activity.COMPUTE_BOUND)
    assert judged.power_capped[computing].all()
    assert judged.power_capped[phase == "decode_like_gemv"].mean() < 0.05
    assert not judged.slowed.any()


def test_a_collective_that_never_ends_is_stuck_on_both_gpus_and_what_came_before_is_not() -> None:
    """All-reduce from 8 to 17 s after the beginning, then stuck until it was killed at 89 s (tests/data/nvml)."""
    recorded = rows(STUCK)
    looks = looks_of(recorded)
    judged, begin = judge(looks), min(row["t"] for row in recorded)
    for gpu in (0, 1):
        named = {
            round(row["t"] - begin, 1): ACTIVITIES[code]
            for row, code in zip(recorded, judged.activity, strict=True)
            if row["gpu"] == gpu
        }
        early = [a for t, a in named.items() if t < 7.0]
        reducing = [a for t, a in named.items() if 9.5 <= t <= 15.5]
        hung = [a for t, a in named.items() if 18.0 <= t <= 88.5]
        assert set(early) == {Activity.IDLE}
        assert set(reducing) == {Activity.COMMUNICATING}
        assert set(hung) == {Activity.STUCK}
    found = shares(looks)
    assert found[Activity.STUCK] == pytest.approx(72 / 90, abs=0.05)
    assert found[Activity.COMMUNICATING] == pytest.approx(8 / 90, abs=0.05)


def test_without_gpm_the_classic_figures_say_what_they_can_and_that_it_was_them() -> None:
    recorded = rows(PHASES)
    looks = looks_of(recorded, without=GPM)
    judged = judge(looks)
    assert judged.weak.all()
    called: dict[str, Counter[Activity]] = defaultdict(Counter)
    for row, code in zip(recorded, judged.activity, strict=True):
        called[str(row["phase"])][ACTIVITIES[code]] += 1
    usual = {phase: names.most_common(1)[0][0] for phase, names in called.items()}
    assert usual["mem_copy"] == usual["decode_like_gemv"] == Activity.MEMORY_BOUND
    assert usual["pcie_h2d"] is Activity.BUSY_UNSPECIFIED  # the classic figure reads 100 %, and cannot tell
    assert usual["idle"] == usual["idle_after"] == Activity.IDLE
    whole = summary(looks, judged, spans(looks, interval_us=SECOND_US // 2), window_seconds=70.0)
    assert whole.signal is Signal.CLASSIC
    assert whole.roofline is None


def parts(count: int = 1, *, step: float = 5.0, **known: float) -> Looks:
    """Looks that all say the same."""
    return Looks(
        gpu_ids=np.zeros(count, np.int64),
        taken_at_us=(np.arange(1, count + 1) * step * SECOND_US).astype(np.int64),
        columns={name: np.full(count, value) for name, value in known.items()},
    )


def named(looks: Looks) -> list[Activity]:
    return [ACTIVITIES[code] for code in judge(looks).activity]


PIPES = {"tensor_active_ratio": 0.1, "fp32_active_ratio": 0.0, "fp64_active_ratio": 0.0}


def test_a_limit_that_was_not_looked_at_is_never_taken_for_far_away() -> None:
    busy = {"sm_active_ratio": 0.9, "graphics_active_ratio": 1.0}
    assert named(parts(**busy, **PIPES)) == [Activity.BUSY_UNSPECIFIED]
    assert named(parts(**busy, dram_active_ratio=0.1)) == [Activity.BUSY_UNSPECIFIED]
    assert named(parts(**busy, dram_active_ratio=0.1, **PIPES)) == [Activity.UNDERUSED]


def test_without_transfers_known_a_copy_and_a_stall_are_not_told_apart() -> None:
    assert named(parts(sm_active_ratio=0.0, gpu_utilization_ratio=1.0)) == [Activity.BUSY_UNSPECIFIED]
    still = parts(sm_active_ratio=0.0, gpu_utilization_ratio=1.0, pcie_receive_bytes_per_second=0.0)
    assert named(still) == [Activity.STALLED]


def test_without_the_parts_the_classic_figure_is_only_asked_for_idle_or_not() -> None:
    assert named(parts()) == [Activity.UNKNOWN]
    assert named(parts(gpu_utilization_ratio=0.0)) == [Activity.IDLE]
    assert named(parts(gpu_utilization_ratio=1.0)) == [Activity.BUSY_UNSPECIFIED]
    assert named(parts(dram_active_ratio=0.9)) == [Activity.UNKNOWN]


SPIN = {
    "gpu_utilization_ratio": 1.0, "graphics_active_ratio": 1.0, "sm_active_ratio": 0.182, "dram_active_ratio": 0.0,
    "nvlink_receive_bytes_per_second": 0.0, "pcie_receive_bytes_per_second": 1e6, **PIPES, "tensor_active_ratio": 0.0,
}  # fmt: skip


def test_a_spin_is_stuck_only_after_it_has_lasted() -> None:
    assert named(parts(2, step=1.0, **SPIN)) == [Activity.STALLED] * 2
    assert named(parts(12, step=1.0, **SPIN)) == [Activity.STUCK] * 12
    assert named(parts(4, step=60.0, **SPIN)) == [Activity.STUCK] * 4
    # Two looks that are minutes apart do not say that it lasted.
    assert named(parts(4, step=600.0, **SPIN)) == [Activity.STALLED] * 4


def test_a_busy_loop_that_uses_all_sms_is_not_a_stuck_collective() -> None:
    assert set(named(parts(12, **(SPIN | {"sm_active_ratio": 0.98, "dram_active_ratio": 0.0})))) == {Activity.UNDERUSED}


def test_looks_of_one_gpu_say_nothing_about_another() -> None:
    one = parts(3, step=1.0, **SPIN)
    both = Looks(
        gpu_ids=np.array([1, 1, 1, 2, 2, 2]),
        taken_at_us=np.tile(one.taken_at_us, 2),
        columns={name: np.tile(values, 2) for name, values in one.columns.items()},
    )
    assert named(both) == [Activity.STALLED] * 6


share = st.none() | st.floats(0, 1)
rate = st.none() | st.floats(0, 1e12)
look = st.fixed_dictionaries({
    name: rate if name.endswith("per_second") else share
    for name in FIELDS if name.endswith(("ratio", "per_second"))
})  # fmt: skip


@given(st.lists(look, min_size=1, max_size=12), st.sampled_from([0.5, 5.0, 60.0]))
def test_nothing_that_is_unknown_is_taken_for_busy_and_seconds_add_up(
    many: list[dict[str, float | None]], step: float
) -> None:
    names = many[0].keys()
    looks = Looks(
        gpu_ids=np.zeros(len(many), np.int64),
        taken_at_us=(np.arange(len(many)) * step * SECOND_US).astype(np.int64),
        columns={n: np.array([np.nan if one[n] is None else one[n] for one in many], float) for n in names},
    )
    judged = judge(looks)
    for one, code in zip(many, judged.activity, strict=True):
        activity = ACTIVITIES[code]
        if activity is Activity.MEMORY_BOUND:
            assert one["dram_active_ratio"] or one["memory_controller_utilization_ratio"]
        if one["sm_active_ratio"] is None and one["gpu_utilization_ratio"] is None:
            assert activity is Activity.UNKNOWN
    times = spans(looks, interval_us=round(step * SECOND_US))
    whole = summary(looks, judged, times, window_seconds=len(many) * step)
    assert sum(whole.by_activity.values()) == pytest.approx(whole.observed_seconds)
    assert sum(whole.by_signal.values()) == pytest.approx(whole.observed_seconds)
    for mean in whole.means.values():
        assert mean.seconds <= whole.observed_seconds + 1e-6
    twice = added([whole, whole])
    assert twice.observed_seconds == pytest.approx(2 * whole.observed_seconds)
    assert twice.activity is whole.activity
    for name, mean in whole.means.items():
        assert twice.means[name].value == pytest.approx(mean.value)


@given(
    st.lists(st.integers(0, 600), min_size=1, max_size=30, unique=True),
    st.integers(0, 500), st.integers(1, 100),
)  # fmt: skip
def test_no_second_is_counted_twice_and_none_outside_the_window(at: list[int], since: int, length: int) -> None:
    looks = Looks(
        gpu_ids=np.zeros(len(at), np.int64), taken_at_us=np.array(sorted(at), np.int64) * SECOND_US, columns={}
    )
    times = within(
        spans(looks, interval_us=5 * SECOND_US), since_us=since * SECOND_US, until_us=(since + length) * SECOND_US
    )
    assert (times.seconds >= 0).all()
    assert (times.starts_us[1:] >= times.ends_us[:-1]).all()
    assert times.seconds.sum() <= length + 1e-9


def test_a_gap_is_not_filled() -> None:
    looks = Looks(gpu_ids=np.zeros(3, np.int64), taken_at_us=np.array([5, 10, 100], np.int64) * SECOND_US, columns={})
    assert spans(looks, interval_us=5 * SECOND_US).seconds.tolist() == [5, 5, 5]


def test_every_activity_names_the_field_that_shows_it_and_the_catalogue_has_it() -> None:
    assert set(HONEST_SIGNAL) == set(Activity)
    names = {spec.name for spec in TABLES["gpu"].fields}
    assert {name for name in HONEST_SIGNAL.values() if name is not None} <= names
    assert set(FIELDS) <= names


def test_the_signal_of_a_copy_is_the_way_the_bytes_went() -> None:
    means = {"pcie_transmit_bytes_per_second": 5e10, "pcie_receive_bytes_per_second": 1e9}
    assert honest_signal(Activity.COPYING, means) == "pcie_transmit_bytes_per_second"
