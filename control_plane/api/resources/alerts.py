"""Alerts: listed, shown, acknowledged, and streamed as they change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from control_plane.alerts.lifecycle import is_flapping
from control_plane.api import streams
from control_plane.api.answers import age_seconds, answer, timestamp
from control_plane.api.context import ApiContext, Context, WhoAsks
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Moment, Name, Paged, Parameters, Windowed, decode_cursor, encode_cursor, window
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.alert import Alert, AlertSeverity, AlertState
from control_plane.model.errors import Conflict, InvalidRequest, UnknownResource
from control_plane.storage import alerts
from control_plane.storage.alerts import Change

router = APIRouter(tags=["alerts"])

_A_DAY = timedelta(days=1)
MOST_CHANGES = 500  # of one look; what is left is looked at without a pause

ALERT: dict[str, Any] = {
    "alert_id": {"type": "integer"},
    "fingerprint": {"type": "string", "description": "of its rule and what it is about: the same when it comes back"},
    "rule": TEXT,
    "kind": TEXT,
    "severity": {"enum": [s.value for s in AlertSeverity]},
    "state": {"enum": [s.value for s in AlertState]},
    "summary": TEXT,
    "labels": {"type": "object", "additionalProperties": TEXT},
    "value": {"type": ["number", "null"]},
    "since": {**TIME, "description": "when it began to be so"},
    "fired_at": TIME,
    "seen_at": {**TIME, "description": "when it was so last"},
    "resolved_at": TIME,
    "resolution": MAYBE_TEXT,
    "acknowledged_at": TIME,
    "acknowledged_by": MAYBE_TEXT,
    "acknowledgement": MAYBE_TEXT,
    "silenced_by": MAYBE_TEXT,
    "inhibited_by": {"type": ["string", "null"], "description": "fingerprint of the alert that explains it"},
    "is_flapping": {"type": "boolean"},
    "runbook_url": MAYBE_TEXT,
    "evidence": {"type": "object"},
    "unknown": UNKNOWN,
}
ALERT_SCHEMA = {"type": "object", "properties": ALERT}
HISTORY_SCHEMA = {
    "type": "object",
    "properties": {
        **ALERT,
        "history": {
            "type": "array",
            "items": {"type": "object", "properties": {"at": TIME, "change": TEXT}},
        },
    },
}
_WHY = {
    "value": "no_number", "fired_at": "not_fired", "resolved_at": "goes_on", "resolution": "goes_on",
    "acknowledged_at": "not_acknowledged", "acknowledged_by": "not_acknowledged",
    "acknowledgement": "not_acknowledged", "silenced_by": "not_silenced", "inhibited_by": "not_inhibited",
    "runbook_url": "not_set",
}  # fmt: skip
State = Literal["pending", "firing", "resolved"]
Severity = Literal["info", "warning", "critical"]


class AlertsQuestion(Paged):
    """Which alerts."""

    state: list[State] = Field(default_factory=list, max_length=3, description="may be repeated; default: not resolved")
    severity: list[Severity] = Field(default_factory=list, max_length=3, description="may be repeated")
    rule: list[Name] = Field(default_factory=list, max_length=50, description="rule's name; may be repeated")
    label: list[Name] = Field(
        default_factory=list, max_length=16, description="name=value that an alert's labels must have; repeatable"
    )
    since: Moment | None = Field(None, description="resolved ones only if they ended after it; default: a day ago")


class Acknowledgement(BaseModel):
    """Who has it in hand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    comment: Annotated[str, StringConstraints(max_length=1000)] = Field("", description="for who looks next")


def shown(alert: Alert, now: datetime) -> dict[str, Any]:
    """This will show an alert."""
    item: dict[str, Any] = {
        "alert_id": alert.alert_id, "fingerprint": alert.fingerprint, "rule": alert.rule, "kind": alert.kind,
        "severity": alert.severity, "state": alert.state, "summary": alert.summary, "labels": alert.labels,
        "value": alert.value, "since": alert.since, "age_seconds": age_seconds(alert.since, now),
        "fired_at": alert.fired_at, "seen_at": alert.seen_at, "resolved_at": alert.resolved_at,
        "resolution": alert.resolution, "acknowledged_at": alert.acknowledged_at,
        "acknowledged_by": alert.acknowledged_by, "acknowledgement": alert.acknowledgement,
        "silenced_by": alert.silenced_by, "inhibited_by": alert.inhibited_by,
        "is_flapping": is_flapping(alert, now), "runbook_url": alert.runbook_url,
        "evidence": {name: value for name, value in alert.evidence.items() if value is not None},
    }  # fmt: skip
    return item | {"unknown": {name: why for name, why in _WHY.items() if item[name] is None}}


