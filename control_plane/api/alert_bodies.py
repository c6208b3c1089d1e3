"""What is configured of alerts, as it is sent and as it is shown. Secrets go in and never come out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from control_plane.alerts.kinds import KINDS, usual_rule
from control_plane.api.parameters import Name
from control_plane.model.alert import (
    AlertConfiguration,
    AlertRule,
    AlertSeverity,
    Grouping,
    Inhibition,
    Receiver,
    Route,
    RuleKind,
    Silence,
)
from control_plane.runtime.destinations import parse
from control_plane.runtime.sealing import Sealer

KEEP = "***"  # in the place of a secret: the one that is there stays
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Text = Annotated[str, StringConstraints(max_length=256)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Matchers = Annotated[dict[Identifier, Text], Field(max_length=16)]
Seconds = Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)]
RESERVED = frozenset({"alertname", "rule", "severity"})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RuleBody(_Body):
    """One rule. What is left out is as is usual for its kind."""

    name: RuleName
    kind: RuleKind
    severity: AlertSeverity | None = None
    enabled: bool = True
    wait_seconds: Seconds | None = Field(None, description="it must be so for so long before the alert fires")
    keep_seconds: Seconds | None = Field(None, description="it must not be so for so long before it is resolved")
    parameters: dict[Name, float] = Field(default_factory=dict, max_length=8, description="numbers of its kind")
    matchers: Matchers | None = Field(
        None, description="labels that what it is about must have; a|b is either, * any; default: as its kind's"
    )
    labels: Matchers = Field(default_factory=dict, description="put on its alerts")
    runbook_url: Annotated[str, StringConstraints(max_length=2048, pattern=r"^https?://\S+$")] | None = None

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        known = KINDS[self.kind].parameters
        for name, value in self.parameters.items():
            if name not in known:
                raise ValueError(f"{self.kind} has no parameter {name}; known: {', '.join(known) or 'none'}")
            if not known[name].least <= value <= known[name].most:
                raise ValueError(f"{name} lies between {known[name].least:g} and {known[name].most:g}")
        if taken := RESERVED & self.labels.keys():
            raise ValueError(f"labels {', '.join(sorted(taken))} are put on by the rule itself")
        return self

    def meant(self) -> AlertRule:
        """This will give the rule, with what is usual for its kind."""
        usual = usual_rule(self.kind)
        return AlertRule(
            name=self.name, kind=self.kind, severity=self.severity or usual.severity, is_enabled=self.enabled,
            wait=usual.wait if self.wait_seconds is None else timedelta(seconds=self.wait_seconds),
            keep=usual.keep if self.keep_seconds is None else timedelta(seconds=self.keep_seconds),
            parameters={**usual.parameters, **self.parameters},
            matchers=usual.matchers if self.matchers is None else self.matchers, labels=self.labels,
            runbook_url=self.runbook_url,
        )  # fmt: skip


class ReceiverBody(_Body):
    """A webhook that takes Alertmanager's body. Secrets are sealed, and shown as ***; *** keeps the one there is."""

    name: RuleName
    webhook_url: Secret = Field(description="https://…; all of it counts as secret; its host is shown")
    authorization: Secret | None = Field(None, description="value of the header Authorization, such as Bearer …")
    signing_secret: Secret | None = Field(
        None, description="whsec_… in base64, or a text: each body is signed with it as Standard Webhooks says"
    )
    sends_resolved: bool = Field(True, description="also tell when an alert is over")

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        for value in (self.webhook_url, self.authorization, self.signing_secret):
            if value is not None and not all(" " <= c <= "~" for c in value):
                raise ValueError("what is secret of a receiver has printable ASCII characters only")
        secret = self.signing_secret
        if secret is not None and secret.startswith("whsec_"):
            try:
                base64.b64decode(secret.removeprefix("whsec_"), validate=True)
            except (binascii.Error, ValueError):
                raise ValueError("signing_secret: what follows whsec_ is no base64") from None
        return self


class RouteBody(_Body):
    """Alerts that match go to this receiver; the first route that matches counts."""

    matchers: Matchers = Field(default_factory=dict)
    receiver: RuleName


