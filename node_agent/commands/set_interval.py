"""Configure: another sampling interval, within what the host's owner allows."""

from __future__ import annotations

from node_agent.sampler import Sampler


def set_interval(sampler: Sampler, seconds: float, *, shortest_seconds: float, longest_seconds: float) -> str | None:
    """This will change the cadence, or say why the host refuses."""
    if not shortest_seconds <= seconds <= longest_seconds:
        return f"{seconds:g} s is outside the {shortest_seconds:g} to {longest_seconds:g} s that this host accepts"
    sampler.set_interval(seconds)
    return None
