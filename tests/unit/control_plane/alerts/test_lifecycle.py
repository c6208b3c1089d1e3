"""How alerts live: the table of transitions, what is not known, and what comes and goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_plane.alerts.lifecycle import (
    FLAP_FACTOR,
    LEAST_KEPT_WHEN_FLAPPING,
    UNKNOWN_ENDS_AFTER,
    advanced,
    begun,
    ended,
    fingerprint,
    is_flapping,
)
from control_plane.model.alert import Alert, AlertRule, AlertSeverity, AlertState, Finding, RuleKind
from control_plane.stages.alerts import WRITTEN_EVERY, is_news

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
RULE = AlertRule(
    name="hot", kind=RuleKind.GPU_TEMPERATURE, severity=AlertSeverity.WARNING, wait=timedelta(seconds=60),
    keep=timedelta(seconds=30), labels={"team": "ops"},
)  # fmt: skip
SO = Finding(labels={"gpu": "g", "node": "n"}, is_so=True, value=90.0, summary="hot")
NOT_SO = Finding(labels=SO.labels, is_so=False)
UNKNOWN = Finding(labels=SO.labels, is_so=None)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def lived(*steps: tuple[float, Finding], alert: Alert | None = None) -> Alert | None:
    for seconds, finding in steps:
        alert = begun(RULE, finding, at(seconds)) if alert is None else advanced(alert, RULE, finding, at(seconds))
        if alert is None:
            return None
    return alert


def state(alert: Alert | None) -> AlertState | None:
    return None if alert is None else alert.state


def test_it_fires_once_it_has_been_so_for_long_enough() -> None:
    assert state(lived((0, SO))) is AlertState.PENDING
    assert state(lived((0, SO), (59, SO))) is AlertState.PENDING
    fired = lived((0, SO), (60, SO))
    assert fired is not None
    assert (fired.state, fired.fired_at, fired.since) == (AlertState.FIRING, at(60), at(0))
    assert fired.labels == {"gpu": "g", "node": "n", "team": "ops", "rule": "hot", "severity": "warning"}


def test_what_began_before_anybody_looked_counts_from_then() -> None:
    finding = Finding(labels=SO.labels, is_so=True, since=at(-120))
    assert state(begun(RULE, finding, at(0))) is AlertState.FIRING


def test_what_was_not_so_for_long_enough_never_was() -> None:
    assert lived((0, SO), (30, NOT_SO)) is None


def test_it_is_resolved_once_it_has_not_been_so_for_long_enough() -> None:
    fired = lived((0, SO), (60, SO))
    assert state(lived((70, NOT_SO), (99, NOT_SO), alert=fired)) is AlertState.FIRING
    over = lived((70, NOT_SO), (100, NOT_SO), alert=fired)
    assert over is not None
    assert (over.state, over.resolved_at, over.resolution) == (AlertState.RESOLVED, at(100), "it is over")
    back = lived((70, NOT_SO), (90, SO), (110, NOT_SO), alert=fired)
    assert state(back) is AlertState.FIRING, "the time that it must be quiet begins anew"


def test_what_is_not_known_neither_fires_nor_resolves_and_ends_after_an_hour() -> None:
    pending = lived((0, SO), (120, UNKNOWN))
    assert state(pending) is AlertState.PENDING
    fired = lived((0, SO), (60, SO), (61, UNKNOWN), (3600, UNKNOWN))
    assert state(fired) is AlertState.FIRING
    over = lived((61 + UNKNOWN_ENDS_AFTER.total_seconds(), UNKNOWN), alert=fired)
    assert over is not None
    assert over.state is AlertState.RESOLVED
    assert over.resolution == "nobody could say for an hour whether it is still so"
    assert lived((0, SO), (1, UNKNOWN), (2 + UNKNOWN_ENDS_AFTER.total_seconds(), UNKNOWN)) is None


def test_one_that_comes_and_goes_is_kept_for_longer() -> None:
    alert = lived((0, SO), (60, SO))
    seconds = 60.0
    for _ in range(3):
        alert = lived((seconds + 10, NOT_SO), (seconds + 20, SO), alert=alert)
        seconds += 20
    assert alert is not None
    assert is_flapping(alert, at(seconds))
    kept = max(FLAP_FACTOR * RULE.keep, LEAST_KEPT_WHEN_FLAPPING).total_seconds()
    assert state(lived((seconds, NOT_SO), (seconds + kept - 1, NOT_SO), alert=alert)) is AlertState.FIRING
    assert state(lived((seconds, NOT_SO), (seconds + kept, NOT_SO), alert=alert)) is AlertState.RESOLVED


def test_one_that_was_over_and_comes_back_within_the_hour_remembers() -> None:
    alert = lived((0, SO), (60, SO), (70, NOT_SO), (100, NOT_SO))
    for n in range(3):
        alert = begun(RULE, SO, at(200 + n), before=alert)
        alert = lived((300 + n, SO), (310 + n, NOT_SO), (3000, NOT_SO), alert=alert)
        assert alert is not None
    assert is_flapping(alert, at(3000))
    assert begun(RULE, SO, at(20_000), before=alert).flaps == ()


def test_an_alert_whose_rule_is_no_more_ends() -> None:
    fired = lived((0, SO), (60, SO))
    assert fired is not None
    over = ended(fired, "its rule is no more", at(61))
    assert over is not None
    assert over.resolution == "its rule is no more"
    pending = lived((0, SO))
    assert pending is not None
    assert ended(pending, "x", at(1)) is None


def test_a_fingerprint_is_of_rule_and_labels_whatever_their_order() -> None:
    assert fingerprint("r", {"a": "1", "b": "2"}) == fingerprint("r", {"b": "2", "a": "1"})
    others = {fingerprint("s", {"a": "1"}), fingerprint("r", {"a": "1"}), fingerprint("r", {"a": "12"}),
              fingerprint("r", {"a": "1", "b": ""})}  # fmt: skip
    assert len(others) == 4


@given(st.lists(st.tuples(st.sampled_from([SO, NOT_SO, UNKNOWN]), st.floats(0.1, 600)), max_size=60))
def test_whatever_happens_an_alert_only_goes_forward(steps: list[tuple[Finding, float]]) -> None:
    alert: Alert | None = begun(RULE, SO, START)
    now = START
    order = list(AlertState)
    for finding, seconds in steps:
        now += timedelta(seconds=seconds)
        assert alert is not None
        after = advanced(alert, RULE, finding, now)
        if after is None:
            assert alert.state is AlertState.PENDING
            break
        assert order.index(after.state) >= order.index(alert.state)
        assert (after.fired_at is not None) == (after.state is not AlertState.PENDING)
        if finding.is_so is None and after.state is AlertState.RESOLVED:
            assert after.resolution != "it is over"
        if after.state is AlertState.RESOLVED:
            break
        alert = after


def test_an_alert_that_goes_on_is_written_now_and_then_and_one_that_changed_at_once() -> None:
    before = lived((0, SO), (60, SO))
    assert before is not None
    hotter = replace(SO, value=91.0, summary="hotter", evidence={"temperature": 91.0})
    again, later = lived((61, hotter), alert=before), lived((60 + WRITTEN_EVERY.total_seconds(), SO), alert=before)
    cooler = lived((61, NOT_SO), alert=before)
    assert again is not None
    assert later is not None
    assert cooler is not None
    assert not is_news(before, again)
    assert is_news(before, later)
    assert is_news(before, cooler)
    assert is_news(before, replace(again, silenced_by="somebody"))
    assert is_news(None, before)
