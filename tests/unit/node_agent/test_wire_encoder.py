"""What leaves the agent: every value in its place, and every unknown one with its reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.clock import Instant
from node_agent.model import CollectorReport, Entity, EntityKind, Histogram, Outcome, Reason, Sample, Tick, Value
from node_agent.uplink import wire
from node_agent.uplink.wire import Encoder
from optiinfra.catalogue import TABLES, FieldSpec
from optiinfra.telemetry.v1 import telemetry_pb2
from tests.fakes.wire_reader import Decoded, Reader

NOW = Instant(wall=datetime(2026, 3, 4, 12, 0, 0, 250_000, tzinfo=UTC), monotonic_seconds=1234.5)
KINDS = {kind.name.lower(): kind for kind in EntityKind}
ALL_FIELDS = [(table.name, spec) for table in TABLES.values() for spec in table.fields]
BOUNDS = (0.1, 0.5, 2.0)


def tick(
    *samples: tuple[str, str, Mapping[str, Value]],
    attributes: Mapping[str, object] | None = None,
    **more: Any,
) -> Tick:
    """A tick of samples given as table, key and values; their entities have `attributes`."""
    entities = {
        (KINDS[TABLES[table].entity], key): Entity(
            kind=KINDS[TABLES[table].entity], key=key, attributes=attributes or {}
        )
        for table, key, _ in samples
    }
    return Tick(
        taken_at=NOW,
        entities=list(entities.values()),
        samples=[Sample(table=t, entity=(KINDS[TABLES[t].entity], key), values=values) for t, key, values in samples],
        reports=more.get("reports", ()),
        command_id=more.get("command_id", ""),
    )


def sent(*ticks: Tick, encoder: Encoder | None = None) -> list[tuple[str, str, dict[str, Decoded]]]:
    """What a reader makes of the last of `ticks`."""
    encoder, reader = encoder or Encoder(), Reader()
    rows: list[tuple[str, str, dict[str, Decoded]]] = []
    for one in ticks:
        announce, message = encoder.encode(one)
        reader.learn(announce)
        rows = reader.rows(telemetry_pb2.Tick.FromString(message.SerializeToString()))
    return rows


def example(spec: FieldSpec) -> Value:
    """A value that fits a field, and that float32 holds exactly."""
    match spec.type:
        case "real[]":
            return (0.25, 0.5, 0.0)
        case "histogram":
            return Histogram(bounds=BOUNDS, counts=(1, 2, 0, 2**63), sum=12.5)
        case "bigint":
            return 2**53 - 1
        case _:
            return 0.75


def as_decoded(value: Value) -> object:
    return (value.sum, value.counts) if isinstance(value, Histogram) else value


@pytest.mark.parametrize(("table", "spec"), ALL_FIELDS, ids=lambda x: x if isinstance(x, str) else x.name)
def test_every_field_of_the_catalogue_arrives_as_it_was(table: str, spec: FieldSpec) -> None:
    ((_, key, values),) = sent(tick((table, "a", {spec.name: example(spec)})))
    assert key == "a"
    assert values.pop(spec.name) == as_decoded(example(spec))
    assert set(values.values()) == {Reason.NOT_COLLECTED}, "what is not named is unknown, never zero"
    assert values.keys() | {spec.name} == {f.name for f in TABLES[table].fields}


@pytest.mark.parametrize(("table", "spec"), ALL_FIELDS, ids=lambda x: x if isinstance(x, str) else x.name)
def test_every_reason_survives_in_every_field(table: str, spec: FieldSpec) -> None:
    encoder = Encoder()
    for reason in Reason:
        ((_, _, values),) = sent(
            tick((table, "a", {spec.name: example(spec)})), tick((table, "a", {spec.name: reason})), encoder=encoder
        )
        assert values[spec.name] is reason
        encoder = Encoder()


def test_zero_is_zero_and_not_unknown() -> None:
    ((_, _, values),) = sent(tick(("gpu", "a", {"power_draw_watts": 0.0, "memory_used_bytes": 0})))
    assert values["power_draw_watts"] == 0.0
    assert values["memory_used_bytes"] == 0.0


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400, -(10**400)], ids=lambda v: str(v)[:6])
@pytest.mark.parametrize("field", ["power_draw_watts", "memory_used_bytes"])
def test_what_is_no_finite_number_says_so(field: str, value: float) -> None:
    ((_, _, values),) = sent(tick(("gpu", "a", {field: value})))
    assert values[field] is Reason.NOT_A_NUMBER


@pytest.mark.parametrize("value", [1e39, -1e300, 3.5e38])
def test_what_float32_cannot_hold_is_out_of_range_instead_of_infinite(value: float) -> None:
    ((_, _, values),) = sent(tick(("gpu", "a", {"power_draw_watts": value})))
    assert values["power_draw_watts"] is Reason.OUT_OF_RANGE
    ((_, _, values),) = sent(tick(("host", "a", {"cpu_core_busy_ratio": (0.5, value)})))
    assert values["cpu_core_busy_ratio"] is Reason.OUT_OF_RANGE


def test_the_largest_float32_is_still_a_number() -> None:
    ((_, _, values),) = sent(tick(("gpu", "a", {"power_draw_watts": wire.LARGEST_F32})))
    assert values["power_draw_watts"] == wire.LARGEST_F32


@pytest.mark.parametrize("value", [(0.5, math.nan), (0.5, math.inf), (0.5, 10**400)], ids=["nan", "inf", "huge"])
def test_an_array_with_one_impossible_value_is_unknown_as_a_whole(value: tuple[float, ...]) -> None:
    ((_, _, values),) = sent(tick(("host", "a", {"cpu_core_busy_ratio": value})))
    assert values["cpu_core_busy_ratio"] is Reason.NOT_A_NUMBER


@pytest.mark.parametrize(
    "histogram",
    [
        Histogram(bounds=(1.0,), counts=(1, 2), sum=math.nan),
        Histogram(bounds=(1.0,), counts=(1, 2), sum=10**400),
        Histogram(bounds=(1.0,), counts=(-1, 2), sum=1.0),
        Histogram(bounds=(1.0,), counts=(2**64, 2), sum=1.0),
    ],
)
def test_an_impossible_histogram_is_unknown(histogram: Histogram) -> None:
    ((_, _, values),) = sent(tick(("inference", "a", {"ttft_seconds": histogram})))
    assert values["ttft_seconds"] is Reason.NOT_A_NUMBER


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("gpu", "power_draw_watts", (1.0, 2.0)),
        ("gpu", "power_draw_watts", Histogram(bounds=(1.0,), counts=(1, 2), sum=1.0)),
        ("host", "cpu_core_busy_ratio", 0.5),
        ("host", "cpu_core_busy_ratio", ()),
        ("inference", "ttft_seconds", 0.5),
    ],
)
def test_a_value_of_the_wrong_shape_is_an_error_and_spoils_nothing_else(table: str, field: str, value: Value) -> None:
    other = next(f.name for f in TABLES[table].fields if f.type == "real" and f.name != field)
    ((_, _, values),) = sent(tick((table, "a", {field: value, other: 0.5})))
    assert values[field] is Reason.ERROR
    assert values[other] == 0.5


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([f.name for f in TABLES["gpu"].fields]),
            st.one_of(st.floats(), st.integers(), st.sampled_from(Reason)),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_no_number_whatever_can_stop_the_agent(values: list[dict[str, Value]]) -> None:
    rows = sent(tick(*(("gpu", str(number), one) for number, one in enumerate(values))))
    assert [key for _, key, _ in rows] == [str(number) for number in range(len(values))]


def test_schemas_stay_few_when_values_come_and_go() -> None:
    encoder = Encoder()
    known: dict[str, Value] = {f.name: example(f) for f in TABLES["inference"].fields}
    gone: dict[str, Value] = dict.fromkeys(known, Reason.SERVER_GONE)
    for values in (known, gone, known, {}, gone, known):
        encoder.encode(tick(("inference", "a", values)))
    assert len(encoder.everything().schemas) == 1


def test_an_engine_with_other_buckets_gets_a_schema_of_its_own() -> None:
    encoder, reader = Encoder(), Reader()
    wide = Histogram(bounds=(1.0, 2.0), counts=(1, 2, 3), sum=6.0)
    narrow = Histogram(bounds=(5.0,), counts=(7, 8), sum=9.0)
    announce, message = encoder.encode(
        tick(("inference", "a", {"ttft_seconds": wide}), ("inference", "b", {"ttft_seconds": narrow}))
    )
    reader.learn(announce)
    found = {key: values["ttft_seconds"] for _, key, values in reader.rows(message)}
    assert found == {"a": (6.0, (1, 2, 3)), "b": (9.0, (7, 8))}
    assert [tuple(f.bounds) for s in reader.schemas.values() for f in s.fields if f.name == "ttft_seconds"] == [
        (1.0, 2.0), (5.0,),
    ]  # fmt: skip


def test_rows_of_one_schema_are_sent_together() -> None:
    _, message = Encoder().encode(tick(*(("disk", f"sd{n}", {"reads_total": n}) for n in range(8))))
    assert len(message.rows) == 1


def test_an_entity_is_announced_again_only_when_it_changed() -> None:
    encoder = Encoder()
    first, _ = encoder.encode(tick(("gpu", "a", {}), attributes={"index": 0, "name": "H200"}))
    same, _ = encoder.encode(tick(("gpu", "a", {}), attributes={"name": "H200", "index": 0}))
    moved, _ = encoder.encode(tick(("gpu", "a", {}), attributes={"index": 1, "name": "H200"}))
    assert first is not None
    assert same is None, "the order of attributes is no change"
    assert moved is not None
    assert not moved.schemas
    assert [e.id for e in moved.entities] == [e.id for e in first.entities], "it keeps its number"
    assert json.loads(moved.entities[0].attributes_json) == {"index": 1, "name": "H200"}


def test_a_new_connection_is_told_everything_as_it_is_now() -> None:
    encoder, reader = Encoder(), Reader()
    encoder.encode(tick(("gpu", "a", {}), attributes={"index": 0}))
    encoder.encode(tick(("gpu", "a", {}), attributes={"index": 1}))
    _, last = encoder.encode(tick(("gpu", "a", {"power_draw_watts": 70.0}), ("disk", "b", {}), attributes={"index": 2}))
    reader.learn(encoder.everything())
    assert {(table, key) for table, key, _ in reader.rows(last)} == {("gpu", "a"), ("disk", "b")}
    assert {e.attributes_json for e in reader.entities.values()} == {b'{"index":2}'}


def test_one_key_may_name_things_of_two_kinds() -> None:
    rows = sent(tick(("disk", "x", {"reads_total": 1}), ("network", "x", {"received_bytes_total": 2})))
    assert {(table, key) for table, key, _ in rows} == {("disk", "x"), ("network", "x")}


def test_a_sample_that_nobody_described_is_sent_all_the_same() -> None:
    described = tick(("disk", "x", {"reads_total": 1}))
    bare = Tick(taken_at=NOW, entities=(), samples=described.samples, reports=())
    ((_, key, values),) = sent(bare)
    assert (key, values["reads_total"]) == ("x", 1.0)


def test_reports_and_command_and_both_clocks_arrive() -> None:
    late = CollectorReport(collector="gpu", outcome=Outcome.TIMED_OUT, duration_seconds=4.0, detail="late")
    _, message = Encoder().encode(tick(reports=[late], command_id="c-1"))
    assert message.command_id == "c-1"
    assert message.taken_at_unix_us == 1_772_625_600_250_000
    assert message.taken_at_monotonic_us == 1_234_500_000
    (report,) = message.collectors
    assert (report.collector, report.duration_seconds, report.detail) == ("gpu", 4.0, "late")
    assert report.outcome == telemetry_pb2.COLLECTOR_OUTCOME_TIMED_OUT


def test_a_report_that_quotes_undecodable_text_does_not_stop_the_agent() -> None:
    detail = "no such file: /mnt/\udcff\x00" + "x" * 5000
    broken = CollectorReport(collector="system", outcome=Outcome.FAILED, duration_seconds=0.1, detail=detail)
    _, message = Encoder().encode(tick(reports=[broken]))
    sent_detail = telemetry_pb2.Tick.FromString(message.SerializeToString()).collectors[0].detail
    assert sent_detail.startswith("no such file: /mnt/xxx")
    assert len(sent_detail) <= 1000


def test_the_agents_numbers_are_those_of_the_protocol() -> None:
    assert {r.name: r.value for r in Reason} == {
        name.removeprefix("UNKNOWN_REASON_"): number for name, number in telemetry_pb2.UnknownReason.items()
    }
    for ours, theirs, prefix in (
        (EntityKind, telemetry_pb2.EntityKind, "ENTITY_KIND_"),
        (Outcome, telemetry_pb2.CollectorOutcome, "COLLECTOR_OUTCOME_"),
    ):
        numbers = {name.removeprefix(prefix): number for name, number in theirs.items() if number}
        assert {one.name: one.value for one in ours} == numbers
