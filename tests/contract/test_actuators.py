"""What holds for every actuator: the same suite for the one that only pretends and for a real HAProxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.model.rollout import WHOLE, Effect, Intent, Observed, Plan, Strategy
from control_plane.rollouts.actuators.base import Actuator, Refused, Stale, Unreachable
from control_plane.rollouts.actuators.dry_run import DryRun
from control_plane.rollouts.actuators.haproxy import Haproxy, HaproxyTarget
from control_plane.rollouts.actuators.haproxy_socket import file_value
from control_plane.rollouts.actuators.kubernetes import Kubernetes
from control_plane.rollouts.actuators.kubernetes_api import KubernetesApi
from tests.fakes.inference_server import InferenceServer
from tests.fakes.kubernetes_api import fake_kubernetes
from tests.support import kubernetes
from tests.support.haproxy import NEEDED, RunningHaproxy

PLAN = Plan(strategy=Strategy.CANARY, shares=(500, WHOLE), replicas=2)


@dataclass(slots=True)
class Outside:
    """An actuator and what it acts on: two replicas of each version."""

    actuator: Actuator
    haproxy: RunningHaproxy | None = None

    async def act(self, effect: Effect, value: int = 0, *, seen: Observed | None = None) -> None:
        key = f"r/1/{effect}/{value}"
        await self.actuator.carry_out(
            Intent(key=key, effect=effect, value=value, decided_at=datetime(2026, 3, 4, tzinfo=UTC)), seen=seen
        )

    async def until(self, true: Callable[[Observed], bool]) -> Observed:
        for _ in range(600):
            observed = await self.actuator.observe()
            if true(observed):
                return observed
            await asyncio.sleep(0.05)
        raise AssertionError(f"it has not come to be: {observed}")


async def _servers(stack: AsyncExitStack, count: int) -> list[int]:
    return [(await stack.enter_async_context(InferenceServer())).port for _ in range(count)]


def _haproxy(running: RunningHaproxy, *, candidate_is_green: bool = True) -> Haproxy:
    target = HaproxyTarget(socket=running.socket, map_file=running.map_file, key="tiny", blue="blue", green="green")
    return Haproxy(target, candidate_is_green=candidate_is_green)


@asynccontextmanager
async def _kubernetes(api: KubernetesApi) -> AsyncIterator[Outside]:
    async with kubernetes.cluster(api) as target:
        made = Outside(Kubernetes(target, api, candidate_is_green=True))
        await made.until(lambda o: o.stable_ready == 2 and o.candidate_running == 0)
        yield made


@pytest.fixture(
    params=[
        "dry_run", pytest.param("haproxy", marks=NEEDED), "fake_kubernetes",
        pytest.param("kubernetes", marks=kubernetes.NEEDED),
    ]
)  # fmt: skip
async def outside(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outside]:
    """Each actuator in turn, its candidate not in rotation."""
    if request.param == "fake_kubernetes":
        with fake_kubernetes() as fake:
            async with _kubernetes(kubernetes.api_of(fake.url)) as made:
                yield made
        return
    if request.param == "kubernetes":
        async with _kubernetes(kubernetes.real()) as made:
            yield made
        return
    if request.param == "dry_run":
        yield Outside(DryRun(stable=2, most_candidates=2))
        return
    async with AsyncExitStack() as stack:
        running = RunningHaproxy(tmp_path, blue=await _servers(stack, 2), green=await _servers(stack, 2))
        await asyncio.to_thread(running.start)
        try:
            made = Outside(_haproxy(running), running)
            await made.act(Effect.REMOVE_CANDIDATE)
            await made.until(lambda o: o.stable_ready == 2 and o.candidate_running == 0)
            yield made
        finally:
            running.stop()


async def test_nothing_speaks_against_a_plan_that_fits(outside: Outside) -> None:
    assert list(await outside.actuator.preflight(PLAN)) == []


async def test_what_does_not_fit_is_said_before_anything_is_done(outside: Outside) -> None:
    problems = await outside.actuator.preflight(replace(PLAN, replicas=3))
    assert len(problems) >= 1
    assert any("3 are needed" in problem for problem in problems)


async def test_candidates_come_as_many_as_asked_and_no_more_when_asked_again(outside: Outside) -> None:
    await outside.act(Effect.ENSURE_CANDIDATE, 1)
    await outside.until(lambda o: o.candidate_ready == 1)
    await outside.act(Effect.ENSURE_CANDIDATE, 2)
    await outside.act(Effect.ENSURE_CANDIDATE, 2)
    found = await outside.until(lambda o: o.candidate_ready == 2)
    assert (found.candidate_running, found.stable_ready, found.share) == (2, 2, 0)
    with pytest.raises(Refused):
        await outside.act(Effect.ENSURE_CANDIDATE, 3)


async def test_a_share_is_set_seen_and_set_again(outside: Outside) -> None:
    await outside.act(Effect.ENSURE_CANDIDATE, 2)
    seen = await outside.until(lambda o: o.candidate_ready == 2)
    for share in (500, 500, 2500, WHOLE):
        await outside.act(Effect.SET_SHARE, share, seen=seen)
        seen = await outside.until(lambda o, share=share: o.share == share)  # type: ignore[misc]
        assert seen.share_kept


async def test_a_share_that_somebody_changed_meanwhile_is_not_overwritten(outside: Outside) -> None:
    seen = await outside.actuator.observe()
    await outside.act(Effect.SET_SHARE, 700, seen=seen)
    with pytest.raises(Stale):
        await outside.act(Effect.SET_SHARE, 2500, seen=seen)
    assert (await outside.actuator.observe()).share == 700


async def test_the_way_back_asks_nobody(outside: Outside) -> None:
    await outside.act(Effect.SET_SHARE, 700, seen=await outside.actuator.observe())
    await outside.act(Effect.SET_SHARE, 0, seen=None)
    await outside.act(Effect.SET_SHARE, 0, seen=None)
    found = await outside.actuator.observe()
    assert found.share == 0
    assert found.share_kept


@pytest.mark.parametrize("effect", [Effect.REMOVE_CANDIDATE, Effect.RETIRE_STABLE])
async def test_what_is_taken_away_is_gone_and_can_be_taken_away_again(outside: Outside, effect: Effect) -> None:
    await outside.act(Effect.ENSURE_CANDIDATE, 2)
    await outside.until(lambda o: o.candidate_ready == 2)
    for _ in range(2):
        await outside.act(effect)
    found = await outside.until(lambda o: 0 in (o.stable_running, o.candidate_running))
    if effect is Effect.RETIRE_STABLE:
        assert (found.stable_running, found.candidate_running) == (0, 2)
    else:
        assert (found.stable_running, found.candidate_running) == (2, 0)


@pytest.fixture
async def haproxy(tmp_path: Path) -> AsyncIterator[Outside]:
    """HAProxy with one server on each side."""
    async with AsyncExitStack() as stack:
        running = RunningHaproxy(tmp_path, blue=await _servers(stack, 1), green=await _servers(stack, 1))
        await asyncio.to_thread(running.start)
        try:
            made = Outside(_haproxy(running), running)
            await made.until(lambda o: o.stable_ready == 1 and o.candidate_ready == 1)
            yield made
        finally:
            running.stop()


@NEEDED
async def test_haproxy_keeps_the_share_through_a_restart_and_other_models_theirs(haproxy: Outside) -> None:
    running = haproxy.haproxy
    assert running is not None
    await haproxy.act(Effect.SET_SHARE, 2500, seen=await haproxy.actuator.observe())
    running.stop()
    with pytest.raises(Unreachable):
        await haproxy.actuator.observe()
    await asyncio.to_thread(running.start)
    found = await haproxy.until(lambda o: o.stable_ready == 1)
    assert found.share == 2500
    assert found.share_kept
    assert file_value(running.map_file, "other") == 4000


@NEEDED
async def test_haproxy_says_when_a_restart_would_lose_the_share(haproxy: Outside) -> None:
    running = haproxy.haproxy
    assert running is not None
    running.map_file.write_text("tiny 9000\n")
    found = await haproxy.actuator.observe()
    assert found.share == 0
    assert not found.share_kept
    assert "do not say the same" in " ".join(await haproxy.actuator.preflight(replace(PLAN, replicas=1)))
    await haproxy.act(Effect.SET_SHARE, 0, seen=None)
    assert (await haproxy.actuator.observe()).share_kept


@NEEDED
async def test_the_next_rollout_goes_the_other_way(haproxy: Outside) -> None:
    running = haproxy.haproxy
    assert running is not None
    await haproxy.act(Effect.SET_SHARE, WHOLE, seen=await haproxy.actuator.observe())
    other = Outside(_haproxy(running, candidate_is_green=False), running)
    assert (await other.actuator.observe()).share == 0
    await other.act(Effect.SET_SHARE, 500, seen=await other.actuator.observe())
    assert (await haproxy.actuator.observe()).share == 9500


@NEEDED
async def test_a_server_that_dies_is_seen(haproxy: Outside) -> None:
    running = haproxy.haproxy
    assert running is not None
    async with AsyncExitStack() as stack:
        (port,) = await _servers(stack, 1)
        running.stop()
        running.green = [port]
        await asyncio.to_thread(running.start)
        await haproxy.until(lambda o: o.candidate_ready == 1)
    await haproxy.until(lambda o: o.candidate_ready == 0 and o.candidate_running == 1)


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a\nb", "x" * 300, "ü"])
def test_a_name_that_would_end_a_command_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        target = HaproxyTarget(socket=Path("/s"), map_file=Path("/m"), key=name, blue="blue", green="green")
        Haproxy(target, candidate_is_green=True)


@NEEDED
async def test_a_backend_that_is_not_there_speaks_against_a_plan(haproxy: Outside) -> None:
    running = haproxy.haproxy
    assert running is not None
    target = HaproxyTarget(socket=running.socket, map_file=running.map_file, key="tiny", blue="blue", green="red")
    (problem,) = await Haproxy(target, candidate_is_green=True).preflight(PLAN)
    assert "no backend red" in problem
