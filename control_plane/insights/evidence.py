"""What an insight stands on: numbers and names, each behind a handle."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Control and direction characters, and what would be markup wherever the text is shown.
_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069<>`{}\[\]]")
LONGEST_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number, and what it means in our own words."""

    means: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """Everything that may be spoken of."""

    subject: str  # what it is about, in our own words: "a change of an inference server"
    situation: str  # what was decided, in our own words, without names or numbers
    facts: Sequence[Fact]
    names: Mapping[str, str]  # kind (SERVER, MODEL) → the name, which nobody vouches for
    fallback: str  # the same, in sentences that nobody had to write

    @property
    def handles(self) -> dict[str, str]:
        """This will give what each handle is filled with."""
        numbers = {f"E{place}": shown(fact) for place, fact in enumerate(self.facts, start=1)}
        return numbers | {kind: harmless(name) for kind, name in self.names.items()}

    @property
    def digest(self) -> str:
        """This will tell grounds apart."""
        said = [self.subject, self.situation, [[f.means, f.value, f.unit] for f in self.facts], dict(self.names)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def shown(fact: Fact) -> str:
    """This will write a number with its unit, as people read it."""
    if fact.unit == "ratio":
        return f"{fact.value:.0%}"
    if fact.unit == "times":
        return f"{fact.value:.2f} times"
    if fact.unit == "bytes":
        return f"{fact.value / 1e9:,.1f} GB"
    if fact.unit == "usd":
        return f"{fact.value:,.0f} $"
    number = f"{fact.value:,.0f}" if abs(fact.value) >= 100 else f"{fact.value:.3g}"
    return number if fact.unit in ("count", "") else f"{number} {fact.unit}"


def harmless(name: str) -> str:
    """This will give a name as it may stand in a sentence."""
    plain = _UNSHOWABLE.sub("", name)
    return plain if len(plain) <= LONGEST_NAME else plain[:LONGEST_NAME] + "…"


def without_numbers(text: str) -> str:
    """This will take digits out of our own words, so that the model has none to repeat."""
    return re.sub(r"[\d.,]*\d[\d.,%]*", "…", text)
