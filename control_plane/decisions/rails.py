"""Rails: what may never be done, whatever a policy proposes and whatever is configured.

Configuration tightens a rail and never removes one: each limit in use is the stricter of the two. Rails that contradict
each other hold still.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time

from control_plane.model.recommendation import Recommendation, RecommendationKind
from control_plane.model.scaling import Because, NoAction

# At most so much of a service changes at once, rounded up to one replica: the rest serves meanwhile.
MOST_SHARE_AT_ONCE = 0.25
# Times its replicas, by one change; a wrong number somewhere must not order a data centre.
MOST_GROWTH = 4.0
SCALING = (RecommendationKind.SCALE_UP, RecommendationKind.SCALE_DOWN, RecommendationKind.SCALE_TO_ZERO)
RESTARTING = (
    RecommendationKind.QUANTIZE, RecommendationKind.KV_CACHE, RecommendationKind.BATCH, RecommendationKind.PARALLELISM,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When changes may begin: from `since` up to `until`, UTC, on these weekdays (0 is Monday)."""

    since: time
    until: time  # before `since`: over midnight
    weekdays: frozenset[int] = frozenset(range(7))

    def holds(self, now: datetime) -> bool:
        """This will say whether it is open."""
        at, day = now.time(), now.weekday()
        if self.since <= self.until:
            return day in self.weekdays and self.since <= at < self.until
        return (day in self.weekdays and at >= self.since) or ((day - 1) % 7 in self.weekdays and at < self.until)


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)")


def windows_of(text: str) -> tuple[Window, ...]:
    """This will read windows, separated by commas: `22:00-04:00, Sat-Sun 08:00-18:00`. Raises ValueError in words."""
    return tuple(_window_of(part.strip()) for part in text.split(",") if part.strip())


def _window_of(text: str) -> Window:
    found = _WINDOW.fullmatch(text.lower())
    if found is None or not {found[1], found[2]} <= {None, *DAYS}:
        raise ValueError(f"{text[:40]!r} is no window; write 22:00-04:00 or Sat-Sun 08:00-18:00")
    first, last, *clock = found.groups()
    try:
        since, until = time(int(clock[0]), int(clock[1])), time(int(clock[2]), int(clock[3]))
    except ValueError as error:
        raise ValueError(f"{text[:40]!r}: {error}") from error
    if since == until:
        raise ValueError(f"{text[:40]!r} is never open")
    if first is None:
        return Window(since=since, until=until)
    begin, end = DAYS.index(first), DAYS.index(last or first)
    days = range(begin, end + 1) if begin <= end else [*range(begin, 7), *range(end + 1)]
    return Window(since=since, until=until, weekdays=frozenset(days))


