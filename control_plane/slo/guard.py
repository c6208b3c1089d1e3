"""The fast guard: sees within seconds that more events are bad than may be, at a stated rate of false alarms.

An e-detector: for several shares of bad events that would be a violation, the likelihood ratio against the
tolerated share is added up over all moments at which the trouble may have begun (Shiryaev and Roberts), and
the mean of these sums is compared with one threshold. While the share that is to be expected, whatever
happened before, is no higher than tolerated, the statistic grows by one an evaluation in the mean; so it
takes at least `threshold` evaluations in the mean until a false alarm. That holds at every request rate, for
traffic that changes, and without independence (Shin, Ramdas, Rinaldo: "E-detectors", 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from control_plane.model.slo import GuardVerdict, Judgement

WEEK_SECONDS = 7 * 86400.0
# A stall shorter than this is over before anybody could act on it: no single look at events weighs more.
LEAST_TROUBLE_SECONDS = 4.0
# How far back a pass may look, and in what pieces what was seen is kept: fine ones, then coarse ones.
RECENT, FINE, COARSE = timedelta(hours=1), timedelta(seconds=15), timedelta(minutes=5)
# A share exactly at the limit would get one look in twenty to pass.
PASS_CONFIDENCE = 0.95
# The highest share that is looked for: an outage, with some requests of before still coming out well.
OUTAGE_SHARE = 0.9
# Between neighbours no share is missed by much, and each more costs a little of the time to detect the others.
ALTERNATIVES = 6
# A pass rests on events that are no older than this, and not while half of what an alarm needs speaks for one.
FRESH = timedelta(seconds=30)
SUSPICIOUS = 0.5
_NOTHING = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPlan:
    """What a guard watches for. ValueError when it makes no sense."""

    allowed_share: float  # of bad events, 0..1: one minus the objective's target
    tolerated_share: float | None = None  # up to here no alarm; None: as allowed. What is usual here finds more, sooner
    interval_seconds: float = 5.0  # between evaluations, at most
    seconds_between_false_alarms: float = WEEK_SECONDS  # in the mean, at least

    def __post_init__(self) -> None:
        if not 0.0 < self.allowed_share < OUTAGE_SHARE:
            raise ValueError(f"a share of bad events that is allowed lies between 0 and {OUTAGE_SHARE}")
        if not 0.0 < self.tolerated <= self.allowed_share:
            raise ValueError("the tolerated share lies between 0 and the allowed share")
        if self.interval_seconds <= 0 or self.seconds_between_false_alarms <= 10 * self.interval_seconds:
            raise ValueError("a false alarm in ten evaluations is no guard")

    @property
    def tolerated(self) -> float:
        """This will give the share up to which the rate of false alarms holds."""
        return self.allowed_share if self.tolerated_share is None else self.tolerated_share

    @property
    def log_threshold(self) -> float:
        """This will give the logarithm of the statistic at which the alarm is raised."""
        return math.log(self.seconds_between_false_alarms / self.interval_seconds)

    @property
    def alternatives(self) -> tuple[float, ...]:
        """This will give the shares that are looked for: evenly spread in log-odds up to an outage."""
        mildest = min(1.5 * self.allowed_share, 0.5 * (self.allowed_share + OUTAGE_SHARE))
        low, high = _log_odds(mildest), _log_odds(OUTAGE_SHARE)
        steps = ALTERNATIVES - 1
        return tuple(1.0 / (1.0 + math.exp(-(low + (high - low) * n / steps))) for n in range(ALTERNATIVES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Onset:
    """For one alternative: the evidence since the moment at which a trouble of that size most likely began."""

    since: datetime | None = None
    evidence: float = 0.0  # sum of log-likelihood ratios since then: CUSUM
    events: float = 0.0
    bad: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Events of some seconds, kept for a pass."""

    start: datetime
    end: datetime
    events: float
    bad: float
    doubtful: float  # neither good nor bad for certain
    fates: float  # events that are independent of one another


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """What a guard remembers. It starts knowing nothing."""

    statistics: tuple[float, ...] = ()  # logarithm of each alternative's sum; () is nothing yet
    onsets: tuple[Onset, ...] = ()
    recent: tuple[Piece, ...] = ()
    violated_since: datetime | None = None  # when the trouble most likely began
    alarmed_at: datetime | None = None
    evaluated_at: datetime | None = None  # last time that there was something to count, or to count nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Events between two looks at one engine."""

    at: datetime  # of the second look
    seconds: float  # between them
    good: float
    bad: float
    doubtful: float = 0.0  # in the bucket that the limit lies in
    at_once: float = 1.0  # events that share one fate: tokens of one step; that many count as one


