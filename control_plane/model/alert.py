"""What somebody should know of, how it is told, and who is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class AlertSeverity(StrEnum):
    """How soon somebody should look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """Where an alert stands. Its table of transitions is in alerts/lifecycle.py."""

    PENDING = "pending"  # it is so, and not yet for long enough
    FIRING = "firing"
    RESOLVED = "resolved"


class RuleKind(StrEnum):
    """What a rule looks for."""

    GPU_TEMPERATURE = "gpu_temperature"
    GPU_THROTTLED = "gpu_throttled"
    GPU_XID = "gpu_xid"
    GPU_MEMORY_ERRORS = "gpu_memory_errors"
    GPU_HUNG = "gpu_hung"
    ENGINE_HUNG = "engine_hung"
    ENGINE_DOWN = "engine_down"
    STUCK_COLLECTIVE = "stuck_collective"
    BOTTLENECK = "bottleneck"
    LOW_UTILIZATION = "low_utilization"
    WASTE = "waste"
    SLO_VIOLATED = "slo_violated"
    SLO_BURNING = "slo_burning"
    FILESYSTEM_FILLS = "filesystem_fills"
    NODE_SILENT = "node_silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One rule. Its parameters are those of its kind, all of them given."""

    name: str
    kind: RuleKind
    severity: AlertSeverity
    wait: timedelta  # it must be so for so long
    keep: timedelta  # it must not be so any more for so long
    parameters: Mapping[str, float] = field(default_factory=dict)
    matchers: Mapping[str, str] = field(default_factory=dict)  # labels that what it is about must have
    labels: Mapping[str, str] = field(default_factory=dict)  # put on its alerts
    runbook_url: str | None = None
    is_enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule found of one thing."""

    labels: Mapping[str, str]  # what it is about
    is_so: bool | None  # None: not known; then nothing changes
    value: float | None = None
    summary: str = ""
    evidence: Mapping[str, object] = field(default_factory=dict)
    since: datetime | None = None  # when it began, where that is known better than "now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that a rule found, from its first moment until it was over."""

    alert_id: int  # 0: not stored yet
    fingerprint: str  # of rule and labels: one of these is open at most
    rule: str
    kind: str
    severity: AlertSeverity
    labels: Mapping[str, str]
    summary: str
    value: float | None
    evidence: Mapping[str, object]
    runbook_url: str | None
    state: AlertState
    since: datetime  # when it began to be so
    seen_at: datetime  # when it was so last
    fired_at: datetime | None = None
    quiet_since: datetime | None = None  # it is not so any more, and has not been for long enough
    resolved_at: datetime | None = None
    resolution: str | None = None
    unknown_since: datetime | None = None  # nobody can say whether it is still so
    flaps: Sequence[datetime] = ()  # when it came back, of late
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledgement: str | None = None
    silenced_by: str | None = None
    inhibited_by: str | None = None

    @property
    def is_suppressed(self) -> bool:
        """This will say whether nobody is told of it for now."""
        return self.silenced_by is not None or self.inhibited_by is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inhibition:
    """While an alert that matches `source` fires, those that match `target` and agree in `equal` are not told."""

    source: Mapping[str, str]
    target: Mapping[str, str]
    equal: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Alerts that match are not told of for a while."""

    silence_id: str
    matchers: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime
    comment: str
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which alerts a receiver is told of. The first route that matches counts."""

    matchers: Mapping[str, str]
    receiver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Somebody's webhook. What is secret of it is sealed, and stays so until it is used."""

    name: str
    shown_url: str  # scheme and host
    sealed_url: str
    sealed_authorization: str | None = None
    sealed_signing_secret: str | None = None
    sends_resolved: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """How alerts are put together, and how often a group is told of."""

    by: Sequence[str] = ("rule", "node")
    wait: timedelta = timedelta(seconds=1)
    interval: timedelta = timedelta(minutes=5)
    repeat: timedelta = timedelta(hours=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertConfiguration:
    """All that is configured of alerts."""

    revision: int = 0
    rules: Sequence[AlertRule] = ()
    receivers: Sequence[Receiver] = ()
    routes: Sequence[Route] = ()
    default_receiver: str | None = None
    grouping: Grouping = field(default_factory=Grouping)
    inhibitions: Sequence[Inhibition] = ()
    silences: Sequence[Silence] = ()
    changed_at: datetime | None = None
    changed_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What one receiver was told of one group, and when."""

    receiver: str
    key: str
    labels: Mapping[str, str]
    changed_at: datetime | None  # since when there is something that was not told
    told_at: datetime | None  # when the newest notification was made
    told: Mapping[int, str]  # alert id -> the state that was told


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What is sent to a webhook, as it was when it was made."""

    notification_id: int
    receiver: str
    group_key: str
    body: Mapping[str, object]
    created_at: datetime
    due_at: datetime
    attempts: int
    last_error: str | None = None
