"""What use and waste cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from control_plane.analysis.waste import sums
from control_plane.analysis.waste.sums import JOULES_PER_KWH, Used
from control_plane.model.price import Price
from control_plane.model.use import Cause

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Time, energy and money of any number of GPUs. What has no price is in `unpriced_seconds`, not in `usd`."""

    used: Used = field(default_factory=Used)
    usd: Mapping[Cause, float] = field(default_factory=dict)
    unpriced_seconds: float = 0.0
    energy_usd: float | None = None  # electricity that is paid on top of the hour; None: it is in the hour's price

    @property
    def total_usd(self) -> float | None:
        """This will give what was paid; None when a part of it has no price."""
        return None if self.unpriced_seconds > 0 else sum(self.usd.values())


def spent(used: Used, price: Price | None, *, usd_per_kwh: float | None) -> Spent:
    """This will price one GPU's time; electricity comes on top when it has a price of its own."""
    electricity = (
        None if usd_per_kwh is None else sum(e.joules for e in used.energy.values()) / JOULES_PER_KWH * usd_per_kwh
    )
    if price is None:
        return Spent(used=used, unpriced_seconds=used.paid_seconds, energy_usd=electricity)
    per_second = price.usd_per_gpu_hour / SECONDS_PER_HOUR
    usd = {cause: seconds * per_second for cause, seconds in used.seconds.items()}
    if usd_per_kwh is not None:
        for cause, energy in used.energy.items():
            usd[cause] = usd.get(cause, 0.0) + energy.joules / JOULES_PER_KWH * usd_per_kwh
    return Spent(used=used, usd=usd, energy_usd=electricity)


def total(parts: Iterable[Spent]) -> Spent:
    """This will add up."""
    every = list(parts)
    usd: dict[Cause, float] = {}
    for part in every:
        for cause, amount in part.usd.items():
            usd[cause] = usd.get(cause, 0.0) + amount
    electricity = [part.energy_usd for part in every if part.energy_usd is not None]
    return Spent(
        used=sums.total(part.used for part in every),
        usd=usd,
        unpriced_seconds=sum(part.unpriced_seconds for part in every),
        energy_usd=sum(electricity) if electricity else None,
    )
