"""What tests of the door share: a control plane on a database of its own, and a look into that database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from control_plane.ingest import wire, writer
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.fakes.link_server import LinkServer
from tests.fakes.tcp_proxy import TcpProxy
from tests.support.ingest import ControlPlane, Store


@pytest.fixture
def quick_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer gathers, tries again and asks for reconnects in a fraction of its usual time."""
    monkeypatch.setattr(writer, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(writer, "RETRY_SECONDS", (0.02,))
    later = wire.drain
    monkeypatch.setattr(wire, "drain", lambda reconnect_after_ms: later(reconnect_after_ms // 5))


@pytest.fixture
def no_grpc_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a peer does, grpc must never have to report an error of our handler."""
    yield
    for phase in ("setup", "call"):
        assert [r.message for r in caplog.get_records(phase) if r.name.startswith("grpc")] == []


@pytest.fixture
async def plane(
    database_url: str, clock: FakeClock, quick_commits: None, no_grpc_errors: None
) -> AsyncIterator[ControlPlane]:
    """One replica of the door, listening."""
    async with ControlPlane(database_url, clock) as plane:
        yield plane


@pytest.fixture
def node(clock: FakeClock) -> FakeNodeClock:
    """The clock of one machine, which runs on while its agents come and go."""
    return FakeNodeClock(clock)


@pytest.fixture
def store(database_url: str) -> Store:
    """A look into the database."""
    return Store(database_url)


@pytest.fixture
async def server() -> AsyncIterator[LinkServer]:
    """A control plane of a few lines."""
    server = LinkServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def proxy(server: LinkServer) -> AsyncIterator[TcpProxy]:
    """A network between an agent and that."""
    async with TcpProxy(server.port) as proxy:
        yield proxy
