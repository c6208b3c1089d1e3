"""Something that speaks link.proto and forgets: every batch is acknowledged at once, and nothing is kept.

For what must not wait for a database: `python -m benchmarks.acknowledger` prints its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from benchmarks.processes import environment
from optiinfra.telemetry.v1 import link_pb2, link_pb2_grpc

WINDOW_BATCHES = 16  # the control plane's


class _Acknowledger(link_pb2_grpc.LinkServicer):
    # The stubs know only servicers that yield; grpc.aio also takes those that read and write.
    async def Connect(self, requests: object, context: Any) -> None:  # type: ignore[override]
        await context.send_initial_metadata((("optiinfra-link", "1"),))
        while isinstance(message := await context.read(), link_pb2.AgentMessage):
            answer = link_pb2.ServerMessage()
            match message.WhichOneof("body"):
                case "hello":
                    answer.welcome.protocol, answer.welcome.window_batches = 1, WINDOW_BATCHES
                    answer.welcome.heartbeat_interval_seconds = 10
                case "batch":
                    answer.ack.committed_seq, answer.ack.window_batches = message.batch.seq, WINDOW_BATCHES
                case _:
                    continue
            await context.write(answer)


async def _serve() -> None:
    server = grpc.aio.server()
    link_pb2_grpc.add_LinkServicer_to_server(_Acknowledger(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


@contextmanager
def acknowledger() -> Iterator[int]:
    """This will give the port of one in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.acknowledger"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGKILL)  # it has nothing to lose
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve())
