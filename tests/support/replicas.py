"""Several control planes as processes of their own on one Postgres that can be hurt, and a balancer before them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import psycopg
from sqlalchemy.engine import make_url

from benchmarks.processes import ControlPlane, free_ports
from control_plane.storage.embedded import EmbeddedPostgres
from tests.fakes.tcp_proxy import TcpProxy

# A start with cold caches on a machine that does much else; only a failing test waits so long.
PATIENCE_SECONDS = 90.0
# Of the disk that can be filled: Postgres and the few rows of a test, its log included, take less than half of it.
DISK_MIB = 512


async def until(condition: Callable[[], object], what: str) -> None:
    """This will return once `condition` holds."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise AssertionError(f"it did not come to pass that {what}") from error


@contextmanager
def small_disk() -> Iterator[tuple[Path, bool]]:
    """This will give a folder, and whether it is a disk of its own that can be filled: only who may mount has one."""
    folder = Path(tempfile.mkdtemp(prefix="optiinfra-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=755", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


class HurtPostgres:
    """A Postgres, with fsync on, behind a proxy; and what can happen to both."""

    def __init__(self, folder: Path, *, is_disk: bool) -> None:
        """`folder` is for its data; `is_disk` says whether it can be filled."""
        self.is_disk = is_disk
        self._ballast = folder / "ballast"
        (port,) = free_ports(1)
        self.server = EmbeddedPostgres(folder / "data", port=port)
        self.proxy = TcpProxy(port)

    async def start(self) -> None:
        """This will bring both up."""
        self.server.start()
        await self.proxy.listen()

    async def stop(self) -> None:
        """This will end both."""
        await self.proxy.__aexit__(None, None, None)
        self.server.stop()

    @property
    def url(self) -> str:
        """This will give the way for control planes: through the proxy."""
        through = make_url(self.server.url).set(host="127.0.0.1", port=self.proxy.port, query={})
        return through.render_as_string(hide_password=False)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """This will look past the proxy."""
        return psycopg.connect(self.server.url, autocommit=True)

    async def keep_up(self) -> None:
        """This will start it again whenever it ends, as a service manager does, until cancelled."""
        while True:
            await asyncio.sleep(0.1)
            if self.server.pid is None:
                with suppress(Exception):  # a disk that is full: again
                    self.server.restart()

    async def ready(self) -> None:
        """This will return when it answers."""
        await until(lambda: self.server.is_ready, "Postgres answers")

    def commits_under_way(self) -> int:
        """This will count the transactions of its clients that have written something and are not over."""
        with self.connect() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
            ).fetchone() or (0,)
        return cast(int, count)

    async def restarted(self) -> None:
        """This will end it as an upgrade does, with its clients cut off; `keep_up` starts it again."""
        await self._ended_by(signal.SIGINT)

    async def killed(self) -> None:
        """This will end it without a word; `keep_up` starts it again."""
        await self._ended_by(signal.SIGKILL)

    async def _ended_by(self, number: signal.Signals) -> None:
        await self.ready()
        pid = self.server.pid
        assert pid is not None
        os.kill(pid, number)
        await until(lambda: self.server.pid != pid, "Postgres has ended")

    @contextmanager
    def full(self) -> Iterator[None]:
        """This will leave no byte on its disk meanwhile."""
        with self._ballast.open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(b"\0" * 65536)
        try:
            yield
        finally:
            self._ballast.unlink()

    @contextmanager
    def no_connections_left(self) -> Iterator[None]:
        """This will end every client and take their places."""
        taken: list[psycopg.Connection[tuple[object, ...]]] = []
        try:
            with self.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
                with suppress(psycopg.OperationalError):
                    while True:
                        taken.append(self.connect())
            yield
        finally:
            for connection in taken:
                connection.close()


class Replica:
    """One `optiinfra up` on a database that it shares with others."""

    def __init__(self, folder: Path, database_url: str) -> None:
        """`folder` is for what is its own."""
        self._folder = folder
        self._database_url = database_url
        self._plane: ControlPlane | None = None
        self.grpc_port: int | None = None  # None while it does not serve

    def start(self) -> None:
        """This will start it; `ready` tells when it serves."""
        log = self._folder.with_suffix(".log")
        self._plane = ControlPlane(
            self._folder, "--no-local-agent", external_url=self._database_url, log=log
        ).start()  # fmt: skip

    async def ready(self) -> None:
        """This will return when it serves."""
        plane = self._plane
        assert plane is not None
        async with asyncio.timeout(PATIENCE_SECONDS):  # in a thread: it asks Postgres through a proxy of this loop
            while await asyncio.to_thread(plane.status, "/health/ready") != 200:
                assert plane.is_alive, self._folder.with_suffix(".log").read_text(encoding="utf-8")[-4000:]
                await asyncio.sleep(0.05)
        self.grpc_port = plane.grpc_port

    def kill(self) -> None:
        """This will end it at whatever instruction it is."""
        self.grpc_port = None
        if self._plane is not None:
            self._plane.kill()
            self._plane = None

    async def stop(self) -> None:
        """This will end it in order."""
        self.grpc_port = None
        if self._plane is not None:
            await asyncio.to_thread(self._plane.stop)
            self._plane = None


class Balancer(TcpProxy):
    """Gives each new connection to some replica that serves, by chance."""

    def __init__(self, replicas: Mapping[str, Replica], chance: random.Random) -> None:
        super().__init__(0)
        self._replicas = replicas
        self._chance = chance

    @property
    def target_port(self) -> int:
        """This will give where the next connection goes; to a port that nobody listens on, if there is no replica."""
        ports = [replica.grpc_port for replica in self._replicas.values() if replica.grpc_port is not None]
        return self._chance.choice(ports) if ports else 1

    @target_port.setter
    def target_port(self, port: int) -> None:
        pass
