"""How soon the fast guard sees a violation, and how often it sees one that is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.figures import Result, Table, number
from control_plane.slo.guard import LEAST_TROUBLE_SECONDS, WEEK_SECONDS, GuardPlan, GuardState, Seen, watch
from control_plane.slo.habit import tolerated_share

SEED = 20260304
RATES = (2.0, 10.0, 100.0)
USUAL, WORSE = 0.02, (0.05, 0.20, 1.0)
ALLOWED = {"p95 (5 % may be bad)": 0.05, "p97 (3 % may be bad)": 0.03}
INTERVALS = (2.0, 5.0)
RUNS, QUICK_RUNS = 1000, 50
WEEKS, QUICK_WEEKS = 5, 0.02
# An engine's habit is that of a day; at 2 requests/s this many events.
HABIT_EVENTS = 170_000
WARM_SECONDS, PATIENCE_SECONDS = 60.0, 1800.0
STALL_EVERY_SECONDS, STALL_SECONDS = 600.0, 1.0
_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Poisson arrivals, each bad by chance. All that arrive in a stall are bad."""

    rate: float
    usual: float = USUAL
    worse: float = USUAL  # from second 0 on
    stalls: bool = False


def plan_for(allowed: float, *, usual: float, interval: float) -> GuardPlan:
    """This will give the guard of an engine whose usual share is known."""
    tolerated = tolerated_share(allowed, events=HABIT_EVENTS, bad=usual * HABIT_EVENTS)
    return GuardPlan(allowed_share=allowed, tolerated_share=tolerated, interval_seconds=interval)


def scrapes(
    traffic: Traffic, rng: np.random.Generator, *, interval: float, start: float, phase: float, until: float
) -> Iterator[tuple[float, Seen]]:
    """This will give what scrapes at every `interval` see from `start` to `until`, in seconds from the change."""
    ticks = np.arange(start + phase, until, interval)
    old = np.clip(np.minimum(ticks, 0.0) - (ticks - interval), 0.0, interval)
    stalled = np.zeros(len(ticks))
    if traffic.stalls:
        into = np.mod(ticks - interval, STALL_EVERY_SECONDS)
        stalled = np.clip(np.minimum(into + interval, STALL_SECONDS) - into, 0.0, STALL_SECONDS)
    before, after = rng.poisson(traffic.rate * old), rng.poisson(traffic.rate * (interval - old))
    bad = rng.binomial(before, traffic.usual) + rng.binomial(after, traffic.worse)
    swallowed = rng.binomial(before + after - bad, stalled / interval)
    for tick, events, wrong in zip(ticks, before + after, bad + swallowed, strict=True):
        at = _START + timedelta(seconds=float(tick) - start)
        yield float(tick), Seen(at=at, seconds=interval, good=float(events - wrong), bad=float(wrong))


def seconds_to_detect(plan: GuardPlan, traffic: Traffic, rng: np.random.Generator) -> float:
    """This will give the time from the change to the evaluation that says so; infinite when none does."""
    interval, state = plan.interval_seconds, GuardState()
    phase = float(rng.uniform(0.0, interval))
    for tick, seen in scrapes(
        traffic, rng, interval=interval, start=-WARM_SECONDS, phase=phase, until=PATIENCE_SECONDS
    ):
        state = watch(plan, state, seen)
        if state.violated_since is not None:
            if tick > 0:
                return tick
            state = GuardState()
    return math.inf


def false_alarms(plan: GuardPlan, traffic: Traffic, rng: np.random.Generator, *, seconds: float) -> int:
    """This will count the alarms of an engine that does as it always does."""
    count, state, interval = 0, GuardState(), plan.interval_seconds
    for _, seen in scrapes(traffic, rng, interval=interval, start=0.0, phase=interval, until=seconds):
        state = watch(plan, state, seen)
        if state.violated_since is not None:
            count, state = count + 1, GuardState()
    return count


