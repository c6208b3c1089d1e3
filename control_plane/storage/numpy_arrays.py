"""Postgres' arrays as numpy arrays: psycopg's own loaders make a Python object of every element."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader

# Object ids of array types (pg_type.dat), and how numpy reads their elements.
_ARRAYS = {1005: ">i2", 1007: ">i4", 1016: ">i8", 1021: ">f4", 1022: ">f8"}
_HEADER = struct.Struct(">3i")  # dimensions, has NULLs, element type; then size and lower bound of each dimension


def _loader(kind: str) -> type[Loader]:
    element = np.dtype([("size", ">i4"), ("value", kind)])

    class NumpyLoader(Loader):
        """Reads a one-dimensional array without NULLs from the binary format."""

        format = pq.Format.BINARY

        def load(self, data: Buffer) -> npt.NDArray[Any]:
            dimensions, has_nulls, _ = _HEADER.unpack_from(data)
            if not dimensions:
                return np.zeros(0, np.dtype(kind).newbyteorder("="))
            if dimensions != 1 or has_nulls:
                raise ValueError("only one-dimensional arrays without NULLs are stored here")
            values = np.frombuffer(data, element, offset=20)["value"]
            return values.astype(values.dtype.newbyteorder("="))

    return NumpyLoader


_LOADERS = {oid: _loader(kind) for oid, kind in _ARRAYS.items()}


def use_numpy(adapters: AdaptersMap) -> None:
    """This will make cursors in binary format return arrays of numbers as numpy arrays."""
    for oid, loader in _LOADERS.items():
        adapters.register_loader(oid, loader)
