"""When to connect again, by why the last stream ended. Pure: the facts and a number drawn by chance in, seconds out."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

# What a control plane may ask for. It is told by a program that may be wrong, and the spool is finite.
MOST_ASKED_SECONDS = 900.0
# Thousands may be asked for the same wait, and must not all keep it to the second.
MOST_ASKED_SPREAD_SECONDS = 5.0
# A link that held this long was sound: what comes next is a new outage.
STABLE_SECONDS = 120.0
# 2^10 times any base exceeds its limit; doubling on without end would overflow a float.
MOST_DOUBLINGS = 10


class Kind(Enum):
    """Why there is no stream, as far as it matters to when the next one is tried."""

    AWAY = "away"  # nobody answers, the network broke, it is restarting: soon it may be there again
    BUSY = "busy"  # it answers that it has no room (RESOURCE_EXHAUSTED): coming at once makes that worse
    UNRECOGNISED = "unrecognised"  # it does not believe who we are: a person has to do something
    FOREIGN = "foreign"  # it does not know our protocol: an older release, or another program at that address
    RENEWING = "renewing"  # we ended it ourselves, for a new certificate
    UNSAID = "unsaid"  # it ended, and why was lost on the way: for the reason before, if there was one


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The longest wait doubles from `base_seconds` to `most_seconds`; the shortest is a share of it."""

    base_seconds: float
    most_seconds: float
    least_share: float = 0.0  # 0 is full jitter


# Full jitter, so that a fleet does not come back in step after an outage
# (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Where coming early cannot help, half of the
# wait is certain; what only a person can change is asked for rarely, but within ten minutes of the change.
PACES: Mapping[Kind, Pace] = {
    Kind.AWAY: Pace(base_seconds=1.0, most_seconds=60.0),
    Kind.BUSY: Pace(base_seconds=10.0, most_seconds=300.0, least_share=0.5),
    Kind.UNRECOGNISED: Pace(base_seconds=30.0, most_seconds=600.0, least_share=0.5),
    Kind.FOREIGN: Pace(base_seconds=60.0, most_seconds=600.0, least_share=0.5),
    Kind.RENEWING: Pace(base_seconds=1.0, most_seconds=1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a stream ended."""

    kind: Kind = Kind.AWAY
    asked_seconds: float | None = None  # what the other side asked to wait, if it did


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What is remembered from one attempt to the next."""

    kind: Kind = Kind.AWAY
    failures: int = 0  # in a row, for one and the same kind of reason


def next_outage(before: Outage, ending: Ending, *, lasted_seconds: float) -> Outage:
    """This will count one more failure, or begin anew after a sound link or for another reason."""
    if ending.kind is Kind.RENEWING:
        return Outage()
    kind = before.kind if ending.kind is Kind.UNSAID else ending.kind
    if lasted_seconds > STABLE_SECONDS or kind is not before.kind:
        return Outage(kind=Kind.AWAY if ending.kind is Kind.UNSAID else kind, failures=1)
    return replace(before, failures=before.failures + 1)


def wait_range_seconds(outage: Outage, ending: Ending, paces: Mapping[Kind, Pace] = PACES) -> tuple[float, float]:
    """This will give the shortest and the longest wait. Never less than was asked, and never always none."""
    pace = paces[outage.kind if ending.kind is Kind.UNSAID else ending.kind]
    doublings = min(max(0, outage.failures - 1), MOST_DOUBLINGS)
    most = min(pace.most_seconds, pace.base_seconds * 2.0**doublings)
    asked = min(ending.asked_seconds or 0.0, MOST_ASKED_SECONDS)
    if asked <= 0:
        return most * pace.least_share, most
    return asked, asked + max(min(asked, MOST_ASKED_SPREAD_SECONDS), min(most, asked))


class Backoff:
    """Remembers one outage and draws the waits."""

    def __init__(
        self, jitter: random.Random, *, base_seconds: float | None = None, most_seconds: float | None = None
    ) -> None:
        """`base_seconds` and `most_seconds` take the place of those for a control plane that is away."""
        away = PACES[Kind.AWAY]
        self._jitter = jitter
        self._outage = Outage()
        self._paces = {
            **PACES,
            Kind.AWAY: Pace(
                base_seconds=away.base_seconds if base_seconds is None else base_seconds,
                most_seconds=away.most_seconds if most_seconds is None else most_seconds,
            ),
        }

    def start_seconds(self, spread_seconds: float) -> float:
        """This will give the wait before the very first attempt: a fleet may have been restarted all at once."""
        return self._jitter.uniform(0.0, spread_seconds)

    def delay_seconds(self, ending: Ending, *, lasted_seconds: float) -> float:
        """This will give the wait after a connection that lasted `lasted_seconds`."""
        self._outage = next_outage(self._outage, ending, lasted_seconds=lasted_seconds)
        return self._jitter.uniform(*wait_range_seconds(self._outage, ending, self._paces))
