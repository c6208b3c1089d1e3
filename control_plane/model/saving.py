"""What carrying a recommendation out promised, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Realised:
    """One recommendation that was carried out: a line of the ledger. None is not measured yet."""

    execution: str
    kind: str  # of the opportunity
    about: str
    carried_out_at: datetime
    promised_usd_per_month: float | None
    usd_per_month: float | None
    usd_per_month_low: float | None
    usd_per_month_high: float | None
    gpu_hours_per_month: float | None
    measured_until: datetime | None
