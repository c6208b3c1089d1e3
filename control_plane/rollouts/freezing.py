"""Freeze windows: times in which nothing moves forward, though the guard and the way back stay on. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from control_plane.model.errors import ConfigurationError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FORMS = "'Fri 16:00 - Mon 07:00' for every week, or '2026-12-20T00:00Z - 2027-01-02T00:00Z' for once; UTC"
_WEEKLY = re.compile(r"(\w{3}) (\d{1,2}):(\d{2})")
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeWindow:
    """From a moment until another, the end not included."""

    begin: datetime
    end: datetime
    is_weekly: bool  # begin and end lie in some week, and hold in every one

    def holds(self, now: datetime) -> bool:
        """This will say whether it is now."""
        if not self.is_weekly:
            return self.begin <= now < self.end
        return (now - self.begin) % _WEEK < self.end - self.begin


def parse(text: str) -> FreezeWindow:
    """This will read a window. Raises ConfigurationError that says how one is written."""
    first, between, last = text.strip().partition(" - ")
    wrong = ConfigurationError(f"{text!r} is no freeze window; write {FORMS}")
    if not between:
        raise wrong
    weekly = [_in_a_week(part) for part in (first, last)]
    if None not in weekly:
        begin, end = (moment for moment in weekly if moment is not None)
        return FreezeWindow(begin=begin, end=end if end > begin else end + _WEEK, is_weekly=True)
    try:
        begin, end = (datetime.fromisoformat(part.strip()) for part in (first, last))
    except ValueError as error:
        raise wrong from error
    if begin.tzinfo is None or end.tzinfo is None or end <= begin:
        raise wrong
    return FreezeWindow(begin=begin.astimezone(UTC), end=end.astimezone(UTC), is_weekly=False)


def _in_a_week(text: str) -> datetime | None:
    """This will give a moment of the week that began on the first Monday of 2024; None when it is none."""
    found = _WEEKLY.fullmatch(text.strip())
    if found is None or found[1] not in DAYS or int(found[2]) > 23 or int(found[3]) > 59:
        return None
    return datetime(2024, 1, 1 + DAYS.index(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)


def is_frozen(windows: Sequence[FreezeWindow], now: datetime) -> bool:
    """This will say whether any window holds."""
    return any(window.holds(now) for window in windows)
