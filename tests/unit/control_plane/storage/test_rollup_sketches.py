"""Sketches keep their promise: whatever is merged, a quantile is within one percent of a sample at its rank."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.storage.rollups import sketches
from control_plane.storage.rollups.sketches import (
    RELATIVE_ERROR,
    bins_of,
    counted,
    quantile,
    states_of,
    summed,
    values_of,
)

numbers = st.one_of(
    st.just(0.0),
    st.floats(1e-8, 1e16, allow_nan=False),
    st.floats(-1e16, -1e-8, allow_nan=False),
)


def nearest_rank(values: list[float], share: float) -> float:
    return sorted(values)[max(1, math.ceil(round(share * len(values), 9))) - 1]


def close(value: float, truth: float) -> bool:
    return abs(value - truth) <= abs(truth) * RELATIVE_ERROR * 1.0001


@settings(deadline=None)
@given(numbers)
def test_a_bin_stands_for_a_value_within_the_promised_error(value: float) -> None:
    assert close(values_of(bins_of(np.array([value])))[0], value)


@settings(deadline=None)
@given(st.lists(numbers, min_size=2))
def test_bins_keep_the_order_of_values(values: list[float]) -> None:
    bins = bins_of(np.array(sorted(values)))
    assert (np.diff(bins.astype(int)) >= 0).all()


def test_what_is_too_small_to_mean_anything_counts_as_zero() -> None:
    assert values_of(bins_of(np.array([1e-12, -1e-12, 0.0]))).tolist() == [0.0, 0.0, 0.0]


@settings(deadline=None)
@given(
    st.lists(st.lists(numbers, min_size=1, max_size=30), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]),
)
def test_a_quantile_of_merged_sketches_is_one_of_the_samples(parts: list[list[float]], share: float) -> None:
    sketch_parts = [counted(np.zeros(len(part), np.int32), bins_of(np.array(part))) for part in parts]
    whole = summed(
        np.concatenate([p.cells for p in sketch_parts]),
        np.concatenate([p.bins for p in sketch_parts]),
        np.concatenate([p.counts for p in sketch_parts]),
    )
    bins, known = quantile(whole, 1, share)
    assert known.all()
    assert close(values_of(bins)[0], nearest_rank([v for part in parts for v in part], share))


def test_each_cell_has_its_own_quantile_and_an_empty_one_has_none() -> None:
    values = np.array([1.0, 2.0, 3.0, 10.0, 20.0])
    sketch = counted(np.array([0, 0, 0, 2, 2]), bins_of(values))
    bins, known = quantile(sketch, 4, 0.5)
    assert known.tolist() == [True, False, True, False]
    assert close(values_of(bins)[0], 2.0)
    assert close(values_of(bins)[2], 10.0)


def test_more_cells_than_sixteen_bits_can_name_are_kept_apart() -> None:
    cells = np.array([0, 70_000, 70_000])
    sketch = counted(cells, bins_of(np.array([5.0, 7.0, 7.0])))
    assert sketch.cells.tolist() == [0, 70_000]
    assert sketch.counts.tolist() == [1, 2]


def test_rounding_does_not_push_a_rank_over_the_next_sample() -> None:
    sketch = counted(np.zeros(20, np.int32), bins_of(np.arange(1.0, 21.0)))
    bins, _ = quantile(sketch, 1, 0.95)  # 0.95 * 20 is 19 and a rounding error
    assert close(values_of(bins)[0], 19.0)


def test_states_are_counted_as_they_are() -> None:
    assert states_of(np.array([0.0, 4.0, 2.0**53])).tolist() == [0, 4, sketches.OTHER_STATE]
