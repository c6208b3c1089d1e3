"""Cells merge to what their samples say, survive their row, and never make a number of what was not known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.storage.numpy_arrays import _LOADERS
from control_plane.storage.rollups.blocks import COLUMNS, FieldCells, cells_of_row, copy_row, in_pieces
from control_plane.storage.rollups.cells import Cells, coarser, entities_of, explicit, laid_out, without
from control_plane.storage.rollups.fields import FieldKind, kind_of
from control_plane.storage.rollups.listing import listed
from control_plane.storage.rollups.minutes import MINUTE_US, Predecessors, grid_of, rolled
from control_plane.storage.sample_rows import SampleRows
from optiinfra.catalogue import TABLES

START_US = 1_772_625_600_000_000  # a whole minute
GAUGE, COUNTER, STATE = "power_draw_watts", "energy_joules_total", "clock_event_reasons_bits"
REASONS = {7: {GAUGE: "timed_out", COUNTER: "device_lost"}}


@dataclass(frozen=True)
class Row:
    entity: int
    second: int
    value: float | None


def cells_of(rows: list[Row], field: str, *, units: int, before: Predecessors | None = None) -> Cells:
    """Rolls one field of a GPU's rows up."""
    rows = sorted(rows, key=lambda row: (row.entity, row.second))
    spec = TABLES["gpu"]
    nothing = np.full(len(rows), np.nan)
    columns = {f.name: nothing.astype(np.float32 if f.type == "real" else np.float64) for f in spec.scalars}
    values = np.array([math.nan if row.value is None else row.value for row in rows])
    columns[field] = values.astype(columns[field].dtype)
    found = SampleRows(
        table="gpu",
        entity_ids=np.array([row.entity for row in rows], np.int32),
        taken_at_us=START_US + np.array([row.second for row in rows], np.int64) * 1_000_000,
        unknown_set_ids=np.full(len(rows), 7, np.int32),
        columns=columns,
    )
    grid = grid_of(found, start_us=START_US, units=units)
    return rolled(found, grid, before or Predecessors(), lambda number: REASONS.get(number, {}))[0][field]


def row_of(cells: Cells, field: str) -> dict[str, Any]:
    """Writes a row as COPY would, and reads it as psycopg would."""
    spec = TABLES["gpu"].field(field)
    data = copy_row(FieldCells(field_id=3, exact=spec.type != "real", cells=cells), 1024)
    row: dict[str, Any] = {}
    place = 2
    for name in COLUMNS:
        size = int.from_bytes(data[place : place + 4], "big", signed=True)
        place += 4
        part = None if size < 0 else data[place : place + size]
        place += max(size, 0)
        if name == "sketch":
            row[name] = part
        elif part is not None and size > 8:
            oid = int.from_bytes(part[8:12], "big")
            array = {21: 1005, 23: 1007, 20: 1016, 700: 1021, 701: 1022}[oid]
            row[name] = _LOADERS[array](0).load(part)
        elif part is not None:
            row[name] = int.from_bytes(part, "big", signed=True)
        else:
            row[name] = None
    row["start"] = cells.start_us
    assert place == len(data)
    return row


def same(left: Cells, right: Cells) -> None:
    assert left.entity_ids.tolist() == right.entity_ids.tolist()
    for name in ("samples", "known", "reason"):
        assert getattr(left, name).tolist() == getattr(right, name).tolist(), name
    for name, values in left.statistics.items():
        np.testing.assert_allclose(values, right.statistics[name], rtol=1e-6, atol=1e-30, err_msg=name)
    one, other = explicit(left), explicit(right)
    assert list(zip(one.cells, one.bins, one.counts, strict=True)) == list(
        zip(other.cells, other.bins, other.counts, strict=True)
    )


values = st.one_of(st.none(), st.floats(0.0, 20_000.0, width=32).filter(lambda v: v == 0 or v > 1e-6))
rows_of_three_minutes = st.lists(
    st.builds(Row, entity=st.integers(1, 4), second=st.integers(0, 179), value=values),
    min_size=1, max_size=60, unique_by=lambda row: (row.entity, row.second),
)  # fmt: skip


