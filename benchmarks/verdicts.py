"""How often a comparison that is looked at every five seconds is wrong, and how soon it is right: by simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Result, Table
from control_plane.statistics import sequences
from control_plane.statistics.sequences import Arm, Measure, Verdict, share_arm

ALPHA = 0.05
LOOK_SECONDS, RUN_SECONDS = 5, 600
RATE = 10  # requests a second on each side
BAD, MARGIN = 0.02, 0.02
SLOWER_MARGIN = 0.1  # of the logarithm
_Z = 1.959963984540054

Events = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Events]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Two servers, and which verdict about the candidate would be wrong."""

    name: str
    candidate: Draw
    baseline: Draw
    wrong: Verdict | None  # None: either would do
    shares: bool


def _independent(share: float) -> Draw:
    return lambda random: (random.random(RATE * RUN_SECONDS) < share).astype(np.float64)


def _in_bursts(share: float) -> Draw:
    """Bad requests come together, as they do while a queue is long: ten times as likely beside another bad one."""

    def draw(random: np.random.Generator) -> Events:
        count = RATE * RUN_SECONDS
        level = np.repeat(random.gamma(0.2, 5.0, count // 30 + 1), 30)[:count]
        return (random.random(count) < np.clip(share * level, 0, 1)).astype(np.float64)

    return draw


def _latencies(factor: float) -> Draw:
    """Logarithms of latencies that resemble those before them (correlation 0.8), as in a queue."""

    def draw(random: np.random.Generator) -> Events:
        noise = random.normal(size=RATE * RUN_SECONDS)
        level = np.empty_like(noise)
        level[0] = noise[0]
        for i in range(1, len(noise)):
            level[i] = 0.8 * level[i - 1] + 0.6 * noise[i]
        return np.asarray(0.5 * level + np.log(factor), dtype=np.float64)

    return draw


def _scenario(name: str, candidate: Draw, baseline: Draw, wrong: Verdict, *, shares: bool = True) -> Scenario:
    return Scenario(name=name, candidate=candidate, baseline=baseline, wrong=wrong, shares=shares)


_USUAL, _BURSTS, _QUEUE = _independent(BAD), _in_bursts(BAD), _latencies(1.0)
_AT_MARGIN = float(np.exp(SLOWER_MARGIN))
SCENARIOS = (
    _scenario("equal, 2 % bad", _USUAL, _USUAL, Verdict.FAIL),
    _scenario("equal, bad ones in bursts", _BURSTS, _BURSTS, Verdict.FAIL),
    _scenario("at the margin, 4 % bad", _independent(BAD + MARGIN), _USUAL, Verdict.PASS),
    _scenario("at the margin, in bursts", _in_bursts(BAD + MARGIN), _BURSTS, Verdict.PASS),
    _scenario("worse, 8 % bad", _independent(0.08), _USUAL, Verdict.PASS),
    _scenario("worse, 20 % bad", _independent(0.2), _USUAL, Verdict.PASS),
    _scenario("equally fast, in a queue", _QUEUE, _QUEUE, Verdict.FAIL, shares=False),
    _scenario("10 % slower, the margin", _latencies(_AT_MARGIN), _QUEUE, Verdict.PASS, shares=False),
    _scenario("40 % slower", _latencies(1.4), _QUEUE, Verdict.PASS, shares=False),
)


def _arm(values: Events, *, shares: bool) -> Arm:
    return sequences.timed_arm(np.arange(len(values)) / RATE, values, share=shares)


def _plainly(values: Events, *, shares: bool) -> Arm:
    """As if all were independent and this were the only look."""
    if shares:
        return share_arm(count=len(values), hits=int(values.sum()))
    return Arm(count=len(values), mean=float(values.mean()), variance_of_mean=float(values.var(ddof=1)) / len(values))


def run(scenario: Scenario, seed: int) -> tuple[Verdict, int, Verdict]:
    """This will give the verdict, the seconds until it, and what a plain interval at every look would have said."""
    random = np.random.default_rng(seed)
    candidate, baseline = scenario.candidate(random), scenario.baseline(random)
    margin = MARGIN if scenario.shares else SLOWER_MARGIN
    verdict, seconds, plain = Verdict.INCONCLUSIVE, RUN_SECONDS, Verdict.INCONCLUSIVE
    for at in range(LOOK_SECONDS, RUN_SECONDS + 1, LOOK_SECONDS):
        new = _arm(candidate[: at * RATE], shares=scenario.shares)
        old = _arm(baseline[: at * RATE], shares=scenario.shares)
        measure = Measure(name="x", candidate=new, baseline=old, margin=margin)
        if verdict is Verdict.INCONCLUSIVE:
            verdict, _ = sequences.judge([measure], alpha=ALPHA, planned=RATE * RUN_SECONDS / 2)
            seconds = at
        if plain is Verdict.INCONCLUSIVE and new.count >= sequences.LEAST_PER_ARM:
            plain = _plain(
                _plainly(candidate[: at * RATE], shares=scenario.shares),
                _plainly(baseline[: at * RATE], shares=scenario.shares),
                margin,
            )
        if Verdict.INCONCLUSIVE not in (verdict, plain):
            break
    return verdict, seconds, plain


def _plain(new: Arm, old: Arm, margin: float) -> Verdict:
    value, half = new.mean - old.mean, _Z * np.sqrt(new.variance_of_mean + old.variance_of_mean)
    return Verdict.FAIL if value - half > margin else Verdict.PASS if value + half < margin else Verdict.INCONCLUSIVE


def measure(*, quick: bool) -> Result:
    """This will simulate every scenario many times."""
    runs = 100 if quick else 1000
    rows = []
    for scenario in SCENARIOS:
        found = [run(scenario, seed) for seed in range(runs)]
        verdicts = Counter(verdict for verdict, _, _ in found)
        plain = Counter(verdict for _, _, verdict in found)
        decided = [seconds for verdict, seconds, _ in found if verdict is not Verdict.INCONCLUSIVE]
        wrong = scenario.wrong
        rows.append([
            scenario.name,
            *(f"{100 * verdicts[v] / runs:.1f} %" for v in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)),
            "" if wrong is None else f"**{100 * verdicts[wrong] / runs:.1f} %** ({wrong})",
            "" if wrong is None else f"{100 * plain[wrong] / runs:.1f} %",
            f"{np.median(decided):.0f}" if decided else "",
            f"{np.quantile(decided, 0.95):.0f}" if decided else "",
        ])  # fmt: skip
    return Result(
        name="verdicts",
        title="Verdicts that are looked at every five seconds",
        explanation=(
            f"Candidate and baseline with {RATE} requests a second each, compared every {LOOK_SECONDS} s for "
            f"{RUN_SECONDS // 60} minutes; the first verdict ends it. Allowed: {100 * MARGIN:.0f} % more bad requests, "
            f"10 % slower. A verdict is allowed to be wrong in {100 * ALPHA:.0f} % of comparisons, over all looks "
            f"together. Beside it, what a plain 95 % interval would have said had one looked as often. {runs:,} "
            "simulated comparisons a line."
        ),
        figures=(),
        tables=[
            Table(
                head=(
                    "candidate", "pass", "fail", "inconclusive", "wrong", "wrong with plain intervals",
                    "seconds to a verdict, p50", "p95",
                ),
                rows=rows,
            )
        ],
        notes=("A candidate at the margin is as bad as is just not allowed any more: passing it is wrong.",),
    )  # fmt: skip
