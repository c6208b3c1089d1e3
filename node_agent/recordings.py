"""Recordings: writing one of what the agent sees, and playing one through the real door."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from node_agent.assembly import append, backoff, build_gpus, build_sampler, encode, identity, stop_signal, within
from node_agent.clock import Clock, SystemClock
from node_agent.model import Tick
from node_agent.settings import Settings, SettingsError
from node_agent.spool import Spool
from node_agent.uplink import wire
from node_agent.uplink.client import Outgoing, Uplink
from node_agent.uplink.frames import Packed
from node_agent.uplink.recording import Announced, Recorder, Recording
from node_agent.uplink.requests import refusing
from node_agent.uplink.restamp import Restamper

# A replay is run by a person: better an answer than patience.
REPLAY_CONNECT_SECONDS = 10.0
# A day of an 8-GPU host at 5 s, when the control plane is slower than the replay.
REPLAY_BYTES = 1 << 30


async def record(
    settings: Settings, path: Path, *, seconds: float | None, progress: Callable[[int, Tick], None]
) -> int:
    """This will write what the agent sees to `path` until a signal, or for `seconds`; gives the ticks written.

    Raises OSError when the file cannot be written, or not to its end.
    """
    clock, encoder = SystemClock(), wire.Encoder()
    sampler = build_sampler(settings, build_gpus(settings))
    me = identity(settings, interval_seconds=settings.sampling_interval_seconds)
    stopped = stop_signal()
    written = 0
    failed: OSError | None = None
    with Recorder(path, me, clock.now()) as recorder:

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
            await within(stopped.wait(), seconds)
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
        await within(uplink.connected.wait(), REPLAY_CONNECT_SECONDS)
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
