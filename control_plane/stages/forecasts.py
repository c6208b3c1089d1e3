"""Forecasters that live as long as the process: told each bin once, rebuilt of what is kept when they cannot go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from control_plane.analysis.forecast.forecaster import Forecaster
from control_plane.analysis.trends.demand import SERIES, Demand, Subject, demand
from control_plane.analysis.trends.forecasts import drafts
from control_plane.model.entity import EntityKind
from control_plane.model.finding import Draft
from control_plane.storage import entities, moments, use
from control_plane.storage.session import SyncConnection

_MICROSECOND = timedelta(microseconds=1)
# Bins that one step tells, so that the process ends soon when it is asked to: a second's work for a hundred models.
BINS_AT_ONCE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is forecast together: of which subjects, in which bins, how far ahead, and from how much history."""

    name: str
    kinds: Sequence[str]
    level: use.Level
    horizons: Sequence[int]  # bins
    history: timedelta

    @property
    def bin_us(self) -> int:
        """This will give the width of a bin."""
        return use.LENGTHS[self.level]


PLANS = (
    # Two weeks, so that the days of the week are known.
    Plan(name="minutes", kinds=("fleet", "model"), level="slot", horizons=(1, 2, 3, 6, 12), history=timedelta(days=14)),
    Plan(name="hours", kinds=("fleet", "model"), level="hour", horizons=(1, 3, 6, 12, 24), history=timedelta(days=35)),
    Plan(name="servers", kinds=("server",), level="slot", horizons=(1, 3, 6, 12), history=timedelta(days=1)),
)


class Keeper:
    """One plan's forecaster. Owned by one thread at a time."""

    def __init__(self, plan: Plan) -> None:
        """Nothing is known until it has been told something."""
        self.plan = plan
        self._forecaster: Forecaster | None = None
        self._subjects: Sequence[Subject] = ()
        self._until_us = 0

    def forget(self) -> None:
        """This will begin anew with the next step: somebody else did the work meanwhile."""
        self._forecaster = None

    def step(self, connection: SyncConnection, until_us: int) -> tuple[list[Draft] | None, bool]:
        """This will tell the forecaster some bins of before `until_us`.

        Gives what is forecast once it has been told all of them and any were new, and whether there is more to tell.
        """
        until_us = until_us // self.plan.bin_us * self.plan.bin_us
        if self._forecaster is not None and self._until_us >= until_us:
            return None, False
        since_us = self._until_us if self._forecaster is not None else self._oldest(until_us)
        end_us = min(until_us, since_us + BINS_AT_ONCE * self.plan.bin_us)
        found = self._load(connection, since_us, end_us, until_us)
        if self._forecaster is None or list(self._subjects) != list(found.subjects):
            self._begin(found.subjects)
            since_us = self._oldest(until_us)
            end_us = min(until_us, since_us + BINS_AT_ONCE * self.plan.bin_us)
            found = self._load(connection, since_us, end_us, until_us)
        assert self._forecaster is not None
        for number in range(found.values.shape[2] if self._subjects else 0):
            self._forecaster.observe(found.values[:, :, number].ravel())
        self._until_us = end_us
        if end_us < until_us:
            return None, True
        return self._drafts(until_us), False

    def _oldest(self, until_us: int) -> int:
        return until_us - self.plan.history // _MICROSECOND // self.plan.bin_us * self.plan.bin_us

    def _begin(self, subjects: Sequence[Subject]) -> None:
        self._subjects = subjects
        self._forecaster = Forecaster(
            horizons=self.plan.horizons, bin_seconds=self.plan.bin_us / 1e6, series=max(1, len(subjects)) * len(SERIES)
        )

    def _load(self, connection: SyncConnection, since_us: int, end_us: int, until_us: int) -> Demand:
        """This will give the bins of a stretch, of all subjects that had any in the whole of the history."""
        servers = entities.every(connection, EntityKind.INFERENCE_SERVER)
        there = use.things(connection, "server", self.plan.level, self._oldest(until_us), until_us)
        cells = use.stretch(connection, "server", self.plan.level, since_us, end_us)
        models = {s.entity_id: m if isinstance(m := s.attributes.get("model"), str) else None for s in servers}
        starts = np.arange(since_us, end_us, self.plan.bin_us, dtype=np.int64)
        found = demand(cells, models, starts_us=starts, of=[s.entity_id for s in servers if s.entity_id in there])
        mine = [place for place, (kind, _) in enumerate(found.subjects) if kind in self.plan.kinds]
        return Demand(subjects=[found.subjects[place] for place in mine], starts_us=starts, values=found.values[mine])

    def _drafts(self, until_us: int) -> list[Draft]:
        assert self._forecaster is not None
        evidence = {
            "series": ["requests_finished_total", "requests_running_count", "requests_waiting_count",
                       "prompt_tokens_total", "generation_tokens_total"],
            "since": moments.to_datetime(self._oldest(until_us)),
            "until": moments.to_datetime(until_us),
            "numbers": {"bins": (until_us - self._oldest(until_us)) // self.plan.bin_us},
        }  # fmt: skip
        return drafts(
            self._forecaster, self._subjects, bin_seconds=self.plan.bin_us / 1e6, evidence=evidence,
            kinds=self.plan.kinds,
        )  # fmt: skip
