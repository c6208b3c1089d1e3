"""One node that has lost all measure: it sends batches of many ticks for as long as gRPC takes them, window or not.

Run as a process of its own: `python -m benchmarks.flood --server HOST:PORT --seconds 20`. It says `connected` when it
is welcome, and at the end prints how many ticks it could send and how many of them were acknowledged, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from contextlib import suppress

import grpc
import uvloop

from benchmarks.fleet import METHOD, OPTIONS
from benchmarks.fleet_host import tick
from node_agent.clock import SystemClock
from node_agent.uplink import wire
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

TICKS_PER_BATCH = 100  # two thirds of the largest batch that is taken


async def flood(server: str, name: str, seconds: float) -> tuple[int, int]:
    """This will send for so long, and give how many ticks were sent and how many acknowledged."""
    clock = SystemClock()
    encoder = wire.Encoder()
    announce, first = encoder.encode(tick(999_999, clock.now()))
    async with grpc.aio.insecure_channel(server, options=OPTIONS) as channel:
        stream: grpc.aio.StreamStreamCall[bytes, link_pb2.ServerMessage] = channel.stream_stream(
            METHOD, response_deserializer=link_pb2.ServerMessage.FromString
        )()
        hello = link_pb2.Hello(
            protocol_min=1, protocol_max=1, agent_id=str(uuid.uuid5(uuid.NAMESPACE_OID, name)), node_name=name,
            epoch=uuid.uuid4().bytes, agent_version="bench", clock=wire.clock_reading(clock.now()),
            attributes_json=b"{}",
        )  # fmt: skip
        await stream.write(link_pb2.AgentMessage(hello=hello).SerializeToString())
        await stream.read()
        await stream.write(link_pb2.AgentMessage(announce=announce).SerializeToString())
        print("connected", flush=True)
        heard = [0]
        listening = asyncio.create_task(_listen(stream, heard))
        sent = 0
        until = time.monotonic() + seconds
        with suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + seconds):
                while time.monotonic() < until:
                    await stream.write(_batch(first, sent, clock))
                    sent += 1
        acknowledged = heard[0]
        listening.cancel()
        stream.cancel()
    return sent * TICKS_PER_BATCH, acknowledged * TICKS_PER_BATCH


def _batch(seen: telemetry_pb2.Tick, sent: int, clock: SystemClock) -> bytes:
    now = clock.now()
    batch = telemetry_pb2.Batch(seq=sent + 1)
    for number in range(TICKS_PER_BATCH):
        each = batch.ticks.add()
        each.CopyFrom(seen)
        each.taken_at_unix_us = wire.unix_us(now) - number
        each.taken_at_monotonic_us = wire.monotonic_us(now) - number
    return link_pb2.AgentMessage(batch=batch).SerializeToString()


async def _listen(stream: grpc.aio.StreamStreamCall[bytes, link_pb2.ServerMessage], heard: list[int]) -> None:
    with suppress(grpc.aio.AioRpcError):
        while isinstance(message := await stream.read(), link_pb2.ServerMessage):
            if message.HasField("ack"):
                heard[0] = message.ack.committed_seq


def main() -> int:
    """This will flood the control plane that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--server", required=True, help="host:port of the agents' door")
    parser.add_argument("--number", type=int, default=0, help="which flooding node")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sent, acknowledged = runner.run(flood(arguments.server, f"flood-{arguments.number}", arguments.seconds))
    json.dump({"sent": sent, "acknowledged": acknowledged}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
