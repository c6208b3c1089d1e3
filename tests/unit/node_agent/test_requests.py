"""What the control plane may cause on a host: a closed list, with an expiry, within the owner's limits."""

from __future__ import annotations

import pytest

from node_agent.commands.collect_now import collect_now
from node_agent.commands.release_gpus import release_gpus
from node_agent.model import NodeConfiguration, Standing
from node_agent.sampler import MOST_REQUESTS, Sampler
from node_agent.uplink.requests import Handlers, answer_command, answer_configure, refusing
from optiinfra.telemetry.v1 import command_pb2, link_pb2
from tests.fakes.virtual_time import LoopClock

REFUSED = command_pb2.COMMAND_OUTCOME_REFUSED


def a_sampler() -> Sampler:
    return Sampler([], LoopClock(), interval_seconds=5.0)


def handlers(sampler: Sampler) -> Handlers:
    return Handlers(
        collect_now=lambda command_id, seconds: collect_now(sampler, command_id, seconds),
        set_interval=lambda _seconds: "not asked here",
        release_gpus=lambda seconds: release_gpus(None, seconds),
    )


def collect(command_id: str = "c-1", valid_for_seconds: int = 30) -> command_pb2.Command:
    return command_pb2.Command(id=command_id, valid_for_seconds=valid_for_seconds, collect_now=command_pb2.CollectNow())


async def test_the_tick_itself_answers_collect_now() -> None:
    assert await answer_command(collect(), handlers(a_sampler())) is None


async def test_a_command_without_time_to_run_is_refused() -> None:
    result = await answer_command(collect(valid_for_seconds=0), handlers(a_sampler()))
    assert result is not None
    assert (result.id, result.outcome) == ("c-1", REFUSED)


async def test_a_flood_of_commands_is_refused_and_not_queued() -> None:
    sampler = a_sampler()
    results = [await answer_command(collect(str(n)), handlers(sampler)) for n in range(MOST_REQUESTS + 1)]
    assert results[:-1] == [None] * MOST_REQUESTS
    assert results[-1] is not None
    assert results[-1].outcome == REFUSED


async def test_a_verb_that_this_agent_does_not_know_is_refused() -> None:
    result = await answer_command(command_pb2.Command(id="c-2", valid_for_seconds=30), handlers(a_sampler()))
    assert result is not None
    assert (result.outcome, result.detail) == (REFUSED, "this agent does not know the command")


# -- configurations -------------------------------------------------------------------------------


class Configurable:
    """Takes what it is asked, or refuses it."""

    def __init__(self, refusing: str | None = None) -> None:
        self.asked: list[NodeConfiguration] = []
        self.intervals: list[float] = []
        self.refusing = refusing

    async def configure(self, asked: NodeConfiguration) -> str | None:
        self.asked.append(asked)
        return self.refusing

    def set_interval(self, seconds: float) -> str | None:
        self.intervals.append(seconds)
        return self.refusing

    @property
    def handlers(self) -> Handlers:
        return Handlers(
            collect_now=refusing("not asked here").collect_now,
            set_interval=self.set_interval,
            configure=self.configure,
            standing=lambda: Standing(revision=2, sampling_interval_seconds=0.75),
        )


async def test_a_whole_configuration_is_read_as_it_was_meant() -> None:
    host = Configurable()
    asked = link_pb2.Configure(
        revision=3, whole_state=True, sampling_interval_ms=1500, scrape_targets=["http://127.0.0.1:8000"],
        gpu_monitoring_enabled=False, discover_engines=True,
    )  # fmt: skip
    assert (await answer_configure(asked, host.handlers)).applied
    assert host.asked == [
        NodeConfiguration(
            revision=3, sampling_interval_seconds=1.5, scrape_targets=("http://127.0.0.1:8000",),
            gpu_monitoring_enabled=False, discover_engines=True,
        )
    ]  # fmt: skip


async def test_what_a_whole_configuration_does_not_say_is_left_to_the_host() -> None:
    host = Configurable()
    await answer_configure(link_pb2.Configure(revision=1, whole_state=True), host.handlers)
    assert host.asked == [NodeConfiguration(revision=1)]
    assert host.asked[0].names == ()


async def test_the_answer_says_what_holds_whatever_became_of_the_revision() -> None:
    asked = link_pb2.Configure(revision=3, whole_state=True, sampling_interval_ms=100)
    status = await answer_configure(asked, Configurable(refusing="too often").handlers)
    assert (status.revision, status.applied, status.detail) == (3, False, "too often")
    assert (status.in_force_revision, status.sampling_interval_ms) == (2, 750)


