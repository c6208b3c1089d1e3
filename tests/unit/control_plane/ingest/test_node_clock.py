"""Stamps of ticks: right to within the tolerance, whatever the nodes' clocks and our own do."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.ingest.clocks import TOLERANCE_US, Arrival, NodeClock, Stamp
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.streams import arrival, monotonic_us, unix_us

HOUR = 3600.0
TOLERANCE = TOLERANCE_US / 1e6


class Link:
    """A node that samples, buffers and sends, and what our side makes of it."""

    def __init__(self, *, ahead_seconds: float = 0.0, delay_seconds: float = 0.0) -> None:
        self.ours = FakeClock()
        self.node = FakeNodeClock(self.ours, ahead_seconds=ahead_seconds)
        self.clock = NodeClock()
        self.heartbeat(delay_seconds)

    def heartbeat(self, delay_seconds: float = 0.0) -> None:
        sent = monotonic_us(self.node)
        self.ours.advance(delay_seconds)
        self.clock.reading(node_monotonic_us=sent, arrived=arrival(self.ours))

    def sample(self) -> tuple[int, int, int]:
        """Both of the node's stamps, and the true time."""
        return unix_us(self.node), monotonic_us(self.node), arrival(self.ours).unix_us

    def stamp(self, sample: tuple[int, int, int]) -> Stamp:
        unix, monotonic, _ = sample
        return self.clock.stamp(node_unix_us=unix, node_monotonic_us=monotonic, arrived=arrival(self.ours))

    def error_seconds(self, sample: tuple[int, int, int], moved_seconds: float = 0.0) -> float:
        """How far the stamp is from the truth, after our wall clock moved by so much since the sample."""
        return (self.stamp(sample).taken_at_us - sample[2]) / 1e6 - moved_seconds


def test_a_right_clock_s_stamp_is_taken_as_it_is() -> None:
    link = Link()
    sample = link.sample()
    link.ours.advance(0.05)
    assert link.stamp(sample) == Stamp(taken_at_us=sample[0], clock_offset_seconds=0.0, corrected=False)


@pytest.mark.parametrize("ahead", [-6 * HOUR, -3.0, 3.0, 6 * HOUR])
def test_a_wrong_clock_s_stamp_is_replaced_by_ours_and_its_offset_is_known(ahead: float) -> None:
    link = Link(ahead_seconds=ahead)
    sample = link.sample()
    link.ours.advance(0.2)
    stamp = link.stamp(sample)
    assert stamp.corrected
    assert abs(stamp.taken_at_us - sample[2]) < TOLERANCE_US
    assert stamp.clock_offset_seconds == pytest.approx(ahead, abs=TOLERANCE)


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR])
def test_samples_buffered_before_and_after_a_node_s_wall_clock_jumped_get_right_stamps(jump: float) -> None:
    link = Link()
    before = link.sample()
    link.ours.advance(600)
    link.node.jump(jump)
    after = link.sample()
    link.ours.advance(600)
    assert abs(link.error_seconds(before)) < TOLERANCE
    assert abs(link.error_seconds(after)) < TOLERANCE


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR])
def test_our_own_wall_clock_may_jump_without_moving_a_sample_s_age(jump: float) -> None:
    link = Link()
    sample = link.sample()
    link.ours.advance(30)
    link.ours.jump(jump)
    assert abs(link.error_seconds(sample, moved_seconds=jump)) < TOLERANCE


def test_a_first_reading_that_was_long_under_way_is_repaired_by_the_next() -> None:
    link = Link(delay_seconds=40.0)
    link.heartbeat()
    sample = link.sample()
    link.ours.advance(1)
    assert abs(link.error_seconds(sample)) < TOLERANCE


def test_readings_that_were_held_up_do_not_move_the_stamps() -> None:
    link = Link()
    for _ in range(10):  # read late: our side did not come round to it
        link.ours.advance(10)
        link.heartbeat(delay_seconds=30)
    sample = link.sample()
    link.ours.advance(5)
    assert abs(link.error_seconds(sample)) < TOLERANCE


def test_a_tick_from_the_future_is_stamped_with_its_arrival_and_is_the_truer_reading() -> None:
    """Our machine was suspended: its monotonic clock stood still while the node's went on."""
    link = Link()
    true = link.sample()
    leap = round(2 * HOUR * 1e6)
    first = (true[0] + leap, true[1] + leap, true[2])
    arrived = arrival(link.ours)
    assert link.stamp(first).taken_at_us == arrived.unix_us
    link.ours.advance(5)
    second = (first[0] + 5_000_000, first[1] + 5_000_000, first[2] + 5_000_000)
    link.ours.advance(1)
    assert abs(link.error_seconds(second)) < TOLERANCE


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    ahead=st.floats(-10 * HOUR, 10 * HOUR),
    drift_ppm=st.floats(-200, 200),
)
def test_stamps_stay_right_through_skew_drift_jumps_delays_and_buffering(
    seed: int, ahead: float, drift_ppm: float
) -> None:
    chance = random.Random(seed)
    clock = NodeClock()
    boot, wall_offset = 5_000.0, ahead

    def node_monotonic(now: float) -> int:
        return round((boot + now * (1 + drift_ppm / 1e6)) * 1e6)

    now = 0.0
    clock.reading(node_monotonic_us=node_monotonic(now), arrived=at(now))
    buffered: deque[tuple[int, int, float]] = deque()
    for _ in range(200):
        now += chance.uniform(1, 10)
        match chance.randrange(6):
            case 0:
                wall_offset += chance.uniform(-5 * HOUR, 5 * HOUR) if chance.random() < 0.3 else 0.0
            case 1:
                clock.reading(node_monotonic_us=node_monotonic(now - chance.choice((0, 0, 0.2, 5))), arrived=at(now))
            case 2 if buffered:
                while buffered:
                    unix, monotonic, truth = buffered.popleft()
                    stamp = clock.stamp(node_unix_us=unix, node_monotonic_us=monotonic, arrived=at(now))
                    # A node's stamp within the tolerance of our estimate stands, so both errors may add up.
                    assert abs(stamp.taken_at_us / 1e6 - at(truth).unix_us / 1e6) < TOLERANCE + 1.0
                    assert stamp.taken_at_us <= at(now).unix_us + TOLERANCE_US
            case _:
                buffered.append((at(now).unix_us + round(wall_offset * 1e6), node_monotonic(now), now))
        if chance.random() < 0.5:  # the heartbeat that never comes late: drift must not pile up
            clock.reading(node_monotonic_us=node_monotonic(now), arrived=at(now))


def at(seconds: float) -> Arrival:
    return Arrival(unix_us=1_800_000_000_000_000 + round(seconds * 1e6), monotonic_us=77_000_000 + round(seconds * 1e6))