def _log_odds(share: float) -> float:
    return math.log(share / (1.0 - share))


def watch(plan: GuardPlan, state: GuardState, seen: Seen) -> GuardState:
    """This will take events into account. Nothing seen changes nothing but the time."""
    state = replace(state, evaluated_at=seen.at, recent=_kept(state.recent, seen))
    good, bad = seen.good + seen.doubtful, seen.bad  # what may have been good must not raise an alarm
    if good + bad <= 0:
        return state
    state = _accumulated(plan, state, seen, good / seen.at_once, bad / seen.at_once)
    if state.violated_since is None:
        return _alarmed(plan, state, seen.at)
    return _recovered(plan, state, seen.at)


def _accumulated(plan: GuardPlan, state: GuardState, seen: Seen, good: float, bad: float) -> GuardState:
    alternatives, tolerated = plan.alternatives, plan.tolerated
    statistics = state.statistics or (_NOTHING,) * len(alternatives)
    onsets = state.onsets or (Onset(),) * len(alternatives)
    # An alarm takes at least LEAST_TROUBLE_SECONDS of trouble; cutting evidence off keeps the guarantee.
    most = plan.log_threshold * max(1e-3, seen.seconds / LEAST_TROUBLE_SECONDS) + math.log(len(alternatives))
    summed, traced = [], []
    for share, statistic, onset in zip(alternatives, statistics, onsets, strict=True):
        ratio = bad * math.log(share / tolerated) + good * math.log((1.0 - share) / (1.0 - tolerated))
        ratio = min(ratio, most)
        summed.append(_one_more(statistic) + ratio)
        traced.append(_traced(onset, seen, ratio))
    return replace(state, statistics=tuple(summed), onsets=tuple(traced))


def _one_more(statistic: float) -> float:
    """This will give log(1 + exp(statistic))."""
    return statistic if statistic > 700.0 else math.log1p(math.exp(statistic))


def _traced(onset: Onset, seen: Seen, ratio: float) -> Onset:
    evidence = onset.evidence + ratio
    if evidence <= 0.0:
        return Onset()
    since = onset.since or seen.at - timedelta(seconds=max(0.0, seen.seconds))
    events = seen.good + seen.bad + seen.doubtful
    return Onset(since=since, evidence=evidence, events=onset.events + events, bad=onset.bad + seen.bad)


def _mixed(statistics: Sequence[float]) -> float:
    """This will give the logarithm of the alternatives' mean."""
    highest = max(statistics, default=_NOTHING)
    if highest == _NOTHING:
        return _NOTHING
    return highest + math.log(sum(math.exp(s - highest) for s in statistics) / len(statistics))


def _alarmed(plan: GuardPlan, state: GuardState, at: datetime) -> GuardState:
    if _mixed(state.statistics) < plan.log_threshold:
        return state
    onset = state.onsets[state.statistics.index(max(state.statistics))]
    if onset.since is None or not onset.events or onset.bad / onset.events <= plan.allowed_share:
        return state  # worse than usual here, and still what is allowed
    return replace(state, violated_since=onset.since, alarmed_at=at)


def _recovered(plan: GuardPlan, state: GuardState, at: datetime) -> GuardState:
    """This will forget a violation, and what spoke for it, once what came after it is certainly good enough."""
    assert state.alarmed_at is not None
    if _passing(plan, state.recent, at, after=state.alarmed_at) is None:
        return state
    return GuardState(recent=state.recent, evaluated_at=state.evaluated_at)


def _kept(recent: Sequence[Piece], seen: Seen) -> tuple[Piece, ...]:
    oldest = seen.at - RECENT
    if recent and (recent[0].end <= oldest or recent[-1].end <= seen.at - FINE):
        recent = _coarsened([piece for piece in recent if piece.end > oldest], seen.at)
    events = seen.good + seen.bad + seen.doubtful
    if events <= 0:
        return tuple(recent)
    new = Piece(
        start=seen.at - timedelta(seconds=seen.seconds), end=seen.at, events=events, bad=seen.bad,
        doubtful=seen.doubtful, fates=events / seen.at_once,
    )  # fmt: skip
    if recent and seen.at - recent[-1].start <= FINE:
        return (*recent[:-1], _joined(recent[-1], new))
    return (*recent, new)


