"""Keys as text: made, recognised, compared."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.access import keys
from control_plane.access.rates import MOST_BUCKETS, Buckets, Rate
from control_plane.model.access import KeyState, Scope
from control_plane.model.errors import InvalidRequest
from tests.fakes.clock import START, FakeClock


def test_a_key_fits_itself_and_no_other() -> None:
    first, second = (
        keys.make(name="n", scopes=[Scope.READ], life=keys.USUAL_LIFE, created_by="x", now=START) for _ in range(2)
    )
    assert keys.fits(first.text, first.key)
    assert not keys.fits(second.text, first.key)
    assert keys.key_id_of(first.text) == first.key.key_id
    assert first.text not in repr(first.key)


@given(st.text(max_size=300))
def test_no_text_that_is_no_key_has_an_id(text: str) -> None:
    found = keys.key_id_of(text)
    assert found is None or text.startswith(f"oik_{found}_")


def test_a_key_expires_at_its_moment_and_revocation_comes_first() -> None:
    made = keys.make(name="n", scopes=[Scope.READ], life=timedelta(days=1), created_by="x", now=START).key
    assert made.state(START) is KeyState.ACTIVE
    assert made.state(START + timedelta(days=1)) is KeyState.EXPIRED


@pytest.mark.parametrize(
    "wrong", [{"scopes": []}, {"name": " "}, {"life": timedelta(0)}, {"life": timedelta(days=99999)}]
)
def test_a_key_that_makes_no_sense_is_not_made(wrong: dict[str, object]) -> None:
    right = {"name": "n", "scopes": [Scope.READ], "life": timedelta(days=1), "created_by": "x", "now": START}
    with pytest.raises(InvalidRequest):
        keys.make(**(right | wrong))  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 5), min_size=1, max_size=50))
def test_a_bucket_never_gives_more_than_its_size_and_what_came_in(pauses: list[float]) -> None:
    clock, rate = FakeClock(), Rate(per_second=2, at_once=5)
    buckets = Buckets(clock)
    taken = 0
    for pause in pauses:
        clock.advance(pause)
        standing = buckets.take("x", rate)
        taken += standing.allowed
        assert 0 <= standing.left <= 5
    assert taken <= 5 + 2 * sum(pauses) + 1e-6


def test_buckets_are_bounded() -> None:
    buckets = Buckets(FakeClock())
    for n in range(MOST_BUCKETS + 10):
        buckets.take(str(n), Rate(per_second=1, at_once=1))
    assert len(buckets._buckets) == MOST_BUCKETS
