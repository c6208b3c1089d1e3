"""From an agent's encoder to blocks of columns: every value arrives as it was sent, or with its exact reason."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.ingest.admission import AdmittedBatch
from control_plane.ingest.decode import Piece, decode
from control_plane.model.reason import Reason as Stored
from control_plane.model.sample import KNOWN, SampleBlock
from node_agent.model import Histogram, Reason, Value
from node_agent.uplink.wire import LARGEST_F32, NAN_F32, NAN_F64, Encoder
from optiinfra.catalogue import TABLES, FieldSpec
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.streams import (
    F32,
    F64,
    HISTOGRAM,
    KIND_OF_TABLE,
    RawStream,
    raw_entity,
    raw_schema,
    stream_state,
    through_the_wire,
    tick,
)

Decoded = dict[str, object]  # field → value, or the Reason why there is none


def pieces_of(batch: AdmittedBatch) -> list[Piece]:
    return [
        Piece(
            layout=rows.layout,
            records=rows.records,
            entity_ids=rows.roster.local_ids.astype(np.int32),
            node_id=7,
            taken_at_us=tick.taken_at_us,
            received_at_us=batch.received_at_us,
            clock_offset_seconds=tick.clock_offset_seconds,
        )
        for tick in batch.ticks
        for rows in tick.rows
    ]


def row_of(block: SampleBlock, row: int) -> Decoded:
    out: Decoded = {}
    for index, spec in enumerate(block.table.fields):
        code = int(block.codes[row, index])
        if code != KNOWN:
            out[spec.name] = Stored.from_payload(code)
        elif spec.type == "histogram":
            column = block.histograms[spec.name]
            out[spec.name] = Histogram(
                bounds=column.bounds, counts=tuple(column.counts[row].tolist()), sum=float(column.sums[row])
            )
        elif spec.type == "real[]":
            out[spec.name] = tuple(block.columns[spec.name][row].tolist())
        else:
            out[spec.name] = float(block.columns[spec.name][row])
    return out


def decode_rows(batch: AdmittedBatch) -> dict[int, Decoded]:
    """By the agent's entity id."""
    blocks, _ = decode(pieces_of(batch))
    return {int(block.entity_ids[row]): row_of(block, row) for block in blocks for row in range(len(block))}


def decode_raw(
    fields: Sequence[tuple[str, int, int] | tuple[str, int, int, Sequence[float]]], record: bytes, *, table: str = "gpu"
) -> tuple[Decoded, int]:
    """One record of a hand-made schema → its values, and how many were refused as impossible."""
    clock = FakeClock()
    node = FakeNodeClock(clock)
    announce = link_pb2.Announce(
        schemas=[raw_schema(0, table, fields)], entities=[raw_entity(0, KIND_OF_TABLE[table].value, "one")]
    )
    batch = RawStream(node).batch([(0, struct.pack("<I", 0) + record)])
    admitted = through_the_wire(stream_state(clock, node), announce, batch, clock)
    blocks, impossible = decode(pieces_of(admitted))
    return row_of(blocks[0], 0), impossible


# -- what an agent can send ---------------------------------------------------------------------


def numbers(spec: FieldSpec) -> st.SearchStrategy[float]:
    assert spec.minimum is not None
    assert spec.maximum is not None
    inside = st.floats(spec.minimum, spec.maximum)
    if spec.type == "bigint":
        inside = st.integers(math.ceil(spec.minimum), math.floor(spec.maximum)).map(float)
    return st.one_of(inside, inside, st.floats(allow_nan=True, allow_infinity=True))


def bounds() -> st.SearchStrategy[tuple[float, ...]]:
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return st.lists(finite, max_size=6, unique_by=lambda b: b + 0.0).map(lambda found: tuple(sorted(found)))


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    upper = draw(bounds())
    counts = draw(st.lists(st.integers(0, 2**64 - 1), min_size=len(upper) + 1, max_size=len(upper) + 1))
    return Histogram(bounds=upper, counts=tuple(counts), sum=draw(st.floats()))


def values(spec: FieldSpec) -> st.SearchStrategy[Value]:
    reasons = st.sampled_from(list(Reason))
    if spec.type == "histogram":
        return st.one_of(histograms(), reasons)
    if spec.type == "real[]":
        return st.one_of(st.lists(numbers(spec), min_size=1, max_size=5).map(tuple), reasons)
    return st.one_of(numbers(spec), reasons)


@st.composite
def rows(draw: st.DrawFn) -> dict[tuple[str, str], Mapping[str, Value]]:
    out: dict[tuple[str, str], Mapping[str, Value]] = {}
    for table in draw(st.lists(st.sampled_from(list(TABLES)), min_size=1, max_size=3, unique=True)):
        for number in range(draw(st.integers(1, 3))):
            fields = draw(st.lists(st.sampled_from(TABLES[table].fields), max_size=8, unique_by=lambda f: f.name))
            out[(table, f"{table}-{number}")] = {spec.name: draw(values(spec)) for spec in fields}
    return out


