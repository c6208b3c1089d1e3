"""Jobs go on whatever happens to one piece of work, and say how they fare."""

from __future__ import annotations

from collections.abc import Callable

from control_plane.model.errors import StorageUnavailable
from control_plane.runtime import jobs
from control_plane.runtime.jobs import Job, Report, Standing
from tests.fakes.clock import FakeClock


def job(work: Callable[[], Report], clock: FakeClock) -> Job:
    return Job("a job", work, every_seconds=1, clock=clock)


async def test_a_piece_that_was_done_says_whether_there_is_more_and_what_it_counted(clock: FakeClock) -> None:
    found = job(lambda: Report(leading=True, more=True, figures={"behind_seconds": 3.0}), clock)
    assert await found.once()
    assert (found.state.standing, found.state.figures) == (Standing.LEADING, {"behind_seconds": 3.0})
    assert found.state.last_success_at == clock.now()


async def test_a_replica_that_is_not_the_leader_says_so(clock: FakeClock) -> None:
    found = job(lambda: Report(leading=False, more=False), clock)
    assert not await found.once()
    assert found.state.standing is Standing.FOLLOWING


async def test_a_failure_is_shown_until_a_piece_succeeds_again(clock: FakeClock) -> None:
    failures = iter([StorageUnavailable("away"), ZeroDivisionError("a mistake of ours"), None])

    def work() -> Report:
        failure = next(failures)
        if failure is not None:
            raise failure
        return Report(leading=True, more=False)

    found = job(work, clock)
    assert not await found.once()
    assert (found.state.standing, found.state.last_error) == (Standing.FAILED, "StorageUnavailable: away")
    assert not await found.once()
    assert found.state.last_error == "ZeroDivisionError: a mistake of ours"
    await found.once()
    assert (found.state.standing, found.state.last_error) == (Standing.LEADING, None)


def test_a_job_that_takes_long_is_done_less_often_but_not_ever_less(clock: FakeClock) -> None:
    found = job(lambda: Report(leading=True, more=False), clock)
    for used, pause in ((0.0, 1.0), (0.01, 1.0), (0.1, 5.0), (100.0, jobs.LONGEST_PAUSE_SECONDS)):
        found._used_seconds = used
        assert found.pause_seconds() == pause
    rare = Job("rare", lambda: Report(leading=True, more=False), every_seconds=3600, clock=clock)
    rare._used_seconds = 100.0
    assert rare.pause_seconds() == 3600
