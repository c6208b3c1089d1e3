"""How alike neighbours of a series are: the more, the fewer of them are evidence of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A series that hardly moves would else be no evidence at all.
MOST = 0.98


def alikeness(rest: NDArray[np.float64]) -> float:
    """This will give the correlation of deviations from a mean or a line with their neighbours', 0 to MOST.

    A negative one counts as none. With it, n values are worth n (1 - r) / (1 + r) independent ones (Bayley and
    Hammersley, Supplement to the Journal of the Royal Statistical Society 8, 1946).
    """
    whole = float((rest**2).sum())
    return 0.0 if whole <= 0 else float(np.clip((rest[1:] * rest[:-1]).sum() / whole, 0.0, MOST))
