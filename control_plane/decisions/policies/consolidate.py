"""Consolidate: the same engines on fewer GPUs, if that saves more than moving them costs."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.decisions.consolidation.fleet import Bin, Engine, Plan
from control_plane.decisions.consolidation.planning import plan
from control_plane.decisions.policies.facts import HOURS_A_MONTH, SECONDS_PER_HOUR, START_SECONDS
from control_plane.model.bottleneck import Evidence
from control_plane.model.recommendation import (
    Doing,
    Effect,
    Interval,
    Lost,
    Move,
    Occasion,
    Recommendation,
    RecommendationKind,
    Risk,
)
from control_plane.model.scaling import Because, NoAction

# A move is a restart and a cold cache: worth it when it has paid for itself within a day.
MOST_PAYBACK_HOURS = 24.0


def consolidate(bins: Sequence[Bin], engines: Sequence[Engine], *, seconds: float = 8.0) -> Recommendation | NoAction:
    """This will recommend which engines to move where, so that GPUs become free."""
    if not bins or not engines:
        return NoAction(because=Because.MISSING_DATA, explanation="no engine on a GPU is known in this scope")
    found = plan(bins, engines, seconds=seconds)
    if isinstance(found, NoAction):
        return found
    saved = found.before_usd_per_hour - found.usd_per_hour
    by_name = {b.name: b for b in bins}
    # Each engine runs twice for as long as it takes to start.
    doing_usd = sum(by_name[to].usd_per_hour for _, _, to in found.moves) * START_SECONDS / SECONDS_PER_HOUR
    doing = Doing(restarts=len(found.moves), seconds=START_SECONDS, surge_gpus=0, usd=round(doing_usd, 2))
    payback = round(doing_usd / saved, 2) if saved > 0 else None
    if payback is None or payback > MOST_PAYBACK_HOURS:
        return NoAction(
            because=Because.NOT_WORTH_IT,
            explanation=f"{len(found.moves)} moves would free {len(found.freed)} GPUs, and pay back after "
            f"{payback or float('inf'):.0f} h; {MOST_PAYBACK_HOURS:.0f} is the most",
        )
    return _recommended(found, doing, payback, saved)


def _recommended(found: Plan, doing: Doing, payback: float, saved: float) -> Recommendation:
    month = -round(saved * HOURS_A_MONTH, 2)
    same = Interval(low=1.0, expected=1.0, high=1.0)
    over = found.usd_per_hour / found.bound_usd_per_hour - 1.0 if found.bound_usd_per_hour > 0 else 0.0
    return Recommendation(
        kind=RecommendationKind.CONSOLIDATE, engine="any", flags=(), because=Occasion.SPREAD_OUT,
        effect=Effect(
            requests_ratio=same, token_time_ratio=Interval(low=1.0, expected=1.05, high=1.3),
            gpus=-float(len(found.freed)), usd_per_month=Interval(low=month, expected=month, high=month),
        ),
        moves=tuple(Move(engine=name, source=source, target=target) for name, source, target in found.moves),
        cost=f"{len(found.moves)} engines start anew on another GPU; their prefix caches are empty afterwards",
        risk="engines that share a GPU slow each other down when both are busy at once", risk_level=Risk.MEDIUM,
        rollback="move them back: " + ", ".join(f"{n} to {s}" for n, s, _ in found.moves[:5])
        + (" and so on" if len(found.moves) > 5 else ""),
        evidence=(
            Evidence(name="usd_per_hour_before", value=found.before_usd_per_hour, unit="usd/h", means="of GPUs in use"),
            Evidence(name="usd_per_hour_after", value=found.usd_per_hour, unit="usd/h", means="of GPUs afterwards"),
            Evidence(name="usd_per_hour_bound", value=found.bound_usd_per_hour, unit="usd/h",
                     means=f"that no plan can go below: this one is {over:.1%} above it"),
        ),
        lost=(Lost(what="a plan without moves", why="nothing would become free"),),
        doing=doing, payback_hours=payback, needs=("engines drained before they move, a few at a time",),
    )  # fmt: skip
