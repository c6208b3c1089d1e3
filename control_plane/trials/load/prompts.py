"""What requests say: made-up words of a wanted length in tokens, some of them beginning alike. Pure.

No tokenizer is needed: the server says how many tokens two prompts of known length had, and the line through them
is the measure (`Measure`). Words are drawn, so that no two prompts share more than the prefix they are meant to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from control_plane.model.errors import InvalidRequest

# Short words, one token each in most vocabularies; what they mean does not matter.
WORDS = (
    "time", "way", "year", "work", "day", "man", "world", "life", "hand", "part", "child", "eye", "woman", "place",
    "week", "case", "point", "hour", "fact", "home", "night", "water", "room", "area", "money", "story", "book",
    "word", "side", "head", "house", "page", "light", "river", "table", "sound", "paper", "music", "field", "stone",
    "color", "green", "north", "south", "winter", "summer", "bread", "glass", "horse", "train", "plane", "wheel",
    "sugar", "metal", "cloud", "storm", "island", "garden", "window", "bridge", "letter", "number", "doctor",
    "farmer", "market", "street", "engine", "silver", "copper", "orange", "yellow", "purple", "forest", "desert",
    "valley", "mountain", "open", "close", "move", "run", "walk", "talk", "read", "write", "build", "break",
    "carry", "catch", "climb", "count", "cross", "dance", "draw", "drink", "drive", "fall", "find", "give", "grow",
    "hold", "jump", "keep", "laugh", "learn", "leave", "listen", "look", "make", "meet", "need", "paint", "pass",
    "pick", "play", "pull", "push", "reach", "ride", "rise", "send", "sing", "sit", "sleep", "speak", "spend",
    "stand", "start", "stop", "swim", "take", "teach", "tell", "think", "throw", "touch", "turn", "wait", "wake",
    "want", "wash", "watch", "wear", "win", "wish",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How a server counts: tokens = `around` + words × `per_word`."""

    around: float = 0.0  # what the chat template and the markers of begin and end add
    per_word: float = 1.0

    def words(self, tokens: int) -> int:
        """This will give how many words make a prompt of so many tokens; one at least."""
        return max(1, round((tokens - self.around) / self.per_word))

    @staticmethod
    def through(*, few: tuple[int, int], many: tuple[int, int]) -> Measure:
        """This will measure by two prompts; each is (words, tokens as the server counted them)."""
        per_word = (many[1] - few[1]) / (many[0] - few[0])
        if per_word <= 0:
            raise InvalidRequest(f"the server counts {many[1]} tokens in {many[0]} words and {few[1]} in {few[0]}")
        return Measure(around=few[1] - few[0] * per_word, per_word=per_word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Which prompts begin alike: `groups` of prefixes, each `tokens` long, given to a `share` of requests."""

    groups: int = 0
    tokens: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        """This will refuse what cannot be, with InvalidRequest."""
        if self.groups < 0 or self.tokens < 0 or not 0 <= self.share <= 1:
            raise InvalidRequest("prefixes: a number of groups, their tokens, and a share of requests from 0 to 1")


class Prompts:
    """Makes one prompt after the other. The same seed makes the same prompts."""

    def __init__(self, measure: Measure, sharing: Sharing, random: np.random.Generator) -> None:
        """`random` is used up as prompts are made."""
        self._measure, self._sharing, self._random = measure, sharing, random
        self._prefix_words = round(sharing.tokens / measure.per_word) if sharing.groups else 0
        self._prefixes = [_words(self._prefix_words, random) for _ in range(sharing.groups)]

    def prompt(self, tokens: int) -> str:
        """This will make a prompt of about so many tokens, its shared prefix included."""
        words = self._measure.words(tokens)
        # At least one word of its own: an equal prompt would be answered from the cache as a whole.
        if self._prefixes and words > self._prefix_words and self._random.random() < self._sharing.share:
            prefix = self._prefixes[self._random.integers(len(self._prefixes))]
            return f"{prefix} {_words(words - self._prefix_words, self._random)}"
        return _words(words, self._random)


def _words(count: int, random: np.random.Generator) -> str:
    return " ".join(WORDS[i] for i in random.integers(len(WORDS), size=count))
