"""Whatever is packed comes out as it went in, and what drivers report takes little room."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from control_plane.storage.packing.codec import Encoding, pack, unpack

shapes = st.tuples(st.integers(1, 4), st.integers(1, 40))
floats4 = arrays.arrays(np.float32, shapes, elements=st.floats(-(2.0**99), 2.0**99, width=32) | st.just(float("nan")))
floats8 = arrays.arrays(np.float64, shapes, elements=st.floats(0, 2**53) | st.just(float("nan")))
milliwatts = arrays.arrays(np.int64, shapes, elements=st.integers(0, 800_000)).map(
    lambda whole: (whole / 1000).astype(np.float32)
)
counters = arrays.arrays(np.int64, shapes, elements=st.integers(0, 2**53)).map(
    lambda whole: np.sort(whole, axis=1).astype(np.float64)
)


def size(values: npt.NDArray[Any]) -> int:
    return sum(len(plane) for plane in pack(values).planes)


@settings(max_examples=300, deadline=None)
@given(st.one_of(floats4, floats8, milliwatts, counters))
def test_what_is_packed_unpacks_to_what_it_was(values: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(unpack(pack(values), values.dtype), values)


def test_a_constant_takes_no_bytes_and_so_does_a_steady_counter() -> None:
    assert size(np.full((8, 720), 700.0, np.float32)) == 0
    assert size(np.arange(720.0)[np.newaxis] * 5 + 1e9) == 0


@pytest.mark.parametrize(
    ("values", "divisor"),
    [
        (np.arange(0.0, 1.0, 0.01), 100),
        (np.array([460.37, 454.494, 435.873]), 1000),
        (np.array([1.32148, 1.321915]), 10**6),
    ],
)
def test_what_a_driver_rounded_becomes_whole_numbers(values: npt.NDArray[np.float64], divisor: int) -> None:
    packed = pack(values.astype(np.float32)[np.newaxis])
    assert (packed.encoding, packed.divisor) == (Encoding.NUMBER, divisor)


def test_allocations_of_whole_megabytes_are_counted_in_what_they_share() -> None:
    packed = pack(np.array([[4.0, 6.0, 10.0, 10.0]]) * 2**30)
    assert packed.multiplier == 2 * 2**30
    assert len(packed.planes) == 1


def test_a_float_with_all_its_digits_is_kept_as_its_bits() -> None:
    values = np.random.default_rng(1).random((2, 50)).astype(np.float32)
    assert pack(values).encoding is Encoding.FLOAT4


def test_numbers_that_are_missing_are_not_in_the_way_of_the_others() -> None:
    values = np.full((1, 100), 50.0, np.float32)
    values[0, 10:20] = np.nan
    packed = pack(values)
    assert not packed.planes
    assert packed.missing is not None
    assert packed.missing.sum() == 10


def test_what_could_not_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        pack(np.array([[-0.123456789, 0.2]]))
