"""Error budgets and burn rates: how much of what may go wrong has, and how fast it does.

Doubtful events make intervals of them; an alarm only follows from what is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from control_plane.model.slo import Events
from control_plane.slo.guard import divergence

# Google's SRE workbook, chapter 5: the share of the budget that a long window may use up, and the short window
# that must agree, so that the alarm ends soon after the trouble.
_PAIRS: Sequence[tuple[str, timedelta, timedelta, float]] = (
    ("page", timedelta(hours=1), timedelta(minutes=5), 0.02),
    ("page", timedelta(hours=6), timedelta(minutes=30), 0.05),
    ("ticket", timedelta(days=1), timedelta(hours=2), 0.10),
    ("ticket", timedelta(days=3), timedelta(hours=6), 0.10),
)
# No burn rate is above 1/allowed share. For a p95 objective (at most 20) the workbook's 14.4 would need 72 % bad.
_MOST_OF_POSSIBLE = 0.5
_NATS = 3.0  # one in twenty: exp(-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnPair:
    """Two windows in both of which the burn rate must be exceeded."""

    severity: str  # page, ticket
    long: timedelta
    short: timedelta
    factor: float  # burn rate; 1 uses the budget up exactly at the end of the objective's window


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """What a pair of windows shows."""

    pair: BurnPair
    long_rate: float | None  # None: no events
    short_rate: float | None
    exceeded: bool | None  # None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What of an objective's budget is left. Two numbers where it is not known exactly: at worst, at best."""

    events: float
    allowed: float  # events that may be bad
    attained: tuple[float, float] | None  # share of good events
    remaining: tuple[float, float] | None  # of the budget, 0..1; below 0: overspent


def pairs(allowed_share: float, window: timedelta) -> list[BurnPair]:
    """This will give the pairs of windows that fit an objective."""
    highest = _MOST_OF_POSSIBLE / allowed_share
    out = []
    for severity, long, short, share in _PAIRS:
        if long < window:
            factor = max(1.0, min(share * (window / long), highest))
            out.append(BurnPair(severity=severity, long=long, short=short, factor=round(factor, 3)))
    return out


def windows(allowed_share: float, window: timedelta) -> list[timedelta]:
    """This will give every stretch of time whose events have to be known."""
    found = {window} | {part for pair in pairs(allowed_share, window) for part in (pair.long, pair.short)}
    return sorted(found)


def burn_rate(events: Events, allowed_share: float) -> float | None:
    """This will give how many times faster than allowed the budget is used; only what is certainly bad counts."""
    return None if events.total <= 0 else events.bad / events.total / allowed_share


def burns(by_window: Mapping[timedelta, Events], allowed_share: float, window: timedelta) -> list[Burn]:
    """This will judge every pair of windows."""
    out = []
    for pair in pairs(allowed_share, window):
        long = burn_rate(by_window.get(pair.long, Events()), allowed_share)
        short = burn_rate(by_window.get(pair.short, Events()), allowed_share)
        exceeded = None
        if long is not None and short is not None:
            certain = _beyond_chance(by_window[pair.long], allowed_share)
            exceeded = certain and long > pair.factor and short > pair.factor
        out.append(Burn(pair=pair, long_rate=long, short_rate=short, exceeded=exceeded))
    return out


def _beyond_chance(events: Events, allowed_share: float) -> bool:
    """This will say whether so many bad events would be rarer than one in twenty at what is allowed.

    One bad request of the five that came at night is a burn rate of twenty, and says nothing.
    """
    share = events.bad / events.total
    return share > allowed_share and events.total * divergence(share, allowed_share) >= _NATS


def budget(events: Events, allowed_share: float) -> Budget:
    """This will give what is left of the budget of a window with these events."""
    total = events.total
    allowed = allowed_share * total
    if total <= 0:
        return Budget(events=0.0, allowed=0.0, attained=None, remaining=None)
    worst = events.bad + events.doubtful
    return Budget(
        events=total,
        allowed=allowed,
        attained=(1.0 - worst / total, 1.0 - events.bad / total),
        remaining=(1.0 - worst / allowed, 1.0 - events.bad / allowed),
    )
