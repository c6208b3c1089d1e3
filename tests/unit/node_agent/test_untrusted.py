"""Text from other programs: whatever it holds, what is kept is harmless."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from node_agent.untrusted import clean_text


@given(st.text(max_size=100), st.integers(1, 50))
def test_what_is_kept_is_the_text_without_control_characters_cut_to_size(text: str, limit: int) -> None:
    harmless = "".join(c for c in text[: limit * 4] if not unicodedata.category(c).startswith("C"))
    assert clean_text(text, limit=limit) == harmless.strip()[:limit]


@given(st.text(alphabet="abc \u00e9\u202e\x00\ud800", max_size=20))
def test_nul_surrogates_and_marks_that_turn_text_around_are_never_kept(text: str) -> None:
    assert not set(clean_text(text)) & set("\u202e\x00\ud800")
