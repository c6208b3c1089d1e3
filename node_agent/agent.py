"""The composition root: builds everything, owns the one TaskGroup of each way to run."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from node_agent import __version__
from node_agent.attribution.step import AttributionStep
from node_agent.clock import Clock, SystemClock
from node_agent.collectors.attribution import AttributionCollector
from node_agent.collectors.engine import EngineCollector
from node_agent.collectors.gpu import GpuCollector
from node_agent.collectors.system import SystemCollector
from node_agent.commands.collect_now import collect_now
from node_agent.commands.set_interval import set_interval
from node_agent.host.identity import node_attributes
from node_agent.host.kubelet import PodResources
from node_agent.host.nvml import PynvmlDriver
from node_agent.model import Collector, Tick
from node_agent.sampler import Sampler, deadline_seconds
from node_agent.settings import LONGEST_INTERVAL_SECONDS, SHORTEST_INTERVAL_SECONDS, Settings, SettingsError
from node_agent.spool import Spool
from node_agent.uplink import wire
from node_agent.uplink.backoff import Backoff
from node_agent.uplink.client import Identity, Outgoing, Uplink
from node_agent.uplink.recording import Announced, Recorder, Recording
from node_agent.uplink.requests import Handlers, refusing
from node_agent.uplink.restamp import Restamper

log = logging.getLogger(__name__)

HEARTBEAT_FILE = "alive"
# At a stop, time for the last tick to be acknowledged; longer, and a restart would wait for a dead server.
DRAIN_SECONDS = 3.0
# A run of the engine collector takes up to five thirds of its time limit: it must end before the
# sampler's deadline, or one server that hangs would make all the others look late.
ENGINE_SHARE = 0.55
# A replay is run by a person: better an answer than patience.
REPLAY_CONNECT_SECONDS = 10.0
# A day of an 8-GPU host at 5 s, when the control plane is slower than the replay.
REPLAY_BYTES = 1 << 30


def agent_id(state_dir: Path) -> str:
    """This will give the id that this host's agent keeps for ever, making it at the first start.

    Raises SettingsError when the state directory cannot be written.
    """
    path = state_dir / "agent_id"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            return str(uuid.UUID(path.read_text().strip()))
        made = str(uuid.uuid4())
        unfinished = path.with_suffix(".new")
        unfinished.write_text(made + "\n")
        unfinished.replace(path)  # whole or not at all: half an id would be refused for ever
    except OSError as error:
        raise SettingsError(
            f"state_dir {state_dir} cannot be used: {error.strerror}; choose another with --state-dir"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{path} does not hold a UUID; delete it to enrol as a new node") from error
    return made


def build_sampler(settings: Settings) -> Sampler:
    """This will build the collectors that the settings ask for, and what runs them."""
    clock = SystemClock()
    collectors: list[Collector] = [SystemCollector(proc_root=settings.host_proc)]
    disabled, finish = [], None
    if settings.gpu_monitoring_enabled:
        owners = AttributionCollector(
            PodResources(settings.pod_resources_socket),
            proc_root=settings.host_proc,
            container_logs_dir=settings.container_logs_dir,
        )
        collectors += [GpuCollector(PynvmlDriver(), proc_root=settings.host_proc), owners]
        finish = AttributionStep(lambda: owners.ownership, owners.watch)
    else:
        disabled.append("gpu")
    collectors.append(
        EngineCollector(
            clock=clock,
            timeout_seconds=ENGINE_SHARE * deadline_seconds(settings.sampling_interval_seconds),
            targets=settings.scrape_targets,
            discover=settings.discover_engines,
            proc_root=str(settings.host_proc),
        )
    )
    return Sampler(
        collectors, clock, interval_seconds=settings.sampling_interval_seconds, disabled=disabled, finish=finish
    )


def identity(settings: Settings) -> Identity:
    """This will say who this agent is; the epoch is new in every process."""
    attributes = dict(node_attributes(settings.host_proc))
    attributes["sampling_interval_seconds"] = settings.sampling_interval_seconds
    return Identity(
        agent_id=agent_id(settings.state_dir),
        node_name=settings.node_name,
        agent_version=__version__,
        epoch=secrets.token_bytes(16),
        attributes_json=json.dumps(attributes).encode(),
    )


async def run(settings: Settings) -> None:
    """This will sample and send until SIGTERM or SIGINT, then send what is left."""
    clock = SystemClock()
    sampler, encoder = build_sampler(settings), wire.Encoder()
    spool: Spool[Outgoing] = Spool(max_bytes=settings.buffer_bytes)
    heartbeat = Heartbeat(settings.state_dir / HEARTBEAT_FILE)

    def keep(tick: Tick) -> None:
        append(spool, encode(encoder, tick))
        heartbeat.beat(sampler.interval_seconds)

    uplink = Uplink(
        settings.server,
        identity(settings),
        spool,
        clock,
        everything=encoder.everything,
        handlers=_handlers(sampler),
        backoff=Backoff(random.Random()),  # noqa: S311 - spreads reconnects, guards nothing
    )
    stopped = _stop_signal()
    async with asyncio.TaskGroup() as tasks:
        sampling = tasks.create_task(sampler.run(keep))
        linking = tasks.create_task(uplink.run())
        await stopped.wait()
        sampling.cancel()
        if uplink.connected.is_set():
            await _within(uplink.drained(), DRAIN_SECONDS)
        linking.cancel()
    await sampler.close()


async def record(
    settings: Settings, path: Path, *, seconds: float | None, progress: Callable[[int, Tick], None]
) -> int:
    """This will write what the agent sees to `path` until a signal, or for `seconds`; gives the ticks written.

    Raises OSError when the file cannot be written, or not to its end.
    """
    clock, encoder, sampler = SystemClock(), wire.Encoder(), build_sampler(settings)
    stopped = _stop_signal()
    written = 0
    failed: OSError | None = None
    with Recorder(path, identity(settings), clock.now()) as recorder:

        def keep(tick: Tick) -> None:
            nonlocal written, failed
            try:
                written = recorder.write(encode(encoder, tick))
            except OSError as error:  # a full disk, say: there is no more to do, and the caller says why
                failed = error
                stopped.set()
                return
            progress(written, tick)

        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(sampler.run(keep))
            await _within(stopped.wait(), seconds)
            sampling.cancel()
    await sampler.close()
    if failed is not None:
        raise failed
    return written


async def replay(
    recording: Recording,
    server: str,
    *,
    speed: float,
    keep_times: bool,
    node_name: str | None,
    progress: Callable[[int], None],
) -> int:
    """This will play a recording through the real door and give the ticks that were acknowledged.

    At `speed` 2 it takes half the time; 0 means as fast as it goes. The spacing of the samples stays
    as recorded. Unless `keep_times`, the last one is stamped with the moment it is sent.
    """
    clock = SystemClock()
    spool: Spool[Outgoing] = Spool(max_bytes=REPLAY_BYTES)
    announced = Announced()
    uplink = Uplink(
        server,
        recording.identity(epoch=secrets.token_bytes(16), node_name=node_name),
        spool,
        clock,
        everything=announced.everything,
        handlers=refusing("this is a replay, not a host"),
        backoff=Backoff(random.Random()),  # noqa: S311 - spreads reconnects, guards nothing
    )
    async with asyncio.TaskGroup() as tasks:
        linking = tasks.create_task(uplink.run())
        await _within(uplink.connected.wait(), REPLAY_CONNECT_SECONDS)
        reached = uplink.connected.is_set()
        if reached:
            async for count, outgoing in paced(recording, clock, speed=speed, keep_times=keep_times):
                announced.learn(outgoing)
                append(spool, outgoing)
                progress(count)
            await uplink.drained()
        linking.cancel()
    if not reached:
        raise SettingsError(f"no control plane answers at {server}; start one, or name another with --server")
    return len(recording.ticks) - spool.lost_ticks


async def paced(
    recording: Recording, clock: Clock, *, speed: float, keep_times: bool
) -> AsyncIterator[tuple[int, Outgoing]]:
    """This will give each tick when it is due, counted from 1 and stamped as it is to be sent."""
    start, restamper = clock.now(), Restamper()
    shift_us = 0
    if not keep_times:
        play_us = round(recording.seconds / speed * 1e6) if speed else 0
        shift_us = wire.unix_us(start) + play_us - recording.ticks[-1].unix_us
    for count, tick in enumerate(recording.ticks, 1):
        if speed:
            due = (tick.unix_us - recording.ticks[0].unix_us) / 1e6 / speed
            await asyncio.sleep(max(0.0, start.monotonic_seconds + due - clock.now().monotonic_seconds))
        yield count, restamper.moved(tick.outgoing, taken_at_unix_us=tick.unix_us + shift_us, now=clock.now())


def encode(encoder: wire.Encoder, tick: Tick) -> Outgoing:
    """This will turn a tick into what goes over the wire."""
    announce, message = encoder.encode(tick)
    return Outgoing(announce=announce, tick=message)


def append(spool: Spool[Outgoing], outgoing: Outgoing) -> None:
    """This will queue a tick for sending."""
    spool.append(outgoing, size_bytes=outgoing.size_bytes, taken_at_unix_us=outgoing.tick.taken_at_unix_us)


class Heartbeat:
    """What the liveness probe looks at: the loop turns, whatever the server does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def beat(self, interval_seconds: float) -> None:
        """This will stamp the file and say in it when the next stamp is due.

        A file that cannot be written is the probe's business, not the samples': they go on.
        """
        try:
            self._path.write_text(f"{interval_seconds:g}\n")
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("%s cannot be written: %s; probes will fail", self._path, error.strerror)
            self._failing = True


def _handlers(sampler: Sampler) -> Handlers:
    return Handlers(
        collect_now=lambda command_id, valid_for_seconds: collect_now(sampler, command_id, valid_for_seconds),
        set_interval=lambda seconds: set_interval(
            sampler,
            seconds,
            shortest_seconds=SHORTEST_INTERVAL_SECONDS,
            longest_seconds=LONGEST_INTERVAL_SECONDS,
        ),
    )


def _stop_signal() -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


async def _within(work: Awaitable[object], seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        pass


def described(settings: Settings) -> Mapping[str, object]:
    """This will give the settings as a start-up message shows them."""
    return {
        "server": settings.server,
        "node": settings.node_name,
        "interval": f"{settings.sampling_interval_seconds:g} s",
        "state": str(settings.state_dir),
    }
