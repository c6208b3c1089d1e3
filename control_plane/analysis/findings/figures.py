"""The figures of a group of GPUs: what they did, what that went into, what it cost, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.analysis.findings.grouping import Sums, known, mean, ratio
from control_plane.analysis.utilization.summary import Signal
from control_plane.analysis.waste.money import Spent
from control_plane.analysis.waste.sums import JOULES_PER_KWH, Energy, Used
from control_plane.model.activity import Activity
from control_plane.model.price import Price, PriceBasis
from control_plane.model.use import CLASS_OF, KEPT_MEANS, Cause, UseClass

SECONDS_PER_HOUR = 3600.0
# Waste is what could be had for the same money; what is unknown is neither.
WASTE = (UseClass.INEFFICIENT, UseClass.STRANDED, UseClass.ALLOCATED_IDLE, UseClass.UNALLOCATED)
# Below this share of the window a judgement about it is a guess; below the second it is a good one only in part.
LITTLE, MOST = 0.5, 0.9


def used_of(sums: Sums) -> Used:
    """This will say what a group's time and energy went into."""
    seconds = {cause: s for cause in Cause if (s := sums[f"use_{cause}_seconds"]) > 0}
    share = ratio(known(sums, "energy_seconds"), known(sums, "observed_seconds")) or 0.0
    energy: dict[Cause, Energy] = {
        cause: Energy(joules=sums[f"use_{cause}_joules"], seconds=length * share)
        for cause, length in seconds.items()
        if share > 0 and cause is not Cause.NO_SAMPLES
    }
    return Used(seconds=seconds, energy=energy)


def rounded(value: float | None, digits: int = 4) -> float | None:
    """This will round what is known."""
    return None if value is None else round(value, digits)


def means_of(sums: Sums) -> dict[str, Any]:
    """This will give the means and shares of a group, with a reason for each that is unknown."""
    observed = sums["observed_seconds"]
    figures: dict[str, float | None] = {name: rounded(mean(sums, name)) for name in KEPT_MEANS}
    for name in ("power_capped", "slowed"):
        figures[f"{name}_ratio"] = rounded(ratio(sums[f"{name}_seconds"], observed))
    by_activity = {a: s for a in Activity if (s := sums[f"activity_{a}_seconds"]) > 0}
    classic = sums["classic_seconds"]
    why = "never_known_in_window" if observed else "no_samples"
    return {
        **figures,
        "unknown": {name: why for name, value in figures.items() if value is None},
        "activity": max(by_activity, key=lambda a: by_activity[a]) if by_activity else Activity.UNKNOWN,
        "activity_shares": {a.value: round(s / observed, 4) for a, s in by_activity.items()},
        "observed_ratio": rounded(ratio(observed, sums["paid_seconds"])) or 0.0,
        "signal": Signal.NONE if not observed else Signal.CLASSIC if classic > observed / 2 else Signal.PARTS,
    }


def hours(seconds: float) -> float:
    """This will give hours, to a few seconds."""
    return round(seconds / SECONDS_PER_HOUR, 4)


def classes_of(spent: Spent) -> list[dict[str, Any]]:
    """This will give every class, also one with nothing in it: that they add up can be checked by hand."""
    paid = spent.used.paid_seconds
    out = []
    for each in UseClass:
        causes = [cause for cause in spent.used.seconds if CLASS_OF[cause] is each]
        seconds = sum(spent.used.seconds[cause] for cause in causes)
        joules = sum(spent.used.energy[c].joules for c in causes if c in spent.used.energy)
        out.append({
            "class": each,
            "gpu_hours": hours(seconds),
            "ratio": round(seconds / paid, 4) if paid else 0.0,
            "kilowatt_hours": round(joules / JOULES_PER_KWH, 4),
            "usd": round(sum(spent.usd.get(cause, 0.0) for cause in causes), 4),
            "causes": [
                {
                    "cause": cause, "gpu_hours": hours(spent.used.seconds[cause]),
                    "usd": round(spent.usd.get(cause, 0.0), 4),
                }
                for cause in causes
            ],
        })  # fmt: skip
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """GPUs with one price."""

    price: Price | None
    gpu_name: str | None
    seconds: float


def money_of(spent: Spent, prices: Sequence[Priced]) -> dict[str, Any]:
    """This will give what was paid and wasted, and on which prices that stands.

    `usd` leaves out what has no price; `unpriced_gpu_hours` says how much that is.
    """
    by_class = {c: sum(u for cause, u in spent.usd.items() if CLASS_OF[cause] is c) for c in UseClass}
    paid_seconds, unpriced = spent.used.paid_seconds, spent.unpriced_seconds
    nothing_priced = unpriced >= paid_seconds > 0
    figures = {
        "usd": None if nothing_priced else round(sum(spent.usd.values()), 4),
        "waste_usd": None if nothing_priced else round(sum(by_class[c] for c in WASTE), 4),
    }
    unknown = {name: "no_price_is_known" for name, value in figures.items() if value is None}
    if spent.energy_usd is None:
        unknown["energy_usd"] = "in_the_price_of_the_hour_unless_per_kwh_is_entered"
    return {
        **figures,
        "energy_usd": rounded(spent.energy_usd),
        "kilowatt_hours": round(sum(e.joules for e in spent.used.energy.values()) / JOULES_PER_KWH, 4),
        "unknown": unknown,
        "waste_gpu_hours": hours(sum(spent.used.of(c) for c in WASTE)),
        "unpriced_gpu_hours": hours(unpriced),
        "currency": "USD",
        "prices": [shown_price(one) for one in prices],
    }


def shown_price(one: Priced) -> dict[str, Any]:
    """This will show a price, where it is from and of when."""
    if one.price is None:
        names = ("usd_per_gpu_hour", "basis", "provider", "as_of", "source")
        return {"gpu_model": one.gpu_name or "unknown", **dict.fromkeys(names), "gpu_hours": hours(one.seconds),
                "unknown": dict.fromkeys(names, "not_listed_and_not_entered")}  # fmt: skip
    return {
        "gpu_model": one.gpu_name or "any",
        "usd_per_gpu_hour": round(one.price.usd_per_gpu_hour, 4),
        "basis": one.price.basis,
        "provider": one.price.provider
        or ("all that list it" if one.price.basis is PriceBasis.MEDIAN_OF_LISTS else "own"),
        "as_of": one.price.as_of.isoformat(),
        "source": one.price.source,
        "gpu_hours": hours(one.seconds),
        "unknown": {},
    }


def confidence_of(figures: Mapping[str, Any], prices: Sequence[Priced]) -> dict[str, Any]:
    """This will say how far to believe it, and why not further."""
    observed, because = figures["observed_ratio"], []
    if observed < MOST:
        because.append(f"samples cover {observed:.0%} of the time")
    if figures["signal"] is Signal.CLASSIC:
        because.append("GPM is missing: busy time may be waste")
    if any(one.price is None for one in prices):
        because.append("some GPUs have no price")
    if any(one.price is not None and one.price.basis is PriceBasis.MEDIAN_OF_LISTS for one in prices):
        because.append("prices are list prices: enter your own")
    level = "low" if observed < LITTLE else "high" if not because else "medium"
    return {"level": level, "because": because}
