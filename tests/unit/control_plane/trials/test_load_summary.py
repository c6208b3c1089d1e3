from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from control_plane.model.errors import InvalidRequest
from control_plane.trials.load import report, search
from control_plane.trials.load.records import GapCounts, LoadRun, Outcome, RequestRecord
from control_plane.trials.load.search import Keeps, Search
from control_plane.trials.load.summary import Objective, Summary, summarize

OBJECTIVE = Objective(ttft_seconds=0.2)


def request(number: int, due: float, **changed: object) -> RequestRecord:
    made = RequestRecord(
        number=number, due_seconds=due, sent_seconds=due + 0.0005, first_token_seconds=due + 0.1,
        last_token_seconds=due + 0.4, ended_seconds=due + 0.4, outcome=Outcome.COMPLETED, prompt_tokens=10,
        cached_tokens=None, output_tokens=4, chunks=4, finish_reason="length", http_status=200, detail=None,
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]


def failed(number: int, due: float, outcome: Outcome = Outcome.TIMED_OUT) -> RequestRecord:
    return request(
        number, due, outcome=outcome, first_token_seconds=None, last_token_seconds=None, output_tokens=None, chunks=0
    )


def steady(count: int = 200, *, rate: float = 10.0, bad_every: int = 0) -> LoadRun:
    run = LoadRun(warmup_seconds=2.0, seconds=count / rate)
    for n in range(count):
        made = failed if bad_every and n % bad_every == 0 else request
        run.records.append(made(n, n / rate))
    return run


def test_a_request_waits_from_when_it_was_due() -> None:
    late = request(0, 1.0, sent_seconds=1.5, first_token_seconds=1.6, last_token_seconds=1.9)
    assert late.ttft_seconds == pytest.approx(0.6)
    assert late.e2e_seconds == pytest.approx(0.9)
    grain = request(0, 1.0, sent_seconds=1.001, first_token_seconds=1.1)
    assert grain.ttft_seconds == pytest.approx(0.099), "a timer's own grain is not the server's fault"
    early = request(0, 1.0, sent_seconds=0.9995, first_token_seconds=0.9997)
    assert early.ttft_seconds == pytest.approx(0.0002)


def test_time_per_token_needs_two_tokens_and_a_whole_answer() -> None:
    assert request(0, 0.0).tpot_seconds == pytest.approx(0.1)
    assert request(0, 0.0, output_tokens=1, chunks=1).tpot_seconds is None
    assert request(0, 0.0, output_tokens=None).tpot_seconds == pytest.approx(0.1), "chunks stand in for tokens"
    assert request(0, 0.0, outcome=Outcome.CUT).tpot_seconds is None


def test_what_is_measured_begins_after_the_warm_up() -> None:
    summary = summarize(steady(), OBJECTIVE)
    assert (summary.requests, summary.warmup_requests) == (180, 20)
    assert summary.window_seconds == 18
    assert summary.due_per_second == summary.sent_per_second == 10
    assert summary.completed_per_second == pytest.approx(10, abs=0.1)
    assert summary.output_tokens_per_second == pytest.approx(40, abs=0.4)
    assert summary.ttft.percentiles[0.5].value == pytest.approx(0.0995)
    assert summary.good_ratio.value == 1
    assert summary.in_flight_mean == pytest.approx(4, abs=1)
    assert summary.saturated is False
    assert summary.doubts == []


def test_failures_are_kept_and_stand_beyond_every_percentile() -> None:
    summary = summarize(steady(bad_every=10), OBJECTIVE)
    assert summary.outcomes == {Outcome.COMPLETED: 162, Outcome.TIMED_OUT: 18}
    assert summary.good_ratio.value == 0.9
    assert summary.ttft.percentiles[0.5].value == pytest.approx(0.0995)
    assert summary.ttft.percentiles[0.95].value is None
    assert summary.ttft.count == 162


def test_what_we_cancelled_says_nothing_of_the_server() -> None:
    run = steady()
    run.records += [failed(900 + n, 10.0, Outcome.CANCELLED) for n in range(50)]
    run.stopped = True
    summary = summarize(run, OBJECTIVE)
    assert summary.requests == 180
    assert "stopped" in summary.doubts[0]


