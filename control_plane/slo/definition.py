"""What a promise must say to be one that can be kept count of."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from control_plane.model.slo import GOODPUT_LIMITS, HISTOGRAMS, Indicator, SloDefinition
from control_plane.slo.guard import OUTAGE_SHARE

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?")
ENGINES = ("vllm", "sglang", "tgi")
# Less than a request in ten good is no promise; more than five nines cannot be told from luck.
LEAST_TARGET, MOST_TARGET = round(1.0 - OUTAGE_SHARE, 6), 0.99999
SHORTEST_DAYS, LONGEST_DAYS = 1, 90
LONGEST_SECONDS = 3600.0

Refusal = tuple[str, str]  # a JSON pointer, and what is wrong there


def refusals(definition: SloDefinition) -> Iterator[Refusal]:
    """This will say everything that is wrong with a definition, each with its JSON pointer."""
    if not NAME.fullmatch(definition.name):
        yield "/name", "a name has up to 128 lower-case letters, digits, dots, underscores and hyphens"
    if not LEAST_TARGET < definition.target_ratio <= MOST_TARGET:
        yield "/target_ratio", f"a target lies above {LEAST_TARGET:g} and is at most {MOST_TARGET:g}"
    if not SHORTEST_DAYS <= definition.window_days <= LONGEST_DAYS:
        yield "/window_days", f"a window has {SHORTEST_DAYS} to {LONGEST_DAYS} days"
    if definition.scope.engine is not None and definition.scope.engine not in ENGINES:
        yield "/scope/engine", f"engines are {', '.join(ENGINES)}"
    yield from _limits(definition)
    said = definition.scope.said()
    if definition.route is not None and not said.keys() & {"model", "server", "namespace"}:
        yield (
            "/route",
            (
                "no engine says by which route a request came; name the model, server or namespace behind the route in "
                "scope, and the route is carried along"
            ),
        )


def _limits(definition: SloDefinition) -> Iterator[Refusal]:
    indicator = definition.indicator
    needs_threshold = indicator in HISTOGRAMS
    if needs_threshold and definition.threshold_seconds is None:
        yield "/threshold_seconds", f"{indicator} needs the seconds up to which an event is good"
    if not needs_threshold and definition.threshold_seconds is not None:
        yield "/threshold_seconds", f"{indicator} has no threshold_seconds"
    if definition.threshold_seconds is not None and not _is_length(definition.threshold_seconds):
        yield "/threshold_seconds", f"seconds above 0, up to {LONGEST_SECONDS:g}"
    if indicator is Indicator.GOODPUT and not definition.limits:
        yield "/limits", f"goodput needs at least one limit: {', '.join(GOODPUT_LIMITS)}"
    if indicator is not Indicator.GOODPUT and definition.limits:
        yield "/limits", f"{indicator} has no limits; goodput has"
    for name, limit in definition.limits.items():
        if name not in GOODPUT_LIMITS:
            yield f"/limits/{name}", f"limits are {', '.join(GOODPUT_LIMITS)}"
        elif not _is_length(limit):
            yield f"/limits/{name}", f"seconds above 0, up to {LONGEST_SECONDS:g}"
    floor = definition.floor_tokens_per_second
    if (indicator is Indicator.THROUGHPUT_FLOOR) != (floor is not None):
        yield "/floor_tokens_per_second", "throughput_floor needs it, and nothing else has it"
    if floor is not None and not (math.isfinite(floor) and floor > 0):
        yield "/floor_tokens_per_second", "tokens per second above 0"


def _is_length(seconds: float) -> bool:
    return math.isfinite(seconds) and 0 < seconds <= LONGEST_SECONDS
