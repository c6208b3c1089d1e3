"""What a history is made from: the coarsest source that answers, and never one that is not kept any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from control_plane.storage.history_plans import Kept, Source, plan, whole_window

NOW = datetime(2026, 3, 4, 12, 34, 56, tzinfo=UTC)
KEPT = Kept(samples_since=NOW - timedelta(days=14), minutes_since=NOW - timedelta(days=30))
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@pytest.mark.parametrize(
    ("length", "step", "entities", "asked", "source"),
    [
        (HOUR, timedelta(seconds=4), 50, False, Source.SAMPLES),  # points closer than minutes
        (HOUR, MINUTE, 1, True, Source.SAMPLES),  # few rows: exact
        (DAY, timedelta(seconds=87), 1, False, Source.MINUTES),
        (30 * DAY, timedelta(seconds=2592), 1, False, Source.HOURS),  # nearly an hour, and nobody asked for less
        (30 * DAY, timedelta(minutes=45), 1, True, Source.MINUTES),
        (30 * DAY, HOUR, 1, True, Source.HOURS),
        (20 * DAY, timedelta(seconds=10), 1, True, Source.MINUTES),  # samples of then are gone
        (40 * DAY, timedelta(seconds=10), 1, True, Source.HOURS),  # and so are minutes
    ],
)
def test_the_coarsest_source_that_answers_is_chosen(
    length: timedelta, step: timedelta, entities: int, asked: bool, source: Source
) -> None:
    found = plan(NOW - length, NOW, step, entities=entities, step_was_asked=asked, kept=KEPT)
    assert found.source is source


def test_points_of_rollups_begin_at_whole_units_and_are_as_wide_as_whole_units() -> None:
    found = plan(NOW - DAY, NOW, timedelta(seconds=87), entities=1, step_was_asked=False)
    assert found.since == datetime(2026, 3, 3, 12, 34, tzinfo=UTC)
    assert found.step == timedelta(minutes=2)
    assert found.since + found.points * found.step >= NOW > found.since + (found.points - 1) * found.step


def test_a_whole_window_is_one_point_that_begins_hardly_earlier() -> None:
    for length in (timedelta(minutes=5), HOUR, DAY, 10 * DAY, 60 * DAY):
        found = whole_window(NOW - length, NOW, entities=100, kept=KEPT)
        assert found.points == 1
        assert NOW - length - found.since <= length / 40
