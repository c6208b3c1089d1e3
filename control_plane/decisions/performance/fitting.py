"""Constants that explain measured servers best: beliefs moved by data, as far as the data can tell.

A maximum a posteriori estimate of log constants. Each sweep (one model, engine, release, GPU and format) has an offset
of its own that it shares with no other: what a table does not say of it (flags, data, clocks) moves all its rows
together, and without an offset a fit would bend physics to please a long sweep. Rows have heavy tails: some were
measured wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control_plane.decisions.performance.constants import NAMES, Constants, believed, spreads

Vector = NDArray[np.float64]
Predict = Callable[[Constants], Vector]  # log seconds of each row

SWEEP_SPREAD = 0.07  # of a sweep's offset: what repeated sweeps by different people differ by
ROW_SPREAD = 0.06  # of a row around its sweep
TAIL_DEGREES = 4.0  # of freedom of Student's t for rows
# A sweep's rows agree in what is wrong with them: it never counts for more than this many.
SWEEP_WORTH = 12.0
DIFFERENCE = 0.02  # of a log constant, for derivatives
MOST_MOVE = 0.7  # of a log constant in one round
ROUNDS, SETTLED = 12, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Constants after measurements, and how sure they are."""

    constants: Constants
    covariance: NDArray[np.float64]  # of the logs of the constants
    offsets: dict[str, float]  # of each sweep


def fit(predict: Predict, measured: Vector, sweeps: Sequence[str], *, start: Constants | None = None) -> Fit:
    """This will estimate the constants from log seconds of rows, each of a named sweep."""
    names = sorted(set(sweeps))
    member = np.array([names.index(name) for name in sweeps])
    worth = np.minimum(1.0, SWEEP_WORTH / np.bincount(member))[member]
    indicator = np.eye(len(names))[member]
    belief, spread = believed().logs, spreads()
    logs, offsets = (start or believed()).logs.copy(), np.zeros(len(names))
    count = len(NAMES)
    precision = np.concatenate([1.0 / spread**2, np.full(len(names), SWEEP_SPREAD**-2)])
    hessian = np.diag(precision)
    for _ in range(ROUNDS):
        told = predict(Constants(logs))
        residual = measured - told - offsets[member]
        weight = worth * (TAIL_DEGREES + 1) / (TAIL_DEGREES + (residual / ROW_SPREAD) ** 2) / ROW_SPREAD**2
        jacobian = np.hstack([_derivatives(predict, logs, told), indicator])
        hessian = jacobian.T @ (jacobian * weight[:, None]) + np.diag(precision)
        pull = np.concatenate([logs - belief, offsets]) * precision
        move = np.linalg.solve(hessian, jacobian.T @ (weight * residual) - pull)
        logs = logs + np.clip(move[:count], -MOST_MOVE, MOST_MOVE)
        offsets = offsets + move[count:]
        if np.abs(move[:count]).max() < SETTLED:
            break
    covariance = np.linalg.inv(hessian)[:count, :count]
    return Fit(
        constants=Constants(logs), covariance=covariance, offsets=dict(zip(names, offsets.tolist(), strict=True))
    )


def _derivatives(predict: Predict, logs: Vector, told: Vector) -> NDArray[np.float64]:
    columns = np.empty((len(told), len(logs)))
    for place in range(len(logs)):
        moved = logs.copy()
        moved[place] += DIFFERENCE
        columns[:, place] = (predict(Constants(moved)) - told) / DIFFERENCE
    return columns
