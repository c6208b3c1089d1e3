"""What a caller would rather have: Accept and Accept-Encoding, with their qualities (RFC 9110, section 12.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOST_ENTRIES = 64


def preferred(header: str, offered: Sequence[str]) -> str | None:
    """This will give which of `offered` a header likes most, the first of equals; None when it likes none."""
    asked = _qualities(header)
    best, best_quality = None, 0.0
    for name in offered:
        quality = _quality(asked, name)
        if quality > best_quality:
            best, best_quality = name, quality
    return best


def _qualities(header: str) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for entry in header.split(",")[:MOST_ENTRIES]:
        name, *parameters = (part.strip() for part in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                quality = _number(value.strip())
        found[name.lower()] = quality
    return found


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value <= 1 else 0.0


def _quality(asked: Mapping[str, float], name: str) -> float:
    for pattern in (name, f"{name.partition('/')[0]}/*", "*/*" if "/" in name else "*"):
        if pattern in asked:
            return asked[pattern]
    return 0.0
