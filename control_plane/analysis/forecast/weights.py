"""How much each of several forecasters is believed: by how its forecasts came out, and less the more they cost.

Exponential weights over the mean absolute error (Cesa-Bianchi and Lugosi, Prediction, Learning, and Games, 2006,
chapter 2), with the error relative to the best one's, so that it means the same for any traffic. An h-step forecast is
judged h bins late; until enough were, what the same forecaster did at the next nearer horizon speaks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from control_plane.analysis.forecast.levels import Array

SHORT_HORIZONS = 5.0  # after so many times the horizon, errors at the nearer one count half
BORROWED_POWER = 0.5  # and they say less the nearer it is: by (horizon / nearer one) ** -this


@dataclass(frozen=True, slots=True, kw_only=True)
class Temper:
    """How quickly trust moves. The values were chosen on some forty public series together; doubling or halving any of
    them moves the mean accuracy by less than 0.2 points.
    """

    keep: float  # weight of a bin against the next one; 1 never forgets
    rate: float  # an error that is 1 % above the best one's costs rate × 1 % × judged ** power in the exponent
    power: float
    delay_power: float  # overlapping forecasts agree with each other: evidence counts less by horizon ** this


# Forgets within hours of minutes, so that each regime gets its expert; slow to trust a dozen forecasts.
MIXING = Temper(keep=0.998, rate=1.3, power=0.75, delay_power=0.0)
# Never forgets: in the long run not worse than the best of a few.
GUARDING = Temper(keep=1.0, rate=2.0, power=0.75, delay_power=0.5)


class Weights:
    """Weights of forecasters for each horizon and series; the first horizon must be one bin."""

    __slots__ = ("_count", "_horizons", "_loss", "_prior", "_temper")

    def __init__(self, horizons: Array, series: int, prior: Array, temper: Temper) -> None:
        self._horizons = np.asarray(horizons, dtype=np.float64)[:, None, None]
        self._prior = np.log(prior)
        self._temper = temper
        self._loss: Array = np.zeros((len(horizons), series, len(prior)))
        self._count: Array = np.zeros((len(horizons), series, len(prior)))

    def judge(self, forecasts: Array, came: Array) -> None:
        """This will take in forecasts (horizons, series, forecasters) and what came (horizons, series), or NaN."""
        loss = np.abs(forecasts - came[:, :, None])
        known = ~np.isnan(loss)
        self._loss = np.where(known, self._temper.keep * self._loss + np.nan_to_num(loss), self._loss)
        self._count = np.where(known, self._temper.keep * self._count + 1.0, self._count)

    def now(self, forecasts: Array) -> Array:
        """This will give the weights of these forecasts; 0 where there is none."""
        own = self._evidence() / self._horizons**self._temper.delay_power
        seen = self._count.max(axis=2, keepdims=True)
        lent = 1.0 / (1.0 + seen / (SHORT_HORIZONS * self._horizons))
        evidence = [own[0]]
        for place in range(1, len(own)):
            nearer = (self._horizons[place - 1] / self._horizons[place]) ** BORROWED_POWER
            evidence.append(own[place] + evidence[-1] * nearer * lent[place])
        score = self._prior + np.stack(evidence)
        score = np.where(np.isnan(forecasts), -np.inf, score)
        best = score.max(axis=2, keepdims=True)
        weight = np.exp(score - np.where(np.isfinite(best), best, 0.0))
        return np.asarray(weight / np.maximum(weight.sum(axis=2, keepdims=True), 1e-300))

    def _evidence(self) -> Array:
        judged = self._count > 0
        mean = self._loss / np.maximum(self._count, 1e-12)
        best = np.where(judged, mean, np.inf).min(axis=2, keepdims=True)
        # The best may be without error; then what is a thousandth of the usual error counts as that.
        usual = mean.sum(axis=2, keepdims=True) / np.maximum(judged.sum(axis=2, keepdims=True), 1)
        best = np.where(np.isfinite(best), np.maximum(best, 1e-3 * usual), 0.0)
        excess = np.divide(mean, best, out=np.ones_like(mean), where=(best > 0) & judged) - 1.0
        return -self._temper.rate * excess * self._count**self._temper.power
