"""The composition root of the daemon: builds everything, owns its one TaskGroup."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping

from node_agent.assembly import (
    agent_id,
    append,
    backoff,
    build_engines,
    build_gpus,
    build_sampler,
    encode,
    identity,
    stop_signal,
    within,
)
from node_agent.clock import Clock, SystemClock
from node_agent.commands.collect_now import collect_now
from node_agent.commands.configure import Configurator, WatchesEngines
from node_agent.commands.release_gpus import ReleasesGpus, release_gpus
from node_agent.configuration.kept import KeptConfiguration
from node_agent.host.addresses import own_addresses
from node_agent.host.http_server import Page, PageServer
from node_agent.host.liveness import HEARTBEAT_FILE, Heartbeat
from node_agent.model import Backlog, Tick
from node_agent.prometheus.page import CONTENT_TYPE, NewestTick
from node_agent.sampler import Sampler
from node_agent.settings import Settings, SettingsError
from node_agent.spool import Spool
from node_agent.uplink import wire
from node_agent.uplink.channel import Door, PlainDoor
from node_agent.uplink.client import Identity, Uplink
from node_agent.uplink.disk import DiskSpool
from node_agent.uplink.enrolment import CertifiedDoor
from node_agent.uplink.frames import Packed
from node_agent.uplink.lane import BacklogLane
from node_agent.uplink.requests import Handlers

log = logging.getLogger(__name__)

SPOOL_FOLDER = "spool"
# What a supervisor is to answer with a new process: EX_TEMPFAIL of sysexits.h. docs/problems.md tells of it.
RESTART_EXIT = 75
# At a stop, time for the last tick to be acknowledged; longer, and a restart would wait for a dead server.
DRAIN_SECONDS = 3.0


def backlog_of(spool: Spool[Packed], uplink: Uplink) -> Backlog:
    """This will say what the spool holds and how the link does."""
    return Backlog(
        batches=len(spool),
        bytes=spool.kept_bytes,
        lost_ticks_total=spool.lost_ticks,
        reconnects_total=max(0, uplink.sessions_total - 1),
        acknowledged_at=uplink.acknowledged_at,
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


async def run(settings: Settings) -> int:
    """This will sample and send until SIGTERM or SIGINT, then send what is left, and give the exit code.

    RESTART_EXIT says that only a new process can see more: the driver was upgraded under this one.
    """
    clock, encoder = SystemClock(), wire.Encoder()
    gpus, engines = build_gpus(settings), build_engines(settings)
    sampler = build_sampler(settings, gpus, engines=engines, backlog=lambda: backlog_of(spool, uplink))
    configurator = _configurator(settings, sampler, engines, gpus)
    await configurator.restore()
    me = identity(settings, interval_seconds=sampler.interval_seconds)
    disk = disk_spool(settings, me, clock, encoder)
    spool: Spool[Packed] = Spool(max_bytes=settings.ring_bytes, store=disk)
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
        handlers=_handlers(sampler, settings, gpus, configurator),
        backoff=backoff(),
        door=_door(settings, clock),
        backlog=BacklogLane(disk, me, clock, backoff=backoff(), boot_id=boot_id(me)) if disk else None,
        start_spread_seconds=settings.first_wait_seconds,
    )
    pages = await serve_pages(settings.prometheus_listen, newest, clock)
    stopped = stop_signal()
    async with asyncio.TaskGroup() as tasks:
        sampling = tasks.create_task(sampler.run(keep))
        linking = tasks.create_task(uplink.run())
        syncing = tasks.create_task(disk.run()) if disk else None
        await stopped.wait()
        sampling.cancel()
        if uplink.connected.is_set():
            await within(uplink.drained(), DRAIN_SECONDS)
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


def _configurator(
    settings: Settings, sampler: Sampler, engines: WatchesEngines, gpus: ReleasesGpus | None
) -> Configurator:
    return Configurator(
        settings.policy,
        KeptConfiguration(settings.state_dir),
        own_interval_seconds=settings.sampling_interval_seconds,
        own_addresses=own_addresses,
        sampler=sampler,
        engines=engines,
        gpus=gpus,
    )


def _handlers(
    sampler: Sampler, settings: Settings, holder: ReleasesGpus | None, configurator: Configurator
) -> Handlers:
    return Handlers(
        collect_now=lambda command_id, valid_for_seconds: collect_now(sampler, command_id, valid_for_seconds),
        set_interval=configurator.set_interval,
        configure=configurator.configure,
        standing=configurator.standing,
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


def described(settings: Settings) -> Mapping[str, object]:
    """This will give the settings as a start-up message shows them."""
    return {
        "server": settings.server,
        "node": settings.node_name,
        "interval": f"{settings.sampling_interval_seconds:g} s",
        "state": str(settings.state_dir),
        "link": "mutual TLS" if settings.encrypted else "not encrypted",
    }