@dataclass(frozen=True, slots=True, kw_only=True)
class RailSettings:
    """What the operator adds to the rails."""

    least_replicas: int = 1
    most_replicas: int = 1000
    most_at_once: int | None = None  # replicas; None: a quarter of them
    windows: Sequence[Window] = ()  # empty: at any time
    budget_usd_per_month: float | None = None  # that all services together may cost; None: no limit
    may_sleep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known at the moment at which a change would begin. None is unknown."""

    now: datetime
    demand: float | None  # requests a second that come
    capacity: float | None  # requests a second that one replica serves
    ready: int | None
    starting: int
    unhealthy: int
    in_flight: int  # changes of this service that are under way
    spent_usd_per_month: float | None = None  # by everything, as it is


def refused(change: Recommendation, situation: Situation, settings: RailSettings) -> NoAction | None:
    """This will say why a change may not begin now; None when nothing speaks against it."""
    for check in (_contradictory, _absurd, _unhealthy, _in_flight, _window, _replicas, _traffic, _budget):
        if (found := check(change, situation, settings)) is not None:
            return found
    return None


def most_at_once(replicas: int, settings: RailSettings) -> int:
    """This will give how many replicas may change at once: a quarter of them, or fewer if that is configured."""
    share = max(math.floor(replicas * MOST_SHARE_AT_ONCE), 1)
    return share if settings.most_at_once is None else max(min(share, settings.most_at_once), 0)


def _contradictory(change: Recommendation, situation: Situation, settings: RailSettings) -> NoAction | None:
    del change, situation
    least, most = settings.least_replicas, settings.most_replicas
    budget = settings.budget_usd_per_month
    if least < 0 or most < least or (settings.most_at_once is not None and settings.most_at_once < 1):
        said = f"at least {least}, at most {most} replicas, {settings.most_at_once} at once"
        return NoAction(because=Because.CONTRADICTORY_LIMITS, explanation=f"{said}: nothing satisfies that")
    if budget is not None and not (math.isfinite(budget) and budget >= 0):
        return NoAction(because=Because.CONTRADICTORY_LIMITS, explanation=f"a budget of {budget:g} cannot be kept")
    return None


def _absurd(change: Recommendation, situation: Situation, settings: RailSettings) -> NoAction | None:
    del settings
    interval = change.effect.requests_ratio
    numbers = (situation.demand, situation.capacity, situation.spent_usd_per_month, interval.low, interval.high)
    counts = (situation.starting, situation.unhealthy, situation.in_flight, situation.ready or 0)
    if any(n is not None and not (math.isfinite(n) and n >= 0) for n in numbers) or any(n < 0 for n in counts):
        return NoAction(because=Because.ABSURD_DATA, explanation="a number that it stands on cannot be")
    if situation.capacity == 0:
        return NoAction(because=Because.ABSURD_DATA, explanation="a replica that serves nothing is no replica")
    return None


def _unhealthy(change: Recommendation, situation: Situation, settings: RailSettings) -> NoAction | None:
    del settings
    if situation.unhealthy > 0 and change.kind is not RecommendationKind.SCALE_UP:
        return NoAction(
            because=Because.UNHEALTHY,
            explanation=f"{situation.unhealthy} of its replicas do not serve, for another reason: find that first",
        )
    return None


def _in_flight(change: Recommendation, situation: Situation, settings: RailSettings) -> NoAction | None:
    del change, settings
    if situation.in_flight > 0:
        return NoAction(because=Because.IN_FLIGHT, explanation="another change of it is under way")
    return None


def _window(change: Recommendation, situation: Situation, settings: RailSettings) -> NoAction | None:
    # More capacity is never a thing to wait with.
    if change.kind is RecommendationKind.SCALE_UP or not settings.windows:
        return None
    if not any(window.holds(situation.now) for window in settings.windows):
        return NoAction(because=Because.OUTSIDE_WINDOW, explanation="no change window is open")
    return None


def _replicas(change: Recommendation, situation: Situation, settings: RailSettings) -> NoAction | None:
    if situation.ready is None:
        return NoAction(because=Because.MISSING_DATA, explanation="how many replicas serve is unknown")
    if change.kind not in SCALING:
        return None
    after, before = change.replicas, change.replicas_before
    if after is None or before is None or after < 0:
        return NoAction(because=Because.ABSURD_DATA, explanation="it names no number of replicas")
    if before != situation.ready + situation.starting:
        said = f"{before} replicas were there when it was made; {situation.ready + situation.starting} are now"
        return NoAction(because=Because.TOO_SOON, explanation=f"{said}: make it anew")
    least = 0 if settings.may_sleep and settings.least_replicas == 0 else max(settings.least_replicas, 1)
    if after < least or after > settings.most_replicas:
        return NoAction(
            because=Because.AT_LIMIT, explanation=f"{after} replicas; {least} to {settings.most_replicas} are allowed"
        )
    if after > max(before, 1) * MOST_GROWTH:
        return NoAction(because=Because.TOO_MANY_AT_ONCE, explanation=f"{before} to {after} replicas by one change")
    return None


def _traffic(change: Recommendation, situation: Situation, settings: RailSettings) -> NoAction | None:
    """Never below what serves the traffic that is there: what is left, or what serves during a restart."""
    if change.kind is RecommendationKind.SCALE_UP:
        return None
    assert situation.ready is not None
    if situation.demand is None or (situation.capacity is None and situation.demand > 0):
        return NoAction(because=Because.MISSING_DATA, explanation="what comes, or what one replica serves, is unknown")
    if change.kind in SCALING:
        left = change.replicas or 0
    else:
        surge = change.doing is not None and change.doing.surge_gpus > 0
        left = situation.ready - (0 if surge else most_at_once(situation.ready, settings))
    if situation.demand > left * (situation.capacity or 0.0):
        return NoAction(
            because=Because.BELOW_TRAFFIC,
            explanation=f"{left} replicas would be left for {situation.demand:.3g} requests a second; one serves "
            f"{situation.capacity or 0.0:.3g}",
        )
    return None


def _budget(change: Recommendation, situation: Situation, settings: RailSettings) -> NoAction | None:
    budget = settings.budget_usd_per_month
    if budget is None or change.kind is not RecommendationKind.SCALE_UP:
        return None
    more = change.effect.usd_per_month
    if more is None or situation.spent_usd_per_month is None:
        return NoAction(because=Because.OVER_BUDGET, explanation="what it would cost is unknown, and there is a budget")
    after = situation.spent_usd_per_month + more.high
    if after > budget:
        return NoAction(
            because=Because.OVER_BUDGET, explanation=f"{after:,.0f} $ a month would be more than {budget:,.0f}"
        )
    return None


def waves(names: Sequence[str], settings: RailSettings) -> list[Sequence[str]]:
    """This will divide servers that change into waves, each no larger than may change at once."""
    size = most_at_once(len(names), settings)
    return [names[at : at + size] for at in range(0, len(names), size)] if size else []
