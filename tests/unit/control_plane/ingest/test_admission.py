"""What of a stream is admitted: all that fits what was announced, and of the rest a cause that can be counted."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.ingest.admission import (
    MOST_ENTITIES,
    MOST_REPORTS_PER_TICK,
    MOST_SCHEMAS,
    MOST_TICKS_PER_BATCH,
    Announcement,
    StreamState,
)
from control_plane.ingest.layout import RefusedSchema, WireField, layout_of
from control_plane.ingest.wire import (
    MOST_ATTRIBUTE_BYTES,
    RefusedMessage,
    attributes_from,
    clean_text,
    introduction_from,
    sampling_interval_seconds,
)
from control_plane.model.entity import EntityKind
from node_agent.model import Histogram, Value
from node_agent.uplink.wire import Encoder
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.streams import (
    DAY_US,
    F32,
    F64,
    HISTOGRAM,
    RawStream,
    arrival,
    gpu_announce,
    gpu_records,
    raw_entity,
    raw_schema,
    stream_state,
    tick,
)

GPU = telemetry_pb2.ENTITY_KIND_GPU


class Door:
    """One stream's admission, with the node's and our clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.node = FakeNodeClock(self.clock)
        self.state: StreamState = stream_state(self.clock, self.node)
        self.stream = RawStream(self.node)

    def announce(
        self, *, schemas: Sequence[telemetry_pb2.Schema] = (), entities: Sequence[telemetry_pb2.Entity] = ()
    ) -> Announcement:
        return self.state.announce(link_pb2.Announce(schemas=schemas, entities=entities))

    def refusal(self, rows: list[tuple[int, bytes]]) -> str:
        return self.refusal_of(self.stream.batch(rows))

    def refusal_of(self, batch: telemetry_pb2.Batch) -> str:
        with pytest.raises(RefusedMessage) as error:
            self.state.admit(batch, arrival(self.clock))
        return error.value.cause

    def admitted_rows(self, rows: list[tuple[int, bytes]]) -> int:
        batch = self.state.admit(self.stream.batch(rows), arrival(self.clock))
        return sum(len(r.roster.local_ids) for t in batch.ticks for r in t.rows)


@pytest.fixture
def door() -> Door:
    door = Door()
    assert not door.state.announce(gpu_announce()).refused
    return door


def test_rows_that_fit_what_was_announced_are_admitted(door: Door) -> None:
    assert door.admitted_rows([(0, gpu_records(300.0))]) == 1


def test_a_schema_that_was_not_announced_is_refused(door: Door) -> None:
    assert door.refusal([(9, gpu_records(300.0))]) == "unknown_schema"


def test_an_entity_that_was_not_announced_is_refused(door: Door) -> None:
    assert door.refusal([(0, gpu_records(300.0, entity=5))]) == "unknown_entity"


def test_a_row_about_the_wrong_kind_of_entity_is_refused(door: Door) -> None:
    door.announce(entities=[raw_entity(3, telemetry_pb2.ENTITY_KIND_DISK, "sda")])
    assert door.refusal([(0, gpu_records(300.0, entity=3))]) == "unknown_entity"


@pytest.mark.parametrize("length", [1, 7, 9, 15])
def test_records_that_are_not_whole_are_refused(length: int, door: Door) -> None:
    assert door.refusal([(0, (gpu_records(1.0) * 2)[:length])]) == "truncated"


def test_no_rows_at_all_are_admitted(door: Door) -> None:
    assert door.admitted_rows([(0, b"")]) == 0
    assert door.admitted_rows([]) == 0


@pytest.mark.parametrize("split", [False, True])
def test_a_tick_with_two_rows_of_one_entity_is_refused_since_each_would_count(split: bool, door: Door) -> None:
    two = [(0, gpu_records(1.0)), (0, gpu_records(2.0))] if split else [(0, gpu_records(1.0) + gpu_records(2.0))]
    assert door.refusal(two) == "repeated_row"


def test_the_two_tables_of_one_number_are_not_one_entity(door: Door) -> None:
    door.announce(
        schemas=[raw_schema(1, "disk", [("reads_total", F64, 1)])],
        entities=[raw_entity(1, telemetry_pb2.ENTITY_KIND_DISK, "sda")],
    )
    assert door.admitted_rows([(0, gpu_records(1.0)), (1, struct.pack("<Id", 1, 5.0))]) == 2


def test_a_sample_older_than_the_history_is_refused_and_one_just_inside_is_not(door: Door) -> None:
    fresh = door.stream.batch([(0, gpu_records(1.0))])
    door.clock.advance(14 * DAY_US / 1e6 - 10)
    assert door.state.admit(fresh, arrival(door.clock)).seq == fresh.seq
    door.clock.advance(60)
    assert door.refusal_of(fresh) == "too_old"


