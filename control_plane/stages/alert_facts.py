"""Gathering what rules look at. What changes slowly is not gathered every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from control_plane.alerts.facts import (
    BoundFacts,
    EventFacts,
    Facts,
    FilesystemFacts,
    GpuFacts,
    NodeFacts,
    ObjectiveFacts,
    UseFacts,
)
from control_plane.model.alert import AlertRule, RuleKind
from control_plane.model.bottleneck import Bottleneck
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Reading
from control_plane.model.slo import Events, GuardVerdict, Slo
from control_plane.model.use import CLASS_OF, Cause, UseClass
from control_plane.slo import budget
from control_plane.storage import bottlenecks, entities, newest, slo_events, slos, use
from control_plane.storage.newest import NewestReader
from control_plane.storage.session import SyncConnection

SLOWLY = timedelta(minutes=1)
# Verdicts are written a few times a minute.
VERDICT_AGE = timedelta(minutes=2)
# Of a window of which less has been counted, nothing is told: minutes are no month.
LEAST_COVERED = 0.25
_BOUND = {RuleKind.STUCK_COLLECTIVE, RuleKind.BOTTLENECK}
_AT_EASE = (Bottleneck.MISSING_DATA, Bottleneck.IDLE, Bottleneck.HEALTHY)
_EVENTS = ("xid", "gpu_lost", "gpu_hung")
_WASTED = [f"use_{cause}_seconds" for cause in Cause if CLASS_OF[cause] in (UseClass.STRANDED, UseClass.ALLOCATED_IDLE)]
_HELD = [f"use_{cause}_seconds" for cause in Cause if CLASS_OF[cause] not in (UseClass.UNALLOCATED, UseClass.UNKNOWN)]


class FactReader:
    """Reads facts, the slow ones once a minute."""

    def __init__(self) -> None:
        self._gpus = NewestReader(
            "gpu",
            ["temperature_gpu_celsius", "temperature_memory_celsius", "clock_event_reasons_bits", "sm_clock_megahertz",
             "gpu_utilization_ratio", "memory_used_bytes"],
        )  # fmt: skip
        self._health = NewestReader(
            "gpu_health",
            ["ecc_uncorrected_volatile_total", "remapped_rows_pending_flag", "remapped_rows_failure_flag",
             "retired_pages_pending_flag"],
        )  # fmt: skip
        self._servers = NewestReader("inference", ["up_flag"])
        self._filesystems = NewestReader("filesystem", ["available_bytes", "total_bytes"])
        self._slow_at: datetime | None = None
        self._known: set[tuple[RuleKind, float]] = set()
        self._use: dict[float, Sequence[UseFacts]] = {}
        self._filled: dict[float, Sequence[FilesystemFacts]] = {}

    def read(self, connection: SyncConnection, rules: Sequence[AlertRule], now: datetime) -> Facts:
        """This will gather what the rules need."""
        gpus = entities.every(connection, EntityKind.GPU)
        servers = entities.every(connection, EntityKind.INFERENCE_SERVER)
        asked = {
            (rule.kind, rule.parameters.get("look_back_hours", rule.parameters.get("hours", 0.0))) for rule in rules
        }
        if self._slow_at is None or now - self._slow_at >= SLOWLY or not asked <= self._known:
            self._read_slow(connection, asked, gpus, now)
        looks, health = self._gpus.read(connection), self._health.read(connection)
        served = self._servers.read(connection)
        hold = max([900.0, *(rule.parameters.get("hold_seconds", 0.0) for rule in rules)])
        return Facts(
            now=now,
            nodes=[NodeFacts(node_id=i, name=name, sampled_at=at) for i, name, at in newest.nodes(connection)],
            gpus=[
                GpuFacts(entity=gpu, reading=looks.get(gpu.entity_id), health=health.get(gpu.entity_id)) for gpu in gpus
            ],
            servers=[(server, served.get(server.entity_id)) for server in servers],
            events=_events(connection, now - timedelta(seconds=hold)),
            use=self._use,
            filesystems=self._filled,
            objectives=_objectives(connection, now),
            bound=_bound(connection, [*servers, *gpus]) if _BOUND & {rule.kind for rule in rules} else (),
        )

    def _read_slow(
        self, connection: SyncConnection, asked: set[tuple[RuleKind, float]], gpus: Sequence[Entity], now: datetime
    ) -> None:
        spans = {hours for kind, hours in asked if kind in (RuleKind.LOW_UTILIZATION, RuleKind.WASTE)}
        self._use = {hours: _use(connection, gpus, hours) for hours in spans}
        looked_back = {hours for kind, hours in asked if kind is RuleKind.FILESYSTEM_FILLS}
        found = self._filesystems.read(connection) if looked_back else {}
        mounted = entities.every(connection, EntityKind.FILESYSTEM) if looked_back else []
        self._filled = {}
        for hours in looked_back:
            then = newest.available_then(connection, now - timedelta(hours=hours), 600.0)
            self._filled[hours] = [_filesystem(entity, found, then, now) for entity in mounted]
        self._slow_at, self._known = now, asked


def _events(connection: SyncConnection, since: datetime) -> list[EventFacts]:
    return [
        EventFacts(
            node_id=node_id, at=at, kind=kind, severity=severity, entity_kind=entity_kind, entity_key=key, detail=detail
        )
        for node_id, at, kind, severity, entity_kind, key, detail in newest.events(connection, _EVENTS, since)
    ]


def _bound(connection: SyncConnection, among: Sequence[Entity]) -> list[BoundFacts]:
    by_id = {entity.entity_id: entity for entity in among}
    return [
        BoundFacts(
            entity=by_id[entity_id], bottleneck=bottleneck, since=since, judged_at=until, score=score,
            evidence=evidence,
        )
        for entity_id, bottleneck, since, until, score, evidence in bottlenecks.binding(connection, _AT_EASE)
        if entity_id in by_id
    ]  # fmt: skip


def _use(connection: SyncConnection, gpus: Sequence[Entity], hours: float) -> list[UseFacts]:
    until = use.progress(connection).get("use")
    if until is None:
        return []
    until_us = until // use.HOUR_US * use.HOUR_US
    since_us = until_us - round(hours * use.HOUR_US)
    cells = use.total(connection, "gpu", use.parts(since_us, until_us, hours_until_us=until_us), by=("entity_id",))
    columns, of = cells.columns, {gpu.entity_id: gpu for gpu in gpus}
    out = []
    for n, entity_id in enumerate(cells.entity_ids.tolist()):
        if entity_id not in of:
            continue
        known = float(columns["busy_ratio_seconds"][n])
        out.append(
            UseFacts(
                entity=of[entity_id], hours=hours, paid_seconds=float(columns["paid_seconds"][n]),
                observed_seconds=float(columns["observed_seconds"][n]),
                busy_ratio=float(columns["busy_ratio_sum"][n]) / known if known > 0 else None,
                wasted_seconds=sum(float(columns[name][n]) for name in _WASTED),
                held=any(float(columns[name][n]) > 0 for name in _HELD),
            )
        )  # fmt: skip
    return out


def _filesystem(
    entity: Entity, found: Mapping[int, Reading], then: Mapping[int, tuple[datetime, float]], now: datetime
) -> FilesystemFacts:
    reading = found.get(entity.entity_id)
    at, available = then.get(entity.entity_id, (None, None))
    is_fresh = reading is not None and now - reading.taken_at <= timedelta(minutes=5)
    return FilesystemFacts(
        entity=entity,
        available_bytes=_bytes(reading, "available_bytes") if is_fresh else None,
        total_bytes=_bytes(reading, "total_bytes"),
        available_then=available,
        seconds_between=0.0 if at is None or reading is None else (reading.taken_at - at).total_seconds(),
    )


def _bytes(reading: Reading | None, name: str) -> float | None:
    value = None if reading is None else reading.values.get(name)
    return float(value) if isinstance(value, int | float) else None


def _objectives(connection: SyncConnection, now: datetime) -> list[ObjectiveFacts]:
    found = slos.every(connection)
    if not found:
        return []
    judged = slo_events.judged(connection)
    going_on = slo_events.going_on(connection)
    windows = {w for slo in found for w in budget.windows(slo.definition.allowed_share, _window(slo))}
    events = slo_events.sums(connection, sorted(windows), now)
    return [_objective(slo, judged, going_on, events.get(slo.slo_id, {}), now) for slo in found]


def _window(slo: Slo) -> timedelta:
    return timedelta(days=slo.definition.window_days)


def _objective(
    slo: Slo, judged: Mapping[tuple[int, int], tuple[datetime, GuardVerdict, float | None]],
    going_on: Mapping[tuple[int, int], tuple[datetime, datetime]], events: Mapping[timedelta, Events], now: datetime,
) -> ObjectiveFacts:  # fmt: skip
    definition = slo.definition
    mine = {server: found for (slo_id, server), found in judged.items() if slo_id == slo.slo_id}
    left = budget.budget(events.get(_window(slo), Events()), definition.allowed_share).remaining
    labels = dict(definition.labels)
    covered = now - slo.covered_since
    labels |= {name: value for name, value in (("model", definition.scope.model), ("route", definition.route)) if value}
    return ObjectiveFacts(
        name=definition.name,
        labels=labels,
        objective=f"{definition.indicator}, {100 * definition.target_ratio:g} %",
        violated={
            server: (since, mine[server][2] if server in mine else None)
            for (slo_id, server), (since, _) in going_on.items()
            if slo_id == slo.slo_id
        },
        kept=frozenset(
            server for server, (at, verdict, _) in mine.items()
            if now - at <= VERDICT_AGE and verdict is not GuardVerdict.VIOLATION
        ),
        burning={
            f"{burn.pair.long.total_seconds() / 3600:g}h": (
                burn.exceeded if covered >= burn.pair.long * LEAST_COVERED else None,
                burn.long_rate,
                burn.pair.severity,
            )
            for burn in budget.burns(events, definition.allowed_share, _window(slo))
        },
        budget_left=None if left is None or covered < _window(slo) * LEAST_COVERED else left[1],
    )  # fmt: skip
