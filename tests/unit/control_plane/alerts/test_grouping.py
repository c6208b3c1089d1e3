"""Who is told of what, and when: groups, spacing, silences and alerts that explain others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from control_plane.alerts.grouping import MOST_ALERTS, Decision, decided, grouped
from control_plane.alerts.suppression import matches, suppressed
from control_plane.model.alert import (
    Alert,
    AlertConfiguration,
    AlertSeverity,
    AlertState,
    Group,
    Grouping,
    Inhibition,
    Receiver,
    Route,
    Silence,
)

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
OPS = Receiver(name="ops", shown_url="https://ops:443/…", sealed_url="s")
SPACING = Grouping(
    by=("rule", "node"), wait=timedelta(seconds=5), interval=timedelta(minutes=5), repeat=timedelta(hours=4)
)
CONFIGURATION = AlertConfiguration(receivers=[OPS], default_receiver="ops", grouping=SPACING)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def alert(number: int, *, kind: str = "gpu_temperature", state: AlertState = AlertState.FIRING, **labels: str) -> Alert:
    return Alert(
        alert_id=number, fingerprint=f"f{number}", rule=kind, kind=kind, severity=AlertSeverity.WARNING,
        labels={"rule": kind, "node": "alpha", "gpu": str(number), **labels}, summary=f"alert {number}", value=1.0,
        evidence={}, runbook_url=None, state=state, since=START, seen_at=START, fired_at=START,
        resolved_at=START if state is AlertState.RESOLVED else None,
    )  # fmt: skip


class Teller:
    """One group, looked at again and again."""

    def __init__(self, receiver: Receiver = OPS) -> None:
        self.receiver = receiver
        self.group: Group | None = None
        self.settled: frozenset[int] = frozenset()

    def look(
        self, seconds: float, alerts: Sequence[Alert], *, is_waiting: bool = False
    ) -> list[tuple[int, str]] | None:
        """This will give what is told: alert and status."""
        alerts = [a for a in alerts if a.alert_id not in self.settled]
        known = {self.group.key: self.group} if self.group else {}
        found = grouped(alerts, CONFIGURATION, known)
        if not found:
            return None
        ((group, members),) = found.values()
        decision: Decision = decided(
            group, members, self.receiver, SPACING, at(seconds), url="http://here", is_waiting=is_waiting
        )
        self.group, self.settled = decision.group, self.settled | decision.settled
        if decision.body is None:
            return None
        shown = json.loads(json.dumps(decision.body))["alerts"]
        return [(int(a["labels"]["gpu"]), a["status"]) for a in shown]


def test_a_new_group_is_told_after_the_wait_and_changes_after_the_interval() -> None:
    teller = Teller()
    assert teller.look(0, [alert(1)]) is None
    assert teller.look(4, [alert(1)]) is None
    assert teller.look(5, [alert(1), alert(2)]) == [(1, "firing"), (2, "firing")]
    assert teller.look(6, [alert(1), alert(2), alert(3)]) is None
    assert teller.look(304, [alert(1), alert(2), alert(3)]) is None
    assert teller.look(305, [alert(1), alert(2), alert(3)]) == [(1, "firing"), (2, "firing"), (3, "firing")]
    assert teller.look(3000, [alert(1), alert(2), alert(3)]) is None


def test_what_still_fires_is_repeated_unless_somebody_has_it_in_hand() -> None:
    teller = Teller()
    teller.look(0, [alert(1)])
    assert teller.look(5, [alert(1)]) is not None
    assert teller.look(5 + 4 * 3600 - 1, [alert(1)]) is None
    in_hand = replace(alert(1), acknowledged_at=at(60), acknowledged_by="ada")
    assert teller.look(5 + 4 * 3600, [in_hand]) is None
    assert teller.look(5 + 4 * 3600, [alert(1)]) == [(1, "firing")]


def test_that_it_is_over_is_told_once() -> None:
    teller = Teller()
    teller.look(0, [alert(1)])
    teller.look(5, [alert(1)])
    over = alert(1, state=AlertState.RESOLVED)
    assert teller.look(100, [over]) is None
    assert teller.look(305, [over]) == [(1, "resolved")]
    assert teller.settled == {1}
    assert teller.look(1000, [over]) is None


def test_a_receiver_that_does_not_want_to_hear_that_it_is_over_does_not() -> None:
    teller = Teller(replace(OPS, sends_resolved=False))
    teller.look(0, [alert(1)])
    teller.look(5, [alert(1)])
    assert teller.look(305, [alert(1, state=AlertState.RESOLVED)]) is None
    assert teller.settled == {1}


def test_while_the_one_before_has_not_arrived_nothing_new_is_made_and_nothing_is_lost() -> None:
    teller = Teller()
    teller.look(0, [alert(1)])
    teller.look(5, [alert(1)])
    for seconds in range(10, 3600, 300):
        assert teller.look(seconds, [alert(1, state=AlertState.RESOLVED), alert(2)], is_waiting=True) is None
    came_and_went = alert(3, state=AlertState.RESOLVED)
    told = teller.look(3600, [alert(1, state=AlertState.RESOLVED), alert(2), came_and_went])
    assert told == [(2, "firing"), (1, "resolved"), (3, "resolved")]


def test_a_silenced_alert_is_not_told_until_the_silence_ends() -> None:
    silence = Silence(
        silence_id="s", matchers={"gpu": "1"}, starts_at=at(0), ends_at=at(60), comment="", created_by="ada"
    )
    teller = Teller()

    def seen(seconds: float) -> list[Alert]:
        return suppressed([alert(1)], [], [silence], at(seconds))

    assert seen(0)[0].silenced_by == "s"
    assert teller.look(0, seen(0)) is None
    assert teller.look(59, seen(59)) is None
    assert teller.look(60, seen(60)) is None, "a new group waits"
    assert teller.look(65, seen(65)) == [(1, "firing")]


def test_one_that_came_and_went_in_a_silence_is_never_told() -> None:
    teller = Teller()
    silenced = replace(alert(1, state=AlertState.RESOLVED), silenced_by="s")
    assert teller.look(0, [silenced]) is None
    assert teller.settled == {1}


def test_a_silent_node_explains_what_is_said_of_it_and_not_itself_nor_others() -> None:
    silent = alert(1, kind="node_silent")
    mine, other = alert(2, kind="engine_down"), alert(3, kind="engine_down", node="beta")
    found = {a.alert_id: a.inhibited_by for a in suppressed([silent, mine, other], [], [], START)}
    assert found == {1: None, 2: "f1", 3: None}


def test_a_pending_alert_explains_nothing() -> None:
    silent = replace(alert(1, kind="node_silent"), state=AlertState.PENDING)
    assert suppressed([silent, alert(2)], [], [], START)[1].inhibited_by is None


def test_inhibitions_that_people_make_need_the_labels_that_must_be_equal() -> None:
    rule = Inhibition(source={"kind": "waste"}, target={"kind": "low_utilization"}, equal=("gpu",))
    source, target = alert(1, kind="waste", gpu="g"), alert(2, kind="low_utilization", gpu="g")
    assert suppressed([source, target], [rule], [], START)[1].inhibited_by == "f1"
    without = replace(target, labels={name: v for name, v in target.labels.items() if name != "gpu"})
    assert suppressed([source, without], [rule], [], START)[1].inhibited_by is None


def test_matchers_take_either_of_several_and_anything_that_is_there() -> None:
    assert matches({"a": "1|2"}, {"a": "2"})
    assert not matches({"a": "1|2"}, {"a": "3"})
    assert matches({"a": "*"}, {"a": ""})
    assert not matches({"a": "*"}, {})
    assert matches({}, {})


def test_the_first_route_that_matches_says_who_is_told() -> None:
    configuration = replace(
        CONFIGURATION,
        routes=[Route(matchers={"kind": "waste"}, receiver="finance"), Route(matchers={"node": "beta"}, receiver="b")],
    )
    found = grouped([alert(1, kind="waste", node="beta"), alert(2, node="beta"), alert(3)], configuration, {})
    assert sorted((group.receiver, members[0].alert_id) for group, members in found.values()) == [
        ("b", 2), ("finance", 1), ("ops", 3),
    ]  # fmt: skip
    assert grouped([alert(1)], replace(CONFIGURATION, default_receiver=None), {}) == {}


def test_the_body_is_that_of_alertmanager() -> None:
    many = [alert(n) for n in range(1, MOST_ALERTS + 11)]
    ((group, members),) = grouped(many, CONFIGURATION, {}).values()
    decision = decided(
        replace(group, changed_at=at(-60)), members, OPS, SPACING, at(0), url="http://here", is_waiting=False
    )
    assert decision.body is not None
    body = json.loads(json.dumps(decision.body))
    assert body.keys() == {
        "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels",
        "commonAnnotations", "externalURL", "alerts",
    }  # fmt: skip
    assert (body["version"], body["status"], body["receiver"], body["truncatedAlerts"]) == ("4", "firing", "ops", 10)
    assert body["groupLabels"] == {"rule": "gpu_temperature", "node": "alpha"}
    assert body["commonLabels"] == {"rule": "gpu_temperature", "node": "alpha"}
    first = body["alerts"][0]
    assert first["labels"]["alertname"] == "gpu_temperature"
    assert (first["status"], first["startsAt"], first["endsAt"]) == (
        "firing", "2026-03-04T12:00:00.000Z", "0001-01-01T00:00:00Z",
    )  # fmt: skip
    assert first["generatorURL"] == "http://here/alerts/1"
