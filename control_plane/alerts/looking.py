"""What each kind of rule finds in the facts: of each thing that it is about, whether it is so, or that nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from control_plane.alerts.facts import BoundFacts, EventFacts, Facts, GpuFacts, UseFacts
from control_plane.alerts.suppression import matches
from control_plane.model.alert import AlertRule, Finding, RuleKind
from control_plane.model.bottleneck import Bottleneck
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.event import Severity
from control_plane.model.sample import Reading

# nvml.h: hardware slowdown, thermal slowdown by software and hardware, external power brake.
_SLOWED = 0x08 | 0x20 | 0x40 | 0x80
_DOWN = frozenset({"unreachable", "error", "unhealthy"})
_GONE_COUNTS = timedelta(hours=1)
# Of an hour in which the GPU was not looked at for this share, nothing is concluded.
_LEAST_OBSERVED = 0.8
# Verdicts are written a few times a minute; a server may be looked at once a minute.
VERDICT_FRESH = timedelta(minutes=2)
_BINDING = [b for b in Bottleneck if b not in (Bottleneck.MISSING_DATA, Bottleneck.IDLE, Bottleneck.HEALTHY)]
_GPU_GONE = frozenset({"device_lost", "hung"})

Look = Callable[[AlertRule, Facts], Iterator[Finding]]


def found(rule: AlertRule, facts: Facts) -> list[Finding]:
    """This will give what a rule finds, of what its matchers allow."""
    return [finding for finding in _LOOKS[rule.kind](rule, facts) if matches(rule.matchers, finding.labels)]


def _gpu(entity: Entity) -> dict[str, str]:
    index = entity.attributes.get("index")
    return {"node": entity.node_name, "gpu": entity.key, "gpu_index": "" if index is None else str(index)}


def _called(entity: Entity) -> str:
    return f"GPU {entity.attributes.get('index')} of {entity.node_name}"


def _server(entity: Entity) -> dict[str, str]:
    said = {name: entity.attributes.get(name) for name in ("model", "engine", "namespace")}
    known = {name: value for name, value in said.items() if isinstance(value, str)}
    return {"node": entity.node_name, "server": entity.key, **known}


def _number(reading: Reading | None, name: str) -> float | None:
    value = None if reading is None else reading.values.get(name)
    return float(value) if isinstance(value, int | float) else None


def _any(*parts: bool | None) -> bool | None:
    """This will say yes if one does, no if all do, and else that it is not known."""
    return True if any(part for part in parts) else None if None in parts else False


def _temperature(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for gpu in facts.gpus:
        reading = facts.fresh(gpu.reading)
        die = _number(reading, "temperature_gpu_celsius")
        memory = _number(reading, "temperature_memory_celsius")
        hot = None if die is None else die >= rule.parameters["celsius"]
        # Not every GPU says how hot its memory is: that alone leaves nothing open.
        hot_memory = False if memory is None else memory >= rule.parameters["memory_celsius"]
        is_so = _any(hot, hot_memory)
        which = f"memory at {memory:g} °C" if hot_memory and not hot else "" if die is None else f"{die:g} °C"
        yield Finding(
            labels=_gpu(gpu.entity), is_so=is_so, value=memory if hot_memory and not hot else die,
            summary=f"{_called(gpu.entity)} is hot: {which}",
            evidence={
                "temperature_gpu_celsius": die, "temperature_memory_celsius": memory,
                "slowdown_celsius": gpu.entity.attributes.get("temperature_slowdown_celsius"),
            },
        )  # fmt: skip


def _throttled(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for gpu in facts.gpus:
        bits = _number(facts.fresh(gpu.reading), "clock_event_reasons_bits")
        clock = _number(facts.fresh(gpu.reading), "sm_clock_megahertz")
        yield Finding(
            labels=_gpu(gpu.entity), is_so=None if bits is None else bool(int(bits) & _SLOWED), value=clock,
            summary=f"{_called(gpu.entity)} is slowed down by heat or power",
            evidence={"clock_event_reasons_bits": bits, "sm_clock_megahertz": clock},
        )  # fmt: skip


def _newest(facts: Facts, gpu: GpuFacts, kinds: frozenset[str], hold_seconds: float, least: int) -> EventFacts | None:
    oldest = facts.now - timedelta(seconds=hold_seconds)
    mine = [
        e for e in facts.events
        if e.kind in kinds and e.at > oldest and e.severity >= least and e.node_id == gpu.entity.node_id
        and (e.entity_key == gpu.entity.key or e.entity_kind == EntityKind.NODE)
    ]  # fmt: skip
    return max(mine, key=lambda e: e.at, default=None)


def _xid(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    least = Severity.CRITICAL if rule.parameters["only_critical"] else Severity.WARNING
    for gpu in facts.gpus:
        event = _newest(facts, gpu, frozenset({"xid"}), rule.parameters["hold_seconds"], least)
        said = event.detail if event else {}
        number = said.get("number")
        yield Finding(
            labels=_gpu(gpu.entity), is_so=event is not None, value=_as_number(number),
            since=event.at if event else None,
            summary=f"XID {number} ({said.get('name', 'unknown')}) on {_called(gpu.entity)}",
            evidence=dict(said),
        )  # fmt: skip


def _as_number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _memory_errors(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    names = (
        "ecc_uncorrected_volatile_total", "remapped_rows_pending_flag", "remapped_rows_failure_flag",
        "retired_pages_pending_flag",
    )  # fmt: skip
    for gpu in facts.gpus:
        health = facts.fresh(gpu.health)
        values = {name: _number(health, name) for name in names}
        bad = {name: value for name, value in values.items() if value}
        # A GPU without ECC, or without remapping, says so of these for ever: what it does say counts.
        known = [value for value in values.values() if value is not None]
        yield Finding(
            labels=_gpu(gpu.entity), is_so=bool(bad) if known else None, value=max(bad.values(), default=None),
            summary=f"memory of {_called(gpu.entity)}: "
            + ", ".join(f"{name} {value:g}" for name, value in bad.items()),
            evidence=values,
        )  # fmt: skip


def _gpu_hung(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    kinds = frozenset({"gpu_lost", "gpu_hung"})
    for gpu in facts.gpus:
        event = _newest(facts, gpu, kinds, rule.parameters["hold_seconds"], 0)
        if event is not None and event.entity_kind == EntityKind.NODE and not _says_gone(gpu.reading):
            event = None  # a call hung on this node, and this GPU still answers
        reading = facts.fresh(gpu.reading)
        gone = _says_gone(reading)
        is_so = True if gone or (event is not None and reading is None) else None if reading is None else False
        yield Finding(
            labels=_gpu(gpu.entity), is_so=is_so, since=event.at if event else None,
            summary=f"{_called(gpu.entity)} does not answer any more",
            evidence=dict(event.detail) if event else {},
        )  # fmt: skip


def _says_gone(reading: Reading | None) -> bool:
    return reading is not None and bool(_GPU_GONE & set(reading.unknown.values()))


def _hung(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for entity, reading in facts.servers:
        state = entity.attributes.get("state")
        is_known = state in ("gone", "not_watched") or facts.fresh(reading) is not None
        yield Finding(
            labels=_server(entity), is_so=state == "hung" if is_known else None, since=_since(entity, state == "hung"),
            summary=f"{entity.key} on {entity.node_name} hangs: {entity.attributes.get('state_detail') or state}",
            evidence={"state": state, "state_detail": entity.attributes.get("state_detail")},
        )  # fmt: skip


def _since(entity: Entity, is_so: bool) -> datetime | None:
    return entity.state_since if is_so else None


def _down(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for entity, reading in facts.servers:
        state = entity.attributes.get("state")
        gone = state == "gone" and bool(rule.parameters["gone_counts"])
        is_so: bool | None = state in _DOWN or (gone and facts.now - entity.state_since <= _GONE_COUNTS)
        if state not in ("gone", "not_watched") and facts.fresh(reading) is None:
            is_so = None
        yield Finding(
            labels=_server(entity), is_so=is_so, since=_since(entity, bool(is_so)),
            summary=f"{entity.key} on {entity.node_name} is {state}",
            evidence={"state": state, "state_detail": entity.attributes.get("state_detail")},
        )  # fmt: skip


def _named(bound: BoundFacts) -> dict[str, str]:
    if bound.entity.kind is EntityKind.INFERENCE_SERVER:
        return _server(bound.entity)
    return _gpu(bound.entity)


def _where(bound: BoundFacts) -> str:
    if bound.entity.kind is EntityKind.INFERENCE_SERVER:
        return f"{bound.entity.key} on {bound.entity.node_name}"
    return _called(bound.entity)


def _is_known(bound: BoundFacts, facts: Facts) -> bool:
    is_fresh = facts.now - bound.judged_at <= VERDICT_FRESH
    return is_fresh and bound.bottleneck is not Bottleneck.MISSING_DATA


def _stuck(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for bound in facts.bound:
        is_so = bound.bottleneck is Bottleneck.STUCK_COLLECTIVE
        yield Finding(
            labels=_named(bound), is_so=is_so if _is_known(bound, facts) else None,
            value=bound.score if is_so else None, since=bound.since if is_so else None,
            summary=f"GPUs of {_where(bound)} are fully utilised and do nothing: a collective that never ends"
            if bound.entity.kind is EntityKind.INFERENCE_SERVER
            else f"{_where(bound)} is fully utilised and does nothing: a collective that never ends",
            evidence=bound.evidence if is_so else {},
        )  # fmt: skip


def _bottleneck(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    asked = rule.matchers.get("bottleneck", "*")
    classes = [b for b in _BINDING if asked == "*" or b.value in asked.split("|")]
    for bound in facts.bound:
        if bound.entity.kind is not EntityKind.INFERENCE_SERVER:
            continue  # what a GPU alone can be bound by that can be helped, it has rules of its own for
        labels, known = _named(bound), _is_known(bound, facts)
        for bottleneck in classes:
            is_so = bound.bottleneck is bottleneck
            yield Finding(
                labels={**labels, "bottleneck": bottleneck.value}, is_so=is_so if known else None,
                value=bound.score if is_so else None, since=bound.since if is_so else None,
                summary=f"{_where(bound)} is {bottleneck.value.replace('_', ' ')}",
                evidence=bound.evidence if is_so else {},
            )  # fmt: skip


def _observed(use: UseFacts) -> bool:
    return use.paid_seconds > 0 and use.observed_seconds / use.paid_seconds >= _LEAST_OBSERVED


def _whole(use: UseFacts) -> bool:
    """A GPU that is new has not been there for all of the hours."""
    return use.paid_seconds >= _LEAST_OBSERVED * use.hours * 3600


def _low_utilization(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for use in facts.use.get(rule.parameters["hours"], ()):
        known = _observed(use) and _whole(use) and use.busy_ratio is not None
        low = use.held and use.busy_ratio is not None and use.busy_ratio < rule.parameters["busy_ratio"]
        yield Finding(
            labels=_gpu(use.entity), is_so=low if known else None, value=use.busy_ratio,
            summary=f"{_called(use.entity)} was busy "
            f"{100 * (use.busy_ratio or 0):.0f} % of the last {use.hours:g} h",
            evidence={"busy_ratio": use.busy_ratio, "hours": use.hours, "observed_seconds": use.observed_seconds},
        )  # fmt: skip


def _waste(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for use in facts.use.get(rule.parameters["hours"], ()):
        share = use.wasted_seconds / use.paid_seconds if use.paid_seconds else None
        known = _observed(use) and _whole(use)
        yield Finding(
            labels=_gpu(use.entity), value=share,
            is_so=share is not None and share > rule.parameters["waste_ratio"] if known else None,
            summary=f"{_called(use.entity)} wasted "
            f"{use.wasted_seconds / 3600:.1f} of its last {use.paid_seconds / 3600:.1f} paid hours",
            evidence={"wasted_seconds": use.wasted_seconds, "paid_seconds": use.paid_seconds, "hours": use.hours},
        )  # fmt: skip


def _violated(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    by_id = {entity.entity_id: entity for entity, _ in facts.servers}
    for objective in facts.objectives:
        judged = sorted(objective.kept | objective.violated.keys())
        # Of a single server and of all together the same is said: once is enough.
        for server_id in judged[1:] if judged[:1] == [0] and len(judged) == 2 else judged:
            entity = by_id.get(server_id)
            if server_id and entity is None:
                continue
            of = {} if entity is None else _server(entity)
            violation = objective.violated.get(server_id)
            where = "" if entity is None else f" by {entity.key} on {entity.node_name}"
            share = violation[1] if violation else None
            bad = "" if share is None else f": {100 * share:.1f} % are bad"
            yield Finding(
                labels={**of, **objective.labels, "slo": objective.name}, is_so=violation is not None,
                value=share, since=violation[0] if violation else None,
                summary=f"{objective.name} is not kept{where}{bad} ({objective.objective})",
                evidence={"objective": objective.objective, "bad_ratio": share},
            )  # fmt: skip


def _burning(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for objective in facts.objectives:
        labels = {**objective.labels, "slo": objective.name}
        for window, (exceeded, rate, severity) in objective.burning.items():
            yield Finding(
                labels={**labels, "window": window, "urgency": severity}, is_so=exceeded, value=rate,
                summary=f"{objective.name} uses its error budget up {0 if rate is None else rate:.1f} times too fast "
                f"(over {window})",
                evidence={"burn_rate": rate, "window": window},
            )  # fmt: skip
        left = objective.budget_left
        yield Finding(
            labels={**labels, "window": "budget", "urgency": "ticket"}, is_so=None if left is None else left <= 0,
            value=left, summary=f"{objective.name} has used its error budget up", evidence={"remaining_ratio": left},
        )  # fmt: skip


def _filesystem(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for fs in facts.filesystems.get(rule.parameters["look_back_hours"], ()):
        hours = None
        if fs.available_bytes is not None and fs.available_then is not None and fs.seconds_between > 0:
            used_per_second = (fs.available_then - fs.available_bytes) / fs.seconds_between
            hours = fs.available_bytes / used_per_second / 3600 if used_per_second > 0 else float("inf")
        if fs.available_bytes == 0:
            hours = 0.0
        mountpoint = fs.entity.attributes.get("mountpoint") or fs.entity.key
        yield Finding(
            labels={"node": fs.entity.node_name, "mountpoint": str(mountpoint)},
            is_so=None if hours is None else hours <= rule.parameters["hours"],
            value=None if hours is None or hours == float("inf") else hours,
            summary=f"{mountpoint} of {fs.entity.node_name} is full in {hours or 0:.1f} h, as it fills now",
            evidence={
                "available_bytes": fs.available_bytes, "total_bytes": fs.total_bytes,
                "available_bytes_then": fs.available_then, "seconds_between": fs.seconds_between,
            },
        )  # fmt: skip


def _silent(rule: AlertRule, facts: Facts) -> Iterator[Finding]:
    for node in facts.nodes:
        age = None if node.sampled_at is None else (facts.now - node.sampled_at).total_seconds()
        yield Finding(
            labels={"node": node.name}, is_so=None if age is None else age > rule.parameters["seconds"], value=age,
            since=node.sampled_at if age is not None and age > rule.parameters["seconds"] else None,
            summary=f"no samples from {node.name} for {0 if age is None else age:.0f} s",
            evidence={"age_seconds": age},
        )  # fmt: skip


_LOOKS: Mapping[RuleKind, Look] = {
    RuleKind.GPU_TEMPERATURE: _temperature,
    RuleKind.GPU_THROTTLED: _throttled,
    RuleKind.GPU_XID: _xid,
    RuleKind.GPU_MEMORY_ERRORS: _memory_errors,
    RuleKind.GPU_HUNG: _gpu_hung,
    RuleKind.ENGINE_HUNG: _hung,
    RuleKind.ENGINE_DOWN: _down,
    RuleKind.STUCK_COLLECTIVE: _stuck,
    RuleKind.BOTTLENECK: _bottleneck,
    RuleKind.LOW_UTILIZATION: _low_utilization,
    RuleKind.WASTE: _waste,
    RuleKind.SLO_VIOLATED: _violated,
    RuleKind.SLO_BURNING: _burning,
    RuleKind.FILESYSTEM_FILLS: _filesystem,
    RuleKind.NODE_SILENT: _silent,
}
