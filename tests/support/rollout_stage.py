"""A real HAProxy, servers in processes of their own, a Postgres, and users who stream all the time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np

from control_plane.model.rollout import WHOLE, Command, Note, Plan, Rollout, State, Strategy
from control_plane.rollouts.actuators.haproxy import Haproxy, HaproxyTarget
from control_plane.rollouts.actuators.haproxy_socket import AdminSocket
from control_plane.rollouts.running import Runner
from control_plane.rollouts.traffic import HaproxyTraffic
from control_plane.rollouts.warming import ChatProbe
from control_plane.runtime.clock import SystemClock
from control_plane.storage.rollouts import RolloutStore, StoredRollout
from control_plane.storage.session import Database
from control_plane.trials.load import arrivals
from control_plane.trials.load.connection import Address
from control_plane.trials.load.generator import Generator
from control_plane.trials.load.lengths import Fixed
from control_plane.trials.load.plan import LoadPlan, jobs
from control_plane.trials.load.prompts import Measure
from control_plane.trials.load.records import LoadRun, RequestRecord
from control_plane.trials.load.requesting import Api, Client, Target
from control_plane.workflows.driving import Driver
from control_plane.workflows.guarding import CandidateGuard
from tests.support.haproxy import RunningHaproxy
from tests.support.up import eventually, free_ports

CLOCK = SystemClock()
OUTPUT_TOKENS = 20
QUICK = Plan(
    strategy=Strategy.CANARY, shares=(2500, 5000, WHOLE), replicas=1, least_seconds=4, most_seconds=90,
    least_requests=30, ready_seconds=30, warm_seconds=30, bake_seconds=4, drain_seconds=20,
)  # fmt: skip


@dataclass(slots=True)
class ServerProcess:
    """A server that can crash."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def behave(self, **changed: object) -> None:
        """This will change how it serves."""
        request = Request(f"{self.url}/behave", data=json.dumps(changed).encode(), method="PUT")
        urlopen(request, timeout=10).close()


@contextmanager
def served(**behaviour: object) -> Iterator[ServerProcess]:
    """This will serve from a process of its own."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.fakes.inference_server", "--port", str(port)]
    process = subprocess.Popen([*command, "--behave", json.dumps(behaviour)])
    try:
        eventually(lambda: _answers(port), what="a server")
        yield ServerProcess(port, process)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
    except OSError:
        return False
    return True


def runner(store: RolloutStore, settings: dict[str, str]) -> Runner:
    """What the composition root makes of a rollout's settings."""
    target = HaproxyTarget(
        socket=Path(settings["socket"]), map_file=Path(settings["map_file"]), key="tiny", blue="blue", green="green"
    )
    actuator = Haproxy(target, candidate_is_green=True)
    traffic = HaproxyTraffic(
        socket=AdminSocket(target.socket), candidate="green", stable="blue", candidate_servers=[settings["green"]],
        stable_servers=[settings["blue"]], ttft_limit_seconds=float(settings["ttft"]), clock=CLOCK.monotonic,
    )  # fmt: skip
    return Runner(
        store=store, actuator=actuator, traffic=traffic, guard=CandidateGuard(),
        probe=ChatProbe(addresses=[settings["green"]], model="tiny"), clock=CLOCK,
    )  # fmt: skip


@dataclass(slots=True)
class Stage:
    """Everything, and what users saw of it."""

    haproxy: RunningHaproxy
    blue: ServerProcess
    green: ServerProcess
    store: RolloutStore
    database_url: str
    run: LoadRun = field(default_factory=lambda: LoadRun(warmup_seconds=0.0, seconds=0.0))
    began: datetime | None = None
    ttft_limit: float = 0.5

    @property
    def settings(self) -> dict[str, str]:
        return {
            "socket": str(self.haproxy.socket), "map_file": str(self.haproxy.map_file), "blue": self.blue.url,
            "green": self.green.url, "ttft": str(self.ttft_limit),
        }  # fmt: skip

    def driver(self) -> Driver:
        return Driver(store=self.store, clock=CLOCK, runner_for=lambda s: runner(self.store, dict(s.settings)))

    async def start(self, plan: Plan = QUICK) -> None:
        rollout = Rollout(rollout_id="r1", target="tiny", plan=plan, state=State.PENDING, since=CLOCK.now())
        await self.store.start(rollout, self.settings)

    async def start_another(self) -> None:
        rollout = Rollout(rollout_id="r2", target="tiny", plan=QUICK, state=State.PENDING, since=CLOCK.now())
        await self.store.start(rollout, self.settings)

    async def until(self, *states: State, seconds: float = 180.0) -> StoredRollout:
        """This will wait until the rollout is in one of these states."""
        for _ in range(round(seconds / 0.1)):
            stored = await self.store.get("r1")
            if stored.rollout.state in states:
                return stored
            await asyncio.sleep(0.1)
        notes = [f"{n.at:%T} {n.state} {n.event}: {n.because}" for n in await self.store.notes("r1")]
        raise AssertionError(f"it is {stored.rollout.state} and not {states}:\n" + "\n".join(notes[-30:]))

    async def command(self, command: Command) -> None:
        await self.store.command("r1", command, by="a test", now=CLOCK.now())

    async def notes(self) -> list[Note]:
        return await self.store.notes("r1")

    def bad(self) -> list[RequestRecord]:
        """What users would complain about: no whole answer, or a slow first token."""
        return [r for r in self.run.records if r.e2e_seconds is None or (r.ttft_seconds or 0) > self.ttft_limit]

    @asynccontextmanager
    async def users(self, rate: float) -> AsyncIterator[None]:
        """Users stream all the time, each request its own bucket."""
        address = Address.parse(f"http://127.0.0.1:{self.haproxy.port}")
        target = Target(address=address, model="tiny", api=Api.COMPLETIONS)
        client, stop, stopping = Client(target, CLOCK, timeout_seconds=60.0), asyncio.Event(), asyncio.Event()
        due = arrivals.arrivals(arrivals.constant(rate, 1200), variation=1, random=np.random.default_rng(1))
        plan = LoadPlan(
            due_seconds=due, seconds=1200, prompt_tokens=Fixed(tokens=10), output_tokens=Fixed(tokens=OUTPUT_TOKENS)
        )
        work = takewhile(lambda _: not stopping.is_set(), jobs(plan, target, Measure()))
        generator = Generator(client, CLOCK, most_in_flight=2000)
        async with asyncio.TaskGroup() as tasks:
            self.began = CLOCK.now()
            tasks.create_task(generator.run(work, self.run, planned=len(due), stop=stop))
            try:
                yield
            finally:
                stopping.set()  # what is under way ends as it would
        client.close()


@asynccontextmanager
async def stage(folder: Path, database_url: str, *, itl_seconds: float = 0.02) -> AsyncIterator[Stage]:
    """This will set everything up, and leave nothing behind."""
    database = Database(database_url)
    with (
        served(version="blue", itl_seconds=itl_seconds) as blue,
        served(version="green", itl_seconds=itl_seconds) as green,
    ):
        running = RunningHaproxy(folder, blue=[blue.port], green=[green.port])
        await asyncio.to_thread(running.start)
        try:
            made = Stage(running, blue, green, RolloutStore(database.engine), database_url)
            actuator = runner(made.store, made.settings).actuator
            for _ in range(200):
                seen = await actuator.observe()
                if seen.stable_ready == seen.candidate_ready == 1:
                    break
                await asyncio.sleep(0.1)
            yield made
        finally:
            running.stop()
            await database.close()
