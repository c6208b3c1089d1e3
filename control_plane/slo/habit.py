"""What share of bad events is usual for an engine: a guard that knows finds what is worse, sooner."""

from __future__ import annotations

import math

# Fewer events say too little of what is usual.
LEAST_EVENTS = 1000
# Room above what was seen: traffic changes over a day.
MARGIN = 1.25
# An engine that never fails still may, a little: below this share of the allowance nothing is worth an alarm.
LEAST_OF_ALLOWANCE = 0.25
# Once in a thousand engines the usual share is higher than believed.
_Z = 3.09


def tolerated_share(allowed_share: float, *, events: float, bad: float) -> float | None:
    """This will give the share up to which there is no alarm, from `events` of quiet days; None: too little is known.

    Never more than allowed: an engine that breaks its promise every day gets no right to.
    """
    if events < LEAST_EVENTS:
        return None
    usual = MARGIN * upper_bound(events=events, bad=bad)
    return min(allowed_share, max(usual, LEAST_OF_ALLOWANCE * allowed_share))


def upper_bound(*, events: float, bad: float) -> float:
    """This will give Wilson's upper bound of a share, at 99.9 % confidence."""
    share, z2 = bad / events, _Z * _Z
    middle = share + z2 / (2 * events)
    spread = _Z * math.sqrt(share * (1 - share) / events + z2 / (4 * events * events))
    return min(1.0, (middle + spread) / (1 + z2 / events))
