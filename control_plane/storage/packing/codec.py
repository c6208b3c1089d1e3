"""Numbers of one field as small whole numbers, a byte of them at a time, and back, bit for bit.

Drivers round: what arrives as 460.37 W is 460370 mW divided by 1000. Such numbers become whole ones; those with all
the digits of a float become its bits. Of a series' whole numbers their steps, or their distances from the smallest,
are kept: the bytes of the same weight together, because the high ones are mostly zero and compress to nothing.
Everything is arithmetic that SQL can do too; optiinfra_unpacked in the migration is the same in plain SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

MOST_PLANES = 8
# Milliseconds, milliwatts, hundredths, microseconds: what drivers and kernels count in.
DIVISORS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
# Whole numbers up to here are exact in a float8, and so is their quotient's rounding.
EXACT = 2**53
# Enough to tell a number of three digits from one of seven without looking at all of them.
PROBES = 64

Values = npt.NDArray[np.floating]
Whole = npt.NDArray[np.int64]


class Encoding(IntEnum):
    """What a whole number stands for."""

    NUMBER = 0  # times `multiplier`, divided by `divisor`
    FLOAT4 = 1  # the bits of a float4
    FLOAT8 = 2  # the bits of a float8


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """S series of `length` numbers each, packed."""

    length: int
    encoding: Encoding
    multiplier: int
    divisor: int
    base: Whole  # (S,), the smallest number, or the first where there are steps
    step: Whole | None  # (S,), the smallest step; None: distances from the base
    planes: Sequence[npt.NDArray[np.uint8]]  # each (S·T,), the lowest byte first; left-out ones are zero
    missing: npt.NDArray[np.uint8] | None  # (S · length,), 1 where there was no number; None: there always was


def pack(values: Values) -> Packed:
    """This will pack (S, T) numbers; NaN is one that was not known. Raises ValueError for what it cannot keep.

    What comes out is unpacked again and compared: it is what went in.
    """
    unknown = np.isnan(values)
    missing = bool(unknown.any())
    packed = _packed(_held(values, unknown) if missing else values)
    if missing:
        packed = replace(packed, missing=unknown.ravel().astype(np.uint8))
    if not np.array_equal(unpack(packed, values.dtype), values, equal_nan=True):
        raise ValueError("packing would have changed a number")
    return packed


def unpack(packed: Packed, dtype: np.dtype[np.floating]) -> Values:
    """This will give (S, T) numbers; NaN where there was none."""
    values = _whole_values(packed, dtype)
    if packed.missing is not None:
        values[packed.missing.reshape(values.shape) != 0] = np.nan
    return values


def _whole_values(packed: Packed, dtype: np.dtype[np.floating]) -> Values:
    whole = np.zeros((len(packed.base), packed.length), np.int64)
    for weight, plane in enumerate(packed.planes):
        whole += plane.reshape(whole.shape).astype(np.int64) << (8 * weight)
    if packed.step is None:
        whole += packed.base[:, np.newaxis]
    else:
        whole += packed.step[:, np.newaxis]
        whole[:, 0] = packed.base
        np.cumsum(whole, axis=1, out=whole)
    if packed.encoding is Encoding.NUMBER:
        return ((whole * packed.multiplier).astype(np.float64) / packed.divisor).astype(dtype)
    size = np.abs(whole)
    values: Values = (
        size.astype(np.int32).view(np.float32) if packed.encoding is Encoding.FLOAT4 else size.view(np.float64)
    )
    return np.where(whole < 0, -values, values).astype(dtype)


def _held(values: Values, unknown: npt.NDArray[np.bool_]) -> Values:
    """This will put the last known number, or the first, in place of those that are missing."""
    place = np.where(unknown, -1, np.arange(values.shape[1]))
    place = np.maximum.accumulate(place, axis=1)
    first = np.argmin(unknown, axis=1)  # 0 where nothing is known at all
    place = np.where(place < 0, first[:, np.newaxis], place)
    held = np.take_along_axis(values, place, axis=1)
    return np.where(np.isnan(held), values.dtype.type(0), held)


def _bits(values: Values) -> tuple[Whole, Encoding]:
    """This will give each float's bits as a number that grows as the float does."""
    size = np.abs(values)
    if values.dtype.itemsize == 4:
        whole, encoding = size.view(np.int32).astype(np.int64), Encoding.FLOAT4
    elif (values < 0).any():
        raise ValueError("float8 fields have no negative numbers")  # their distances would not fit
    else:
        whole, encoding = size.view(np.int64).copy(), Encoding.FLOAT8
    return np.where(values < 0, -whole, whole), encoding


def _packed(values: Values) -> Packed:
    probes = values.ravel()[:: max(1, values.size // PROBES)]
    for divisor in DIVISORS:
        if _divided(probes, divisor) is not None:
            whole = _divided(values, divisor)
            if whole is not None:
                shared = int(np.gcd.reduce(whole, axis=None)) if divisor == 1 else 1
                multiplier = max(1, abs(shared))
                return _with_planes(whole // multiplier, Encoding.NUMBER, multiplier, divisor)
    whole, encoding = _bits(values)
    return _with_planes(whole, encoding, 1, 1)


def _divided(values: Values, divisor: int) -> Whole | None:
    """This will give the whole numbers that, divided, are exactly these; None when there are none."""
    scaled = np.rint(values.astype(np.float64) * divisor)
    if not (np.abs(scaled) < EXACT).all():
        return None
    return scaled.astype(np.int64) if ((scaled / divisor).astype(values.dtype) == values).all() else None


def _with_planes(whole: Whole, encoding: Encoding, multiplier: int, divisor: int) -> Packed:
    """This will keep distances or steps, whichever has less in it."""
    low = whole.min(axis=1)
    packed = Packed(
        length=whole.shape[1], encoding=encoding, multiplier=multiplier, divisor=divisor,
        base=low, step=None, planes=_planes(whole - low[:, np.newaxis]), missing=None,
    )  # fmt: skip
    if whole.shape[1] < 3 or not packed.planes:
        return packed
    steps = np.diff(whole, axis=1)
    least = steps.min(axis=1)
    over = np.zeros_like(whole)
    over[:, 1:] = steps - least[:, np.newaxis]
    planes = _planes(over)
    if _information(planes) >= _information(packed.planes):
        return packed
    return replace(packed, base=whole[:, 0], step=least, planes=planes)


def _planes(whole: Whole) -> list[npt.NDArray[np.uint8]]:
    """This will give the bytes of numbers that are not negative, lowest first, as many as are needed."""
    count = (int(whole.max(initial=0)).bit_length() + 7) // 8
    as_bytes = np.ascontiguousarray(whole).astype("<i8").view(np.uint8).reshape(-1, 8)
    return [np.ascontiguousarray(as_bytes[:, weight]) for weight in range(count)]


def _information(planes: Sequence[npt.NDArray[np.uint8]]) -> float:
    """This will estimate, in bytes, what planes compress to: their entropy."""
    total = 0.0
    for plane in planes:
        counts = np.bincount(plane, minlength=256)
        shares = counts[counts > 0] / len(plane)
        total -= float((shares * np.log2(shares)).sum()) * len(plane) / 8
    return total
