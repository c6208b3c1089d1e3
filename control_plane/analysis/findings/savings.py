"""What could be saved, and what was: sums over opportunities, and over what was carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.analysis.findings.opportunities import OVERLAPPING
from control_plane.model.saving import Realised

AMOUNTS = ("usd_per_month", "usd_per_month_low", "usd_per_month_high")
NOTHING_DONE = "nothing_was_carried_out_through_here_yet"
NOT_MEASURED = "what_was_carried_out_is_not_measured_yet"


def promised(opportunities: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """This will add up the savings of opportunities, of those that overlap with others none."""
    apart = [body for body in opportunities if body["kind"] != OVERLAPPING]
    priced = [body["saving"] for body in apart if body["saving"]["usd_per_month"] is not None]
    return {
        "opportunities": len(apart),
        "without_a_price": len(apart) - len(priced),
        **{name: round(sum(saving[name] for saving in priced), 2) for name in AMOUNTS},
        "gpu_hours_per_month": round(sum(body["saving"]["gpu_hours_per_month"] for body in apart), 2),
    }


def realised(ledger: Sequence[Realised]) -> dict[str, Any]:
    """This will add up what was carried out and measured since; what is not measured yet is counted, and in no sum."""
    measured = [line for line in ledger if line.usd_per_month is not None]
    names = (*AMOUNTS, "promised_usd_per_month", "gpu_hours_per_month")
    sums: dict[str, float | None] = {name: _sum([getattr(line, name) for line in measured]) for name in names}
    why = NOT_MEASURED if ledger else NOTHING_DONE
    return {
        "executions": len(ledger),
        "measured": len(measured),
        **sums,
        "items": [
            {
                "execution": line.execution, "kind": line.kind, "about": line.about,
                "carried_out_at": line.carried_out_at, "measured_until": line.measured_until,
                **{name: getattr(line, name) for name in names},
                "unknown": {name: NOT_MEASURED for name in (*names, "measured_until") if getattr(line, name) is None},
            }
            for line in ledger
        ],
        "unknown": {name: why for name, value in sums.items() if value is None},
    }  # fmt: skip


def _sum(amounts: Sequence[float | None]) -> float | None:
    """This will add up; None where nothing is there, or a part of it is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return round(sum(known), 2) if known and len(known) == len(amounts) else None
