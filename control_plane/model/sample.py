"""Samples on their way in (blocks of many) and on their way out (readings of one)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from optiinfra.catalogue import TableSpec

# In a code matrix: the value is known. Any other code is a Reason.
KNOWN = 255

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramColumn:
    """One histogram field for n rows: the same bounds for all of them."""

    bounds: tuple[float, ...]
    counts: npt.NDArray[np.int64]  # (n, len(bounds) + 1), per bucket, since the counters began
    sums: npt.NDArray[np.float64]  # (n,)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBlock:
    """n rows of one table, column by column, ready to be stored.

    `codes[i, j]` is KNOWN, or the Reason why row i lacks the table's j-th field. What the column
    holds where the code is not KNOWN means nothing.
    """

    table: TableSpec
    node_ids: npt.NDArray[np.int32]  # (n,)
    entity_ids: npt.NDArray[np.int32]  # (n,)
    taken_at_us: npt.NDArray[np.int64]  # (n,), microseconds since 1970 UTC
    codes: npt.NDArray[np.uint8]  # (n, len(table.fields))
    columns: Mapping[str, FloatArray]  # scalars (n,), arrays (n, width); a field never sent is missing
    histograms: Mapping[str, HistogramColumn] = field(default_factory=dict)
    extra: Mapping[str, FloatArray | IntArray] = field(default_factory=dict)  # columns the control plane adds

    def __len__(self) -> int:
        return len(self.taken_at_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A histogram since its counters began: per-bucket counts and the sum of all observations."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]  # len(bounds) + 1
    sum: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One stored row: what was known of one entity at one moment, and why the rest was not."""

    entity_id: int
    taken_at: datetime
    values: Mapping[str, float | int | list[float] | None]
    unknown: Mapping[str, str]  # field -> Reason.label
    distributions: Mapping[str, Distribution] = field(default_factory=dict)
