"""Postgres' binary COPY format, built by numpy: no Python work per value.

Rows of one null pattern have the same length, so a structured array of them is the file's
bytes as they stand. Format: www.postgresql.org/docs/15/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

HEADER = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
TRAILER = b"\xff\xff"
NULL = -1  # a field's length when it has no value
# Postgres counts microseconds from 2000-01-01; we count from 1970-01-01.
POSTGRES_EPOCH_US = 946_684_800_000_000

# Postgres' object ids of array element types (src/include/catalog/pg_type.dat).
INT8_OID, FLOAT4_OID = 20, 700

_SCALAR_DTYPES = {"timestamptz": ">i8", "bigint": ">i8", "double": ">f8", "integer": ">i4", "real": ">f4"}
_ARRAY_ELEMENTS = {"bigint[]": (">i8", INT8_OID), "real[]": (">f4", FLOAT4_OID)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyColumn:
    """One column of n rows. `values` is None where every row is NULL, (n, width) for arrays.

    A timestamptz column holds microseconds since 1970 UTC.
    """

    name: str
    type: str  # timestamptz, bigint, double, integer, real, bigint[], real[]
    values: npt.NDArray[np.generic] | None


def _field_dtype(index: int, column: CopyColumn) -> list[Any]:
    length = (f"l{index}", ">i4")
    if column.values is None:
        return [length]
    if column.type in _SCALAR_DTYPES:
        return [length, (f"v{index}", _SCALAR_DTYPES[column.type])]
    element, _ = _ARRAY_ELEMENTS[column.type]
    width = column.values.shape[1]
    # ndim, has-null flag, element type, size of the only dimension, its lower bound
    return [length, (f"h{index}", ">i4", (5,)), (f"v{index}", [("l", ">i4"), ("e", element)], (width,))]


def _fill(rows: npt.NDArray[np.void], index: int, column: CopyColumn) -> None:
    if column.values is None:
        rows[f"l{index}"] = NULL
        return
    if column.type in _SCALAR_DTYPES:
        rows[f"l{index}"] = np.dtype(_SCALAR_DTYPES[column.type]).itemsize
        offset = POSTGRES_EPOCH_US if column.type == "timestamptz" else 0
        rows[f"v{index}"] = column.values - offset if offset else column.values
        return
    element, oid = _ARRAY_ELEMENTS[column.type]
    width = column.values.shape[1]
    item = np.dtype(element).itemsize
    rows[f"l{index}"] = 20 + width * (4 + item)
    rows[f"h{index}"] = (1, 0, oid, width, 1)
    rows[f"v{index}"]["l"] = item
    rows[f"v{index}"]["e"] = column.values


def copy_rows(columns: Sequence[CopyColumn], count: int) -> memoryview:
    """This will give `count` rows in COPY's binary format, without header and trailer.

    Pieces of several calls may be joined between one HEADER and one TRAILER when their columns
    have the same names in the same order.
    """
    fields: list[Any] = [("n", ">i2")]
    for index, column in enumerate(columns):
        fields += _field_dtype(index, column)
    rows = np.zeros(count, np.dtype(fields))
    rows["n"] = len(columns)
    for index, column in enumerate(columns):
        _fill(rows, index, column)
    return rows.view(np.uint8).data  # as they lie there: megabytes are not worth another copy