class GroupingBody(_Body):
    """How alerts are put together, and how often a group is told of."""

    by: list[Identifier] = Field(["rule", "node"], max_length=8)
    wait_seconds: float = Field(1, ge=0, le=600, allow_inf_nan=False, description="before a new group is told of")
    interval_seconds: float = Field(
        300, ge=5, le=86_400, allow_inf_nan=False, description="between two notifications of one group, at least"
    )
    repeat_seconds: float = Field(
        14_400, ge=60, le=2_592_000, allow_inf_nan=False, description="after which what still fires is told again"
    )


class InhibitionBody(_Body):
    """While an alert that matches `source` fires, those that match `target` and agree in `equal` are not told of."""

    source: Matchers = Field(min_length=1)
    target: Matchers = Field(min_length=1)
    equal: list[Identifier] = Field(default_factory=list, max_length=8)


class SilenceBody(_Body):
    """Alerts that match are not told of for a while."""

    silence_id: RuleName
    matchers: Matchers = Field(min_length=1)
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    comment: Text = ""
    created_by: Text | None = Field(None, description="by default who sends it")

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.starts_at >= self.ends_at:
            raise ValueError("starts_at lies before ends_at")
        return self


class AlertsBody(_Body):
    """All that is configured of alerts, in the place of what was."""

    revision: int | None = Field(None, ge=0, description="that it is made from; another one meanwhile is a 409")
    rules: list[RuleBody] = Field(max_length=200)
    receivers: list[ReceiverBody] = Field(default_factory=list, max_length=50)
    routes: list[RouteBody] = Field(default_factory=list, max_length=100)
    default_receiver: RuleName | None = Field(None, description="who is told of what no route matches; null: nobody")
    grouping: GroupingBody = Field(default_factory=lambda: GroupingBody())
    inhibitions: list[InhibitionBody] = Field(default_factory=list, max_length=100)
    silences: list[SilenceBody] = Field(default_factory=list, max_length=200)

    def wrong(self, known: Sequence[Receiver]) -> Iterator[tuple[str, str]]:
        """This will say what does not fit together, each with its place. `known` are the receivers there are."""
        for part, named in (
            ("rules", [rule.name for rule in self.rules]),
            ("receivers", [receiver.name for receiver in self.receivers]),
            ("silences", [silence.silence_id for silence in self.silences]),
        ):
            for number, name in enumerate(named):
                if name in named[:number]:
                    yield f"/{part}/{number}", f"{name!r} is there twice"
        names = {receiver.name for receiver in self.receivers}
        for number, route in enumerate(self.routes):
            if route.receiver not in names:
                yield f"/routes/{number}/receiver", f"there is no receiver {route.receiver!r}"
        if self.default_receiver is not None and self.default_receiver not in names:
            yield "/default_receiver", f"there is no receiver {self.default_receiver!r}"
        if self.grouping.repeat_seconds < self.grouping.interval_seconds:
            yield "/grouping/repeat_seconds", "at least interval_seconds"
        before = {receiver.name: receiver for receiver in known}
        for number, receiver in enumerate(self.receivers):
            has = before.get(receiver.name)
            for name, there in (
                ("webhook_url", has and has.sealed_url), ("authorization", has and has.sealed_authorization),
                ("signing_secret", has and has.sealed_signing_secret),
            ):  # fmt: skip
                if getattr(receiver, name) == KEEP and not there:
                    yield f"/receivers/{number}/{name}", f"{KEEP} keeps what is there, and there is none"
            if has and receiver.authorization == KEEP and receiver.webhook_url != KEEP:
                # Or whoever may configure, and may not read, would have it sent to himself.
                yield f"/receivers/{number}/authorization", "give it again: the webhook_url is another one"

    def meant(self, before: AlertConfiguration | None, sealer: Sealer, *, now: datetime, by: str) -> AlertConfiguration:
        """This will give the configuration, its secrets sealed. Raises SealBroken."""
        known = {receiver.name: receiver for receiver in before.receivers} if before else {}
        spacing = self.grouping
        return AlertConfiguration(
            rules=[rule.meant() for rule in self.rules],
            receivers=[_receiver(receiver, known.get(receiver.name), sealer) for receiver in self.receivers],
            routes=[Route(matchers=route.matchers, receiver=route.receiver) for route in self.routes],
            default_receiver=self.default_receiver,
            grouping=Grouping(
                by=tuple(spacing.by), wait=timedelta(seconds=spacing.wait_seconds),
                interval=timedelta(seconds=spacing.interval_seconds), repeat=timedelta(seconds=spacing.repeat_seconds),
            ),
            inhibitions=[Inhibition(source=i.source, target=i.target, equal=tuple(i.equal)) for i in self.inhibitions],
            silences=[
                Silence(
                    silence_id=s.silence_id, matchers=s.matchers, starts_at=s.starts_at.astimezone(UTC),
                    ends_at=s.ends_at.astimezone(UTC), comment=s.comment, created_by=s.created_by or by,
                )
                for s in self.silences
            ],
        )  # fmt: skip


