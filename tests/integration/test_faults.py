"""Real agents against a real control plane: killed, cut off, filled up, lied to; nothing is unaccounted for."""

from __future__ import annotations

import pytest

from benchmarks import faults
from benchmarks.faults import disks


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_tick_is_stored_once_or_reported_lost_whatever_happens() -> None:
    rows = faults.happen(quick=True)
    accounts = {row.name: row.account for row in rows if row.account is not None}
    assert {name: found for name, found in accounts.items() if found.neither or found.both} == {}
    assert all(found.sampled == found.committed + found.lost > 0 for found in accounts.values())
    not_run = [row for row in rows if row.account is None]
    if not_run:
        assert [row.name for row in not_run] == [disks.NAME]
        pytest.skip(f"the rest holds, but {not_run[0].note}")