def test_requests_that_pile_up_are_seen() -> None:
    run = LoadRun(warmup_seconds=0.0, seconds=60.0)
    for n in range(600):  # 10 come each second, 8 are done
        run.records.append(request(n, n / 10, ended_seconds=n / 8 + 0.3, last_token_seconds=n / 8 + 0.3))
    assert summarize(run, OBJECTIVE).saturated is True


def test_a_run_of_nothing_is_no_success() -> None:
    summary = summarize(LoadRun(warmup_seconds=0.0, seconds=1.0), OBJECTIVE)
    assert summary.good_ratio.value is None
    assert search.keeps(summary, OBJECTIVE) is Keeps.UNDECIDED
    assert report.as_text(summary, OBJECTIVE)


def test_a_busy_generator_is_told() -> None:
    run = steady()
    run.records = [replace(r, sent_seconds=r.due_seconds + 0.5) for r in run.records]
    (doubt,) = summarize(run, OBJECTIVE).doubts
    assert "too busy" in doubt


def test_gaps_are_counted_to_half_a_percent() -> None:
    gaps, drawn = GapCounts(), np.random.default_rng(1).lognormal(-4, 1, 20_000)
    for gap in drawn:
        gaps.add(float(gap))
    for level in (0.01, 0.5, 0.99):
        assert gaps.quantile(level) == pytest.approx(np.quantile(drawn, level), rel=0.01)
    assert GapCounts().quantile(0.5) is None


def fraction(good: float, count: int, *, saturated: bool = False) -> Summary:
    run = LoadRun(warmup_seconds=0.0, seconds=count / 10)
    run.records = [request(n, n / 10) if (n * 7919) % count < good * count else failed(n, n / 10) for n in range(count)]
    return replace(summarize(run, OBJECTIVE), saturated=saturated)


@pytest.mark.parametrize(
    ("good", "count", "expected"),
    [(1.0, 100, Keeps.HOLDS), (0.96, 100, Keeps.UNDECIDED), (0.8, 100, Keeps.BREAKS), (1.0, 40, Keeps.UNDECIDED)],
)
def test_an_objective_is_kept_only_when_it_surely_is(good: float, count: int, expected: Keeps) -> None:
    assert search.keeps(fraction(good, count), OBJECTIVE) is expected


def test_a_server_that_falls_behind_breaks_the_objective_however_fast_the_first_were() -> None:
    assert search.keeps(fraction(1.0, 200, saturated=True), OBJECTIVE) is Keeps.BREAKS


@pytest.mark.parametrize("limit", [0.02, 0.7, 1.0, 13.0, 180.0])
def test_the_search_ends_around_the_limit(limit: float) -> None:
    searched, summary = Search(first_rate=1.0), fraction(1.0, 100)
    while (rate := searched.next_rate()) is not None:
        searched.learn(rate, Keeps.HOLDS if rate <= limit else Keeps.BREAKS, summary)
    assert searched.highest_kept is not None
    assert searched.highest_kept <= limit <= searched.highest_kept * 1.1
    assert len(search.in_words(searched.tries)) == len(searched.tries) <= 16


def test_the_search_ends_when_nothing_or_everything_holds() -> None:
    summary = fraction(1.0, 100)
    for keeps, expected in ((Keeps.BREAKS, None), (Keeps.HOLDS, 64.0)):
        searched = Search(first_rate=1.0, most_rate=64.0)
        while (rate := searched.next_rate()) is not None:
            searched.learn(rate, keeps, summary)
        assert searched.highest_kept == expected


def test_trials_are_long_enough_to_decide() -> None:
    seconds = search.seconds_for(2.0, least_seconds=10, objective=OBJECTIVE)
    assert search.keeps(fraction(0.99, round(2.0 * seconds)), OBJECTIVE) is Keeps.HOLDS


@pytest.mark.parametrize("changed", [{"share": 1.0}, {"share": 0.0}, {"ttft_seconds": 0.0}, {"e2e_seconds": -1.0}])
def test_what_is_no_objective_is_refused(changed: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest):
        Objective(**changed)


def test_a_report_says_unknown_and_never_zero() -> None:
    summary = summarize(steady(bad_every=5), OBJECTIVE)
    assert report.as_values(summary)["ttft_seconds"]["p95"]["value"] is None
    assert "?" in report.as_text(summary, OBJECTIVE)
