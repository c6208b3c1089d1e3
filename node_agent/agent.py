"""The composition root: builds everything, owns the one TaskGroup of each way to run."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import secrets
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from node_agent import __version__
from node_agent.attribution.step import AttributionStep
from node_agent.clock import Clock, SystemClock
from node_agent.collectors.agent import AgentCollector
from node_agent.collectors.attribution import AttributionCollector
from node_agent.collectors.engine import EngineCollector
from node_agent.collectors.gpu import GpuCollector
from node_agent.collectors.system import SystemCollector
from node_agent.commands.collect_now import collect_now
from node_agent.commands.release_gpus import ReleasesGpus, release_gpus
from node_agent.commands.set_interval import set_interval
from node_agent.host.http_server import Page, PageServer
from node_agent.host.identity import node_attributes
from node_agent.host.kubelet import PodResources
from node_agent.host.nvml import PynvmlDriver
from node_agent.host.topology import read_topology
from node_agent.model import Backlog, Collector, Tick
from node_agent.prometheus.page import CONTENT_TYPE, NewestTick
from node_agent.sampler import Sampler, deadline_seconds
from node_agent.settings import LONGEST_INTERVAL_SECONDS, Settings, SettingsError
from node_agent.spool import Spool
from node_agent.uplink import wire
from node_agent.uplink.backoff import Backoff
from node_agent.uplink.channel import Door, PlainDoor
from node_agent.uplink.client import Identity, Outgoing, Uplink
from node_agent.uplink.disk import DiskSpool
from node_agent.uplink.enrolment import CertifiedDoor
from node_agent.uplink.frames import Packed
from node_agent.uplink.lane import BacklogLane
from node_agent.uplink.recording import Announced, Recorder, Recording
from node_agent.uplink.requests import Handlers, refusing
from node_agent.uplink.restamp import Restamper

log = logging.getLogger(__name__)

HEARTBEAT_FILE = "alive"
SPOOL_FOLDER = "spool"
# What a supervisor is to answer with a new process: EX_TEMPFAIL of sysexits.h. docs/problems.md tells of it.
RESTART_EXIT = 75
# At a stop, time for the last tick to be acknowledged; longer, and a restart would wait for a dead server.
DRAIN_SECONDS = 3.0
# A run of the engine collector takes up to two times its time limit: it must end before the
# sampler's deadline, or one server that hangs would make all the others look late.
ENGINE_SHARE = 0.48
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


def build_gpus(settings: Settings) -> GpuCollector | None:
    """This will build what watches the GPUs; None where that is switched off."""
    return GpuCollector(PynvmlDriver(), proc_root=settings.host_proc) if settings.gpu_monitoring_enabled else None


def build_sampler(
    settings: Settings,
    gpus: GpuCollector | None,
    *,
    backlog: Callable[[], Backlog] | None = None,
    clock: Clock | None = None,
) -> Sampler:
    """This will build the collectors that the settings ask for, and what runs them.

    `backlog` says what has not been delivered yet, where something is delivered at all.
    """
    clock, itself = clock or SystemClock(), AgentCollector()
    system = SystemCollector(settings.host_proc, sys_root=settings.host_sys, own_sys_root=Path("/sys"))
    collectors: list[Collector] = [system, itself]
    disabled, finish = [], None
    if gpus is not None:
        owners = AttributionCollector(
            PodResources(settings.pod_resources_socket),
            proc_root=settings.host_proc,
            container_logs_dir=settings.container_logs_dir,
        )
        collectors += [gpus, owners]
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
    sampler = Sampler(
        collectors, clock, interval_seconds=settings.sampling_interval_seconds, disabled=disabled, finish=finish
    )
    itself.watch_cadence(lambda: sampler.cadence)
    if backlog is not None:
        itself.watch_backlog(backlog)
    return sampler


def backlog_of(spool: Spool[Packed], uplink: Uplink) -> Backlog:
    """This will say what the spool holds and how the link does."""
    return Backlog(
        batches=len(spool),
        bytes=spool.kept_bytes,
        lost_ticks_total=spool.lost_ticks,
        reconnects_total=max(0, uplink.sessions_total - 1),
        acknowledged_at=uplink.acknowledged_at,
    )


def identity(settings: Settings) -> Identity:
    """This will say who this agent is; the epoch is new in every process."""
    attributes = {**node_attributes(settings.host_proc), **read_topology(settings.host_sys)}
    attributes["sampling_interval_seconds"] = settings.sampling_interval_seconds
    return Identity(
        agent_id=agent_id(settings.state_dir),
        node_name=settings.node_name,
        agent_version=__version__,
        epoch=secrets.token_bytes(16),
        attributes_json=json.dumps(attributes).encode(),
    )


def boot_id(me: Identity) -> str:
    """This will give the boot that monotonic stamps belong to; empty when the machine does not say."""
    return str(json.loads(me.attributes_json).get("boot_id") or "")


def disk_spool(settings: Settings, me: Identity, clock: Clock, encoder: wire.Encoder) -> DiskSpool | None:
    """This will open the disk spool and find what earlier processes left in it; None where it is off."""
    if not settings.spool_bytes:
        return None
    disk = DiskSpool(
        settings.state_dir / SPOOL_FOLDER,
        clock,
        epoch=me.epoch,
        boot_id=boot_id(me),
        max_bytes=settings.spool_bytes,
        max_age_seconds=settings.spool_age_seconds,
        everything=encoder.everything,
    )
    disk.recover()
    return disk


def backoff() -> Backoff:
    """This will give a backoff of its own chance: no two agents may wait alike."""
    return Backoff(random.Random())  # noqa: S311 - spreads reconnects, guards nothing


async def run(settings: Settings) -> int:
    """This will sample and send until SIGTERM or SIGINT, then send what is left, and give the exit code.

    RESTART_EXIT says that only a new process can see more: the driver was upgraded under this one.
    """
    clock, encoder = SystemClock(), wire.Encoder()
    me = identity(settings)
    disk = disk_spool(settings, me, clock, encoder)
    spool: Spool[Packed] = Spool(max_bytes=settings.ring_bytes, store=disk)
    gpus = build_gpus(settings)
    sampler = build_sampler(settings, gpus, backlog=lambda: backlog_of(spool, uplink))
    heartbeat = Heartbeat(settings.state_dir / HEARTBEAT_FILE)
    newest = NewestTick(settings.node_name)
    code = 0

    def keep(tick: Tick) -> None:
        nonlocal code
        newest.keep(tick, sampler.interval_seconds)
        append(spool, encode(encoder, tick))
        if tick.restart_because and not stopped.is_set():
            log.error("ending with code %d, to be started again: %s", RESTART_EXIT, tick.restart_because)
            code = RESTART_EXIT
            stopped.set()
        heartbeat.beat(sampler.interval_seconds)

    uplink = Uplink(
        settings.server,
        me,
        spool,
        clock,
        everything=encoder.everything,
        handlers=_handlers(sampler, settings, gpus),
        backoff=backoff(),
        door=_door(settings, clock),
        backlog=BacklogLane(disk, me, clock, backoff=backoff(), boot_id=boot_id(me)) if disk else None,
        start_spread_seconds=settings.first_wait_seconds,
    )
    pages = await serve_pages(settings.prometheus_listen, newest, clock)
    stopped = _stop_signal()
    async with asyncio.TaskGroup() as tasks:
        sampling = tasks.create_task(sampler.run(keep))
        linking = tasks.create_task(uplink.run())
        syncing = tasks.create_task(disk.run()) if disk else None
        await stopped.wait()
        sampling.cancel()
        if uplink.connected.is_set():
            await _within(uplink.drained(), DRAIN_SECONDS)
        linking.cancel()
        if syncing:
            syncing.cancel()
    if disk:
        disk.close()
    if pages is not None:
        pages.close()
    await sampler.close()
    return code


async def serve_pages(listen: str, newest: NewestTick, clock: Clock) -> PageServer | None:
    """This will serve /metrics and /healthz on `listen`, nothing when that is empty. Raises SettingsError."""
    if not listen:
        return None

    def metrics() -> Page:
        text = newest.page(clock.now())
        if text is None:
            return Page(status=503, body="there is no sample that is new enough\n")
        return Page(status=200, body=text, content_type=CONTENT_TYPE)

    server = PageServer({"/metrics": metrics, "/healthz": lambda: Page(status=200, body="ok\n")})
    host, _, port = listen.rpartition(":")
    try:
        await server.start(host.strip("[]"), int(port))
    except OSError as error:
        raise SettingsError(f"prometheus_listen {listen} cannot be used: {error.strerror}; choose another") from error
    return server


async def record(
    settings: Settings, path: Path, *, seconds: float | None, progress: Callable[[int, Tick], None]
) -> int:
    """This will write what the agent sees to `path` until a signal, or for `seconds`; gives the ticks written.

    Raises OSError when the file cannot be written, or not to its end.
    """
    clock, encoder, sampler = SystemClock(), wire.Encoder(), build_sampler(settings, build_gpus(settings))
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
    spool: Spool[Packed] = Spool(max_bytes=REPLAY_BYTES)
    announced = Announced()
    uplink = Uplink(
        server,
        recording.identity(epoch=secrets.token_bytes(16), node_name=node_name),
        spool,
        clock,
        everything=announced.everything,
        handlers=refusing("this is a replay, not a host"),
        backoff=backoff(),
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


def append(spool: Spool[Packed], outgoing: Outgoing) -> None:
    """This will queue a tick for sending."""
    packed = outgoing.packed()
    spool.append(packed, size_bytes=packed.size_bytes, taken_at_unix_us=outgoing.tick.taken_at_unix_us)


class Heartbeat:
    """What the liveness probe looks at: the loop turns, whatever the server does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said: float | None = None
        self._failing = False

    def beat(self, interval_seconds: float) -> None:
        """This will stamp the file and say in it when the next stamp is due.

        A file that cannot be written is the probe's business, not the samples': they go on.
        """
        try:
            if interval_seconds == self._said and self._path.exists():
                os.utime(self._path)
            else:
                self._path.write_text(f"{interval_seconds:g}\n")
            self._said, self._failing = interval_seconds, False
        except OSError as error:
            if not self._failing:
                log.warning("%s cannot be written: %s; probes will fail", self._path, error.strerror)
            self._failing = True


def _handlers(sampler: Sampler, settings: Settings, holder: ReleasesGpus | None) -> Handlers:
    return Handlers(
        collect_now=lambda command_id, valid_for_seconds: collect_now(sampler, command_id, valid_for_seconds),
        set_interval=lambda seconds: set_interval(
            sampler,
            seconds,
            shortest_seconds=settings.shortest_interval_seconds,
            longest_seconds=LONGEST_INTERVAL_SECONDS,
        ),
        release_gpus=lambda seconds: release_gpus(holder, seconds),
        allowed_commands=frozenset(settings.allowed_commands),
    )


def _door(settings: Settings, clock: Clock) -> Door:
    if not settings.encrypted:
        return PlainDoor(settings.server)
    return CertifiedDoor(
        settings.server,
        settings.tls_dir,
        clock,
        agent_id=agent_id(settings.state_dir),
        node_name=settings.node_name,
        token=settings.read_join_token,
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
        "link": "mutual TLS" if settings.encrypted else "not encrypted",
    }