@pytest.mark.parametrize("monotonic", [2**63 - 1, -(2**63)])
@pytest.mark.parametrize("unix", [2**63 - 1, -(2**63), 0])
def test_absurd_stamps_are_replaced_or_refused_but_never_believed(unix: int, monotonic: int, door: Door) -> None:
    batch = door.stream.batch([(0, gpu_records(1.0))])
    batch.ticks[0].taken_at_unix_us = unix
    batch.ticks[0].taken_at_monotonic_us = monotonic
    now = arrival(door.clock)
    try:
        admitted = door.state.admit(batch, now)
    except RefusedMessage as error:
        assert error.cause == "too_old"
    else:
        assert now.unix_us - 14 * DAY_US <= admitted.ticks[0].taken_at_us <= now.unix_us
        assert admitted.ticks[0].clock_corrected


def test_more_ticks_than_a_batch_may_have_are_refused(door: Door) -> None:
    batch = telemetry_pb2.Batch(seq=1, ticks=[door.stream.tick([])] * (MOST_TICKS_PER_BATCH + 1))
    assert door.refusal_of(batch) == "too_large"


def test_more_collector_reports_than_a_tick_may_have_are_refused(door: Door) -> None:
    batch = door.stream.batch([])
    for _ in range(MOST_REPORTS_PER_TICK + 1):
        batch.ticks[0].collectors.add(collector="gpu")
    assert door.refusal_of(batch) == "too_large"


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_a_collector_s_impossible_duration_is_refused(seconds: float, door: Door) -> None:
    batch = door.stream.batch([])
    batch.ticks[0].collectors.add(collector="gpu", duration_seconds=seconds)
    assert door.refusal_of(batch) == "bad_report"


def test_an_outcome_of_a_newer_agent_reads_as_unspecified(door: Door) -> None:
    batch = door.stream.batch([])
    batch.ticks[0].collectors.add(collector="gpu", outcome=telemetry_pb2.CollectorOutcome.ValueType(99))
    (state,) = door.state.admit(batch, arrival(door.clock)).ticks[0].collectors
    assert state.outcome == "unspecified"


# -- announcements ------------------------------------------------------------------------------


def causes(announcement: Announcement) -> list[str]:
    return [error.cause for error in announcement.refused]


def test_an_entry_that_is_refused_does_not_take_the_others_along(door: Door) -> None:
    announcement = door.announce(
        schemas=[raw_schema(1, "gpu", [("power_draw_watts", F32, 0)]), raw_schema(2, "gpu", [])],
        entities=[raw_entity(1, GPU, "GPU-1"), raw_entity(2, 99, "what"), raw_entity(3, GPU, "GPU-3")],
    )
    assert causes(announcement) == ["bad_schema", "bad_entity"]
    assert [(number, entity.key) for number, entity in announcement.entities] == [(1, "GPU-1"), (3, "GPU-3")]
    assert door.admitted_rows([(2, struct.pack("<I", 3))]) == 1


def test_only_entities_that_are_handed_on_can_be_named_by_rows(door: Door) -> None:
    """Else a row would be stored about nothing."""
    announcement = door.announce(
        entities=[raw_entity(1, GPU, "GPU-1"), raw_entity(2, GPU, "GPU-2", b"no json"), raw_entity(3, GPU, "")]
    )
    handed_on = {number for number, _ in announcement.entities}
    assert handed_on == {1}
    assert set(door.state.entities) == {0} | handed_on


@pytest.mark.parametrize("table_or_type", ["table", "type"])
def test_rows_of_a_newer_agent_s_schema_are_passed_over_and_the_others_are_stored(
    table_or_type: str, door: Door
) -> None:
    schema = raw_schema(5, "gpu", [("novel", 77, 1)]) if table_or_type == "type" else raw_schema(5, "dpu", [])
    assert causes(door.announce(schemas=[schema])) == ["newer_schema"]
    assert door.admitted_rows([(5, b"whatever it means"), (0, gpu_records(1.0))]) == 1


def test_a_schema_that_is_announced_again_replaces_the_one_before_even_when_it_is_refused(door: Door) -> None:
    assert causes(door.announce(schemas=[raw_schema(0, "gpu", [("power_draw_watts", F32, 0)])])) == ["bad_schema"]
    assert door.refusal([(0, gpu_records(1.0))]) == "unknown_schema"
    assert not door.state.announce(gpu_announce()).refused
    assert door.admitted_rows([(0, gpu_records(1.0))]) == 1


def test_the_number_of_an_entity_is_never_given_to_another(door: Door) -> None:
    announcement = door.announce(entities=[raw_entity(0, GPU, "GPU-other")])
    assert causes(announcement) == ["bad_entity"]
    assert door.state.entities[0] == (EntityKind.GPU, "GPU-0")


