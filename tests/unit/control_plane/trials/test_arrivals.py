from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.model.errors import InvalidRequest
from control_plane.trials.load import arrivals
from control_plane.trials.load.arrivals import RateProfile

rates = st.floats(0, 300, allow_subnormal=False)
parts = st.lists(st.tuples(rates, st.floats(0.1, 20)), min_size=1, max_size=6)


def drawn(profile: RateProfile, variation: float = 1.0, seed: int = 1) -> arrivals.Seconds:
    return arrivals.arrivals(profile, variation=variation, random=np.random.default_rng(seed))


@given(parts, st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_arrivals_ascend_within_their_time_and_are_as_many_as_asked(
    given_parts: list[tuple[float, float]], variation: float
) -> None:
    profile = arrivals.steps(given_parts)
    if round(profile.expected) == 0:
        return
    due = drawn(profile, variation)
    assert len(due) == round(profile.expected)
    assert np.all(np.diff(due) >= 0)
    assert due[0] >= 0
    assert due[-1] <= profile.seconds * (1 + 1e-12)


@given(parts)
def test_each_part_gets_its_share(given_parts: list[tuple[float, float]]) -> None:
    profile = arrivals.steps(given_parts)
    if round(profile.expected) == 0:
        return
    due, begin = drawn(profile, 0), 0.0
    for rate, seconds in given_parts:
        within = np.sum((due >= begin - 1e-9) & (due <= begin + seconds + 1e-9))
        assert abs(within - rate * seconds) <= 2.5
        begin += seconds


def test_a_ramp_from_nothing_reaches_its_half_after_seven_tenths() -> None:
    due = drawn(arrivals.ramp(0, 100, 10), 0)
    assert len(due) == 500
    assert due[249] == pytest.approx(10 / np.sqrt(2), rel=0.01)


@pytest.mark.parametrize("variation", [0.0, 0.5, 1.0, 2.0])
def test_gaps_vary_as_asked(variation: float) -> None:
    gaps = np.diff(drawn(arrivals.constant(100, 200), variation))
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(variation, abs=0.06)


def test_a_replay_keeps_gaps_and_its_speed_divides_them() -> None:
    assert arrivals.replayed([103.0, 100.0, 101.0], speed=2).tolist() == [0, 0.5, 1.5]


def test_recorded_rates_are_followed() -> None:
    due = drawn(arrivals.recorded_rates([10, 0, 30], 10.0), 0)
    assert [int(np.sum((due >= a) & (due < a + 10))) for a in (0, 10, 20)] == [10, 0, 30]


@pytest.mark.parametrize(
    "points", [(), ((0, 1),), ((1, 1), (2, 1)), ((0, 1), (0, 1)), ((0, -1), (1, 1)), ((0, 1), (1, float("nan")))]
)
def test_what_is_no_rate_is_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(InvalidRequest):
        RateProfile(points=points)


def test_more_than_a_process_can_send_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="too many"):
        arrivals.constant(1e6, 1e6)