def _receiver(asked: ReceiverBody, before: Receiver | None, sealer: Sealer) -> Receiver:
    def sealed(given: str | None, name: str, there: str | None) -> str | None:
        return there if given == KEEP else None if given is None else sealer.seal(given, f"{asked.name}/{name}")

    there_authorization = before.sealed_authorization if before else None
    there_secret = before.sealed_signing_secret if before else None
    url = sealed(asked.webhook_url, "webhook_url", before.sealed_url if before else None)
    assert url is not None
    if asked.webhook_url == KEEP and before is not None:
        shown = before.shown_url
    else:
        scheme, host, port, _ = parse(asked.webhook_url)
        shown = f"{scheme}://{host}:{port}/…"
    return Receiver(
        name=asked.name, shown_url=shown, sealed_url=url,
        sealed_authorization=sealed(asked.authorization, "authorization", there_authorization),
        sealed_signing_secret=sealed(asked.signing_secret, "signing_secret", there_secret),
        sends_resolved=asked.sends_resolved,
    )  # fmt: skip


def shown(configuration: AlertConfiguration) -> dict[str, Any]:
    """This will show a configuration as it can be sent again: of secrets only that they are there."""
    spacing = configuration.grouping
    return {
        "revision": configuration.revision,
        "rules": [
            {
                "name": r.name, "kind": r.kind, "severity": r.severity, "enabled": r.is_enabled,
                "wait_seconds": r.wait.total_seconds(), "keep_seconds": r.keep.total_seconds(),
                "parameters": r.parameters, "matchers": r.matchers, "labels": r.labels,
                **({"runbook_url": r.runbook_url} if r.runbook_url else {}),
            }
            for r in configuration.rules
        ],
        "receivers": [_shown_receiver(r) for r in configuration.receivers],
        "routes": [{"matchers": r.matchers, "receiver": r.receiver} for r in configuration.routes],
        **({"default_receiver": configuration.default_receiver} if configuration.default_receiver else {}),
        "grouping": {
            "by": spacing.by, "wait_seconds": spacing.wait.total_seconds(),
            "interval_seconds": spacing.interval.total_seconds(), "repeat_seconds": spacing.repeat.total_seconds(),
        },
        "inhibitions": [{"source": i.source, "target": i.target, "equal": i.equal} for i in configuration.inhibitions],
        "silences": [
            {
                "silence_id": s.silence_id, "matchers": s.matchers, "starts_at": s.starts_at, "ends_at": s.ends_at,
                "comment": s.comment, "created_by": s.created_by,
            }
            for s in configuration.silences
        ],
    }  # fmt: skip


def _shown_receiver(receiver: Receiver) -> Mapping[str, object]:
    secrets = {"authorization": receiver.sealed_authorization, "signing_secret": receiver.sealed_signing_secret}
    return {
        "name": receiver.name, "webhook_url": KEEP, "sends_resolved": receiver.sends_resolved,
        **{name: KEEP for name, sealed in secrets.items() if sealed is not None},
    }  # fmt: skip