def test_an_entity_is_announced_again_when_its_attributes_change(door: Door) -> None:
    announcement = door.announce(entities=[raw_entity(0, GPU, "GPU-0", {"state": "lost"})])
    assert announcement.entities[0][1].attributes == {"state": "lost"}


def test_the_number_of_schemas_and_the_numbers_of_entities_are_bounded(door: Door) -> None:
    schemas = [raw_schema(n, "gpu", []) for n in range(MOST_SCHEMAS)]
    assert not door.announce(schemas=schemas).refused
    assert causes(door.announce(schemas=[raw_schema(MOST_SCHEMAS, "gpu", [])])) == ["bad_schema"]
    assert causes(door.announce(entities=[raw_entity(MOST_ENTITIES, GPU, "far")])) == ["bad_entity"]


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=300))
def test_garbage_is_refused_with_a_cause_and_never_breaks_the_stream(data: bytes) -> None:
    door = Door()
    sent: dict[tuple[str, str], dict[str, Value]] = {
        ("gpu", "GPU-0"): {"power_draw_watts": 1.0},
        ("inference", "u"): {"ttft_seconds": Histogram(bounds=(1.0,), counts=(1, 2), sum=3.0)},
    }
    announce, _ = Encoder().encode(tick(door.node.now(), sent))
    assert announce is not None
    door.state.announce(announce)
    for schema in range(3):
        try:
            door.admitted_rows([(schema, data)])
        except RefusedMessage as error:
            assert error.cause.isidentifier()


@settings(deadline=None, max_examples=300)
@given(
    table=st.sampled_from(["gpu", "host", "inference", "nonsense"]),
    fields=st.lists(
        st.tuples(
            st.sampled_from(["power_draw_watts", "ttft_seconds", "cpu_core_busy_ratio", ""]) | st.text(max_size=4),
            st.sampled_from([0, F32, F64, HISTOGRAM, 9]),
            st.sampled_from([0, 1, 2, 4096, 4097, 2**32 - 1]),
            st.lists(st.floats(), max_size=3),
        ),
        max_size=5,
    ),
)  # fmt: skip
def test_any_schema_is_learnt_or_refused_with_a_cause(
    table: str, fields: list[tuple[str, int, int, list[float]]]
) -> None:
    for error in Door().announce(schemas=[raw_schema(0, table, fields)]).refused:
        assert error.cause in ("bad_schema", "newer_schema")


# -- layouts ------------------------------------------------------------------------------------


def wire_field(name: str, kind: str = "f32", count: int = 1, bounds: tuple[float, ...] = ()) -> WireField:
    return WireField(name=name, type=kind, count=count, bounds=bounds)


def test_the_same_schema_from_two_nodes_is_one_layout() -> None:
    fields = (wire_field("power_draw_watts"),)
    assert layout_of("gpu", fields) is layout_of("gpu", (wire_field("power_draw_watts"),))


def test_a_record_is_packed_without_padding() -> None:
    layout = layout_of(
        "inference",
        (wire_field("up_flag"), wire_field("ttft_seconds", "histogram", 2, (1.0,)), wire_field("new", "f64", 3)),
    )
    assert layout.record_bytes == 4 + 4 + (8 + 2 * 8) + 3 * 8
    assert layout.ignored == ("new",)


@pytest.mark.parametrize(
    "fields",
    [
        (wire_field("power_draw_watts", count=0),),
        (wire_field("power_draw_watts", count=2),),
        (wire_field("power_draw_watts", count=4097),),
        (wire_field("power_draw_watts", "histogram", 1),),
        (wire_field("power_draw_watts"), wire_field("power_draw_watts")),
        tuple(wire_field(f"f{n}") for n in range(513)),
        tuple(wire_field(f"f{n}", "f64", 4096) for n in range(9)),
    ],
)
def test_a_layout_that_the_catalogue_contradicts_or_that_is_too_large_is_refused(fields: tuple[WireField, ...]) -> None:
    with pytest.raises(RefusedSchema):
        layout_of("gpu", fields)


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (1.0, math.inf), (1.0,), (1.0, 2.0, 3.0)])
def test_the_bounds_of_a_histogram_are_finite_ascending_and_one_fewer_than_its_buckets(
    bounds: tuple[float, ...],
) -> None:
    with pytest.raises(RefusedSchema):
        layout_of("inference", (wire_field("ttft_seconds", "histogram", 3, bounds),))


# -- texts and attributes -----------------------------------------------------------------------