def fits_f32(numbers: Sequence[float]) -> bool:
    return all(abs(n) <= LARGEST_F32 for n in numbers)


def outside(spec: FieldSpec, number: float) -> bool:
    kind = np.float32 if spec.type.startswith("real") else np.float64
    assert spec.minimum is not None
    assert spec.maximum is not None
    return bool(kind(number) < kind(spec.minimum) or kind(number) > kind(spec.maximum))


def expected(spec: FieldSpec, value: Value) -> object:
    """The rule, said once more and independently: a number as the column keeps it, or the reason why not."""
    if isinstance(value, Reason):
        return Stored[value.name]
    if isinstance(value, Histogram):
        if not math.isfinite(value.sum):
            return Stored.NOT_A_NUMBER
        return Stored.OUT_OF_RANGE if max(value.counts) > 2**63 - 1 else value
    several = value if isinstance(value, tuple) else (value,)
    if not all(map(math.isfinite, several)):
        return Stored.NOT_A_NUMBER
    if spec.type.startswith("real") and not fits_f32(several):
        return Stored.OUT_OF_RANGE
    if any(outside(spec, number) for number in several):
        return Stored.OUT_OF_RANGE
    if not spec.type.startswith("real"):
        return value
    kept = tuple(float(np.float32(number)) for number in several)
    return kept if isinstance(value, tuple) else kept[0]


@settings(deadline=None, max_examples=150)
@given(ticks=st.lists(rows(), min_size=1, max_size=3))
def test_every_value_arrives_as_it_was_sent_or_with_its_exact_reason(
    ticks: list[dict[tuple[str, str], Mapping[str, Value]]],
) -> None:
    clock = FakeClock()
    node = FakeNodeClock(clock)
    state, encoder = stream_state(clock, node), Encoder()
    numbered: dict[tuple[str, str], int] = {}
    for seq, sent in enumerate(ticks, 1):
        clock.advance(5)
        for subject in sent:
            numbered.setdefault(subject, len(numbered))
        announce, message = encoder.encode(tick(node.now(), sent))
        batch = telemetry_pb2.Batch(seq=seq, ticks=[message])
        found = decode_rows(through_the_wire(state, announce, batch, clock))
        assert found == {
            numbered[(table, key)]: {
                spec.name: expected(spec, given_values.get(spec.name, Reason.NOT_COLLECTED))
                for spec in TABLES[table].fields
            }
            for (table, key), given_values in sent.items()
        }


@pytest.mark.parametrize("table", TABLES)
def test_every_number_of_the_catalogue_has_a_range_and_every_histogram_has_none(table: str) -> None:
    for spec in TABLES[table].fields:
        assert (spec.minimum is None) == (spec.maximum is None) == (spec.type == "histogram"), spec.name
        if spec.type == "bigint":
            assert spec.maximum is not None
            assert spec.maximum < 2**63, spec.name


# -- what only another release, or nobody, would send -------------------------------------------


@pytest.mark.parametrize("reason", list(Stored))
def test_the_payload_of_a_nan_is_its_reason_in_both_widths(reason: Stored) -> None:
    fields = [("power_draw_watts", F32, 1), ("energy_joules_total", F64, 1)]
    found, impossible = decode_raw(fields, struct.pack("<IQ", NAN_F32 | reason, NAN_F64 | reason))
    assert (found["power_draw_watts"], found["energy_joules_total"]) == (reason, reason)
    assert impossible == 0


@pytest.mark.parametrize("bits", [0x7FC000FE, 0x7FC000FF, 0xFFC000FF, 0x7F8000FF, 0x7FC000C8])
def test_a_reason_of_a_newer_agent_is_unknown_and_never_a_value(bits: int) -> None:
    found, _ = decode_raw([("power_draw_watts", F32, 1)], struct.pack("<I", bits))
    assert found["power_draw_watts"] is Stored.NOT_COLLECTED


@pytest.mark.parametrize("value", [math.inf, -math.inf, -1.0, 20_001.0, 3e38])
def test_an_impossible_value_becomes_unknown_and_is_counted(value: float) -> None:
    found, impossible = decode_raw([("power_draw_watts", F32, 1)], struct.pack("<f", value))
    assert (found["power_draw_watts"], impossible) == (Stored.OUT_OF_RANGE, 1)


def test_rounding_to_single_precision_is_not_an_impossible_value() -> None:
    over_by_rounding = struct.pack("<f", 1e12)  # 999999995904 as a float
    found, impossible = decode_raw([("pcie_transmit_bytes_per_second", F32, 1)], over_by_rounding)
    assert (found["pcie_transmit_bytes_per_second"], impossible) == (999999995904.0, 0)


