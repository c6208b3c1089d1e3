"""Since when counters count, over restarts that say so and restarts that do not."""

from __future__ import annotations

from node_agent.collectors.engines.epoch import CounterEpoch
from node_agent.model import Histogram, Reason


def test_counters_begin_at_the_declared_start() -> None:
    assert CounterEpoch().follow({"prompt_tokens_total": 5}, declared=100.0, now_unix_seconds=500.0) == 100.0


def test_counters_without_a_declared_start_begin_when_they_were_first_seen() -> None:
    epoch = CounterEpoch()
    assert epoch.follow({"prompt_tokens_total": 5}, declared=None, now_unix_seconds=500.0) == 500.0
    assert epoch.follow({"prompt_tokens_total": 6}, declared=None, now_unix_seconds=501.0) == 500.0
    # a process's start that becomes known later is no restart
    assert epoch.follow({"prompt_tokens_total": 7}, declared=400.0, now_unix_seconds=502.0) == 500.0


def test_a_counter_that_falls_begins_a_new_epoch_now_when_the_start_did_not_move() -> None:
    epoch = CounterEpoch()
    epoch.follow({"prompt_tokens_total": 5}, declared=100.0, now_unix_seconds=500.0)
    assert epoch.follow({"prompt_tokens_total": 4}, declared=100.0, now_unix_seconds=510.0) == 510.0
    assert epoch.follow({"prompt_tokens_total": 5}, declared=100.0, now_unix_seconds=520.0) == 510.0


def test_a_histogram_that_falls_begins_a_new_epoch() -> None:
    epoch = CounterEpoch()
    for count, now, since in ((5, 500.0, 500.0), (3, 510.0, 510.0)):
        values = {"ttft_seconds": Histogram(bounds=(), counts=(count,), sum=1.0)}
        assert epoch.follow(values, declared=None, now_unix_seconds=now) == since


def test_a_later_start_begins_a_new_epoch_there() -> None:
    epoch = CounterEpoch()
    epoch.follow({"prompt_tokens_total": 0}, declared=100.0, now_unix_seconds=500.0)
    assert epoch.follow({"prompt_tokens_total": 0}, declared=505.0, now_unix_seconds=510.0) == 505.0


def test_a_start_that_trembles_is_no_restart() -> None:
    epoch = CounterEpoch()
    epoch.follow({"prompt_tokens_total": 5}, declared=100.0, now_unix_seconds=500.0)
    assert epoch.follow({"prompt_tokens_total": 5}, declared=101.0, now_unix_seconds=510.0) == 100.0


def test_two_restarts_give_two_epochs_even_when_the_clock_went_back() -> None:
    epoch = CounterEpoch()
    epoch.follow({"prompt_tokens_total": 5}, declared=None, now_unix_seconds=500.0)
    assert epoch.follow({"prompt_tokens_total": 4}, declared=None, now_unix_seconds=100.0) > 500.0


def test_a_gauge_that_falls_is_no_restart() -> None:
    epoch = CounterEpoch()
    epoch.follow({"requests_running_count": 5.0}, declared=None, now_unix_seconds=500.0)
    assert epoch.follow({"requests_running_count": 4.0}, declared=None, now_unix_seconds=510.0) == 500.0


def test_a_counter_that_is_unknown_for_a_while_is_compared_with_what_it_was() -> None:
    epoch = CounterEpoch()
    epoch.follow({"prompt_tokens_total": 5}, declared=None, now_unix_seconds=500.0)
    epoch.follow({"prompt_tokens_total": Reason.NOT_EXPOSED}, declared=None, now_unix_seconds=510.0)
    assert epoch.follow({"prompt_tokens_total": 4}, declared=None, now_unix_seconds=520.0) == 520.0