@given(text=st.text(), most=st.integers(0, 20))
def test_a_cleaned_text_has_no_control_character_and_is_cut(text: str, most: int) -> None:
    cleaned = clean_text(text, most)
    assert len(cleaned) <= most
    assert "\0" not in cleaned
    assert cleaned.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"1",
        b"{",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": [[1e999]]}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' * 9 + b"1" + b"}" * 9,
        b'{"a":' * 20_000,
        b'{"a": "' + b"x" * MOST_ATTRIBUTE_BYTES + b'"}',
    ],
)
def test_attributes_that_a_database_would_choke_on_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedMessage) as error:
        attributes_from(data)
    assert error.value.cause == "bad_attributes"


def test_no_attributes_are_an_empty_object() -> None:
    assert attributes_from(b"") == {}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text(), _json, max_size=4))
def test_attributes_are_clean_json_or_refused(value: dict[str, object]) -> None:
    try:
        found = attributes_from(json.dumps(value).encode())
    except RefusedMessage as error:
        assert error.cause == "bad_attributes"
        return
    text = json.dumps(found, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text.replace("\\\\", "")
    text.encode()  # no half of a surrogate pair


# -- the Hello ----------------------------------------------------------------------------------


def hello(**changes: object) -> link_pb2.Hello:
    fields: dict[str, object] = {"agent_id": "a", "node_name": "n", "epoch": b"e" * 16, "attributes_json": b"{}"}
    return link_pb2.Hello(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"agent_id": ""},
        {"agent_id": "x" * 129},
        {"agent_id": "a\nb"},
        {"epoch": b""},
        {"epoch": b"e" * 15},
        {"epoch": b"e" * 17},
        {"node_name": ""},
        {"node_name": "\0\x1b"},
        {"attributes_json": b"nope"},
    ],
)
def test_a_hello_that_names_nobody_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RefusedMessage):
        introduction_from(hello(**changes))


def test_control_characters_never_reach_a_name() -> None:
    found = introduction_from(hello(node_name="a\x1b[31mb\0", agent_version="1\n2"))
    assert (found.name, found.agent_version) == ("a[31mb", "12")


@pytest.mark.parametrize(
    ("said", "understood"),
    [(5, 5.0), (0.5, 0.5), (0, None), (-1, None), (True, None), ("5", None), (None, None), (10**300, None)],
)
def test_a_cadence_that_makes_no_sense_is_unknown(said: object, understood: float | None) -> None:
    assert sampling_interval_seconds({"sampling_interval_seconds": said}) == understood


def with_event(door: Door, count: int = 1, **event: object) -> telemetry_pb2.Batch:
    batch = door.stream.batch([(0, gpu_records(300.0))])
    fields: dict[str, Any] = {"kind": "xid", "taken_at_unix_us": batch.ticks[0].taken_at_unix_us} | event
    batch.ticks[0].events.extend([telemetry_pb2.Event(**fields)] * count)
    return batch


@pytest.mark.parametrize("kind", ["", "Xid", "x" * 65, "drop table", "1x"])
def test_an_event_whose_kind_is_no_word_is_refused(door: Door, kind: str) -> None:
    assert door.refusal_of(with_event(door, kind=kind)) == "bad_event"


def test_an_event_that_is_too_long_is_refused(door: Door) -> None:
    detail = b'{"text": "' + b"a" * 4096 + b'"}'
    assert door.refusal_of(with_event(door, detail_json=detail)) == "bad_event"


def test_an_event_whose_detail_is_no_json_is_refused(door: Door) -> None:
    assert door.refusal_of(with_event(door, detail_json=b"{")) == "bad_attributes"


def test_a_tick_with_too_many_events_is_refused(door: Door) -> None:
    assert door.refusal_of(with_event(door, count=257)) == "too_large"


def test_an_event_keeps_its_distance_from_its_tick(door: Door) -> None:
    batch = with_event(door)
    batch.ticks[0].events[0].taken_at_unix_us -= 2_500_000
    (tick,) = door.state.admit(batch, arrival(door.clock)).ticks
    (event,) = tick.events
    assert tick.taken_at_us - event.taken_at_us == 2_500_000


@pytest.mark.parametrize("wrong_us", [-(1 << 62), 1 << 62])
def test_an_event_with_an_impossible_time_is_kept_at_a_possible_one(door: Door, wrong_us: int) -> None:
    (tick,) = door.state.admit(with_event(door, taken_at_unix_us=wrong_us), arrival(door.clock)).ticks
    assert tick.taken_at_us - 366 * 86_400_000_000 <= tick.events[0].taken_at_us <= tick.taken_at_us


def test_what_a_newer_agent_calls_severe_is_unspecified(door: Door) -> None:
    event = with_event(door, severity=99, entity_kind=77)
    (tick,) = door.state.admit(event, arrival(door.clock)).ticks
    assert (tick.events[0].severity, tick.events[0].entity_kind) == (0, 77)
