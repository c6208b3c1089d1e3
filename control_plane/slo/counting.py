"""From two looks at one inference server to good and bad events.

A histogram holds what has happened. A request that still waits beyond its limit is bad already, and an engine
that hangs would else have no bad event at all: it is counted once, when it is overdue, and not again when it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from control_plane.model.sample import Distribution, Reading
from control_plane.model.slo import HISTOGRAMS, Events, Indicator, SloDefinition
from control_plane.slo.buckets import split

# More looks back than this are thinned out: an hour's limit at a look a second.
_MOST_FLIGHTS = 720
# A server that is up and does not work: the states are the agent's.
NOT_SERVING = frozenset({"hung", "unhealthy", "unreachable", "error", "gone"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """Where a server's requests stood at one look. None is unknown."""

    at: datetime
    running: float | None
    waiting: float | None
    ended: float | None  # requests that ended in any way, since the counters began
    failed: float | None  # of these, those that never got all their tokens
    first_tokens: float | None  # requests that got their first token
    tokens: float | None  # tokens after the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is remembered of one server for one objective."""

    last: Reading | None = None  # the newest look at which it answered
    flights: tuple[Flight, ...] = ()  # oldest first, as far back as the limit reaches
    owed: float = 0.0  # requests that were counted as bad while in flight, and have not been seen to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Events between two looks."""

    events: Events
    seconds: float  # between the looks
    at_once: float = 1.0  # events that share one fate
    aborted: float | None = None  # requests that clients gave up: neither good nor bad
    unknown: str | None = None  # why nothing can be counted


def flight_of(reading: Reading) -> Flight:
    """This will give where the requests stood at a look."""
    finished, aborted, failed = (_value(reading, f"requests_{how}_total") for how in ("finished", "aborted", "failed"))
    ended = None if finished is None else finished + (aborted or 0.0) + (failed or 0.0)
    return Flight(
        at=reading.taken_at,
        running=_value(reading, "requests_running_count"),
        waiting=_value(reading, "requests_waiting_count"),
        ended=ended,
        failed=(aborted or 0.0) + (failed or 0.0),
        first_tokens=_count(reading.distributions.get("ttft_seconds")),
        tokens=_count(reading.distributions.get("inter_token_latency_seconds")),
    )


def counted(definition: SloDefinition, track: Track, reading: Reading) -> tuple[Track, Counted | None]:
    """This will count what happened since the look before; None when there is nothing to count from.

    `reading` is newer than `track.last`, and the server answered.
    """
    before, now = track.last, flight_of(reading)
    if before is None or _began_anew(before, reading):
        lost = _lost(definition, track.flights) if before is not None else Events()
        seconds = 0.0 if before is None else (reading.taken_at - before.taken_at).total_seconds()
        track = Track(last=reading, flights=(now,))
        return track, Counted(events=lost, seconds=seconds) if lost.total else None
    observed, unknown = _observed(definition, before, reading)
    overdue = _overdue(definition, track.flights, now)
    # Who was overdue and is no more has ended: its event, which is bad, has been counted before.
    settled = min(observed.bad, max(0.0, track.owed - overdue))
    events = replace(observed, bad=observed.bad - settled + max(0.0, overdue - track.owed))
    in_flight = (now.running or 0.0) + (now.waiting or 0.0)
    owed = min(max(overdue, track.owed - settled), max(in_flight, overdue))
    kept = Track(last=reading, flights=_kept(track.flights, now, _reach(definition)), owed=owed)
    return kept, Counted(
        events=events,
        seconds=(reading.taken_at - before.taken_at).total_seconds(),
        at_once=_at_once(definition, before, reading),
        aborted=_growth(before, reading, "requests_aborted_total"),
        unknown=unknown,
    )


def _observed(definition: SloDefinition, before: Reading, after: Reading) -> tuple[Events, str | None]:
    match definition.indicator:
        case Indicator.ERROR_RATE:
            return _errors(before, after)
        case Indicator.GOODPUT:
            return _goodput(definition, before, after)
        case Indicator.AVAILABILITY | Indicator.THROUGHPUT_FLOOR:
            return Events(), None  # of all servers in scope together: see scope.py
        case _:
            assert definition.threshold_seconds is not None
            name = HISTOGRAMS[definition.indicator]
            grown = _grown(before, after, name)
            if grown is None:
                return Events(), f"{name}: {after.unknown.get(name, 'not_sent')}"
            return split(grown, definition.threshold_seconds), None


def _errors(before: Reading, after: Reading) -> tuple[Events, str | None]:
    good = _growth(before, after, "requests_finished_total")
    failed = _growth(before, after, "requests_failed_total")
    rejected = _growth(before, after, "requests_rejected_total") or 0.0  # not every engine can refuse
    for name, value in (("requests_finished_total", good), ("requests_failed_total", failed)):
        if value is None:
            return Events(), f"{name}: {after.unknown.get(name, 'not_sent')}"
    assert good is not None
    assert failed is not None
    return Events(good=good, bad=failed + rejected), None


