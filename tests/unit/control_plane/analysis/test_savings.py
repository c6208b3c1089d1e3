"""What could be saved and what was are sums of what is known, and say what they leave out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from control_plane.analysis.findings.opportunities import OVERLAPPING
from control_plane.analysis.findings.savings import NOT_MEASURED, NOTHING_DONE, promised, realised
from control_plane.model.saving import Realised

NOW = datetime(2026, 3, 4, tzinfo=UTC)


def opportunity(usd: float | None, hours: float, *, kind: str = "free_memory") -> dict[str, Any]:
    low, high = (None, None) if usd is None else (usd / 2, usd * 2)
    saving = {"usd_per_month": usd, "usd_per_month_low": low, "usd_per_month_high": high, "gpu_hours_per_month": hours}
    return {"kind": kind, "saving": saving}


def line(usd: float | None, promise: float | None = 10.0) -> Realised:
    return Realised(
        execution="e1", kind="free_memory", about="node a", carried_out_at=NOW, promised_usd_per_month=promise,
        usd_per_month=usd, usd_per_month_low=usd, usd_per_month_high=usd, gpu_hours_per_month=usd,
        measured_until=None if usd is None else NOW,
    )  # fmt: skip


def test_what_overlaps_is_left_out_and_what_has_no_price_is_in_the_hours_alone() -> None:
    found = promised([opportunity(10.0, 5.0), opportunity(None, 2.0), opportunity(99.0, 99.0, kind=OVERLAPPING)])
    assert found == {
        "opportunities": 2, "without_a_price": 1, "usd_per_month": 10.0, "usd_per_month_low": 5.0,
        "usd_per_month_high": 20.0, "gpu_hours_per_month": 7.0,
    }  # fmt: skip


def test_nothing_that_was_done_is_not_a_saving_of_nothing() -> None:
    found = realised([])
    assert (found["executions"], found["usd_per_month"], found["items"]) == (0, None, [])
    assert set(found["unknown"].values()) == {NOTHING_DONE}


def test_what_is_not_measured_yet_is_counted_and_in_no_sum() -> None:
    found = realised([line(4.0), line(-1.0), line(None)])
    assert (found["executions"], found["measured"]) == (3, 2)
    assert (found["usd_per_month"], found["promised_usd_per_month"]) == (3.0, 20.0)  # it may have cost more, too
    assert found["unknown"] == {}
    assert found["items"][2]["unknown"]["usd_per_month"] == NOT_MEASURED
    assert realised([line(None)])["unknown"]["usd_per_month"] == NOT_MEASURED
    assert realised([line(1.0), line(2.0, promise=None)])["promised_usd_per_month"] is None
