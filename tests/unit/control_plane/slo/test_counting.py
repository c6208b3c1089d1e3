"""From looks at a server to events: each request counts once, the ones that still wait included."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.model.sample import Distribution, Reading
from control_plane.model.slo import Events, Indicator, SloDefinition
from control_plane.slo.buckets import explained, place, split
from control_plane.slo.counting import Track, counted

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
BOUNDS, LONG = (0.1, 0.5, 1.0), (1.0, 5.0, 10.0)
TTFT = SloDefinition(
    name="ttft", indicator=Indicator.TTFT, target_ratio=0.95, window_days=30, threshold_seconds=0.5
)  # fmt: skip
END = SloDefinition(
    name="end", indicator=Indicator.END_TO_END, target_ratio=0.95, window_days=30, threshold_seconds=10.0
)  # fmt: skip
ERRORS = SloDefinition(name="errors", indicator=Indicator.ERROR_RATE, target_ratio=0.99, window_days=30)
ENDED = {"requests_finished_total": 0, "requests_aborted_total": 0, "requests_failed_total": 0}


def look(
    seconds: float, histograms: Mapping[str, tuple[int, ...]] | None = None, *, since: float = 1.0, **values: float
) -> Reading:
    return Reading(
        entity_id=1,
        taken_at=START + timedelta(seconds=seconds),
        values={"up_flag": 1, "counters_since_unix_seconds": since, **ENDED, **values},
        unknown={},
        distributions={
            name: Distribution(bounds=LONG if name == "end_to_end_seconds" else BOUNDS, counts=counts, sum=None)
            for name, counts in (histograms or {}).items()
        },
    )


def events_of(definition: SloDefinition, *looks: Reading) -> list[Events]:
    track, out = Track(), []
    for reading in looks:
        track, found = counted(definition, track, reading)
        out.append(found.events if found else Events())
    return out


def test_a_limit_on_a_bound_leaves_no_doubt_and_one_between_two_does() -> None:
    distribution = Distribution(bounds=BOUNDS, counts=(1, 2, 4, 8), sum=None)
    assert split(distribution, 0.5) == Events(good=3, bad=12)
    assert split(distribution, 0.3) == Events(good=1, bad=12, doubtful=2)
    assert split(distribution, 5.0) == Events(good=7, doubtful=8)
    assert place(BOUNDS, 0.5).is_exact
    assert not place(BOUNDS, 0.3).is_exact
    assert "between the bounds 0.1 and 0.5" in explained(place(BOUNDS, 0.3), 0.3)
    assert "above the last bound" in explained(place(BOUNDS, 5.0), 5.0)


def test_the_first_look_counts_nothing_and_the_next_what_came_in_between() -> None:
    first = look(0, {"ttft_seconds": (100, 0, 0, 50)})
    second = look(5, {"ttft_seconds": (110, 2, 1, 51)})
    assert events_of(TTFT, first, second) == [Events(), Events(good=12, bad=2)]


def test_counters_that_began_anew_count_from_there() -> None:
    first = look(0, {"ttft_seconds": (100, 0, 0, 0)})
    again = look(5, {"ttft_seconds": (3, 0, 0, 0)}, since=99.0)
    later = look(10, {"ttft_seconds": (5, 0, 0, 0)}, since=99.0)
    assert events_of(TTFT, first, again, later) == [Events(), Events(), Events(good=2)]


def test_requests_that_a_restart_may_have_cost_are_neither_good_nor_bad() -> None:
    first = look(0, requests_running_count=3, requests_waiting_count=1)
    assert events_of(ERRORS, first, look(5, since=99.0)) == [Events(), Events(doubtful=4)]


def test_other_bounds_are_another_count() -> None:
    first = look(0, {"ttft_seconds": (100, 0, 0, 0)})
    other = Reading(
        entity_id=1, taken_at=START + timedelta(seconds=5), values=first.values, unknown={},
        distributions={"ttft_seconds": Distribution(bounds=(0.5,), counts=(200, 0), sum=None)},
    )  # fmt: skip
    track, _ = counted(TTFT, Track(), first)
    _, found = counted(TTFT, track, other)
    assert found is not None
    assert (found.events, found.unknown) == (Events(), "ttft_seconds: not_sent")


def test_a_request_in_flight_beyond_its_limit_is_bad_now_and_is_not_counted_again_when_it_ends() -> None:
    nothing = (0, 0, 0, 0)
    looks = [look(5.0 * n, {"end_to_end_seconds": nothing}, requests_running_count=4) for n in range(5)]
    ended = look(25, {"end_to_end_seconds": (0, 0, 0, 4)}, requests_running_count=0, requests_finished_total=4)
    found = events_of(END, *looks, ended)
    assert found[:2] == [Events(), Events()], "not yet beyond the limit"
    assert found[2] == Events(bad=4)
    assert found[3:] == [Events(), Events(), Events()]


def test_a_request_that_ended_in_time_while_others_are_overdue_is_good() -> None:
    looks = [
        look(0, {"end_to_end_seconds": (0, 0, 0, 0)}, requests_running_count=2),
        look(10, {"end_to_end_seconds": (0, 0, 0, 0)}, requests_running_count=3),
        look(15, {"end_to_end_seconds": (1, 0, 0, 0)}, requests_running_count=2, requests_finished_total=1),
        look(40, {"end_to_end_seconds": (1, 0, 0, 2)}, requests_running_count=0, requests_finished_total=3),
    ]
    assert sum(events_of(END, *looks), Events()) == Events(good=1, bad=2)


def test_who_waits_for_a_first_token_longer_than_the_limit_is_bad_at_once() -> None:
    def at(seconds: float, first_tokens: int, waiting: int) -> Reading:
        return look(seconds, {"ttft_seconds": (first_tokens, 0, 0, 0)}, requests_waiting_count=waiting)

    found = events_of(TTFT, at(0, 10, 0), at(2, 10, 5), at(4, 10, 9), at(6, 12, 9))
    assert found == [Events(), Events(), Events(bad=5), Events(good=2, bad=2)]


def test_a_hung_engine_has_late_tokens() -> None:
    definition = SloDefinition(
        name="itl", indicator=Indicator.INTER_TOKEN, target_ratio=0.99, window_days=30, threshold_seconds=1.0
    )
    still = {"inter_token_latency_seconds": (50, 0, 0, 0), "ttft_seconds": (5, 0, 0, 0)}
    looks = [look(2.0 * n, still, requests_running_count=8) for n in range(4)]
    found = events_of(definition, *looks)
    assert found[1] == Events(bad=8)
    assert sum(found, Events()).bad == 8


def test_errors_are_counted_of_requests_that_ended_and_refusals_are_errors() -> None:
    first = look(0, requests_finished_total=100, requests_failed_total=1, requests_rejected_total=0)
    second = look(
        5, requests_finished_total=110, requests_failed_total=2, requests_rejected_total=3, requests_aborted_total=7
    )
    assert events_of(ERRORS, first, second)[1] == Events(good=10, bad=4)


def test_an_engine_that_does_not_say_how_many_failed_is_not_judged() -> None:
    first, second = look(0), look(5, requests_finished_total=10)
    silent = [
        Reading(
            entity_id=1, taken_at=r.taken_at, values={**r.values, "requests_failed_total": None},
            unknown={"requests_failed_total": "not_exposed"},
        )
        for r in (first, second)
    ]  # fmt: skip
    track, _ = counted(ERRORS, Track(), silent[0])
    _, found = counted(ERRORS, track, silent[1])
    assert found is not None
    assert (found.events, found.unknown) == (Events(), "requests_failed_total: not_exposed")


def test_goodput_of_two_limits_lies_between_the_worst_of_them_and_their_sum() -> None:
    definition = SloDefinition(
        name="good", indicator=Indicator.GOODPUT, target_ratio=0.9, window_days=30,
        limits={"ttft_seconds": 0.5, "end_to_end_seconds": 5.0},
    )  # fmt: skip
    nothing = {"ttft_seconds": (0, 0, 0, 0), "end_to_end_seconds": (0, 0, 0, 0)}
    some = {"ttft_seconds": (14, 0, 6, 0), "end_to_end_seconds": (0, 16, 4, 0)}
    assert events_of(definition, look(0, nothing), look(5, some))[1] == Events(good=10, bad=6, doubtful=4)


@pytest.mark.parametrize("gap", [3600.0, 5.0])
def test_what_came_in_a_gap_is_counted_too(gap: float) -> None:
    found = events_of(TTFT, look(0, {"ttft_seconds": (0, 0, 0, 0)}), look(gap, {"ttft_seconds": (7, 0, 0, 0)}))
    assert found[1] == Events(good=7)
