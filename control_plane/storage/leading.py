"""Jobs that one replica does at a time: a connection of their own, a lease, and steps that hold only under it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import ClassVar, LiteralString

from control_plane.model.errors import LeaseLost
from control_plane.runtime.jobs import Report
from control_plane.storage import leases
from control_plane.storage.leases import Lease
from control_plane.storage.session import Database, SyncConnection, storage_errors

ONE_SNAPSHOT: LiteralString = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"


class LeadingJob(ABC):
    """One step at a time, if this replica has the lease. Owned by one thread at a time."""

    name: ClassVar[str]  # of the lease
    lease_lifetime: ClassVar[timedelta]  # a replica that dies is replaced after this

    def __init__(self, database: Database, *, holder: str, now: Callable[[], datetime]) -> None:
        """`holder` names this replica; `now` is the control plane's clock."""
        self._database = database
        self._holder = holder
        self._now = now
        self._connection: SyncConnection | None = None

    def work(self) -> Report:
        """This will do one step. Raises StorageUnavailable when the database does not play along."""
        try:
            with storage_errors():
                connection, now = self._open(), self._now()
                lease = leases.acquire(
                    connection, self.name, holder=self._holder, now=now, lifetime=self.lease_lifetime
                )
                if lease is None:
                    self._lost()
                    return Report(leading=False, more=False)
                return self._step(connection, lease, now)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """This will let the connection go, and all that was not written down; the lease ends by itself."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._lost()

    @abstractmethod
    def _step(self, connection: SyncConnection, lease: Lease, now: datetime) -> Report:
        """This will do what is due, a bounded piece of it."""

    def _connected(self, connection: SyncConnection) -> None:  # noqa: B027 - most jobs keep nothing for a connection
        """This will prepare what is kept for one connection."""

    def _lost(self) -> None:  # noqa: B027 - most jobs keep nothing between two steps
        """This will forget what only the holder of the lease may know; it may be called again and again."""

    def _open(self) -> SyncConnection:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect(autocommit=True)
            self._connected(self._connection)
        return self._connection

    @contextmanager
    def _under(self, connection: SyncConnection, lease: Lease, *before: LiteralString) -> Iterator[None]:
        """This will run a transaction that only commits if the lease is still ours; `before` comes first in it."""
        with connection.transaction():
            for statement in before:
                connection.execute(statement)
            if not leases.still_mine(connection, lease):
                raise LeaseLost(f"another replica has taken {lease.name} over")
            yield
