"""Listening for agents, and stopping to, with nothing that has arrived left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

import grpc

from control_plane.ingest import wire
from control_plane.ingest.admission import MAX_BATCH_BYTES
from control_plane.ingest.bursts import in_bursts
from control_plane.ingest.enrolment import EnrolmentService, listen_for_enrolments
from control_plane.ingest.server import LinkService
from control_plane.model.errors import ConfigurationError
from optiinfra.telemetry.v1 import link_pb2

log = logging.getLogger(__name__)

# At the end: for the last commit, and then for agents to hear of it and leave.
DRAIN_SECONDS, GRACE_SECONDS = 10.0, 1.0

SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", 4 * MAX_BATCH_BYTES),
    # Agents ping when idle; grpc's own tolerance, one ping in five minutes, would cut them off.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),  # a second control plane must fail to start, not share the port by chance
    # A ping with every message, to learn how much a stream may send ahead. 64 KiB are enough, and a bound: a stream
    # that is not read holds no more of our memory.
    ("grpc.http2.bdp_probe", 0),
)


async def start_server(
    service: LinkService,
    address: str,
    *,
    enrolment: EnrolmentService | None = None,
    enrolment_address: str = "",
) -> tuple[grpc.aio.Server, int]:
    """This will listen for agents at `address` (host:port) and give the server and its port.

    With `enrolment` it asks everybody there for a certificate, and gives them out at `enrolment_address`.
    Raises ConfigurationError when the port is taken.
    """
    with in_bursts(asyncio.get_running_loop(), service.pause_seconds):
        server = grpc.aio.server(options=SERVER_OPTIONS)
    _serve_link(service, server)
    try:
        if enrolment is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, enrolment.credentials(require_certificate=True))
    except RuntimeError as error:
        raise ConfigurationError(f"the agents' port {address} is taken; choose another with --grpc-port") from error
    if enrolment is not None:
        listen_for_enrolments(server, enrolment, enrolment_address)
    await server.start()
    return server, port


def _serve_link(service: LinkService, server: grpc.aio.Server) -> None:
    """This will do what the generated code does, but let messages be written that are serialised already."""
    connect = grpc.stream_stream_rpc_method_handler(
        service.Connect,
        request_deserializer=link_pb2.AgentMessage.FromString,
        response_serializer=wire.serialized,
    )
    link = link_pb2.DESCRIPTOR.services_by_name["Link"]
    server.add_registered_method_handlers(link.full_name, {"Connect": connect})


async def stop_server(service: LinkService, server: grpc.aio.Server) -> None:
    """This will commit what has arrived, tell agents to come back, and stop listening."""
    await _within(service.drain(), seconds=DRAIN_SECONDS)
    await server.stop(grace=GRACE_SECONDS)


async def _within(work: Awaitable[None], *, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        log.warning("gave up waiting for the last commit after %d s; agents still hold what is missing", seconds)
