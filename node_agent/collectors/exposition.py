"""Reads the Prometheus text format, only as far as it is wanted.

The format: https://prometheus.io/docs/instrumenting/exposition_formats. OpenMetrics bodies
pass too, since their `# EOF`, units and exemplars are all behind a `#`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

Labels = tuple[tuple[str, str], ...]  # sorted by name
Series = Mapping[Labels, float]

MAX_SAMPLES = 50_000  # wanted ones; the largest real body holds about 2,000
MAX_SERIES = 20_000  # of one metric; 64 ranks with 45 buckets and two kinds of requests have about 6,000
MAX_WANTED_BYTES = 4 * 1024 * 1024  # real bodies have 0.4 MB of them
MAX_LINES = 500_000  # without comments; the largest real body has about 1,000, one of 64 ranks would have 64,000
MAX_LINE_BYTES = 16_384  # vLLM's cache_config_info, the longest known line, has about 1,500
MAX_LABELS = 128  # the same line has 45

# A line's name, and the line from there on. Found one by one, because a list of 16 MiB of lines takes 350 MB.
_LINE = re.compile(rb"^[ \t\r\f\v]*([A-Za-z_:][A-Za-z0-9_:]*)([^\n]*)", re.MULTILINE)
_BLANKS = re.compile(r"\s*")
_LABEL = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,?)')
_CLOSE = re.compile(r"\s*\}")
_VALUE = re.compile(r"\s*([^\s#]+)(?:\s+(-?[0-9.eE+]+))?\s*(?:#.*)?$")
_NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)", re.I)
_ESCAPE = re.compile(r"\\(.)")
# What was read before, by its bytes: of a host's engines some hundred series, which stay the same. Whoever invents new
# ones at every scrape fills this and empties it again.
MAX_KNOWN_LABELS = 4096
MAX_KNOWN_BYTES = 512  # of one series; those of engines have 40 to 200
_LABELS: dict[bytes, Labels] = {}
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """What one body said about the wanted metrics."""

    samples: Mapping[str, Series]  # by the name that the caller gave to a metric, then by labels
    malformed_lines: int = 0  # wanted lines that could not be read
    dropped_samples: int = 0  # lines of metrics that have too many
    incomplete: frozenset[str] = frozenset()  # metrics of which a part is missing, and could pass for the whole

    def series(self, name: str) -> Series:
        """This will give the series of one metric, none when it is not exposed, or too often."""
        return self.samples.get(name, {})


def read(body: bytes, wanted: Mapping[str, str]) -> Exposition:
    """This will read the samples whose metric name is in `wanted`, under the name it maps to.

    A line that cannot be read is counted and skipped, and of a metric with too many series none is kept; nothing
    is raised. Of two samples with the same name and labels the later one counts.
    """
    names = {name.encode(): ours for name, ours in wanted.items()}
    samples: dict[str, dict[Labels, float]] = {}
    lines: dict[str, int] = {}
    overflowing: set[str] = set()
    broken: set[str] = set()
    taken = taken_bytes = malformed = dropped = 0
    for number, line in enumerate(_LINE.finditer(body)):
        if number >= MAX_LINES:
            overflowing.update(names.values())  # whatever stands behind this is not looked at
            break
        name = names.get(line[1])
        if name is None:
            continue
        seen = lines[name] = lines.get(name, 0) + 1
        if seen > MAX_SERIES or taken >= MAX_SAMPLES or taken_bytes >= MAX_WANTED_BYTES:
            overflowing.add(name)
            dropped += 1
            continue
        taken += 1
        taken_bytes += len(line[0])
        parsed = _read_rest(line[2])
        if parsed is None:
            malformed += 1
            broken.add(name)
        else:
            samples.setdefault(name, {})[parsed[0]] = parsed[1]
    for name in overflowing:
        dropped += len(samples.pop(name, {}))
    return Exposition(
        samples=samples, malformed_lines=malformed, dropped_samples=dropped, incomplete=frozenset(overflowing | broken)
    )


def _read_rest(rest: bytes) -> tuple[Labels, float] | None:
    """This will read labels and value behind a metric's name, None when that is not possible.

    An engine says the same labels at every scrape: those that were read before need no second reading.
    """
    if len(rest) > MAX_LINE_BYTES:
        return None
    head, closed, tail = rest.rpartition(b"}")
    known = _LABELS.get(head) if closed else None
    if known is not None:
        value = _number(tail.decode("utf-8", "replace"), 0)
        return None if value is None else (known, value)
    found = _read_line(rest.decode("utf-8", "replace"))
    if found is None:
        return None
    labels, position, value = found
    if labels and position == len(head) + 1 <= MAX_KNOWN_BYTES and rest.isascii():  # then a byte is a character
        if len(_LABELS) >= MAX_KNOWN_LABELS:
            _LABELS.clear()
        _LABELS[head] = labels
    return labels, value


def _number(line: str, position: int) -> float | None:
    matched = _VALUE.match(line, position)
    if matched is None or _NUMBER.fullmatch(matched[1]) is None:
        return None
    return float(matched[1])


def _read_line(line: str) -> tuple[Labels, int, float] | None:
    """This will give the labels, where they end, and the value."""
    position = _end_of_blanks(line)
    labels: Labels = ()
    if line.startswith("{", position):
        found = _read_labels(line, position + 1)
        if found is None:
            return None
        labels, position = found
    elif position == 0:
        return None  # the value must be set apart from a bare name
    value = _number(line, position)
    return None if value is None else (labels, position, value)


def _end_of_blanks(line: str) -> int:
    """This will give where something stands for the first time."""
    matched = _BLANKS.match(line)
    assert matched is not None
    return matched.end()


def _read_labels(line: str, position: int) -> tuple[Labels, int] | None:
    """This will read labels up to the closing brace, and where the rest begins."""
    labels: dict[str, str] = {}
    separated = True
    while (closed := _CLOSE.match(line, position)) is None:
        matched = _LABEL.match(line, position)
        if matched is None or not separated or matched[1] in labels or len(labels) >= MAX_LABELS:
            return None
        value = matched[2]
        # Interned, as the same few names and values are in hundreds of series that are remembered.
        labels[sys.intern(matched[1])] = sys.intern(_ESCAPE.sub(_unescape, value) if "\\" in value else value)
        separated = matched[3] == ","
        position = matched.end()
    return tuple(sorted(labels.items())), closed.end()


def _unescape(matched: re.Match[str]) -> str:
    """This will give what an escape stands for; an unknown one stays as it is, as in Prometheus' own client."""
    return _ESCAPES.get(matched[1], matched[0])
