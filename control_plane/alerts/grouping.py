"""When which group of alerts is told to whom, and in which words.

A group is told of first after `wait`, of changes no sooner than `interval` after the last time, and again after
`repeat` while something fires. What fired and ended before it could be told is told as what it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from control_plane.alerts.suppression import matches
from control_plane.model.alert import Alert, AlertConfiguration, AlertState, Group, Grouping, Receiver

# Alertmanager cuts a group's alerts off at what a receiver asks for; nobody reads more than this.
MOST_ALERTS = 100
VERSION = "4"  # of Alertmanager's webhook body


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is told of a group now, if anything is, and what the group is afterwards."""

    group: Group
    body: Mapping[str, object] | None
    settled: frozenset[int]  # resolved alerts of which there is nothing left to tell


def receiver_of(alert: Alert, configuration: AlertConfiguration) -> str | None:
    """This will name who is told of an alert; None: nobody."""
    labels = {**alert.labels, "kind": alert.kind}
    for route in configuration.routes:
        if matches(route.matchers, labels):
            return route.receiver
    return configuration.default_receiver


def group_labels(alert: Alert, by: Sequence[str]) -> dict[str, str]:
    """This will give the labels that put an alert into its group."""
    return {name: alert.labels.get(name, "") for name in by}


def group_key(receiver: str, labels: Mapping[str, str]) -> str:
    """This will give what is the same for the same group, whatever happens in it."""
    text = "\0".join([receiver, *(f"{name}\1{labels[name]}" for name in sorted(labels))])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def grouped(
    alerts: Sequence[Alert], configuration: AlertConfiguration, known: Mapping[str, Group]
) -> dict[str, tuple[Group, list[Alert]]]:
    """This will put alerts that somebody is to be told of into their groups, known or new."""
    out: dict[str, tuple[Group, list[Alert]]] = {}
    for alert in alerts:
        receiver = receiver_of(alert, configuration)
        if receiver is None or alert.state is AlertState.PENDING:
            continue
        labels = group_labels(alert, configuration.grouping.by)
        key = group_key(receiver, labels)
        if key not in out:
            new = Group(receiver=receiver, key=key, labels=labels, changed_at=None, told_at=None, told={})
            out[key] = (known.get(key, new), [])
        out[key][1].append(alert)
    return out


def news(group: Group, alerts: Sequence[Alert], receiver: Receiver) -> list[Alert]:
    """This will give the alerts of which something was not told yet."""
    out = []
    for alert in alerts:
        told = group.told.get(alert.alert_id)
        if alert.state.value == told:
            continue
        if alert.state is AlertState.FIRING and alert.is_suppressed:
            continue
        if alert.state is AlertState.RESOLVED and told is None and alert.is_suppressed:
            continue  # it came and went while nobody was to hear of it
        if alert.state is AlertState.RESOLVED and not receiver.sends_resolved:
            continue
        out.append(alert)
    return out


def decided(
    group: Group, alerts: Sequence[Alert], receiver: Receiver, spacing: Grouping, now: datetime,
    *, url: str, is_waiting: bool,
) -> Decision:  # fmt: skip
    """This will say whether a group is told of now.

    `is_waiting` says that the notification before has not arrived: then nothing new is made, and nothing is lost,
    because what was not told stays news.
    """
    fresh = news(group, alerts, receiver)
    firing = [a for a in alerts if a.state is AlertState.FIRING and not a.is_suppressed]
    over = frozenset(a.alert_id for a in alerts if a.state is AlertState.RESOLVED)
    settled = over - {a.alert_id for a in fresh}
    present = {a.alert_id for a in alerts} - settled
    group = replace(
        group, changed_at=(group.changed_at or now) if fresh else None,
        told={number: state for number, state in group.told.items() if number in present},
    )  # fmt: skip
    if is_waiting or not _is_due(group, fresh, firing, spacing, now):
        return Decision(group=group, body=None, settled=settled)
    shown = _in_order([*firing, *(a for a in fresh if a.state is AlertState.RESOLVED)])
    told = {number: state for number, state in group.told.items() if number not in over}
    told |= {a.alert_id: a.state.value for a in shown if a.state is not AlertState.RESOLVED}
    after = replace(group, told_at=now, changed_at=None, told=told)
    return Decision(group=after, body=body(after, shown, url=url), settled=over)


def _is_due(group: Group, fresh: Sequence[Alert], firing: Sequence[Alert], spacing: Grouping, now: datetime) -> bool:
    if fresh and group.told_at is None:
        return group.changed_at is not None and now - group.changed_at >= spacing.wait
    if group.told_at is None:
        return False
    if fresh:
        return now - group.told_at >= spacing.interval
    return any(a.acknowledged_at is None for a in firing) and now - group.told_at >= spacing.repeat


def _in_order(alerts: Sequence[Alert]) -> list[Alert]:
    """This will give each once, the firing ones first, the oldest first among them."""
    once = {alert.alert_id: alert for alert in alerts}
    return sorted(once.values(), key=lambda a: (a.state is AlertState.RESOLVED, a.fired_at or a.since, a.alert_id))


def body(group: Group, alerts: Sequence[Alert], *, url: str) -> dict[str, object]:
    """This will write Alertmanager's webhook body (alertmanager/notify/webhook, version 4)."""
    shown = [_shown(alert, url) for alert in alerts[:MOST_ALERTS]]
    firing = any(alert.state is AlertState.FIRING for alert in alerts)
    return {
        "version": VERSION,
        "groupKey": group.key,
        "truncatedAlerts": max(0, len(alerts) - MOST_ALERTS),
        "status": "firing" if firing else "resolved",
        "receiver": group.receiver,
        "groupLabels": dict(group.labels),
        "commonLabels": _common([alert.labels for alert in alerts]),
        "commonAnnotations": _common([_annotations(alert) for alert in alerts]),
        "externalURL": url,
        "alerts": shown,
    }


def _shown(alert: Alert, url: str) -> dict[str, object]:
    return {
        "status": "resolved" if alert.state is AlertState.RESOLVED else "firing",
        "labels": {"alertname": alert.rule, **alert.labels},
        "annotations": _annotations(alert),
        "startsAt": _stamp(alert.fired_at or alert.since),
        "endsAt": _stamp(alert.resolved_at) if alert.resolved_at else "0001-01-01T00:00:00Z",
        "generatorURL": f"{url}/alerts/{alert.alert_id}",
        "fingerprint": alert.fingerprint,
    }


def _annotations(alert: Alert) -> dict[str, str]:
    said = {"summary": alert.summary, "runbook_url": alert.runbook_url, "resolution": alert.resolution}
    return {name: text for name, text in said.items() if text}


def _common(maps: Sequence[Mapping[str, str]]) -> dict[str, str]:
    if not maps:
        return {}
    return {name: text for name, text in maps[0].items() if all(m.get(name) == text for m in maps[1:])}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
