"""Histograms: nothing is invented when they are subtracted, added up, or asked for a quantile."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from control_plane.analysis.distributions import Quantile, increase, mean, merged, quantile
from control_plane.model.sample import Distribution

_finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
_counts = st.integers(0, 2**62)


@st.composite
def bounds(draw: st.DrawFn) -> tuple[float, ...]:
    return tuple(sorted(draw(st.lists(_finite, max_size=6, unique_by=lambda b: b + 0.0))))


@st.composite
def distributions(draw: st.DrawFn, upper: tuple[float, ...] | None = None) -> Distribution:
    found = draw(bounds()) if upper is None else upper
    counts = draw(st.lists(_counts, min_size=len(found) + 1, max_size=len(found) + 1))
    return Distribution(bounds=found, counts=tuple(counts), sum=draw(st.none() | st.floats(0, 1e12)))


def dist(*counts: int, upper: tuple[float, ...] = (1.0, 2.0, 4.0), total: float | None = None) -> Distribution:
    return Distribution(bounds=upper, counts=counts, sum=total)


# -- quantile -----------------------------------------------------------------------------------


@given(distribution=distributions(), share=st.floats(0, 1))
@example(distribution=Distribution(bounds=(1.0,), counts=(2**53 + 3, 0), sum=None), share=1.0)
@example(distribution=Distribution(bounds=(), counts=(3,), sum=None), share=0.5)
def test_a_quantile_lies_in_the_bucket_that_holds_its_rank(distribution: Distribution, share: float) -> None:
    found = quantile(distribution, share)
    total = sum(distribution.counts)
    if total == 0:
        assert found is None
        return
    assert found is not None
    if found.high is None:
        assert found.value is None
        assert found.low == (distribution.bounds[-1] if distribution.bounds else 0.0)
        return
    assert found.value is not None
    assert found.low <= found.value <= found.high
    bucket = distribution.bounds.index(found.high)
    assert distribution.counts[bucket] > 0
    up_to = sum(distribution.counts[: bucket + 1])
    assert up_to >= min(share * total, total)
    assert sum(distribution.counts[:bucket]) <= share * total * (1 + 1e-12)


@given(distribution=distributions(), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_larger_share_never_has_a_smaller_quantile(distribution: Distribution, shares: tuple[float, float]) -> None:
    low, high = (quantile(distribution, share) for share in sorted(shares))
    assume(low is not None and high is not None)
    assert low is not None
    assert high is not None
    assert (low.value if low.value is not None else math.inf) <= (high.value if high.value is not None else math.inf)
    assert low.low <= high.low


@given(values=st.lists(st.floats(0, 8), min_size=1, max_size=60), share=st.floats(0.01, 1))
def test_the_true_quantile_lies_between_low_and_high(values: list[float], share: float) -> None:
    upper = (1.0, 2.0, 4.0)
    counts = [0] * 4
    for value in values:
        counts[next((i for i, b in enumerate(upper) if value <= b), 3)] += 1
    found = quantile(dist(*counts), share)
    truth = sorted(values)[max(0, math.ceil(min(share * len(values), len(values))) - 1)]
    assert found is not None
    assert found.low <= truth
    assert found.high is None or truth <= found.high


def test_a_quantile_is_interpolated_as_prometheus_does() -> None:
    assert quantile(dist(10, 10, 0, 0), 0.5) == Quantile(value=1.0, low=0.0, high=1.0)
    assert quantile(dist(10, 10, 0, 0), 0.75) == Quantile(value=1.5, low=1.0, high=2.0)
    assert quantile(dist(0, 0, 4, 0), 0.25) == Quantile(value=2.5, low=2.0, high=4.0)


def test_above_the_last_bound_only_the_bound_is_known() -> None:
    assert quantile(dist(0, 0, 0, 5), 0.5) == Quantile(value=None, low=4.0, high=None)
    assert quantile(dist(5, upper=()), 0.5) == Quantile(value=None, low=0.0, high=None)


def test_nothing_observed_has_no_quantile_and_no_mean() -> None:
    assert quantile(dist(0, 0, 0, 0), 0.5) is None
    assert mean(dist(0, 0, 0, 0, total=0.0)) is None


def test_a_mean_is_exact_and_unknown_without_a_sum() -> None:
    assert mean(dist(1, 1, 0, 2, total=10.0)) == 2.5
    assert mean(dist(1, 1, 0, 2)) is None


# -- increase -----------------------------------------------------------------------------------


@given(data=st.data())
def test_the_increase_and_the_first_look_add_up_to_the_last(data: st.DataObject) -> None:
    first = data.draw(distributions())
    more = data.draw(distributions(first.bounds))
    last = merged([first, more])
    assert last is not None
    found = increase(first, last)
    assert found.counts == more.counts
    assert (found.sum is None) == (first.sum is None or more.sum is None)


@given(data=st.data())
def test_no_increase_has_a_negative_count(data: st.DataObject) -> None:
    first = data.draw(distributions())
    last = data.draw(distributions(first.bounds))
    assert min(increase(first, last).counts) >= 0


def test_counters_that_began_anew_count_from_zero() -> None:
    last = dist(1, 0, 0, 0, total=0.5)
    assert increase(dist(5, 0, 0, 0, total=3.0), last) == last
    assert increase(dist(0, 5, 0, 0, total=3.0), dist(9, 4, 0, 0, total=9.0)) == dist(9, 4, 0, 0, total=9.0)
    assert increase(None, last) == last


def test_looks_with_different_bounds_are_not_subtracted() -> None:
    with pytest.raises(ValueError, match="bounds"):
        increase(dist(1, 0, upper=(1.0,)), dist(1, 0, upper=(2.0,)))


# -- merged -------------------------------------------------------------------------------------


@given(data=st.data())
def test_merged_counts_are_the_sums_of_the_counts(data: st.DataObject) -> None:
    upper = data.draw(bounds())
    parts = data.draw(st.lists(distributions(upper), min_size=1, max_size=5))
    found = merged(parts)
    assert found is not None
    assert found.bounds == upper
    assert found.counts == tuple(sum(d.counts[i] for d in parts) for i in range(len(upper) + 1))
    assert sum(found.counts) == sum(sum(d.counts) for d in parts)
    known = [d.sum for d in parts if d.sum is not None]
    assert found.sum == (sum(known) if len(known) == len(parts) else None)


def test_there_is_no_honest_sum_of_different_bounds_or_of_nothing() -> None:
    assert merged([]) is None
    assert merged([dist(1, 0, upper=(1.0,)), dist(1, 0, upper=(2.0,))]) is None
