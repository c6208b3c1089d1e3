"""How objectives are kept: the guard's verdicts, burn rates, budgets, violations, and how that came about."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from control_plane.api.answers import age_seconds, answer, evidence, page, timestamp
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, Stepped, Windowed, decode_cursor, step_of, window
from control_plane.api.resources.slo import SloId, every_server, find_slo, in_words, limits_of
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.entity import Entity
from control_plane.model.errors import UnknownResource
from control_plane.model.slo import Events, GuardVerdict, Indicator, ServerJudgement, Slo, Violation
from control_plane.slo import budget as budgets
from control_plane.slo.budget import Budget, Burn
from control_plane.slo.guard import WEEK_SECONDS
from control_plane.storage import slo_events, slos
from control_plane.storage.slo_events import FROM_MINUTES, MINUTES_KEPT, Point

router = APIRouter(tags=["slo"])

TOGETHER = 0
# The job writes every quarter of a minute; what is older is no verdict on now.
STALE = timedelta(minutes=2)
DEFAULT_WINDOW = timedelta(days=1)
STATES = {
    "violated": "the guard sees more bad events than may be, beyond chance",
    "burning": "a pair of windows shows that the budget is used up too fast",
    "exhausted": "the budget of the window is used up",
    "kept": "none of these, and there were events in the last hour",
    "not_enough_traffic": "none of these, and there was hardly an event in the last hour",
    "unknown": "nothing can be said, and `unknown` says why",
}
RANGE = {
    "type": ["object", "null"],
    "properties": {"low": {"type": "number"}, "high": {"type": "number"}},
    "description": "two numbers where events between two bounds of a histogram are neither good nor bad for certain",
}
GUARD_SCHEMA: dict[str, Any] = {
    "type": ["object", "null"],
    "properties": {
        "verdict": {"enum": [v.value for v in GuardVerdict]},
        "because": TEXT,
        "since": TIME,
        "judged_at": TIME,
        "events": {"type": "number"},
        "bad_events": {"type": "number"},
        "bad_ratio": {"type": ["number", "null"]},
        "allowed_ratio": {"type": "number"},
        "tolerated_ratio": {"type": "number", "description": "of bad events: what is usual here; up to it, no alarm"},
        "evidence_ratio": {"type": "number", "description": "of what an alarm needs, on a logarithmic scale"},
        "false_alarms_per_week_at_most": {"type": "number"},
        "unknown": UNKNOWN,
    },
}
STATUS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "slo_id": {"type": "integer"},
        "name": TEXT,
        "objective": TEXT,
        "indicator": {"enum": [i.value for i in Indicator]},
        "target_ratio": {"type": "number"},
        "scope": {"type": "object"},
        "route": MAYBE_TEXT,
        "state": {"enum": list(STATES), "description": "; ".join(f"{k}: {v}" for k, v in STATES.items())},
        "guard": GUARD_SCHEMA,
        "servers": {"type": "array", "items": {"type": "object"}, "description": "the guard's verdict on each"},
        "burn_rates": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "severity": {"enum": ["page", "ticket"]},
                    "long_seconds": {"type": "number"},
                    "short_seconds": {"type": "number"},
                    "threshold": {"type": "number"},
                    "long_rate": {"type": ["number", "null"]},
                    "short_rate": {"type": ["number", "null"]},
                    "exceeded": {"type": ["boolean", "null"]},
                    "unknown": UNKNOWN,
                },
            },
        },
        "budget": {
            "type": "object",
            "properties": {
                "window_days": {"type": "integer"},
                "covered_days": {"type": "number", "description": "of the window, since events are counted"},
                "events": {"type": "number"},
                "allowed_bad_events": {"type": "number"},
                "attained_ratio": RANGE,
                "remaining_ratio": RANGE,
                "unknown": UNKNOWN,
            },
        },
        "evidence": {"type": "object"},
        "unknown": UNKNOWN,
    },
}


class SloQuestion(Paged):
    """Objectives by name."""

    slo: list[Name] = Field(default_factory=list, max_length=100, description="name or id; may be repeated")


class ViolationsQuestion(SloQuestion, Windowed):
    """Violations of a stretch of time."""


async def _asked(context: ApiContext, asked: SloQuestion) -> list[Slo]:
    """This will give the asked objectives, one more than the limit. Raises UnknownResource for one that is not."""
    engine, after = context.database.engine, decode_cursor(asked.cursor, "after")
    if not asked.slo:
        return await slos.find(engine, after=after, limit=asked.limit + 1)
    found = await slos.named(engine, asked.slo)
    known = {name for slo in found for name in (slo.definition.name, str(slo.slo_id))}
    for name in asked.slo:
        if name not in known:
            raise UnknownResource(f"there is no objective {name[:64]!r}; GET /slo lists those there are")
    return [slo for slo in found if slo.slo_id > after][: asked.limit + 1]


def _guard(slo: Slo, judged: ServerJudgement, now: datetime) -> dict[str, Any]:
    found = judged.judgement
    item: dict[str, Any] = {
        "verdict": found.verdict, "because": found.because, "since": found.since, "judged_at": judged.judged_at,
        "age_seconds": age_seconds(judged.judged_at, now), "events": _number(found.events),
        "bad_events": _number(found.bad), "bad_ratio": _number(found.bad_share),
        "allowed_ratio": slo.definition.allowed_share, "tolerated_ratio": _number(judged.tolerated_share),
        "evidence_ratio": found.evidence, "false_alarms_per_week_at_most": WEEK_SECONDS / (7 * 86400),
    }  # fmt: skip
    unknown = {}
    if found.since is None:
        unknown["since"] = "no_violation"
    if found.bad_share is None:
        unknown["bad_ratio"] = judged.unknown or "no_events"
    return item | {"unknown": unknown}


def _number(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _burn(found: Burn) -> dict[str, Any]:
    item = {
        "severity": found.pair.severity,
        "long_seconds": found.pair.long.total_seconds(),
        "short_seconds": found.pair.short.total_seconds(),
        "threshold": found.pair.factor,
        "long_rate": _number(found.long_rate),
        "short_rate": _number(found.short_rate),
        "exceeded": found.exceeded,
    }
    return item | {"unknown": {name: "no_events" for name, value in item.items() if value is None}}


def _range(found: tuple[float, float] | None) -> dict[str, Any] | None:
    return None if found is None else {"low": _number(found[0]), "high": _number(found[1])}


def _budget(slo: Slo, found: Budget, now: datetime) -> dict[str, Any]:
    covered = min(timedelta(days=slo.definition.window_days), now - slo.covered_since)
    item: dict[str, Any] = {
        "window_days": slo.definition.window_days,
        "covered_days": _number(max(0.0, covered / timedelta(days=1))),
        "events": _number(found.events),
        "allowed_bad_events": _number(found.allowed),
        "attained_ratio": _range(found.attained),
        "remaining_ratio": _range(found.remaining),
    }
    return item | {"unknown": {name: "no_events" for name, value in item.items() if value is None}}


def _state(guard: ServerJudgement | None, burns: Sequence[Burn], left: Budget, hour: Events, now: datetime) -> str:
    fresh = guard is not None and now - guard.judged_at <= STALE
    if guard is not None and fresh and guard.judgement.since is not None:
        return "violated"
    if any(burn.exceeded for burn in burns):
        return "burning"
    if left.remaining is not None and left.remaining[1] <= 0:
        return "exhausted"
    if not fresh or guard is None or (guard.unknown and not hour.total):
        return "unknown"
    return "kept" if guard.judgement.verdict is GuardVerdict.PASS or hour.total >= 100 else "not_enough_traffic"


def _status(
    slo: Slo, judged: Mapping[int, ServerJudgement], of: Mapping[int, Entity], by_window: Mapping[timedelta, Events],
    now: datetime,
) -> dict[str, Any]:  # fmt: skip
    definition, whole = slo.definition, timedelta(days=slo.definition.window_days)
    allowed = definition.allowed_share
    burns = budgets.burns(by_window, allowed, whole)
    left = budgets.budget(by_window.get(whole, Events()), allowed)
    together = judged.get(TOGETHER)
    servers = [
        {"server_id": i, "url": of[i].key, "node": of[i].node_name} | _guard(slo, found, now)
        for i, found in judged.items()
        if i in of
    ]
    unknown = {}
    if together is None:
        unknown["guard"] = "not_judged_yet"
    elif now - together.judged_at > STALE:
        unknown["state"] = "the job that judges has not run of late"
    elif together.unknown:
        unknown["state"] = together.unknown
    if definition.route is None:
        unknown["route"] = "not_named"
    numbers = {
        f"{window.total_seconds():g}s": {"good": e.good, "bad": e.bad, "doubtful": e.doubtful}
        for window, e in by_window.items()
    }
    return {
        "slo_id": slo.slo_id, "name": definition.name, "objective": in_words(definition),
        "indicator": definition.indicator, "target_ratio": definition.target_ratio,
        "scope": definition.scope.said(), "route": definition.route,
        "state": _state(together, burns, left, by_window.get(timedelta(hours=1), Events()), now),
        "guard": None if together is None else _guard(slo, together, now),
        "servers": servers,
        "burn_rates": [_burn(burn) for burn in burns],
        "budget": _budget(slo, left, now),
        "evidence": evidence(
            series=list(limits_of(definition)) or [definition.indicator], since=max(slo.covered_since, now - whole),
            until=now, numbers=numbers,
        ),
        "unknown": unknown,
    }  # fmt: skip


@router.get(
    "/slo/status",
    **operation(
        "slo_status", "How objectives are kept now", scope="read", answer=listed(STATUS_SCHEMA), errors=(404, 422, 503)
    ),
)
async def slo_status(asked: Annotated[SloQuestion, Query()], context: Context) -> Response:
    """Three answers to three questions: the guard sees a violation within seconds, burn rates say whether the budget
    will last, and the budget says what is left. A verdict that too few events allow is `not_enough_traffic`, which is
    no pass."""
    found, now, engine = await _asked(context, asked), context.clock.now(), context.database.engine
    shown = found[: asked.limit]
    ids = [slo.slo_id for slo in shown]
    windows = {timedelta(hours=1)}
    for slo in shown:
        windows |= set(budgets.windows(slo.definition.allowed_share, timedelta(days=slo.definition.window_days)))
    events = await slo_events.by_window(engine, ids, sorted(windows), now) if ids else {}
    judged: dict[int, dict[int, ServerJudgement]] = {slo_id: {} for slo_id in ids}
    for one in await slo_events.judgements(engine, ids):
        judged[one.slo_id][one.entity_id] = one
    of = {entity.entity_id: entity for entity, _ in await every_server(context)}
    items = [_status(slo, judged[slo.slo_id], of, events[slo.slo_id], now) for slo in shown]
    return page(items, more=len(found) > asked.limit, last_id=ids[-1] if ids else 0)


VIOLATION_SCHEMA = {
    "type": "object",
    "properties": {
        "violation_id": {"type": "integer"},
        "slo_id": {"type": "integer"},
        "name": TEXT,
        "objective": TEXT,
        "server_id": {"type": ["integer", "null"], "description": "null: all servers in scope together"},
        "url": MAYBE_TEXT,
        "since": TIME,
        "detected_at": TIME,
        "detected_after_seconds": {"type": "number"},
        "ended_at": TIME,
        "events": {"type": "number", "description": "from its beginning until it was detected"},
        "bad_events": {"type": "number"},
        "detail": {"type": "object"},
        "unknown": UNKNOWN,
    },
}


def _violation(found: Violation, slo: Slo, of: Mapping[int, Entity]) -> dict[str, Any]:
    server = of.get(found.entity_id)
    unknown = {}
    if found.entity_id == TOGETHER:
        unknown = dict.fromkeys(("server_id", "url"), "all_in_scope_together")
    elif server is None:
        unknown["url"] = "forgotten"
    if found.ended_at is None:
        unknown["ended_at"] = "goes_on"
    return {
        "violation_id": found.violation_id, "slo_id": slo.slo_id, "name": slo.definition.name,
        "objective": in_words(slo.definition), "server_id": found.entity_id or None,
        "url": server.key if server else None, "since": found.since, "detected_at": found.detected_at,
        "detected_after_seconds": round((found.detected_at - found.since).total_seconds(), 3),
        "ended_at": found.ended_at, "events": _number(found.events), "bad_events": _number(found.bad),
        "detail": found.detail, "unknown": unknown,
    }  # fmt: skip


@router.get(
    "/slo/violations",
    **operation(
        "slo_violations",
        "When objectives were not kept",
        scope="read",
        answer=listed(VIOLATION_SCHEMA),
        errors=(404, 422, 503),
    ),
)
async def slo_violations(asked: Annotated[ViolationsQuestion, Query()], context: Context) -> Response:
    """Those that went on at some moment of the window (default: the last day), the oldest first."""
    now = context.clock.now()
    span = window(asked, now, DEFAULT_WINDOW)
    chosen = await slos.named(context.database.engine, asked.slo) if asked.slo else None
    if chosen is not None:
        chosen = await _asked(context, SloQuestion(slo=asked.slo))
    found = await slo_events.violations(
        context.database.engine, slo_ids=None if chosen is None else [slo.slo_id for slo in chosen],
        since=span.since, until=span.until, after=decode_cursor(asked.cursor, "after", most=2**63),
        limit=asked.limit + 1,
    )  # fmt: skip
    shown = found[: asked.limit]
    ids = sorted({v.slo_id for v in shown})
    of_slo = {slo.slo_id: slo for slo in await slos.find(context.database.engine, ids, limit=len(ids) + 1)}
    of = {entity.entity_id: entity for entity, _ in await every_server(context)}
    items = [_violation(v, of_slo[v.slo_id], of) for v in shown if v.slo_id in of_slo]
    ends = {"since": timestamp(span.since), "until": timestamp(span.until)}
    return page(items, more=len(found) > asked.limit, last_id=shown[-1].violation_id if shown else 0, **ends)


POINT_SCHEMA = {
    "type": "object",
    "properties": {
        "at": TIME,
        "good_events": {"type": "number"},
        "bad_events": {"type": "number"},
        "doubtful_events": {"type": "number"},
        "burn_rate": {"type": ["number", "null"]},
        "remaining_ratio": RANGE,
        "unknown": UNKNOWN,
    },
}
BUDGET_SCHEMA = {
    "type": "object",
    "properties": {
        "slo_id": {"type": "integer"},
        "name": TEXT,
        "objective": TEXT,
        "budget": STATUS_SCHEMA["properties"]["budget"],
        "since": TIME,
        "until": TIME,
        "resolution_seconds": {"type": "number"},
        "points": {"type": "array", "items": POINT_SCHEMA},
    },
}


class _Sums:
    """Events of any stretch of whole hours, in a moment."""

    def __init__(self, hours: Sequence[Point]) -> None:
        self._starts = [hour.start for hour in hours]
        self._until = list(accumulate((hour.events for hour in hours), initial=Events()))

    def between(self, since: datetime, until: datetime) -> Events:
        """This will give the events of the hours that begin in a stretch of time."""
        first, last = (self._until[bisect_left(self._starts, moment)] for moment in (since, until))
        return Events(good=last.good - first.good, bad=last.bad - first.bad, doubtful=last.doubtful - first.doubtful)


def _points(slo: Slo, points: Sequence[Point], hours: Sequence[Point], step: timedelta) -> list[dict[str, Any]]:
    whole, allowed = timedelta(days=slo.definition.window_days), slo.definition.allowed_share
    sums, hourly = _Sums(hours), step >= timedelta(hours=1)
    out = []
    for point in points:
        end = point.start + step
        burn = _number(budgets.burn_rate(point.events, allowed))
        left = _range(budgets.budget(sums.between(end - whole, end), allowed).remaining) if hourly else None
        unknown = {"burn_rate": "no_events"} if burn is None else {}
        if left is None:
            unknown["remaining_ratio"] = "no_events" if hourly else "step_below_an_hour"
        out.append(
            {
                "at": point.start, "good_events": _number(point.events.good),
                "bad_events": _number(point.events.bad), "doubtful_events": _number(point.events.doubtful),
                "burn_rate": burn, "remaining_ratio": left, "unknown": unknown,
            }
        )  # fmt: skip
    return out


@router.get(
    "/slo/{slo_id}/budget",
    **operation(
        "slo_budget", "Error budget and burn rate over time", scope="read", answer=BUDGET_SCHEMA, errors=(404, 422, 503)
    ),
)
async def slo_budget(slo_id: SloId, asked: Annotated[Stepped, Query()], context: Context) -> Response:
    """Events of each step and the burn rate that they make; at steps of an hour or more also what is left of the budget
    of the window that ends there. Steps without any event are left out. Minutes are kept for two days."""
    slo, now, engine = await find_slo(context, slo_id), context.clock.now(), context.database.engine
    span = window(asked, now, DEFAULT_WINDOW)
    step = step_of(asked, span)
    from_hours = step >= timedelta(hours=1) or span.since < now - MINUTES_KEPT or asked.step is None
    unit = timedelta(hours=1) if from_hours and span.seconds > FROM_MINUTES.total_seconds() else timedelta(minutes=1)
    step = max(unit, -(-step // unit) * unit)
    since = span.since.replace(second=0, microsecond=0)
    if unit == timedelta(hours=1):
        since = since.replace(minute=0)
    points = await slo_events.series(engine, slo.slo_id, since=since, until=span.until, step=step)
    whole = timedelta(days=slo.definition.window_days)
    hours = await slo_events.series(
        engine, slo.slo_id, since=since.replace(minute=0) - whole, until=now, step=timedelta(hours=1)
    )
    events = await slo_events.by_window(engine, [slo.slo_id], [whole], now)
    left = budgets.budget(events[slo.slo_id].get(whole, Events()), slo.definition.allowed_share)
    return answer(
        {
            "slo_id": slo.slo_id, "name": slo.definition.name, "objective": in_words(slo.definition),
            "budget": _budget(slo, left, now), "since": since, "until": span.until,
            "resolution_seconds": step.total_seconds(), "points": _points(slo, points, hours, step),
        }
    )  # fmt: skip