def _detection(rng: np.random.Generator, runs: int) -> Table:
    rows = []
    for named, allowed in ALLOWED.items():
        for interval in INTERVALS:
            plan = plan_for(allowed, usual=USUAL, interval=interval)
            for rate in RATES:
                cells = [named, f"{interval:g} s", f"{rate:g}"]
                for worse in WORSE:
                    if worse <= allowed:
                        cells.append("allowed")
                        continue
                    traffic = Traffic(rate=rate, worse=worse)
                    times = [seconds_to_detect(plan, traffic, rng) for _ in range(runs)]
                    median, late = np.percentile(times, [50, 95], method="inverted_cdf")
                    cells.append(f"{_seconds(median)} / {_seconds(late)}")
                rows.append(cells)
    return Table(head=("objective", "scrapes", "requests/s", "2 → 5 %", "2 → 20 %", "2 → 100 %"), rows=rows)


def _seconds(value: float) -> str:
    return f"> {PATIENCE_SECONDS:.0f}" if math.isinf(value) else number(value)


def _alarms(rng: np.random.Generator, weeks: float) -> Table:
    allowed, interval, rows = 0.05, INTERVALS[0], []
    plan = plan_for(allowed, usual=USUAL, interval=interval)
    boundary = GuardPlan(allowed_share=allowed, interval_seconds=interval)
    cases = {
        "as usual: 2 % bad": (plan, Traffic(rate=0)),
        f"as bad as is tolerated: {plan.tolerated:.1%}": (
            plan, Traffic(rate=0, usual=plan.tolerated, worse=plan.tolerated),
        ),
        "habit not known, exactly what is allowed: 5 %": (boundary, Traffic(rate=0, usual=allowed, worse=allowed)),
        f"as usual, and all of {STALL_SECONDS:g} s bad every {STALL_EVERY_SECONDS / 60:g} min": (
            plan, Traffic(rate=0, stalls=True),
        ),
    }  # fmt: skip
    for named, (guard, traffic) in cases.items():
        cells = [named]
        for rate in RATES:
            of_rate = Traffic(rate=rate, usual=traffic.usual, worse=traffic.worse, stalls=traffic.stalls)
            found = false_alarms(guard, of_rate, rng, seconds=weeks * WEEK_SECONDS)
            cells.append(f"{number(found / weeks / 7)} ({found} in {number(weeks)} weeks)")
        rows.append(cells)
    return Table(head=("an engine that does", *(f"alarms/day at {rate:g}/s" for rate in RATES)), rows=rows)


def measure(*, quick: bool = False) -> Result:
    """This will simulate scrapes of engines whose share of bad events changes, and of such that stay as they are."""
    rng = np.random.default_rng(SEED)
    runs, weeks = (QUICK_RUNS, QUICK_WEEKS) if quick else (RUNS, WEEKS)
    return Result(
        name="detection",
        title="How soon a violation is seen",
        explanation=(
            "Simulation of the fast guard (`control_plane/slo/guard.py`, the code that runs): requests arrive at "
            "random, each is bad by chance, scrapes come at a random phase, and after each the guard is asked. Seconds "
            "from the moment at which the share of bad ones changes to the scrape that raises the alarm: median / p95 "
            f"of {runs} runs. The engine's usual share (2 %) is known from a day of its traffic. Below, the alarms "
            "where nothing changed. Targets: 2 → 20 % at 10/s within 15 s at p95, 2 → 100 % within 8 s from 2/s on, "
            "at most one false alarm per engine and week (0.14 a day)."
        ),
        figures=[],
        tables=[_detection(rng, runs), _alarms(rng, weeks)],
        notes=[
            "The limit of one false alarm a week is no fit to this simulation: it is the threshold (the number of "
            "evaluations in a week), and holds for every engine that does no worse than it is tolerated, at any rate.",
            "“allowed”: 5 % bad is what a p95 objective allows, so it is no violation.",
            "To these seconds an alert adds the wait for the next look of the job, and the way to the webhook.",
            f"An alarm takes {LEAST_TROUBLE_SECONDS:g} s of trouble: shorter ones raise none where scrapes are faster.",
        ],
    )
