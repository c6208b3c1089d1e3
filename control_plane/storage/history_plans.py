"""How a history is answered: from the coarsest of samples, minutes and hours that answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from control_plane.storage import moments
from control_plane.storage.rollups.minutes import MINUTE_US
from control_plane.storage.rollups.store import HOUR_US

# Below this a question is answered from samples: some milliseconds, and exact in every respect.
FEW_ROWS = 4_000
USUAL_SAMPLING_SECONDS = 5.0
# Points of half an hour or more may as well be whole hours, unless a width was asked for.
NEARLY_AN_HOUR = timedelta(minutes=30)


class Source(StrEnum):
    """What an answer was made from."""

    SAMPLES = "samples"
    MINUTES = "1m"
    HOURS = "1h"

    @property
    def unit_us(self) -> int:
        """This will give the length of a unit; the usual distance of samples where there is none."""
        lengths = {Source.MINUTES: MINUTE_US, Source.HOURS: HOUR_US}
        return lengths.get(self, round(USUAL_SAMPLING_SECONDS * 1e6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """From when on there are samples and minutes."""

    samples_since: datetime
    minutes_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a history will be answered: its points begin at `since` and are `step` apart."""

    source: Source
    since: datetime
    until: datetime
    step: timedelta

    @property
    def points(self) -> int:
        """This will give the number of points."""
        return -(-(self.until - self.since) // self.step)

    @property
    def units(self) -> float:
        """This will give how many rows or cells of one entity have to be looked at for one field."""
        return (self.until - self.since) / timedelta(microseconds=self.source.unit_us)


def plan(
    since: datetime, until: datetime, step: timedelta, *, entities: int, step_was_asked: bool, kept: Kept | None = None
) -> Plan:
    """This will choose the source of a history: the coarsest whose units are no longer than its points."""
    rows = (until - since).total_seconds() / USUAL_SAMPLING_SECONDS * max(1, entities)
    source = Source.SAMPLES
    if step >= timedelta(minutes=1) and rows > FEW_ROWS:
        nearly = not step_was_asked and step >= NEARLY_AN_HOUR
        source = Source.HOURS if step >= timedelta(hours=1) or nearly else Source.MINUTES
    if kept is not None and since < kept.samples_since and source is Source.SAMPLES:
        source = Source.MINUTES
    if kept is not None and since < kept.minutes_since:
        source = Source.HOURS
    return _aligned(source, since, until, step)


def rolled_plan(
    since: datetime, until: datetime, step: timedelta, *, step_was_asked: bool, kept: Kept | None = None
) -> Plan:
    """This will plan a history that is made from rollups in any case, with points of a minute at least."""
    step = max(step, timedelta(minutes=1))
    nearly = not step_was_asked and step >= NEARLY_AN_HOUR
    source = Source.HOURS if step >= timedelta(hours=1) or nearly else Source.MINUTES
    if kept is not None and since < kept.minutes_since:
        source = Source.HOURS
    return _aligned(source, since, until, step)


# From here on a window that begins up to a minute, or an hour, early is off by two percent at most.
MINUTES_FROM, HOURS_FROM = timedelta(hours=1), timedelta(days=2)


def whole_window(since: datetime, until: datetime, *, entities: int, kept: Kept | None = None) -> Plan:
    """This will plan a history of one point, which is the whole window."""
    rows = (until - since).total_seconds() / USUAL_SAMPLING_SECONDS * max(1, entities)
    many = rows > FEW_ROWS and until - since >= MINUTES_FROM
    source = Source.MINUTES if many or (kept and since < kept.samples_since) else Source.SAMPLES
    if (source is Source.MINUTES and until - since > HOURS_FROM) or (kept and since < kept.minutes_since):
        source = Source.HOURS
    return _aligned(source, since, until, until - since)


def _aligned(source: Source, since: datetime, until: datetime, step: timedelta) -> Plan:
    if source is Source.SAMPLES:
        return Plan(source=source, since=since, until=until, step=step)
    unit = timedelta(microseconds=source.unit_us)
    begin = moments.to_datetime(moments.to_us(since) // source.unit_us * source.unit_us)
    whole = step == until - since
    return Plan(source=source, since=begin, until=until, step=-(-(until - begin if whole else step) // unit) * unit)
