"""A model of which only the name is known: the nearest known one, made as large as its name says."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace

from control_plane.decisions.performance.memory import parameters
from control_plane.model.architecture import Architecture, FeedForwardLayers

_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
_ACTIVE = re.compile(r"(?<![\w.])a(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
GIGA = 1e9


def active_parameters(model: Architecture) -> float:
    """This will count the weights that one token passes."""
    idle = sum(
        group.count * group.matrices * model.hidden * (group.experts - group.experts_per_token) * group.width
        for group in model.feed_forward
    )
    return parameters(model) - idle


def like_its_name(name: str, known: Iterable[Architecture]) -> Architecture | None:
    """This will guess an architecture from sizes such as 8B or 235B-A22B in a name; None when it says none."""
    word = name.rpartition("/")[2].replace("_", "-")
    sizes, actives = _SIZE.findall(word), _ACTIVE.findall(word)
    if not sizes:
        return None
    total = float(sizes[0]) * GIGA
    active = float(actives[0]) * GIGA if actives else total

    def distance(model: Architecture) -> float:
        return abs(math.log(parameters(model) / total)) + abs(math.log(active_parameters(model) / active))

    nearest = min((model for model in known if model.has_experts == bool(actives)), key=distance, default=None)
    if nearest is None:
        return None
    return replace(
        _resized(nearest, total), name=name, guessed=True, source=f"guessed from its name, like {nearest.name}"
    )


def _resized(model: Architecture, total: float) -> Architecture:
    """This will change depth by the root of the ratio and widths by the rest, as families of models do."""
    ratio = total / parameters(model)
    depth = math.sqrt(math.sqrt(ratio))
    attention = tuple(replace(g, count=max(round(g.count * depth), 1)) for g in model.attention)
    deeper = tuple(replace(g, count=max(round(g.count * depth), 1)) for g in model.feed_forward)
    grown = replace(model, attention=attention, feed_forward=deeper)
    for _ in range(8):
        missing = total - parameters(grown)
        networks = sum(
            g.count * g.matrices * grown.hidden * (g.experts * g.width + g.shared_width) for g in grown.feed_forward
        )
        factor = max(1.0 + missing / max(networks, 1.0), 0.2)
        grown = replace(grown, feed_forward=tuple(_wider(g, factor) for g in grown.feed_forward))
    return grown


def _wider(group: FeedForwardLayers, factor: float) -> FeedForwardLayers:
    shared = max(round(group.shared_width * factor), 1) if group.shared_width else 0
    return replace(group, width=max(round(group.width * factor), 64), shared_width=shared)
