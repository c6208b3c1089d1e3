"""What rules find: what is so, what is not, and what nobody knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

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
from control_plane.alerts.kinds import KINDS, usual_rule
from control_plane.alerts.looking import found
from control_plane.model.alert import AlertRule, Finding, RuleKind
from control_plane.model.bottleneck import Bottleneck
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Reading

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def entity(number: int, kind: EntityKind, key: str, **attributes: object) -> Entity:
    return Entity(
        entity_id=number, node_id=1, node_name="alpha", kind=kind, key=key, attributes=attributes,
        first_seen_at=NOW, last_seen_at=NOW, state_since=NOW - timedelta(minutes=5),
    )  # fmt: skip


GPU = entity(1, EntityKind.GPU, "GPU-1", index=0)
SERVER = entity(2, EntityKind.INFERENCE_SERVER, "http://a:8000", state="up", model="llama", engine="vllm")
DISK = entity(3, EntityKind.FILESYSTEM, "/data", mountpoint="/data")


def reading(age: float = 2, unknown: dict[str, str] | None = None, **values: float | None) -> Reading:
    return Reading(entity_id=1, taken_at=NOW - timedelta(seconds=age), values=values, unknown=unknown or {})


def only(kind: RuleKind, facts: Facts, **parameters: float) -> Finding:
    rule = usual_rule(kind)
    (finding,) = found(replace(rule, parameters={**rule.parameters, **parameters}), facts)
    return finding


def of_gpu(gpu: Reading | None = None, health: Reading | None = None, *events: EventFacts) -> Facts:
    return Facts(now=NOW, gpus=[GpuFacts(entity=GPU, reading=gpu, health=health)], events=events)


def event(kind: str, *, severity: int = 3, age: float = 60, key: str = "GPU-1", of: int = EntityKind.GPU) -> EventFacts:
    return EventFacts(
        node_id=1, at=NOW - timedelta(seconds=age), kind=kind, severity=severity, entity_kind=of, entity_key=key,
        detail={"number": 79, "name": "GPU has fallen off the bus"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "is_so"),
    [
        ({"temperature_gpu_celsius": 84.0, "temperature_memory_celsius": 90.0}, False),
        ({"temperature_gpu_celsius": 85.0, "temperature_memory_celsius": None}, True),
        ({"temperature_gpu_celsius": 50.0, "temperature_memory_celsius": 95.0}, True),
        ({"temperature_gpu_celsius": None, "temperature_memory_celsius": 95.0}, True),
        ({"temperature_gpu_celsius": None, "temperature_memory_celsius": 50.0}, None),
    ],
)
def test_an_unknown_temperature_is_never_a_cool_one(values: dict[str, float | None], is_so: bool | None) -> None:
    assert only(RuleKind.GPU_TEMPERATURE, of_gpu(reading(**values))).is_so is is_so


def test_an_old_look_says_nothing_of_now() -> None:
    facts = of_gpu(reading(age=60, temperature_gpu_celsius=100.0, clock_event_reasons_bits=0x40))
    assert only(RuleKind.GPU_TEMPERATURE, facts).is_so is None
    assert only(RuleKind.GPU_THROTTLED, facts).is_so is None
    assert only(RuleKind.GPU_TEMPERATURE, of_gpu(None)).is_so is None


@pytest.mark.parametrize(("bits", "is_so"), [(0x0, False), (0x4, False), (0x1, False), (0x8, True), (0x60, True)])
def test_the_power_limit_is_no_throttling(bits: int, is_so: bool) -> None:
    assert only(RuleKind.GPU_THROTTLED, of_gpu(reading(clock_event_reasons_bits=bits))).is_so is is_so


def test_an_xid_counts_for_a_while_and_an_applications_own_mistake_does_not() -> None:
    assert only(RuleKind.GPU_XID, of_gpu()).is_so is False
    finding = only(RuleKind.GPU_XID, of_gpu(None, None, event("xid")))
    assert (finding.is_so, finding.value, finding.since) == (True, 79.0, NOW - timedelta(seconds=60))
    assert only(RuleKind.GPU_XID, of_gpu(None, None, event("xid", age=901))).is_so is False
    assert only(RuleKind.GPU_XID, of_gpu(None, None, event("xid", severity=1))).is_so is False
    assert only(RuleKind.GPU_XID, of_gpu(None, None, event("xid", key="GPU-2"))).is_so is False
    assert only(RuleKind.GPU_XID, of_gpu(None, None, event("xid", severity=2)), only_critical=1).is_so is False


def test_memory_errors_are_those_that_are_known() -> None:
    nothing = dict.fromkeys(
        ("ecc_uncorrected_volatile_total", "remapped_rows_pending_flag", "remapped_rows_failure_flag",
         "retired_pages_pending_flag")
    )  # fmt: skip
    assert only(RuleKind.GPU_MEMORY_ERRORS, of_gpu(None, reading(**nothing))).is_so is None
    known = {**nothing, "ecc_uncorrected_volatile_total": 0.0}
    assert only(RuleKind.GPU_MEMORY_ERRORS, of_gpu(None, reading(**known))).is_so is False
    assert only(RuleKind.GPU_MEMORY_ERRORS, of_gpu(None, reading(**{**known, "remapped_rows_failure_flag": 1}))).is_so


def test_a_gpu_that_says_that_it_is_lost_hangs_and_one_that_answers_does_not() -> None:
    lost = reading(temperature_gpu_celsius=None, unknown={"temperature_gpu_celsius": "device_lost"})
    assert only(RuleKind.GPU_HUNG, of_gpu(lost)).is_so is True
    assert only(RuleKind.GPU_HUNG, of_gpu(reading(temperature_gpu_celsius=40.0))).is_so is False
    assert only(RuleKind.GPU_HUNG, of_gpu(None)).is_so is None
    assert only(RuleKind.GPU_HUNG, of_gpu(None, None, event("gpu_lost"))).is_so is True
    recovered = of_gpu(reading(temperature_gpu_celsius=40.0), None, event("gpu_lost"))
    assert only(RuleKind.GPU_HUNG, recovered).is_so is False


def of_server(state: str, *, age: float = 2, since_minutes: float = 5) -> Facts:
    changed = replace(
        SERVER, attributes={**SERVER.attributes, "state": state}, state_since=NOW - timedelta(minutes=since_minutes)
    )
    return Facts(now=NOW, servers=[(changed, reading(age=age))])


@pytest.mark.parametrize(
    ("state", "hung", "down"),
    [("up", False, False), ("hung", True, False), ("unreachable", False, True), ("unhealthy", False, True),
     ("gone", False, True), ("not_watched", False, False)],
)  # fmt: skip
def test_what_the_state_of_a_server_means(state: str, hung: bool, down: bool) -> None:
    assert only(RuleKind.ENGINE_HUNG, of_server(state)).is_so is hung
    finding = only(RuleKind.ENGINE_DOWN, of_server(state))
    assert finding.is_so is down
    assert finding.labels["model"] == "llama"


def test_a_server_that_nobody_has_looked_at_may_be_anything() -> None:
    assert only(RuleKind.ENGINE_HUNG, of_server("hung", age=60)).is_so is None
    assert only(RuleKind.ENGINE_DOWN, of_server("up", age=60)).is_so is None


def test_a_server_that_went_away_is_missed_for_an_hour_unless_that_is_usual() -> None:
    assert only(RuleKind.ENGINE_DOWN, of_server("gone", since_minutes=61)).is_so is False
    assert only(RuleKind.ENGINE_DOWN, of_server("gone"), gone_counts=0).is_so is False


def use(**changed: object) -> Facts:
    facts = UseFacts(
        entity=GPU, hours=6.0, paid_seconds=21600, observed_seconds=21600, busy_ratio=0.05, wasted_seconds=0, held=True
    )
    changed_use = replace(facts, **changed)  # type: ignore[arg-type]  # a test's own
    return Facts(now=NOW, use={6.0: [changed_use], 24.0: [replace(changed_use, hours=24.0)]})


def test_a_gpu_that_somebody_holds_and_hardly_uses_is_underused() -> None:
    assert only(RuleKind.LOW_UTILIZATION, use()).is_so is True
    assert only(RuleKind.LOW_UTILIZATION, use(held=False)).is_so is False
    assert only(RuleKind.LOW_UTILIZATION, use(busy_ratio=0.5)).is_so is False
    assert only(RuleKind.LOW_UTILIZATION, use(busy_ratio=None)).is_so is None
    assert only(RuleKind.LOW_UTILIZATION, use(observed_seconds=10_000)).is_so is None, "half of it was not seen"
    assert only(RuleKind.LOW_UTILIZATION, use(paid_seconds=3600, observed_seconds=3600)).is_so is None, "it is new"


def test_waste_is_a_share_of_the_paid_hours() -> None:
    whole = {"paid_seconds": 86_400.0, "observed_seconds": 86_400.0}
    assert only(RuleKind.WASTE, use(**whole, wasted_seconds=80_000)).is_so is True
    assert only(RuleKind.WASTE, use(**whole, wasted_seconds=10_000)).is_so is False
    assert only(RuleKind.WASTE, use(wasted_seconds=21_600)).is_so is None


def filling(available: float | None, then: float | None, hours: float = 3.0) -> Facts:
    facts = FilesystemFacts(
        entity=DISK, available_bytes=available, total_bytes=1e12, available_then=then, seconds_between=hours * 3600
    )
    return Facts(now=NOW, filesystems={3.0: [facts]})


def test_a_file_system_that_will_be_full_within_a_day_is_told() -> None:
    finding = only(RuleKind.FILESYSTEM_FILLS, filling(40e9, 55e9))
    assert (finding.is_so, finding.value) == (True, pytest.approx(8.0))
    assert only(RuleKind.FILESYSTEM_FILLS, filling(400e9, 401e9)).is_so is False
    assert only(RuleKind.FILESYSTEM_FILLS, filling(400e9, 300e9)).is_so is False, "it empties"
    assert only(RuleKind.FILESYSTEM_FILLS, filling(0.0, None)).is_so is True
    assert only(RuleKind.FILESYSTEM_FILLS, filling(None, 50e9)).is_so is None
    assert only(RuleKind.FILESYSTEM_FILLS, filling(50e9, None)).is_so is None


def test_a_node_is_silent_when_no_samples_come() -> None:
    def node(age: float | None) -> Facts:
        sampled = None if age is None else NOW - timedelta(seconds=age)
        return Facts(now=NOW, nodes=[NodeFacts(node_id=1, name="alpha", sampled_at=sampled)])

    assert only(RuleKind.NODE_SILENT, node(5)).is_so is False
    finding = only(RuleKind.NODE_SILENT, node(61))
    assert (finding.is_so, finding.since) == (True, NOW - timedelta(seconds=61))
    assert only(RuleKind.NODE_SILENT, node(None)).is_so is None


def objective(**changed: object) -> Facts:
    facts = ObjectiveFacts(
        name="ttft", labels={"model": "llama"}, objective="ttft, 95 %", violated={}, kept=frozenset({0, 2}),
        burning={"1h": (False, 0.5, "page")}, budget_left=0.5,
    )  # fmt: skip
    return Facts(now=NOW, servers=[(SERVER, reading())], objectives=[replace(facts, **changed)])  # type: ignore[arg-type]


def test_a_violation_is_of_a_server_and_is_told_once_where_there_is_only_one() -> None:
    finding = only(RuleKind.SLO_VIOLATED, objective(violated={2: (NOW, 0.4), 0: (NOW, 0.4)}, kept=frozenset()))
    assert (finding.is_so, finding.labels["server"], finding.labels["slo"]) == (True, "http://a:8000", "ttft")
    assert "40.0 % are bad" in finding.summary
    assert only(RuleKind.SLO_VIOLATED, objective()).is_so is False


def test_budgets_burn_by_window() -> None:
    rule = usual_rule(RuleKind.SLO_BURNING)
    so = {f.labels["window"]: f.is_so for f in found(rule, objective(burning={"1h": (True, 20.0, "page")}))}
    assert so == {"1h": True, "budget": False}
    unknown = {f.is_so for f in found(rule, objective(burning={"1h": (None, None, "page")}, budget_left=None))}
    assert unknown == {None}


def test_matchers_narrow_what_a_rule_is_about() -> None:
    rule: AlertRule = replace(usual_rule(RuleKind.ENGINE_HUNG), matchers={"model": "llama|qwen"})
    assert len(found(rule, of_server("hung"))) == 1
    assert found(replace(rule, matchers={"model": "qwen"}), of_server("hung")) == []


def test_every_kind_can_be_looked_for_and_finds_nothing_in_nothing() -> None:
    for kind in KINDS:
        assert found(usual_rule(kind), Facts(now=NOW)) == []


def bound(bottleneck: Bottleneck, *, age: float = 5, of: Entity = SERVER) -> Facts:
    judged = BoundFacts(
        entity=of, bottleneck=bottleneck, since=NOW - timedelta(minutes=9), judged_at=NOW - timedelta(seconds=age),
        score=0.9, evidence={"requests_waiting": 12.0},
    )  # fmt: skip
    return Facts(now=NOW, bound=[judged])


def test_what_binds_is_so_of_its_own_class_only_and_since_it_began() -> None:
    findings = found(usual_rule(RuleKind.BOTTLENECK), bound(Bottleneck.QUEUE_BOUND))
    so = [finding for finding in findings if finding.is_so]
    assert [finding.labels["bottleneck"] for finding in so] == ["queue_bound"]
    assert (so[0].since, so[0].evidence) == (NOW - timedelta(minutes=9), {"requests_waiting": 12.0})
    assert {finding.is_so for finding in findings} == {True, False}


def test_what_a_healthy_busy_server_is_bound_by_is_told_only_where_it_is_asked_for() -> None:
    facts = bound(Bottleneck.DECODE_BANDWIDTH_BOUND)
    rule = usual_rule(RuleKind.BOTTLENECK)
    assert not any(finding.is_so for finding in found(rule, facts))
    asked = replace(rule, matchers={"bottleneck": "decode_bandwidth_bound"})
    assert [finding.is_so for finding in found(asked, facts)] == [True]


@pytest.mark.parametrize("kind", [RuleKind.BOTTLENECK, RuleKind.STUCK_COLLECTIVE])
def test_a_verdict_that_is_old_or_says_that_data_is_missing_leaves_it_open(kind: RuleKind) -> None:
    for facts in (bound(Bottleneck.MISSING_DATA), bound(Bottleneck.HEALTHY, age=300)):
        assert {finding.is_so for finding in found(usual_rule(kind), facts)} == {None}


def test_a_gpu_that_no_server_has_can_be_stuck() -> None:
    facts = bound(Bottleneck.STUCK_COLLECTIVE, of=GPU)
    (finding,) = found(usual_rule(RuleKind.STUCK_COLLECTIVE), facts)
    assert finding.is_so
    assert finding.labels["gpu"] == "GPU-1"
    assert found(usual_rule(RuleKind.BOTTLENECK), facts) == []