async def test_an_older_control_planes_cadence_is_a_cadence_alone() -> None:
    host = Configurable()
    assert (await answer_configure(link_pb2.Configure(revision=1, sampling_interval_ms=2000), host.handlers)).applied
    assert (host.intervals, host.asked) == ([2.0], [])
    assert (await answer_configure(link_pb2.Configure(revision=1), host.handlers)).applied, "it changes nothing"
    assert host.intervals == [2.0]


@pytest.mark.parametrize(
    "asked",
    [
        link_pb2.Configure(revision=6, sampling_interval_ms=1000, scrape_targets=["http://169.254.169.254"]),
        link_pb2.Configure(revision=6, sampling_interval_ms=1000, gpu_monitoring_enabled=False),
        link_pb2.Configure.FromString(
            link_pb2.Configure(revision=6, sampling_interval_ms=1000, whole_state=True).SerializeToString()
            + b"\x98\x06\x01"  # field 99, of a later release
        ),
    ],
)
async def test_what_is_not_obeyed_is_never_called_applied(asked: link_pb2.Configure) -> None:
    host = Configurable()
    assert not (await answer_configure(asked, host.handlers)).applied
    assert (host.intervals, host.asked) == ([], []), "as a whole or not at all"


async def test_a_replay_obeys_nothing_and_says_so() -> None:
    nobody = refusing("this is a replay")
    result = await answer_command(collect(), nobody)
    assert result is not None
    assert result.detail == "this is a replay"
    for asked in (link_pb2.Configure(sampling_interval_ms=1000), link_pb2.Configure(whole_state=True)):
        status = await answer_configure(asked, nobody)
        assert (status.applied, status.detail) == (False, "this is a replay")


# -- releasing GPUs -------------------------------------------------------------------------------


class Holder:
    """Holds a driver."""

    def __init__(self, *, is_wedged: bool = False) -> None:
        self.released: list[float] = []
        self.is_wedged = is_wedged

    async def release(self, seconds: float) -> bool:
        if not self.is_wedged:
            self.released.append(seconds)
        return not self.is_wedged


def release(seconds: int = 60, valid_for_seconds: int = 10) -> command_pb2.Command:
    verb = command_pb2.ReleaseGpus(seconds=seconds)
    return command_pb2.Command(id="r", valid_for_seconds=valid_for_seconds, release_gpus=verb)


def releasing(holder: Holder | None, *allowed: str) -> Handlers:
    refuse = refusing("not asked here")
    return Handlers(
        collect_now=refuse.collect_now,
        set_interval=refuse.set_interval,
        release_gpus=lambda seconds: release_gpus(holder, seconds),
        allowed_commands=frozenset(allowed),
    )


async def test_gpus_are_released_where_the_host_allows_it_by_name() -> None:
    holder = Holder()
    result = await answer_command(release(), releasing(holder, "release_gpus"))
    assert result is not None
    assert (result.outcome, holder.released) == (command_pb2.COMMAND_OUTCOME_DONE, [60.0])


async def test_a_release_of_no_seconds_ends_the_one_before() -> None:
    holder = Holder()
    await answer_command(release(0), releasing(holder, "release_gpus"))
    assert holder.released == [0.0]


@pytest.mark.parametrize(
    ("command", "holder", "allowed", "sentence"),
    [
        (release(), Holder(), ("collect_now",), "release_gpus is not among this host's allowed_commands"),
        (release(valid_for_seconds=0), Holder(), ("release_gpus",), "not valid when it arrived"),
        (release(), Holder(is_wedged=True), ("release_gpus",), "has not come back"),
        (release(86_400), Holder(), ("release_gpus",), "86400 s is outside the 0 to 3600 s"),
        (release(), None, ("release_gpus",), "holds no GPU"),
        (collect(), Holder(), (), "collect_now is not among this host's allowed_commands"),
    ],
)
async def test_a_command_outside_the_owners_policy_is_refused_in_a_sentence(
    command: command_pb2.Command, holder: Holder | None, allowed: tuple[str, ...], sentence: str
) -> None:
    result = await answer_command(command, releasing(holder, *allowed))
    assert result is not None
    assert result.outcome == REFUSED
    assert sentence in result.detail
    assert holder is None or not holder.released
