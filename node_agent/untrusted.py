"""Text and numbers that another program wrote: cut to size, without control characters."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

TEXT_LIMIT = 256  # characters; a model's path is the longest thing worth keeping
KEYS_LIMIT = 64  # the engines' allow-lists hold about half as many
_LARGEST_EXACT = 2**53  # beyond it JSON readers disagree about an integer

# Who signs in and what a signed address carries: the parts of an address that are, or may be, secrets.
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"(://[^?#\s]*)[?#]\S*")

Plain = str | int | float | bool


def clean_text(value: str, *, limit: int = TEXT_LIMIT) -> str:
    """This will give `value` without control, format and surrogate characters, at most `limit` long.

    NUL breaks Postgres, a lone surrogate breaks UTF-8, and bidirectional marks make text lie. Addresses in it lose
    their user information and query: a model's path may be one that signs in.
    """
    head = value[: limit * 4]  # enough to fill the limit from honest text, and no more work than that
    if "://" in head:
        head = _QUERY.sub(r"\1", _USER.sub("", head))
    if head.isprintable():  # nearly always: then there is none of them in it
        return head.strip()[:limit]
    kept = "".join(character for character in head if unicodedata.category(character)[0] != "C")
    return kept.strip()[:limit]


def clean_value(value: object) -> Plain | None:
    """This will give a plain value that is safe to keep, or None for nothing, nested or absurd ones."""
    match value:
        case bool():
            return value
        case int():
            return value if abs(value) <= _LARGEST_EXACT else None
        case float():
            return value if math.isfinite(value) else None
        case str():
            return clean_text(value) or None
        case _:
            return None


def clean_mapping(values: Mapping[str, object]) -> dict[str, Plain]:
    """This will keep what clean_value keeps, for at most KEYS_LIMIT keys."""
    kept: dict[str, Plain] = {}
    for key, value in values.items():
        cleaned = clean_value(value)
        if cleaned is not None and len(kept) < KEYS_LIMIT:
            kept[clean_text(key)] = cleaned
    return kept


def from_text(value: str) -> Plain | None:
    """This will read what a Python program printed: True, 16, 0.92, auto; None for None and the empty text."""
    text = clean_text(value)
    if text in ("", "None"):
        return None
    if text in ("True", "False"):
        return text == "True"
    for read in (int, float):
        try:
            return clean_value(read(text))
        except ValueError:
            continue
    return text


def read_json(body: bytes) -> Any:
    """This will parse JSON, or give None for anything that is not JSON, however deep or long."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def object_in(value: object) -> Mapping[str, object]:
    """This will give `value` when it is a JSON object, and an empty one otherwise."""
    return value if isinstance(value, dict) else {}