def _goodput(definition: SloDefinition, before: Reading, after: Reading) -> tuple[Events, str | None]:
    """This will count requests that keep every limit.

    Each histogram knows of its own limit only. Requests that break one are at least as many as break the worst of
    them, and at most as many as all of them together (Fréchet's bounds).
    """
    least = most = ended = 0.0
    for name, limit in definition.limits.items():
        grown = _grown(before, after, name)
        if grown is None:
            return Events(), f"{name}: {after.unknown.get(name, 'not_sent')}"
        parts = split(grown, limit)
        least, most = max(least, parts.bad), most + parts.bad + parts.doubtful
        ended = max(ended, parts.total)
    failed = _growth(before, after, "requests_failed_total") or 0.0
    most = min(most, ended)
    return Events(good=ended - most, bad=least + failed, doubtful=max(0.0, most - least)), None


def _overdue(definition: SloDefinition, flights: Sequence[Flight], now: Flight) -> float:
    """This will give how many requests are certainly in flight for longer than their limit: at least so many."""
    limits = _limits(definition)
    found = 0.0
    for name, limit in limits.items():
        then = next((f for f in reversed(flights) if f.at <= now.at - timedelta(seconds=limit)), None)
        if then is None:
            continue
        match name:
            case "end_to_end_seconds":
                found = max(found, _left((then.running, then.waiting), then.ended, now.ended))
            case "ttft_seconds":
                # Who waited then has had no first token; who has given up since needs none.
                given_up = (now.failed or 0.0) - (then.failed or 0.0)
                found = max(found, _left((then.waiting,), then.first_tokens, now.first_tokens) - given_up)
            case "inter_token_latency_seconds":
                if now.tokens is not None and now.tokens == then.tokens and now.first_tokens == then.first_tokens:
                    found = max(found, min(now.running or 0.0, then.running or 0.0))
            case _:
                pass  # a request's mean is not known before it ends
    return found


def _limits(definition: SloDefinition) -> dict[str, float]:
    if definition.threshold_seconds is not None and definition.indicator in HISTOGRAMS:
        return {HISTOGRAMS[definition.indicator]: definition.threshold_seconds}
    return dict(definition.limits)


def _left(then: Sequence[float | None], done_then: float | None, done_now: float | None) -> float:
    """This will give how many of those in flight then cannot have come through since; 0 where that is not known."""
    if done_then is None or done_now is None:
        return 0.0
    return max(0.0, sum(count for count in then if count is not None) - (done_now - done_then))


def _lost(definition: SloDefinition, flights: Sequence[Flight]) -> Events:
    """This will give the requests that a restart may have cost: whether they ended before, nobody knows."""
    if definition.indicator not in (Indicator.ERROR_RATE, Indicator.END_TO_END, Indicator.GOODPUT) or not flights:
        return Events()
    return Events(doubtful=(flights[-1].running or 0.0) + (flights[-1].waiting or 0.0))


def _reach(definition: SloDefinition) -> timedelta:
    return timedelta(seconds=max(_limits(definition).values(), default=0.0))


def _kept(flights: Sequence[Flight], now: Flight, reach: timedelta) -> tuple[Flight, ...]:
    """This will keep the looks of the limit's length, and the newest one from before it."""
    old = [f for f in flights if f.at <= now.at - reach]
    kept = [*old[-1:], *(f for f in flights if f.at > now.at - reach), now]
    return tuple(kept if len(kept) <= _MOST_FLIGHTS else [*kept[:-1:2], now])


def _at_once(definition: SloDefinition, before: Reading, after: Reading) -> float:
    """This will give how many events share one fate: the tokens of one step are late together."""
    if definition.indicator is not Indicator.INTER_TOKEN:
        return 1.0
    running = [v for r in (before, after) if (v := _value(r, "requests_running_count")) is not None]
    return max([1.0, *running])


def _began_anew(before: Reading, after: Reading) -> bool:
    names = ("counters_since_unix_seconds",)
    if any(_value(before, name) != _value(after, name) for name in names):
        return True
    finished = (_value(before, "requests_finished_total"), _value(after, "requests_finished_total"))
    return finished[0] is not None and finished[1] is not None and finished[1] < finished[0]


def _value(reading: Reading, name: str) -> float | None:
    value = reading.values.get(name)
    return float(value) if isinstance(value, int | float) else None


def _count(distribution: Distribution | None) -> float | None:
    return None if distribution is None else float(sum(distribution.counts))


def _growth(before: Reading, after: Reading, name: str) -> float | None:
    """This will give how much a counter grew. Engines expose some with their first event: before, they stood at 0."""
    start, end = _value(before, name), _value(after, name)
    if end is None:
        return None
    if start is None:
        return end if before.unknown.get(name) == "not_exposed" else None
    return max(0.0, end - start)


def _grown(before: Reading, after: Reading, name: str) -> Distribution | None:
    """This will give what a histogram observed between two looks; None when that is not known."""
    end = after.distributions.get(name)
    if end is None:
        return None
    start = before.distributions.get(name)
    if start is None:
        return end if before.unknown.get(name) == "not_exposed" else None
    if start.bounds != end.bounds:
        return None
    counts = tuple(b - a for a, b in zip(start.counts, end.counts, strict=True))
    return None if any(count < 0 for count in counts) else Distribution(bounds=end.bounds, counts=counts, sum=None)
