"""Reads the Prometheus text format, only as far as it is wanted.

The format: https://prometheus.io/docs/instrumenting/exposition_formats. OpenMetrics bodies
pass too, since their `# EOF`, units and exemplars are all behind a `#`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Labels = tuple[tuple[str, str], ...]  # sorted by name
Series = Mapping[Labels, float]

MAX_SAMPLES = 100_000  # wanted ones; the largest real body holds about 2,000
MAX_LINE_CHARACTERS = 16_384  # vLLM's cache_config_info, the longest known line, has about 1,500
MAX_LABELS = 128  # the same line has 45

_NAME = re.compile(r"\s*([A-Za-z_:][A-Za-z0-9_:]*)\s*")
_LABEL = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,?)')
_CLOSE = re.compile(r"\s*\}")
_VALUE = re.compile(r"\s*([^\s#]+)(?:\s+(-?[0-9.eE+]+))?\s*(?:#.*)?$")
_NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)", re.I)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """What one body said about the wanted metrics."""

    samples: Mapping[str, Series]  # by the name that the caller gave to a metric, then by labels
    malformed_lines: int = 0  # wanted lines that could not be read
    dropped_samples: int = 0  # wanted lines beyond MAX_SAMPLES

    def series(self, name: str) -> Series:
        """This will give the series of one metric, none when it is not exposed."""
        return self.samples.get(name, {})


def read(body: bytes, wanted: Mapping[str, str]) -> Exposition:
    """This will read the samples whose metric name is in `wanted`, under the name it maps to.

    A line that cannot be read is counted and skipped; nothing is raised. Of two samples with
    the same name and labels the later one counts.
    """
    samples: dict[str, dict[Labels, float]] = {}
    taken = malformed = dropped = 0
    for line in body.decode("utf-8", "replace").split("\n"):  # not splitlines: labels may hold U+2028
        named = _NAME.match(line)
        if named is None or (name := wanted.get(named[1])) is None:
            continue
        parsed = _read_rest(line, named.end())
        if parsed is None:
            malformed += 1
        elif taken >= MAX_SAMPLES:
            dropped += 1
        else:
            taken += 1
            samples.setdefault(name, {})[parsed[0]] = parsed[1]
    return Exposition(samples=samples, malformed_lines=malformed, dropped_samples=dropped)


def _read_rest(line: str, position: int) -> tuple[Labels, float] | None:
    """This will read labels and value behind a metric's name, None when that is not possible."""
    if len(line) > MAX_LINE_CHARACTERS:
        return None
    labels: Labels = ()
    if line.startswith("{", position):
        found = _read_labels(line, position + 1)
        if found is None:
            return None
        labels, position = found
    elif position == 0 or not line[position - 1].isspace():
        return None  # the value must be set apart from a bare name
    matched = _VALUE.match(line, position)
    if matched is None or _NUMBER.fullmatch(matched[1]) is None:
        return None
    return labels, float(matched[1])


def _read_labels(line: str, position: int) -> tuple[Labels, int] | None:
    """This will read labels up to the closing brace, and where the rest begins."""
    labels: dict[str, str] = {}
    separated = True
    while (closed := _CLOSE.match(line, position)) is None:
        matched = _LABEL.match(line, position)
        if matched is None or not separated or matched[1] in labels or len(labels) >= MAX_LABELS:
            return None
        value = matched[2]
        labels[matched[1]] = _ESCAPE.sub(_unescape, value) if "\\" in value else value
        separated = matched[3] == ","
        position = matched.end()
    return tuple(sorted(labels.items())), closed.end()


def _unescape(matched: re.Match[str]) -> str:
    """This will give what an escape stands for; an unknown one stays as it is, as in Prometheus' own client."""
    return _ESCAPES.get(matched[1], matched[0])