def _labels(asked: Sequence[str]) -> dict[str, str]:
    out = {}
    for pair in asked:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidRequest("write a label as name=value")
        out[name] = value
    return out


_LIST = operation("alerts", "Alerts, the newest first", scope="read", seconds=float("inf"), answer=listed(ALERT_SCHEMA))
_LIST["responses"][200]["content"][streams.EVENT_STREAM] = {
    "schema": {"type": "string", "description": "asked for with Accept: text/event-stream: each change as it comes"}
}


@router.get("/alerts", **_LIST)
async def list_alerts(asked: Annotated[AlertsQuestion, Query()], request: Request, context: Context) -> Response:
    """Without `state` those that are pending or firing. With `Accept: text/event-stream` a stream of server-sent events
    takes the list's place: `id` goes on (send it as `Last-Event-ID` to miss nothing), `event` is what changed (pending,
    firing, resolved, acknowledged, silenced, inhibited, told_again), `data` the alert."""
    if streams.EVENT_STREAM in request.headers.get("accept", ""):
        return await _stream(request, context)
    now = context.clock.now()
    since = window(Windowed(since=asked.since), now, _A_DAY).since
    states = asked.state or [AlertState.PENDING.value, AlertState.FIRING.value]
    found = await alerts.find(
        context.database.engine, states=states, severities=asked.severity, rules=asked.rule,
        labels=_labels(asked.label), since=since, limit=asked.limit + 1,
        before=decode_cursor(asked.cursor, "before", most=2**63) or None,
    )  # fmt: skip
    items = [shown(alert, now) for alert in found[: asked.limit]]
    more = len(found) > asked.limit
    cursor = encode_cursor(before=found[asked.limit - 1].alert_id) if more else None
    return answer({"items": items, "next_cursor": cursor})


async def _stream(request: Request, context: ApiContext) -> Response:
    engine = context.database.engine
    given = request.headers.get("last-event-id")
    if given is not None and (not given.isdecimal() or len(given) > 18):
        raise InvalidRequest("Last-Event-ID is the id of an event that this stream sent")
    last = await alerts.newest_change(engine) if given is None else int(given)
    return streams.stream(request, looking(context, last))


def looking(context: ApiContext, last: int) -> streams.Look:
    """This will give what looks for changes of alerts after the change `last`."""

    async def look() -> tuple[list[bytes], bool]:
        nonlocal last
        found = await alerts.changes_after(context.database.engine, last, MOST_CHANGES)
        last = found[-1].change_id if found else last
        now = context.clock.now()
        events = [streams.event(str(c.change), said_of(c, now), str(c.change_id)) for c in found]
        return events, len(found) == MOST_CHANGES

    return look


def said_of(change: Change, now: datetime) -> dict[str, Any]:
    """This will show a change with the alert as it is now."""
    return {"changed_at": timestamp(change.changed_at), "change": change.change, **shown(change.alert, now)}


AlertId = Annotated[int, Path(ge=1, lt=2**63, description="an alert's id")]


@router.get(
    "/alerts/{alert_id}",
    **operation("alert", "One alert", scope="read", answer=HISTORY_SCHEMA, errors=(404, 422, 503)),
)
async def get_alert(alert_id: AlertId, _: Annotated[Parameters, Query()], context: Context) -> Response:
    """With what changed of it since it began."""
    found = await alerts.one(context.database.engine, alert_id)
    if found is None:
        raise UnknownResource(f"there is no alert {alert_id}; GET /alerts lists those there are")
    changes = await alerts.history(context.database.engine, alert_id)
    history = [{"at": at, "change": change} for at, change in changes]
    return answer({**shown(found, context.clock.now()), "history": history})


@router.post(
    "/alerts/{alert_id}/acknowledge",
    **operation(
        "alert_acknowledge", "Say that somebody has an alert in hand", scope="operate",
        answer=ALERT_SCHEMA, errors=(400, 404, 409, 413, 422, 503),
    ),
)  # fmt: skip
async def acknowledge(
    alert_id: AlertId, _: Annotated[Parameters, Query()], asked: Acknowledgement, context: Context, caller: WhoAsks
) -> Response:
    """It is not repeated any more; that it is over is still told. One that comes back is a new alert."""
    now, engine = context.clock.now(), context.database.engine
    if await alerts.one(engine, alert_id) is None:
        raise UnknownResource(f"there is no alert {alert_id}; GET /alerts lists those there are")
    found = await alerts.acknowledge(engine, alert_id, by=caller.name, comment=asked.comment, now=now)
    if found is None:
        raise Conflict(f"alert {alert_id} is over; there is nothing to acknowledge")
    return answer(shown(found, now))
