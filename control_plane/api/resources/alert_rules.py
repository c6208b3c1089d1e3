"""What is configured of alerts: rules, receivers, routes, inhibitions, silences, in one document."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.alerts.kinds import KINDS, usual_rules
from control_plane.alerts.suppression import BUILT_IN
from control_plane.api.alert_bodies import KEEP, AlertsBody, shown
from control_plane.api.answers import answer
from control_plane.api.audit_trail import Changed
from control_plane.api.context import ApiContext, Context, WhoAsks
from control_plane.api.operations import operation
from control_plane.api.parameters import Parameters
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.alert import AlertConfiguration
from control_plane.model.errors import Conflict, InvalidRequest
from control_plane.runtime import destinations
from control_plane.storage import alert_configuration, alert_outbox

router = APIRouter(tags=["alerts"])

RULES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "revision": {"type": "integer", "description": "0: nobody has configured anything; these are the usual rules"},
        "changed_at": TIME,
        "changed_by": MAYBE_TEXT,
        "rules": {"type": "array", "items": {"type": "object"}},
        "receivers": {"type": "array", "items": {"type": "object"}},
        "routes": {"type": "array", "items": {"type": "object"}},
        "default_receiver": TEXT,
        "grouping": {"type": "object"},
        "inhibitions": {"type": "array", "items": {"type": "object"}},
        "silences": {"type": "array", "items": {"type": "object"}},
        "delivery": {
            "type": "array",
            "description": "how delivery to each receiver goes",
            "items": {
                "type": "object",
                "properties": {
                    "receiver": TEXT,
                    "leads_to": TEXT,
                    "waiting": {"type": "integer"},
                    "oldest_waiting_at": TIME,
                    "sent": {"type": "integer"},
                    "last_sent_at": TIME,
                    "given_up": {"type": "integer"},
                    "last_error": MAYBE_TEXT,
                    "unknown": UNKNOWN,
                },
            },
        },
        "kinds": {"type": "object", "description": "what there can be rules of, with their parameters"},
        "built_in_inhibitions": {"type": "array", "items": {"type": "object"}},
        "unknown": UNKNOWN,
    },
}


async def _answer(context: ApiContext, configuration: AlertConfiguration | None) -> dict[str, Any]:
    held = configuration or AlertConfiguration(rules=usual_rules())
    to = {receiver.name: receiver.shown_url for receiver in held.receivers}
    states = await alert_outbox.states(context.database.engine, list(to)) if to else []
    delivery = []
    for state in states:
        item: dict[str, Any] = {
            "receiver": state.receiver, "leads_to": to[state.receiver], "waiting": state.waiting,
            "oldest_waiting_at": state.oldest_waiting_at, "sent": state.sent, "last_sent_at": state.last_sent_at,
            "given_up": state.given_up, "last_error": state.last_error,
        }  # fmt: skip
        why = {"oldest_waiting_at": "nothing_waits", "last_sent_at": "nothing_sent", "last_error": "no_error"}
        delivery.append(item | {"unknown": {name: reason for name, reason in why.items() if item[name] is None}})
    unknown = {} if configuration else dict.fromkeys(("changed_at", "changed_by"), "never_configured")
    return {
        **shown(held), "changed_at": held.changed_at, "changed_by": held.changed_by, "delivery": delivery,
        "kinds": {
            kind: {
                "means": said.means, "about": said.about, "severity": said.severity,
                "wait_seconds": said.wait.total_seconds(), "keep_seconds": said.keep.total_seconds(),
                "matchers": said.matchers,
                "parameters": {
                    name: {"usual": p.usual, "least": p.least, "most": p.most, "means": p.means}
                    for name, p in said.parameters.items()
                },
            }
            for kind, said in KINDS.items()
        },
        "built_in_inhibitions": [{"source": i.source, "target": i.target, "equal": i.equal} for i in BUILT_IN],
        "unknown": unknown,
    }  # fmt: skip


@router.get(
    "/alerts/rules", **operation("alert_rules", "What is configured of alerts", scope="read", answer=RULES_SCHEMA)
)
async def get_rules(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """Rules, receivers, routes, grouping, inhibitions and silences, to be changed and sent back with PUT; secrets are
    shown as ***. Beside them: how delivery goes, and what there can be rules of."""
    return answer(await _answer(context, await alert_configuration.find(context.database.engine)))


@router.put(
    "/alerts/rules",
    **operation(
        "alert_rules_put", "Configure alerts", scope="admin", answer=RULES_SCHEMA,
        errors=(400, 409, 413, 422, 503),
    ),
)  # fmt: skip
async def put_rules(
    _: Annotated[Parameters, Query()], asked: AlertsBody, context: Context, caller: WhoAsks, change: Changed
) -> Response:
    """Takes the place of all that was configured, or changes nothing: names that do not fit, numbers out of bounds and
    webhooks that may not be reached from here are refused. `***` keeps the secret that is there. With the `revision`
    that it was made from, nobody else's change is overwritten."""
    engine, now = context.database.engine, context.clock.now()
    before = await alert_configuration.find(engine)
    wrong = list(asked.wrong(before.receivers if before else ()))
    for number, receiver in enumerate(asked.receivers):
        if receiver.webhook_url != KEEP:
            try:
                await destinations.check(receiver.webhook_url, context.webhooks, destinations.by_system)
            except InvalidRequest as error:
                wrong.append((f"/receivers/{number}/webhook_url", str(error)))
    if wrong:
        raise InvalidRequest("; ".join(f"{place}: {why}" for place, why in wrong[:3]), wrong)
    meant = asked.meant(before, context.sealer, now=now, by=caller.name)
    revision = await alert_configuration.write(engine, meant, now=now, by=caller.name, expected=asked.revision)
    if revision is None:
        raise Conflict("somebody else has changed it meanwhile; GET it again, and make your change of that")
    after = await alert_configuration.find(engine)
    change.was(shown(before) if before else None)
    change.became(shown(after) if after else None)
    return answer(await _answer(context, after))
