"""How a stream's channel is opened, and how it is said that there is none."""

from __future__ import annotations

from typing import Protocol

import grpc

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    # Else the next channel to the same address would be given the connection that we gave up because it is dead.
    ("grpc.use_local_subchannel_pool", 1),
    # Only acknowledgements come back: no window to be measured, and no ping for each of them.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.enable_http_proxy", 0),  # an HTTP proxy meant for package downloads would break the stream
)


class Disconnected(Exception):
    """The stream ended; `retry_after_seconds` is what the control plane asked for, if it did."""

    def __init__(self, detail: str, *, retry_after_seconds: float | None = None) -> None:
        """`detail` is the clause that a log line gives as the reason."""
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Renewing(Disconnected):
    """The stream ends because its certificate is due for renewal: no outage."""

    def __init__(self) -> None:
        """It needs no detail."""
        super().__init__("the certificate is due for renewal")


class Unrecognised(Disconnected):
    """The control plane does not believe who we are."""


class Door(Protocol):
    """A way to a control plane."""

    async def open(self) -> grpc.aio.Channel:
        """This will give a channel. Raises Disconnected."""
        ...

    def seconds_until_renewal(self) -> float | None:
        """This will say when the channel has to be opened again; None: never."""
        ...

    def refused(self) -> None:
        """This will note that the control plane does not believe who we are."""
        ...


class PlainDoor:
    """Without encryption: for loopback, and for networks that somebody vouches for."""

    def __init__(self, server: str) -> None:
        """`server` is host:port."""
        self._server = server

    async def open(self) -> grpc.aio.Channel:
        """This will give a channel."""
        return grpc.aio.insecure_channel(self._server, options=CHANNEL_OPTIONS)

    def seconds_until_renewal(self) -> float | None:
        """This will never ask for a new channel."""
        return None

    def refused(self) -> None:
        """This will change nothing: there is no certificate."""