@pytest.mark.parametrize("field", [GAUGE, COUNTER, STATE])
@settings(max_examples=60, deadline=None)
@given(rows=rows_of_three_minutes)
def test_three_minutes_merge_to_what_their_samples_give_at_once(field: str, rows: list[Row]) -> None:
    if field == STATE:
        rows = [Row(r.entity, r.second, None if r.value is None else float(int(r.value) % 5)) for r in rows]
    minutes = cells_of(rows, field, units=3)
    merged = coarser(minutes, 3)
    for place, entity in enumerate(minutes.entity_ids):
        mine = sorted((r for r in rows if r.entity == entity), key=lambda r: r.second)
        known = [r.value for r in mine if r.value is not None]
        assert merged.samples[place] == len(mine)
        assert merged.known[place] == len(known)
        if not known:
            assert all(np.isnan(v[place]) for n, v in merged.statistics.items())
            continue
        assert merged.statistics["last"][place] == known[-1]
        if field == GAUGE:
            assert merged.statistics["minimum"][place] == min(known)
            assert merged.statistics["maximum"][place] == max(known)
            assert merged.statistics["mean"][place] == pytest.approx(sum(known) / len(known), rel=1e-6)
        if field == COUNTER:
            growth = [b - a if b >= a else b for a, b in pairwise(known)]
            found = merged.statistics["increase"][place]
            assert found == pytest.approx(sum(growth)) if growth else np.isnan(found)


@pytest.mark.parametrize("field", [GAUGE, COUNTER, STATE])
@settings(max_examples=40, deadline=None)
@given(rows=rows_of_three_minutes)
def test_cells_come_out_of_their_row_as_they_went_in(field: str, rows: list[Row]) -> None:
    cells = cells_of(rows, field, units=3)
    kind = kind_of(TABLES["gpu"].field(field))
    assert kind is not None
    same(cells_of_row(row_of(cells, field), kind, unit_us=MINUTE_US), cells)


@settings(max_examples=40, deadline=None)
@given(rows=rows_of_three_minutes)
def test_cells_that_are_taken_apart_and_laid_out_again_are_the_same(rows: list[Row]) -> None:
    cells = cells_of(rows, GAUGE, units=3)
    odd = np.arange(len(cells)) % 2 == 1
    parts = [without(cells, odd), without(cells, ~odd)]
    same(laid_out(parts, start_us=cells.start_us, units=3, entity_ids=cells.entity_ids), cells)


def test_an_unknown_value_enters_no_statistic_and_leaves_its_reason() -> None:
    cells = cells_of([Row(1, 0, 100.0), Row(1, 5, None), Row(1, 10, 300.0), Row(2, 0, None)], GAUGE, units=1)
    assert cells.samples.tolist() == [3, 1]
    assert cells.known.tolist() == [2, 0]
    assert cells.statistics["mean"].tolist()[0] == 200.0
    assert np.isnan(cells.statistics["mean"][1])
    assert cells.reason.tolist() == [4, 4]  # timed_out


def test_growth_is_counted_from_the_last_sample_before_the_minute_and_a_fall_is_a_reset() -> None:
    before = Predecessors(
        entity_ids=np.array([1], np.int32),
        values={COUNTER: np.array([90.0])},
        taken_at_us={COUNTER: np.array([START_US - 5_000_000])},
    )
    cells = cells_of([Row(1, 0, 100.0), Row(1, 5, 130.0), Row(1, 10, 20.0)], COUNTER, units=1, before=before)
    statistics = {name: values[0] for name, values in cells.statistics.items()}
    assert statistics == {"last": 20.0, "increase": 60.0, "seconds": 10.0, "resets": 1.0, "reset_increase": 20.0}


def test_growth_over_a_gap_has_no_moment_and_is_not_counted() -> None:
    cells = cells_of([Row(1, 0, 100.0), Row(1, 301, 500.0), Row(1, 306, 510.0)], COUNTER, units=6)
    assert np.nansum(cells.statistics["increase"]) == 10.0
    assert np.nansum(cells.statistics["seconds"]) == 5.0


