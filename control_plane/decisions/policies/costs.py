"""What a change costs to do, what it saves, and how long until it has."""

from __future__ import annotations

from control_plane.decisions.policies.facts import HOURS_A_MONTH, SECONDS_PER_HOUR, START_SECONDS, ServerState
from control_plane.model.recommendation import Doing, Interval


def restart_of(state: ServerState, *, seconds: float = START_SECONDS) -> Doing:
    """This will give what starting a server with other flags takes, a second one running meanwhile."""
    gpus = state.gpus or 1
    price = state.usd_per_gpu_hour
    usd = None if price is None else round(gpus * price * seconds / SECONDS_PER_HOUR, 4)
    return Doing(restarts=1, seconds=seconds, surge_gpus=gpus, usd=usd)


def for_the_same_work(state: ServerState, ratio: Interval) -> Interval | None:
    """This will give dollars a month that the same work costs more or less, when a server serves `ratio` times as much.

    They are saved once replicas are released, or not ordered. None: no price is known.
    """
    if state.usd_per_gpu_hour is None or state.gpus is None:
        return None
    monthly = state.gpus * state.usd_per_gpu_hour * HOURS_A_MONTH

    def change(at: float) -> float:
        return round(monthly * (1.0 / at - 1.0), 2)

    return Interval(low=change(ratio.high), expected=change(ratio.expected), high=change(ratio.low))


def payback_hours(doing: Doing, usd_per_month: Interval | None) -> float | None:
    """This will give the hours until what is saved makes up for the doing; None when nothing is, or no price known."""
    if doing.usd is None or usd_per_month is None or usd_per_month.expected >= 0:
        return None
    return round(doing.usd / (-usd_per_month.expected / HOURS_A_MONTH), 2)
