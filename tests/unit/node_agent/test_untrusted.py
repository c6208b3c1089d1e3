"""Text from other programs: whatever it holds, what is kept is harmless."""

from __future__ import annotations

import unicodedata

import pytest
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


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s3://AKIA:secret@bucket/models/llama", "s3://bucket/models/llama"),
        ("https://user:p%40ss@hub.example/m?token=secret#x", "https://hub.example/m"),
        ("cannot load https://t0ken@hub.example/a?sig=secret now", "cannot load https://hub.example/a now"),
        ("http://127.0.0.1:8000/metrics: refused", "http://127.0.0.1:8000/metrics: refused"),
        ("meta-llama/Llama-3.1-8B@main", "meta-llama/Llama-3.1-8B@main"),
    ],
)
def test_addresses_lose_who_signs_in_and_what_is_signed(text: str, kept: str) -> None:
    assert clean_text(text) == kept
