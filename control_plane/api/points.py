"""The points of histories, out of columns of numbers: thousands in an answer, so nothing here is done point by point
that can be done for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from control_plane.api.answers import timestamp
from control_plane.model.reason import Reason
from control_plane.storage import moments
from control_plane.storage.history_plans import Plan
from control_plane.storage.rolled_histories import NO_RATE, Steps
from control_plane.storage.rollups.cells import NO_REASON
from control_plane.storage.rollups.fields import FieldKind, kind_of
from optiinfra.catalogue import FieldSpec

Point = dict[str, Any]
_NOTHING: Point = {"min": None, "mean": None, "max": None, "p95": None}
_STATISTICS = ("min", "mean", "max", "p95")
# Digits that a float4 has.
DIGITS = 7
_LABELS = {int(reason): reason.label for reason in Reason} | {NO_REASON: "not_sent"}


def starts(planned: Plan) -> list[str]:
    """This will write when each point begins."""
    if planned.points < 8:  # numpy's way has a price of its own
        return [timestamp(planned.since + n * planned.step) for n in range(planned.points)]
    begin_us, step_us = moments.to_us(planned.since), moments.to_us(planned.since + planned.step)
    at = (begin_us + np.arange(planned.points, dtype=np.int64) * (step_us - begin_us)) // 1000
    written: list[str] = np.datetime_as_string(at.view("datetime64[ms]"), unit="ms", timezone="UTC").tolist()
    return written


def rounded(values: npt.NDArray[np.float64], *, keep_whole: bool) -> npt.NDArray[np.float64]:
    """This will give numbers the digits that rollups have; whole ones keep all of theirs if they mean so."""
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.clip(DIGITS - 1 - np.floor(np.log10(np.abs(values))), -22, 22)
        up, down = 10.0 ** np.maximum(exponent, 0), 10.0 ** np.maximum(-exponent, 0)
        out = np.where(exponent >= 0, np.rint(values * up) / up, np.rint(values / down) * down)
        out = np.where(values == 0, 0.0, out)
        return np.where(np.rint(values) == values, values, out) if keep_whole else out


def listed(values: npt.NDArray[np.float64]) -> list[float | None]:
    """This will give numbers as JSON has them."""
    unknown = np.isnan(values)
    found: list[float | None] = values.tolist()
    for place in np.flatnonzero(unknown):
        found[place] = None
    return found


class Series:
    """The points of one field, of all entities that steps are about."""

    def __init__(self, field: FieldSpec, found: Steps | None, at: Sequence[str]) -> None:
        """`at` is what `starts` gave of the same plan; None for `found`: there is no cell at all."""
        self._at = at
        self._is_counter = field.is_counter
        self._no_mean = kind_of(field) is FieldKind.STATE
        self._found = found
        self._place = {} if found is None else {int(e): place for place, e in enumerate(found.entity_ids)}
        if found is None:
            return
        keep = field.type != "real"
        columns = (found.minimum, found.mean, found.maximum, found.p95)
        self._columns = [listed(rounded(values, keep_whole=keep)) for values in columns]
        self._samples = found.samples.tolist()
        self._rates = listed(np.round(found.rate, 6)) if field.is_counter else []
        # Points that want a word: nothing was sampled, or nothing of it known.
        self._odd = (found.samples == 0) | (found.known == 0)

    def points(self, entity_id: int) -> list[Point]:
        """This will give the points of one entity."""
        found, place = self._found, self._place.get(entity_id)
        if found is None or place is None:
            return [{"at": at} | self._empty(0, "no_samples") for at in self._at]
        mine = slice(place * found.points, (place + 1) * found.points)
        low, mean, high, p95 = (column[mine] for column in self._columns)
        counts = self._samples[mine]
        points: list[Point] = (
            self._of_counter(found, mine, counts)
            if self._is_counter
            else [
                {"at": at, "min": a, "mean": b, "max": c, "p95": d, "samples": n}
                for at, a, b, c, d, n in zip(self._at, low, mean, high, p95, counts, strict=True)
            ]
        )
        if self._no_mean:
            for point in points:
                point["unknown"] = "rollups_keep_states_only"
        for number in np.flatnonzero(self._odd[mine]).tolist():
            why = _LABELS.get(int(found.reason[mine][number]), "not_collected") if counts[number] else "no_samples"
            points[number] = {"at": self._at[number]} | self._empty(counts[number], why)
        if found.entities is not None:
            for point, gpus in zip(points, found.entities[mine].tolist(), strict=True):
                point["gpus"] = gpus
        return points

    def _of_counter(self, found: Steps, mine: slice, counts: Sequence[int]) -> list[Point]:
        whys = [NO_RATE[why] or "rollups_keep_growth_only" for why in found.no_rate[mine].tolist()]
        resets = found.resets[mine].tolist()
        return [
            {"at": at, **_NOTHING, "rate_per_second": rate, "unknown": why, "resets": fell, "samples": n}
            for at, rate, why, fell, n in zip(self._at, self._rates[mine], whys, resets, counts, strict=True)
        ]

    def _empty(self, samples: int, why: str) -> Point:
        rate = {"rate_per_second": None} if self._is_counter else {}
        return {**_NOTHING, **rate, "samples": samples, "unknown": why}
