"""How well traffic can be forecast at all: a few requests a minute are partly chance, whoever forecasts them.

If requests arrive independently (Poisson) around a mean that is known exactly, their number in a bin still misses the
best single guess, its median, by a mean absolute deviation that no forecaster can go below in the long run. Bursts only
make it worse. From some ten requests a bin on it is close to sqrt(2 x mean / pi).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

EXACT_BELOW = 100.0  # above, the deviation about the mean is the one about the median to four digits


def chance_error(mean: float) -> float:
    """This will give the least mean absolute error of forecasting a Poisson number with this mean."""
    if mean >= EXACT_BELOW:
        whole = math.floor(mean)
        # 2 e^-m m^(k+1) / k!, k the whole part of m: de Moivre's mean absolute deviation.
        return 2.0 * math.exp(-mean + (whole + 1) * math.log(mean) - math.lgamma(whole + 1))
    probability, below, median = math.exp(-mean), 0.0, 0
    excess = mean  # E max(X - median, 0)
    while below + probability < 0.5:
        below += probability
        excess -= 1.0 - below
        median += 1
        probability *= mean / median
    return 2.0 * excess + median - mean  # |x| = 2 max(x, 0) - x


def best_accuracy(means: Iterable[float]) -> float | None:
    """This will give the best 1-WAPE that forecasts of bins with these means can have; None when nothing comes."""
    total, error = 0.0, 0.0
    for mean in means:
        total += mean
        error += chance_error(mean)
    return None if total <= 0 else 1.0 - error / total


def requests_needed(accuracy: float) -> float:
    """This will give how many requests a bin must have on average before such a 1-WAPE is possible."""
    if not 0 <= accuracy < 1:
        raise ValueError(f"an accuracy is from 0 to below 1, not {accuracy}")
    low, high = 1e-6, 1e12
    while high / low > 1.0 + 1e-6:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if 1.0 - chance_error(middle) / middle < accuracy else (low, middle)
    return high
