"""No secret leaves: whatever it stands in, and however it looks."""

from __future__ import annotations

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.access import keys
from control_plane.model.access import Scope
from control_plane.runtime import redaction
from tests.fakes.clock import START

SECRETS = [
    keys.make(name="x", scopes=[Scope.READ], life=keys.USUAL_LIFE, created_by="x", now=START).text,
    "oi1.8005.abcdefghijklmnopqrstuvwxyz.0123456789abcdef",
    "gsk_abcdefghijklmnop1234567890",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZw",
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIGV\n-----END EC PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS, ids=("key", "join-token", "groq", "jwt", "pem"))  # a key is new each time
@pytest.mark.parametrize("around", ["{}", "key is {}.", "https://x/?a={}&b=1", '{{"a": "{}"}}', "Bearer {}"])
def test_a_secret_is_replaced_wherever_it_stands(secret: str, around: str) -> None:
    text = redaction.text(around.format(secret))
    assert secret.split("_")[-1] not in text
    assert "***" in text


def test_a_password_in_a_url_is_replaced_and_the_rest_stays() -> None:
    assert redaction.text("at postgresql://me:hunter2@db:5432/x ok") == "at postgresql://***@db:5432/x ok"


@pytest.mark.parametrize(
    "name", ["token", "api_key", "password", "client_secret", "Authorization", "private-key", "set-cookie"]
)
def test_a_text_under_a_secret_name_is_replaced_however_deep(name: str) -> None:
    assert redaction.value({"a": [{name: "anything"}]}) == {"a": [{name: "***"}]}


def test_what_only_sounds_like_a_secret_stays() -> None:
    kept = {
        "prompt_tokens": 12, "tokens": [1, 2], "token_rate": 1.5, "key_id": "abc", "api_key": None, "monkey": "x",
        "model": "meta-llama/Llama-3.1-8B", "gpu": "GPU-d79aa688-b247-151f-5428-f3e2e990b544", "url": "http://h:1/x",
    }  # fmt: skip
    assert redaction.value(kept) == kept


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_whatever_is_given_something_is_given_back(given_value: object) -> None:
    redaction.value(given_value)


def test_what_lies_deeper_than_anything_of_ours_is_left_out() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    redaction.value(deep)
    while deep:  # so that freeing it does not recurse either
        deep = deep.pop()  # type: ignore[assignment]


def test_a_log_line_has_no_secret_neither_in_words_nor_in_a_trace() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(redaction.LogFilter())
    logger = logging.Logger("somebody")
    logger.addHandler(handler)
    logger.warning("refused %s at %d", SECRETS[0], 7)
    try:
        raise ValueError(f"bad {SECRETS[1]}")
    except ValueError:
        logger.exception("failed")
    assert "refused *** at 7" in written.getvalue()
    assert "ValueError: bad ***" in written.getvalue()
    for secret in SECRETS:
        assert secret not in written.getvalue()