def _joined(first: Piece, second: Piece) -> Piece:
    return Piece(
        start=first.start, end=second.end, events=first.events + second.events, bad=first.bad + second.bad,
        doubtful=first.doubtful + second.doubtful, fates=first.fates + second.fates,
    )  # fmt: skip


def _coarsened(pieces: Sequence[Piece], now: datetime) -> list[Piece]:
    """This will join pieces that are older than a coarse one is long."""
    out: list[Piece] = []
    for piece in pieces:
        if out and piece.end <= now - COARSE and piece.end - out[-1].start <= COARSE:
            out[-1] = _joined(out[-1], piece)
        else:
            out.append(piece)
    return out


def _passing(
    plan: GuardPlan, recent: Sequence[Piece], at: datetime, *, after: datetime | None = None
) -> tuple[float, float] | None:
    """This will give the events, and the bad ones, of the shortest recent stretch that is certainly good enough."""
    if not recent or recent[-1].end + FRESH < at:
        return None
    events = bad = fates = 0.0
    for piece in reversed(recent):
        if piece.end <= at - RECENT or (after is not None and piece.start < after):
            break
        events, fates = events + piece.events, fates + piece.fates
        bad += piece.bad + piece.doubtful  # what may have been bad must not pass
        if surely_below(plan.allowed_share, share=bad / events, fates=fates):
            return events, bad
    return None


def surely_below(limit: float, *, share: float, fates: float) -> bool:
    """This will say whether a share so low of so many would be rarer than one in twenty, were it `limit` in truth.

    By Chernoff's bound on the binomial distribution: exp(-n KL(share || limit)).
    """
    return share < limit and fates * divergence(share, limit) >= -math.log(1.0 - PASS_CONFIDENCE)


def divergence(share: float, other: float) -> float:
    """This will give the Kullback-Leibler divergence of two shares, in nats an event; `other` is neither 0 nor 1."""
    left = share * math.log(share / other) if share > 0 else 0.0
    right = (1 - share) * math.log((1 - share) / (1 - other)) if share < 1 else 0.0
    return left + right


def events_to_pass(limit: float) -> int:
    """This will give the fewest events, all good, of which a pass can be made."""
    return math.ceil(math.log(1.0 - PASS_CONFIDENCE) / math.log(1.0 - limit))


def judge(plan: GuardPlan, state: GuardState, now: datetime) -> Judgement:
    """This will give the verdict as of `now`. Old events are no events."""
    evidence = max(0.0, _mixed(state.statistics)) / plan.log_threshold
    recent = [piece for piece in state.recent if piece.end > now - RECENT]
    allowed, minutes = f"{plan.allowed_share:.3g}", f"{RECENT.seconds // 60} minutes"
    if not recent or recent[-1].end + COARSE <= now:
        minutes = f"{COARSE.seconds // 60} minutes"
        return _judgement(GuardVerdict.NOT_ENOUGH_TRAFFIC, f"nothing in the last {minutes}", state, (), evidence)
    if state.violated_since is not None:
        after = [piece for piece in recent if piece.end > state.violated_since]
        because = f"more than {allowed} of all are bad, beyond chance"
        return _judgement(GuardVerdict.VIOLATION, because, state, after, max(1.0, evidence))
    passing = None if evidence >= SUSPICIOUS else _passing(plan, recent, now)
    if passing is not None:
        because = f"fewer than {allowed} of all are bad, with {PASS_CONFIDENCE:.0%} confidence"
        found = _judgement(GuardVerdict.PASS, because, state, (), evidence)
        return replace(found, events=passing[0], bad=passing[1], bad_share=passing[1] / passing[0])
    because = f"the last {minutes} do not tell; at least {events_to_pass(plan.allowed_share)} are needed, all good"
    return _judgement(GuardVerdict.NOT_ENOUGH_TRAFFIC, because, state, recent, evidence)


def _judgement(
    verdict: GuardVerdict, because: str, state: GuardState, pieces: Sequence[Piece], evidence: float
) -> Judgement:
    events, bad = sum(piece.events for piece in pieces), sum(piece.bad for piece in pieces)
    return Judgement(
        verdict=verdict, since=state.violated_since, events=events, bad=bad, because=because,
        evidence=round(evidence, 4), bad_share=bad / events if events else None,
    )  # fmt: skip
