"""CollectNow: a sample outside the cadence."""

from __future__ import annotations

from node_agent.sampler import Sampler


def collect_now(sampler: Sampler, command_id: str) -> None:
    """This will ask the sampler for a tick that carries the command's id."""
    sampler.request(command_id)
