"""CollectNow: a sample outside the cadence."""

from __future__ import annotations

from node_agent.sampler import Sampler


def collect_now(sampler: Sampler, command_id: str, valid_for_seconds: float) -> str | None:
    """This will ask the sampler for a tick that carries the command's id, or say why it will not come."""
    if valid_for_seconds <= 0:
        return "the command was not valid when it arrived"
    if not sampler.request(command_id, valid_for_seconds=valid_for_seconds):
        return "as many samples as this agent will queue were asked for already"
    return None
