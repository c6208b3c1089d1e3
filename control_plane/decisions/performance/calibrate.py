"""What measurements of a server's own kind say of its other configurations.

A sweep (one model, engine, release, GPU and format) is off as a whole by what no column says: flags, data, clocks. A
few measured configurations tell that offset, and with it the error of the others falls to what is left within a sweep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Standard deviations of log seconds: of a sweep as a whole, and of a row within it (benchmarks/prediction.py).
SWEEP, ROW = 0.12, 0.07
TAIL = 3.0  # rows further off than so many of their deviations count for less: some are measured wrongly
ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """How much slower a sweep is than predicted, as a logarithm, and how sure that is."""

    log: float
    spread: float
    rows: int


def offsets(sweeps: Sequence[str], told: Sequence[float], measured: Sequence[float]) -> Mapping[str, Offset]:
    """This will estimate each sweep's offset from log seconds that were predicted and measured."""
    errors: dict[str, list[float]] = defaultdict(list)
    for sweep, said, came in zip(sweeps, told, measured, strict=True):
        errors[sweep].append(came - said)
    return {sweep: _offset(np.array(found)) for sweep, found in errors.items()}


def _offset(errors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Offset:
    log = 0.0
    weight = np.ones(len(errors))
    for _ in range(ROUNDS):
        precision = float(weight.sum()) / ROW**2 + SWEEP**-2
        log = float((weight * errors).sum()) / ROW**2 / precision
        weight = 1.0 / np.maximum(np.abs(errors - log) / (TAIL * ROW), 1.0)
    return Offset(log=log, spread=float(precision**-0.5), rows=len(errors))


def spread_after(spread: float, offset: Offset) -> float:
    """This will give the deviation of a row of a sweep whose offset is known, from that of one whose is not."""
    left = max(spread**2 - SWEEP**2, 0.0) * 0.25  # what constants leave open is mostly common to a sweep
    return float(np.sqrt(left + offset.spread**2 + ROW**2))
