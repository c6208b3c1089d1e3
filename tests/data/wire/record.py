"""Records what this release's agent sends, byte by byte: run once at each release, never for an old one.

python -m tests.data.wire.record 0.1
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from node_agent.model import Histogram, Reason, Value
from node_agent.uplink.client import Outgoing
from optiinfra.telemetry.v1 import link_pb2
from tests.fakes.clock import FakeClock
from tests.support.ingest import Agent
from tests.support.streams import tick

HERE = Path(__file__).parent
LENGTH = struct.Struct("<I")

# What the agent sees, tick by tick: every type of value, every table, and a thing that appears later.
TICKS: list[dict[tuple[str, str], dict[str, Value]]] = [
    {
        ("gpu", "GPU-0"): {
            "power_draw_watts": 690.162, "sm_active_ratio": 0.96313, "memory_used_bytes": 16741433344,
            "energy_joules_total": 6900.522, "nvlink_transmit_bytes_per_second": Reason.UNSUPPORTED,
        },
        ("gpu", "GPU-1"): {"power_draw_watts": Reason.DEVICE_LOST, "sm_active_ratio": Reason.DEVICE_LOST},
        ("host", "node"): {
            "cpu_busy_ratio": Reason.FIRST_SAMPLE, "cpu_core_busy_ratio": (0.25, 0.5, 0.75),
            "memory_total_bytes": 540881584128, "uptime_seconds": 86400.25,
        },
        ("disk", "nvme0n1"): {"read_bytes_total": 2**53 - 1, "busy_seconds_total": 12.5},
        ("filesystem", "/"): {"total_bytes": 10**12, "used_bytes": 0},
        ("network", "eth0"): {"received_bytes_total": 1, "transmit_errors_total": Reason.NO_PERMISSION},
    },
    {
        ("gpu", "GPU-0"): {"power_draw_watts": 0.0},
        ("inference", "http://127.0.0.1:8000"): {
            "up_flag": 1.0, "generation_tokens_total": 123456789, "counters_since_unix_seconds": 1772625600.5,
            "ttft_seconds": Histogram(bounds=(0.001, 0.01, 0.1, 1.0), counts=(0, 5, 17, 3, 1), sum=4.125),
            "inter_token_latency_seconds": Reason.NOT_EXPOSED,
        },
    },
    {("inference", "http://127.0.0.1:8000"): {"up_flag": 0.0, "ttft_seconds": Reason.SERVER_GONE}},
]  # fmt: skip


class _Listener:
    """A server that only understands enough to keep the agent talking."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.address = ""

    async def connect(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for data in messages:
            self.heard.append(data)
            message = link_pb2.AgentMessage.FromString(data)
            match message.WhichOneof("body"):
                case "hello":
                    welcome = link_pb2.Welcome(protocol=1, window_batches=16, heartbeat_interval_seconds=60)
                    yield link_pb2.ServerMessage(welcome=welcome).SerializeToString()
                case "batch":
                    yield link_pb2.ServerMessage(
                        ack=link_pb2.Ack(committed_seq=message.batch.seq, window_batches=16)
                    ).SerializeToString()


async def _record(clock: FakeClock) -> list[bytes]:
    listener = _Listener()
    server = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(listener.connect)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("optiinfra.telemetry.v1.Link", {"Connect": handler}),)
    )
    listener.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    agent = Agent(listener, clock, agent_id="0b6c7bd0-6c1e-4f0e-9d5e-00000000a001", buffer_bytes=1 << 20)
    async with agent:
        await agent.uplink.connected.wait()
        for rows in TICKS:
            announce, message = agent.encoder.encode(tick(agent.node.now(), rows))
            packed = Outgoing(announce=announce, tick=message).packed()
            agent.spool.append(packed, size_bytes=packed.size_bytes, taken_at_unix_us=message.taken_at_unix_us)
            await agent.drained()
            clock.advance(5)
    await server.stop(grace=None)
    return listener.heard


def _plain(value: Value) -> object:
    match value:
        case Reason():
            return {"unknown": value.name.lower()}
        case Histogram():
            return {"bounds": value.bounds, "counts": value.counts, "sum": value.sum}
        case _:
            return value


def main(release: str) -> None:
    """This will write the stream and what it says."""
    stream, meaning = HERE / f"agent-{release}.bin", HERE / f"agent-{release}.json"
    heard = asyncio.run(_record(FakeClock()))
    with stream.open("xb") as file:  # a recording is never made anew
        for data in heard:
            file.write(LENGTH.pack(len(data)) + data)
    said = [
        [{"table": t, "key": k, "values": {n: _plain(v) for n, v in values.items()}} for (t, k), values in rows.items()]
        for rows in TICKS
    ]
    meaning.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