def test_a_cell_in_which_growth_cannot_be_seen_has_none_rather_than_zero() -> None:
    cells = cells_of([Row(1, 0, 100.0)], COUNTER, units=1)
    assert np.isnan(cells.statistics["increase"][0])
    assert cells.statistics["last"][0] == 100.0


@pytest.mark.parametrize("wanted", [[2], [1, 3], [1, 2, 3], [7], []])
@pytest.mark.parametrize("field", [GAUGE, STATE, COUNTER])
def test_of_a_row_only_the_wanted_entities_are_read(field: str, wanted: list[int]) -> None:
    rows = [Row(e, s, float((s * e * 7) % 13)) for e in (1, 2, 3) for s in range(0, 170, 5) if (e + s) % 11]
    cells = cells_of(rows, field, units=3)
    kind = kind_of(TABLES["gpu"].field(field))
    assert kind is not None
    row = row_of(cells, field)
    found = listed([row, row], kind, unit_us=cells.unit_us, wanted=np.array(wanted, np.int32))
    kept = [e for e in wanted if e in (1, 2, 3)]
    if not kept:
        assert found is None
        return
    assert found is not None
    mine = cells_of_row(row_of(entities_of(cells, np.array(kept, np.int32)), field), kind, unit_us=60_000_000)
    twice = len(mine)
    assert found.entity_ids.tolist() == np.repeat(mine.entity_ids, 3).tolist() * 2
    assert found.unit_starts_us.tolist() == mine.unit_starts_us.tolist() * 2
    for name in ("samples", "known", "reason"):
        assert getattr(found, name).tolist() == getattr(mine, name).tolist() * 2
    for name, values in mine.statistics.items():
        if not (name == "last" and field == COUNTER):
            np.testing.assert_array_equal(found.statistics[name], np.tile(values, 2), err_msg=name)
    one, other = explicit(found), explicit(mine)
    entries = list(zip(other.cells.tolist(), other.bins.tolist(), other.counts.tolist(), strict=True))
    assert list(zip(one.cells.tolist(), one.bins.tolist(), one.counts.tolist(), strict=True)) == [
        *entries, *((cell + twice, place, count) for cell, place, count in entries)
    ]  # fmt: skip


def test_what_is_the_same_everywhere_takes_one_element() -> None:
    cells = cells_of([Row(e, s, 700.0) for e in range(1, 50) for s in range(0, 60, 5)], GAUGE, units=1)
    row = row_of(cells, GAUGE)
    lengths = {name: len(v) for name, v in row.items() if isinstance(v, np.ndarray) and name != "entity_ids"}
    assert lengths == dict.fromkeys(("samples", "minimum", "mean", "maximum", "p50", "p95", "p99", "last"), 1)
    assert row["sketch"] is None


def test_a_row_holds_a_bounded_number_of_cells_and_none_of_an_entity_without_samples() -> None:
    rows = [Row(e, s, float(e)) for e in range(1, 301) for s in (0, 61)]
    cells = cells_of(rows, GAUGE, units=60)
    emptied = without(cells, np.repeat(cells.entity_ids % 2 == 0, 60))
    pieces = [piece for piece, _ in in_pieces(FieldCells(field_id=1, exact=False, cells=emptied))]
    assert sum(len(p.cells.entity_ids) for p in pieces) == 150
    assert max(len(p.cells) for p in pieces) <= 512
    kept = laid_out([p.cells for p in pieces], start_us=cells.start_us, units=60, entity_ids=cells.entity_ids[::2])
    assert kept.statistics["last"][::60].tolist() == [float(e) for e in range(1, 301, 2)]


def test_every_field_of_the_catalogue_but_arrays_has_a_kind() -> None:
    kinds = {(t, f.name): kind_of(f) for t, spec in TABLES.items() for f in spec.fields}
    assert {key for key, kind in kinds.items() if kind is None} == {
        (t, f.name) for t, spec in TABLES.items() for f in spec.fields if f.type == "real[]"
    }
    assert set(kinds.values()) >= set(FieldKind)
