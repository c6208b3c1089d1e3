"""The alert job: look at the facts, let alerts live and end, and put on their way what is to be told.

All of one look is one transaction: an alert fires, its group has been told and the notification lies in the outbox, or
none of it happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from control_plane.alerts import grouping, lifecycle, looking
from control_plane.alerts.facts import Facts
from control_plane.alerts.kinds import usual_rules
from control_plane.alerts.suppression import suppressed
from control_plane.model.alert import Alert, AlertConfiguration, AlertRule, AlertState, Finding, Group
from control_plane.runtime.jobs import Report
from control_plane.stages.alert_facts import FactReader
from control_plane.storage import alert_configuration, alert_outbox, alerts
from control_plane.storage.leading import LeadingJob
from control_plane.storage.leases import Lease
from control_plane.storage.session import Database, SyncConnection

NAME = "alerts"
LEASE_LIFETIME = timedelta(seconds=20)
CLEAN_EVERY = timedelta(hours=1)
# Of an alert that goes on, what was seen last is written so often; a fleet may have thousands of them.
WRITTEN_EVERY = timedelta(seconds=15)


@dataclass(slots=True)
class Outcome:
    """What one look at all rules did to the alerts."""

    begun: list[Alert] = field(default_factory=list)
    changed: list[Alert] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)  # that never fired


class AlertJob(LeadingJob):
    """Judges by the rules. Owned by one thread at a time."""

    name, lease_lifetime = NAME, LEASE_LIFETIME

    def __init__(self, database: Database, *, holder: str, now: Callable[[], datetime], url: str) -> None:
        """`holder` names this replica, `now` is its clock; `url` is where people reach it."""
        super().__init__(database, holder=holder, now=now)
        self._url = url
        self._facts = FactReader()
        self._cleaned_at: datetime | None = None

    def _step(self, connection: SyncConnection, lease: Lease, now: datetime) -> Report:
        configuration = alert_configuration.current(connection) or AlertConfiguration(rules=usual_rules())
        rules = [rule for rule in configuration.rules if rule.is_enabled]
        facts = self._facts.read(connection, rules, now)
        firing = self._apply(connection, lease, configuration, rules, facts)
        if self._cleaned_at is None or now - self._cleaned_at >= CLEAN_EVERY:
            alerts.drop_before(connection, now - alerts.KEPT)
            alert_outbox.drop_before(connection, now - alert_outbox.SENT_KEPT)
            self._cleaned_at = now
        figures: dict[str, float | str | None] = {"rules": float(len(rules)), "firing": float(firing)}
        return Report(leading=True, more=False, figures=figures)

    def _apply(
        self, connection: SyncConnection, lease: Lease, configuration: AlertConfiguration, rules: Sequence[AlertRule],
        facts: Facts,
    ) -> int:  # fmt: skip
        with self._under(connection, lease):
            before = alerts.unsettled(connection)
            found = found_by_rule(rules, facts)
            so = [f for rule in rules for f, finding in found[rule.name].items() if finding.is_so]
            known = {a.fingerprint for a in before if a.state is not AlertState.RESOLVED}
            ended = alerts.ended_last(connection, [f for f in so if f not in known], facts.now - lifecycle.FLAP_WINDOW)
            outcome = judged(before, rules, found, ended, facts.now)
            begun = alerts.insert(connection, outcome.begun)
            alerts.forget(connection, outcome.dropped)
            gone = set(outcome.dropped)
            present = {a.alert_id: a for a in (*before, *outcome.changed, *begun) if a.alert_id not in gone}
            after = suppressed(list(present.values()), configuration.inhibitions, configuration.silences, facts.now)
            was = {a.alert_id: a for a in before}
            alerts.save(connection, [a for a in after if is_news(was.get(a.alert_id), a)])
            alerts.note(connection, list(changes(was, after)), facts.now)
            self._tell(connection, configuration, after, facts.now)
        return sum(a.state is AlertState.FIRING for a in after)

    def _tell(
        self, connection: SyncConnection, configuration: AlertConfiguration, after: Sequence[Alert], now: datetime
    ) -> None:
        known = alerts.groups(connection)
        waiting = alert_outbox.under_way(connection)
        receivers = {receiver.name: receiver for receiver in configuration.receivers}
        found = grouping.grouped(after, configuration, known)
        told: list[Group] = []
        settled: set[int] = {a.alert_id for a in after if a.state is AlertState.RESOLVED} - {
            a.alert_id for _, members in found.values() for a in members
        }
        for group, members in found.values():
            receiver = receivers.get(group.receiver)
            if receiver is None:
                settled |= {a.alert_id for a in members if a.state is AlertState.RESOLVED}
                continue
            decision = grouping.decided(
                group, members, receiver, configuration.grouping, now, url=self._url,
                is_waiting=(group.receiver, group.key) in waiting,
            )  # fmt: skip
            if decision.body is not None:
                alert_outbox.add(connection, group.receiver, group.key, decision.body, now)
            if decision.group != known.get(group.key):
                told.append(decision.group)
            settled |= decision.settled
        # A group that was told of lately keeps its place, or its next alert would come sooner than the interval.
        over = [
            g for key, g in known.items()
            if key not in found and (g.told_at is None or now - g.told_at >= configuration.grouping.interval)
        ]  # fmt: skip
        alerts.save_groups(connection, told, over)
        alerts.settle(connection, sorted(settled))


def found_by_rule(rules: Sequence[AlertRule], facts: Facts) -> dict[str, dict[str, Finding]]:
    """This will give what every rule finds, by the fingerprints that its alerts have."""
    return {
        rule.name: {lifecycle.fingerprint(rule.name, f.labels): f for f in looking.found(rule, facts)} for rule in rules
    }


def judged(
    before: Sequence[Alert], rules: Sequence[AlertRule], found: Mapping[str, Mapping[str, Finding]],
    ended: Mapping[str, Alert], now: datetime,
) -> Outcome:  # fmt: skip
    """This will let every alert live on, end or begin by what the rules found."""
    outcome, by_name = Outcome(), {rule.name: rule for rule in rules}
    open_now = [a for a in before if a.state is not AlertState.RESOLVED]
    for alert in open_now:
        rule = by_name.get(alert.rule)
        finding = found[alert.rule].get(alert.fingerprint) if rule else None
        if rule is None:
            after = lifecycle.ended(alert, "its rule is no more", now)
        elif finding is None:
            after = lifecycle.ended(alert, "what it was about is no more", now)
        else:
            after = lifecycle.advanced(alert, rule, finding, now)
        if after is None:
            outcome.dropped.append(alert.alert_id)
        else:
            outcome.changed.append(after)
    known = {alert.fingerprint for alert in open_now}
    for rule in rules:
        for fingerprint, finding in found[rule.name].items():
            if finding.is_so and fingerprint not in known:
                outcome.begun.append(lifecycle.begun(rule, finding, now, before=ended.get(fingerprint)))
    return outcome


def is_news(before: Alert | None, after: Alert) -> bool:
    """This will say whether an alert is to be written: not for each look at what is still so."""
    if before is None or after.seen_at - before.seen_at >= WRITTEN_EVERY:
        return before != after
    seen = replace(
        after, seen_at=before.seen_at, value=before.value, summary=before.summary, evidence=before.evidence
    )  # fmt: skip
    return seen != before


def changes(was: Mapping[int, Alert], after: Sequence[Alert]) -> list[tuple[int, str]]:
    """This will name what changed of each alert, as streams tell it."""
    out = []
    for alert in after:
        before = was.get(alert.alert_id)
        if before is None or before.state is not alert.state:
            out.append((alert.alert_id, alert.state.value))
        if before is not None and not before.is_suppressed and alert.is_suppressed:
            out.append((alert.alert_id, "silenced" if alert.silenced_by else "inhibited"))
        if before is not None and before.is_suppressed and not alert.is_suppressed and alert.state is AlertState.FIRING:
            out.append((alert.alert_id, "told_again"))
    return out
