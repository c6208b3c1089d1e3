"""How far a prediction may be off: what the constants leave open, what tables do not say, and what is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control_plane.decisions.performance.constants import ENGINES, Constants
from control_plane.decisions.performance.rows import Block, log_tpots
from control_plane.model.architecture import AttentionKind

DIFFERENCE = 0.02  # of a log constant
# Standard deviations of log seconds, of cases whose model (GPU) the constants were not fitted on; they were set so that
# nine in ten of such cases lie within (benchmarks/prediction.py prints the share).
UNSAID = 0.12  # flags, data and clocks that no column says
EXPERTS = 0.08  # which experts are chosen depends on the text
QUEUED = 0.15  # more requests than fit: preemption, and what is kept free
# What no server had that the constants were fitted on: compressed or recurrent attention, attention that is divided by
# requests, experts that are divided among GPUs, pipeline stages. Each stands on kernels measured alone.
NEVER_SERVED = 0.12
GUESSED_MODEL = 0.35  # two models of one size differ by this: depth against width, attention against experts
OTHER_KERNELS = 0.15  # kernels of another generation stand in
OTHER_ENGINE = 0.2  # an engine that was never measured
UNLISTED_GPU = 0.9  # by which the bandwidths of listed GPUs of today differ
NEW_ATTENTION = (AttentionKind.LATENT, AttentionKind.STATE)
NINE_IN_TEN = 1.645  # standard deviations of a normal distribution on either side


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """The constants and how sure they are."""

    constants: Constants
    covariance: NDArray[np.float64]


def spread_of(groups: Sequence[Block], knowledge: Knowledge, count: int) -> NDArray[np.float64]:
    """This will give the standard deviation of each case's log seconds per output token."""
    told = log_tpots(groups, knowledge.constants, count)
    logs = knowledge.constants.logs
    columns = np.empty((count, len(logs)))
    for place in range(len(logs)):
        moved = logs.copy()
        moved[place] += DIFFERENCE
        columns[:, place] = (log_tpots(groups, Constants(moved), count) - told) / DIFFERENCE
    variance = np.einsum("ij,jk,ik->i", columns, knowledge.covariance, columns) + UNSAID**2
    for block in groups:
        variance[block.places] += _unknown(block, knowledge.constants)
    return np.asarray(np.sqrt(variance), dtype=np.float64)


def _unknown(block: Block, constants: Constants) -> NDArray[np.float64]:
    case = block.cases[0]
    known = 0.0
    if case.model.has_experts:
        known += EXPERTS**2
    if case.model.guessed:
        known += GUESSED_MODEL**2
    if any(group.kind in NEW_ATTENTION for group in case.model.attention):
        known += NEVER_SERVED**2
    if not case.machine.rates_measured:
        known += OTHER_KERNELS**2
    if not case.machine.listed:
        known += UNLISTED_GPU**2
    if case.engine not in ENGINES:
        known += OTHER_ENGINE**2
    served = block.serve(constants)
    queued = block.column("concurrency") > served.memory.max_concurrency
    divided = (block.column("data_parallel") > 1) | (block.column("expert_parallel") > 2)
    divided |= block.column("pipeline_parallel") > 1
    extra = np.where(queued, QUEUED**2, 0.0) + np.where(divided, NEVER_SERVED**2, 0.0)
    return np.asarray(known + extra, dtype=np.float64)
