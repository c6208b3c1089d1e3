"""A cache's size from how full it is and what is found in it; and what was promised against what came."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from control_plane.decisions import ledger
from control_plane.decisions.policies.lmcache import GIB, CacheState, lmcache
from control_plane.model.recommendation import Recommendation
from control_plane.model.scaling import Because, NoAction

FULL = CacheState(
    mode="multiprocess", healthy=True, used_bytes=7.5 * GIB, capacity_bytes=8 * GIB, requested_tokens=1e6,
    hit_tokens=4e5, evicted_chunks=1000.0, counted_seconds=86_400.0, host_free_bytes=100 * GIB,
)  # fmt: skip


def test_a_full_cache_that_evicts_is_made_larger_within_what_its_host_has_free() -> None:
    found = lmcache(FULL)
    assert isinstance(found, Recommendation)
    assert [(f.name, f.value, f.was) for f in found.flags] == [("--l1-size-gb", "16", "8")]
    after = next(e for e in found.evidence if e.name == "hit_ratio_after")
    assert 0.4 < after.value < 0.8
    tight = lmcache(replace(FULL, host_free_bytes=8 * GIB))
    assert isinstance(tight, Recommendation)
    assert tight.flags[0].value == "12"
    inside = lmcache(replace(FULL, mode="in_process"))
    assert isinstance(inside, Recommendation)
    assert inside.flags[0].name == "LMCACHE_MAX_LOCAL_CPU_SIZE"


def test_one_that_stays_empty_for_hours_gives_memory_back() -> None:
    found = lmcache(replace(FULL, used_bytes=1 * GIB, evicted_chunks=0.0))
    assert isinstance(found, Recommendation)
    assert found.flags[0].value == "2"
    assert found.effect.memory_bytes is not None and found.effect.memory_bytes.expected == 2 * GIB


@pytest.mark.parametrize(
    ("changed", "because"),
    [
        ({"mode": "controller"}, Because.NOT_SUPPORTED), ({"mode": None}, Because.NOT_SUPPORTED),
        ({"healthy": False}, Because.UNHEALTHY), ({"hit_tokens": None}, Because.MISSING_DATA),
        ({"host_free_bytes": None}, Because.MISSING_DATA), ({"host_free_bytes": 0.0}, Because.DOES_NOT_FIT),
        ({"hit_tokens": 2e6}, Because.ABSURD_DATA), ({"used_bytes": math.nan}, Because.ABSURD_DATA),
        ({"requested_tokens": 10.0, "hit_tokens": 1.0}, Because.NOTHING_BINDS),
        ({"used_bytes": 4 * GIB, "evicted_chunks": 0.0}, Because.ENOUGH),
        ({"used_bytes": 0.5 * GIB, "evicted_chunks": 0.0, "counted_seconds": 60.0}, Because.ENOUGH),
    ],
)  # fmt: skip
def test_a_cache_stays_as_it_is_where_there_is_a_reason(changed: dict[str, Any], because: Because) -> None:
    found = lmcache(replace(FULL, **changed))
    assert isinstance(found, NoAction)
    assert found.because is because


BODY = {
    "flags": [{"name": "--max-num-seqs", "value": "128", "was": "8"}],
    "before": {"requests_per_second": 2.9, "token_seconds": 0.014, "concurrency": 96.0},
    "effect": {
        "requests_ratio": {"low": 2.4, "expected": 6.5, "high": 12.6}, "usd_per_month": {"expected": -1000.0},
        "token_time_ratio": {"low": 1.0, "expected": 1.8, "high": 5.1},
    },
}  # fmt: skip


def test_a_change_is_seen_by_the_flags_that_the_server_has() -> None:
    assert ledger.applied(BODY, {"max_num_seqs": 128})
    assert not ledger.applied(BODY, {"max_num_seqs": 8})
    assert not ledger.applied(BODY, {})
    assert not ledger.applied({**BODY, "flags": []}, {"max_num_seqs": 128})
    boolean = {**BODY, "flags": [{"name": "--enable-expert-parallel", "value": "", "was": None}]}
    assert ledger.applied(boolean, {"enable_expert_parallel": True})


def test_what_came_is_only_compared_under_a_load_like_before() -> None:
    now = {"requests_per_second": 22.9, "token_seconds": 0.0172, "concurrency": 95.0}
    came = ledger.realised(BODY, now)
    assert came is not None
    assert came["requests_ratio"] == pytest.approx(7.897, abs=0.001)
    assert came["within"] == {"requests_ratio": True, "token_time_ratio": True}
    assert came["usd_per_month"] < -1000.0  # more came than was promised
    assert ledger.realised(BODY, now | {"concurrency": 20.0}) is None
    assert ledger.realised(BODY, {}) is None
    (line,) = ledger.accuracy([("batch", BODY, came)])
    assert (line["kind"], line["changes"], line["within_ratio"]) == ("batch", 1, 1.0)
