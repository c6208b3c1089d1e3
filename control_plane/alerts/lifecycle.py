"""How an alert lives: the one table of its transitions.

    (nothing) ─is so─▶ pending ─is so for long enough─▶ firing ─not so for long enough─▶ resolved
                          └─not so─▶ (nothing)             └─is so again─▶ firing
What is not known changes nothing, for an hour; then the alert ends, and says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.model.alert import Alert, AlertRule, AlertState, Finding

# An alert about something that nobody has seen for so long says nothing any more.
UNKNOWN_ENDS_AFTER = timedelta(hours=1)
# One that came back so often within this time flaps: it stays until it has been quiet for four times as long.
FLAPS, FLAP_WINDOW, FLAP_FACTOR = 3, timedelta(hours=1), 4
LEAST_KEPT_WHEN_FLAPPING = timedelta(minutes=5)
_KEPT_FLAPS = 20


def fingerprint(rule: str, labels: Mapping[str, str]) -> str:
    """This will give what is the same for the same rule about the same thing."""
    text = "\0".join([rule, *(f"{name}\1{labels[name]}" for name in sorted(labels))])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def begun(rule: AlertRule, finding: Finding, now: datetime, *, before: Alert | None = None) -> Alert:
    """This will make an alert of a finding that is so. `before` is the one that ended last, of the same thing."""
    labels = {**finding.labels, **rule.labels, "rule": rule.name, "severity": rule.severity.value}
    flaps = tuple(at for at in (before.flaps if before else ()) if now - at <= FLAP_WINDOW)
    if before is not None and before.resolved_at is not None and now - before.resolved_at <= FLAP_WINDOW:
        flaps = (*flaps, now)[-_KEPT_FLAPS:]
    since = min(finding.since or now, now)
    alert = Alert(
        alert_id=0, fingerprint=fingerprint(rule.name, finding.labels), rule=rule.name, kind=rule.kind.value,
        severity=rule.severity, labels=labels, summary=finding.summary, value=finding.value,
        evidence=finding.evidence, runbook_url=rule.runbook_url, state=AlertState.PENDING, since=since, seen_at=now,
        flaps=flaps,
    )  # fmt: skip
    return _fired(alert, rule, now)


def advanced(alert: Alert, rule: AlertRule, finding: Finding, now: datetime) -> Alert | None:
    """This will give the alert after another look; None: it never fired, and is over."""
    if finding.is_so is None:
        return _unknown(alert, now)
    alert = replace(alert, unknown_since=None)
    if finding.is_so:
        alert = replace(
            alert, seen_at=now, quiet_since=None, value=finding.value, summary=finding.summary,
            evidence=finding.evidence, severity=rule.severity, runbook_url=rule.runbook_url,
            flaps=(*alert.flaps, now)[-_KEPT_FLAPS:] if alert.quiet_since is not None else alert.flaps,
        )  # fmt: skip
        return _fired(alert, rule, now)
    if alert.state is AlertState.PENDING:
        return None
    quiet = alert.quiet_since or now
    if now - quiet >= kept_for(alert, rule, now):
        return replace(alert, state=AlertState.RESOLVED, quiet_since=quiet, resolved_at=now, resolution="it is over")
    return replace(alert, quiet_since=quiet)


def ended(alert: Alert, why: str, now: datetime) -> Alert | None:
    """This will end an alert whose rule, or whose thing, is no more; None: it never fired."""
    if alert.state is AlertState.PENDING:
        return None
    return replace(alert, state=AlertState.RESOLVED, resolved_at=now, resolution=why)


def is_flapping(alert: Alert, now: datetime) -> bool:
    """This will say whether an alert comes and goes."""
    return len([at for at in alert.flaps if now - at <= FLAP_WINDOW]) >= FLAPS


def kept_for(alert: Alert, rule: AlertRule, now: datetime) -> timedelta:
    """This will say how long it must not be so before the alert ends."""
    return max(FLAP_FACTOR * rule.keep, LEAST_KEPT_WHEN_FLAPPING) if is_flapping(alert, now) else rule.keep


def _fired(alert: Alert, rule: AlertRule, now: datetime) -> Alert:
    if alert.state is AlertState.PENDING and now - alert.since >= rule.wait:
        return replace(alert, state=AlertState.FIRING, fired_at=now)
    return alert


def _unknown(alert: Alert, now: datetime) -> Alert | None:
    since = alert.unknown_since or now
    if now - since >= UNKNOWN_ENDS_AFTER:
        return ended(alert, "nobody could say for an hour whether it is still so", now)
    return replace(alert, unknown_since=since)
