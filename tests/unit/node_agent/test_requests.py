"""What the control plane may cause on a host: a closed list, with an expiry, within the owner's limits."""

from __future__ import annotations

import pytest

from node_agent.commands.collect_now import collect_now
from node_agent.commands.set_interval import set_interval
from node_agent.sampler import MOST_REQUESTS, Sampler
from node_agent.settings import LONGEST_INTERVAL_SECONDS, SHORTEST_INTERVAL_SECONDS
from node_agent.uplink.requests import Handlers, answer_command, answer_configure, refusing
from optiinfra.telemetry.v1 import command_pb2, link_pb2
from tests.fakes.virtual_time import LoopClock

REFUSED = command_pb2.COMMAND_OUTCOME_REFUSED


def a_sampler() -> Sampler:
    return Sampler([], LoopClock(), interval_seconds=5.0)


def handlers(sampler: Sampler) -> Handlers:
    return Handlers(
        collect_now=lambda command_id, seconds: collect_now(sampler, command_id, seconds),
        set_interval=lambda seconds: set_interval(
            sampler, seconds, shortest_seconds=SHORTEST_INTERVAL_SECONDS, longest_seconds=LONGEST_INTERVAL_SECONDS
        ),
    )


def collect(command_id: str = "c-1", valid_for_seconds: int = 30) -> command_pb2.Command:
    return command_pb2.Command(id=command_id, valid_for_seconds=valid_for_seconds, collect_now=command_pb2.CollectNow())


async def test_the_tick_itself_answers_collect_now() -> None:
    assert answer_command(collect(), handlers(a_sampler())) is None


async def test_a_command_without_time_to_run_is_refused() -> None:
    result = answer_command(collect(valid_for_seconds=0), handlers(a_sampler()))
    assert result is not None
    assert (result.id, result.outcome) == ("c-1", REFUSED)


async def test_a_flood_of_commands_is_refused_and_not_queued() -> None:
    sampler = a_sampler()
    results = [answer_command(collect(str(n)), handlers(sampler)) for n in range(MOST_REQUESTS + 1)]
    assert results[:-1] == [None] * MOST_REQUESTS
    assert results[-1] is not None
    assert results[-1].outcome == REFUSED


async def test_a_verb_that_this_agent_does_not_know_is_refused() -> None:
    result = answer_command(command_pb2.Command(id="c-2", valid_for_seconds=30), handlers(a_sampler()))
    assert result is not None
    assert (result.outcome, result.detail) == (REFUSED, "this agent does not know the command")


async def test_an_interval_within_the_owners_limits_is_applied() -> None:
    sampler = a_sampler()
    status = answer_configure(link_pb2.Configure(revision=3, sampling_interval_ms=1500), handlers(sampler))
    assert (status.revision, status.applied, status.detail) == (3, True, "")
    assert sampler.interval_seconds == 1.5


@pytest.mark.parametrize("milliseconds", [1, 499, 300_001, 2**32 - 1])
async def test_an_interval_beyond_the_owners_limits_is_refused(milliseconds: int) -> None:
    sampler = a_sampler()
    status = answer_configure(link_pb2.Configure(revision=4, sampling_interval_ms=milliseconds), handlers(sampler))
    assert not status.applied
    assert "0.5 to 300 s" in status.detail
    assert sampler.interval_seconds == 5.0


async def test_a_configuration_that_changes_nothing_is_applied() -> None:
    sampler = a_sampler()
    assert answer_configure(link_pb2.Configure(revision=5), handlers(sampler)).applied
    assert sampler.interval_seconds == 5.0


async def test_what_is_not_obeyed_is_never_called_applied() -> None:
    sampler = a_sampler()
    asked = link_pb2.Configure(revision=6, sampling_interval_ms=1000, scrape_targets=["http://169.254.169.254"])
    assert not answer_configure(asked, handlers(sampler)).applied
    assert sampler.interval_seconds == 5.0, "as a whole or not at all"


async def test_a_replay_obeys_nothing_and_says_so() -> None:
    nobody = refusing("this is a replay")
    result = answer_command(collect(), nobody)
    assert result is not None
    assert result.detail == "this is a replay"
    assert not answer_configure(link_pb2.Configure(revision=1, sampling_interval_ms=1000), nobody).applied
