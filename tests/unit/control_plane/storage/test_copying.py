"""Rows built by numpy, taken by a real Postgres' COPY, and read back as they were."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from control_plane.storage.copying import HEADER, TRAILER, CopyColumn, copy_rows
from control_plane.storage.session import SyncConnection
from tests.support.postgres import PostgresForTests

TYPES = {
    "timestamptz": "timestamptz", "bigint": "bigint", "double": "double precision", "integer": "integer",
    "real": "real", "bigint[]": "bigint[]", "real[]": "real[]",
}  # fmt: skip
DTYPES: dict[str, Any] = {
    "timestamptz": np.int64, "bigint": np.int64, "double": np.float64, "integer": np.int32, "real": np.float32,
    "bigint[]": np.int64, "real[]": np.float32,
}  # fmt: skip
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What a Python datetime can say; Postgres can say more.
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999


@pytest.fixture(scope="module")
def connection(postgres_server: PostgresForTests) -> Iterator[SyncConnection]:
    url = postgres_server.empty()
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        connection.execute("CREATE TEMPORARY TABLE row ({})".format(", ".join(f'"{k}" {v}' for k, v in TYPES.items())))
        connection.execute("ALTER TABLE row ADD n serial")
        connection.commit()
        yield connection
    postgres_server.drop(url)


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[CopyColumn], int]:
    count = draw(st.integers(0, 6))
    found = []
    for kind in draw(st.permutations(list(TYPES))):
        shape = (count, draw(st.integers(1, 4))) if kind.endswith("[]") else (count,)
        elements: dict[str, Any] = {"elements": st.integers(EARLIEST_US, LATEST_US)} if kind == "timestamptz" else {}
        array = npst.arrays(DTYPES[kind], shape, **elements)
        found.append(CopyColumn(name=kind, type=kind, values=draw(st.none() | array)))
    return found, count


def copy(connection: SyncConnection, names: list[str], data: bytes) -> None:
    listed = ", ".join(f'"{name}"' for name in names)
    with connection.cursor() as cursor, cursor.copy(f"COPY row ({listed}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(HEADER + data + TRAILER)


def plain(kind: str, value: Any) -> Any:
    """As psycopg gives it back; floats by their bits, so that NaN equals itself and -0.0 does not equal 0.0."""
    if kind.endswith("[]"):
        return [plain(kind[:-2], v) for v in value]
    if kind == "timestamptz":
        return EPOCH + timedelta(microseconds=int(value))
    if kind in ("real", "double"):
        return "nan" if np.isnan(value) else struct.pack("<d", float(value))
    return int(value)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(columns(), min_size=1, max_size=3))
def test_rows_read_back_as_they_were_built_nulls_included(
    connection: SyncConnection, parts: list[tuple[list[CopyColumn], int]]
) -> None:
    names = [column.name for column in parts[0][0]]
    data, expected = b"", []
    for found, count in parts:
        by_name = {column.name: column for column in found}
        data += copy_rows([by_name[name] for name in names], count)
        for row in range(count):
            values = [by_name[name].values for name in names]
            expected.append([None if v is None else plain(n, v[row]) for n, v in zip(names, values, strict=True)])
    copy(connection, names, data)
    listed = ", ".join(f'"{name}"' for name in names)
    # In binary: as text a real comes back as the shortest number that means it.
    rows = connection.execute(f"SELECT {listed} FROM row ORDER BY n", binary=True).fetchall()
    connection.rollback()
    read = [
        [
            value if value is None or name in ("timestamptz", "bigint", "integer", "bigint[]") else plain(name, value)
            for name, value in zip(names, row, strict=True)
        ]
        for row in rows
    ]
    assert read == expected


def test_rows_of_one_null_pattern_are_all_of_one_length() -> None:
    column = CopyColumn(name="real", type="real", values=np.arange(5, dtype=np.float32))
    missing = CopyColumn(name="bigint", type="bigint", values=None)
    assert len(copy_rows([column, missing], 5)) == 5 * (2 + 4 + 4 + 4)