def test_a_field_that_an_older_agent_does_not_have_is_unknown_as_not_sent() -> None:
    found, impossible = decode_raw([("power_draw_watts", F32, 1)], struct.pack("<f", 300.0))
    assert found.pop("power_draw_watts") == 300.0
    assert set(found.values()) == {Stored.NOT_SENT}
    assert impossible == 0


def test_fields_of_a_newer_agent_are_passed_over_wherever_they_stand() -> None:
    fields: list[tuple[str, int, int] | tuple[str, int, int, Sequence[float]]] = [
        ("novel_ratio", F32, 3),
        ("power_draw_watts", F32, 1),
        ("novel_seconds", HISTOGRAM, 2, [1.0]),
        ("energy_joules_total", F64, 1),
        ("novel_total", F64, 1),
    ]
    found, impossible = decode_raw(fields, struct.pack("<3ffdQQdd", -9, -9, -9, 250.0, 1.0, 2, 3, 1e6, math.inf))
    assert (found["power_draw_watts"], found["energy_joules_total"], impossible) == (250.0, 1e6, 0)


def test_a_field_may_be_sent_in_the_other_width_than_its_column_has() -> None:
    fields = [("power_draw_watts", F64, 1), ("energy_joules_total", F32, 1), ("memory_total_bytes", F32, 1)]
    found, _ = decode_raw(fields, struct.pack("<dff", 250.5, 1024.0, 2.0**30))
    assert (found["power_draw_watts"], found["energy_joules_total"], found["memory_total_bytes"]) == (
        250.5,
        1024,
        2**30,
    )


def test_a_machine_with_one_core_has_an_array_of_one() -> None:
    found, _ = decode_raw([("cpu_core_busy_ratio", F32, 1)], struct.pack("<f", 0.5), table="host")
    assert found["cpu_core_busy_ratio"] == (0.5,)


def test_an_array_is_unknown_when_its_first_value_is() -> None:
    record = struct.pack("<Iff", NAN_F32 | Stored.NO_PERMISSION, 0.1, 0.2)
    found, _ = decode_raw([("cpu_core_busy_ratio", F32, 3)], record, table="host")
    assert found["cpu_core_busy_ratio"] is Stored.NO_PERMISSION


def test_an_array_with_a_hole_is_unknown_as_a_whole() -> None:
    record = struct.pack("<fIf", 0.1, NAN_F32 | Stored.TIMED_OUT, 0.2)
    found, impossible = decode_raw([("cpu_core_busy_ratio", F32, 3)], record, table="host")
    assert (found["cpu_core_busy_ratio"], impossible) == (Stored.NOT_A_NUMBER, 0)


def test_one_impossible_value_makes_an_array_unknown_and_counts_once() -> None:
    record = struct.pack("<fff", 0.1, 7.0, -3.0)
    found, impossible = decode_raw([("cpu_core_busy_ratio", F32, 3)], record, table="host")
    assert (found["cpu_core_busy_ratio"], impossible) == (Stored.OUT_OF_RANGE, 1)


@pytest.mark.parametrize(
    ("total", "counts", "expected_value"),
    [
        (math.inf, (1, 2), Stored.OUT_OF_RANGE),
        (1.0, (1, 2**63), Stored.OUT_OF_RANGE),
        (1.0, (0, 2**63 - 1), Histogram(bounds=(0.5,), counts=(0, 2**63 - 1), sum=1.0)),
    ],
)
def test_a_histogram_that_a_bigint_cannot_hold_is_impossible(
    total: float, counts: tuple[int, int], expected_value: object
) -> None:
    record = struct.pack("<dQQ", total, *counts)
    found, _ = decode_raw([("ttft_seconds", HISTOGRAM, 2, [0.5])], record, table="inference")
    assert found["ttft_seconds"] == expected_value


def test_rows_of_one_schema_from_many_nodes_become_one_block_in_their_order() -> None:
    clock = FakeClock()
    pieces = []
    for number in range(5):
        node = FakeNodeClock(clock, up_seconds=number)
        sent = {("gpu", f"GPU-{n}"): {"power_draw_watts": 100.0 * number + n} for n in range(3)}
        announce, message = Encoder().encode(tick(node.now(), sent))
        batch = telemetry_pb2.Batch(seq=1, ticks=[message])
        pieces += pieces_of(through_the_wire(stream_state(clock, node), announce, batch, clock))
    blocks, _ = decode(pieces)
    assert len(blocks) == 1
    assert blocks[0].columns["power_draw_watts"].tolist() == [100.0 * n + g for n in range(5) for g in range(3)]
    assert blocks[0].entity_ids.tolist() == [0, 1, 2] * 5
