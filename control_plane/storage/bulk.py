"""A thread with a connection of its own, for bulk work that must not wait for readers, nor they for it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import MappingProxyType

import psycopg

from control_plane.storage.session import Database, SyncConnection

log = logging.getLogger(__name__)

# At the end, for a statement that is under way: a large commit takes a second or two. After it a process that is told
# to go must not stay because Postgres does not answer; what is not committed is not acknowledged.
PATIENCE_SECONDS = 5.0
CANCEL_SECONDS = 2.0


class BulkThread:
    """One thread and the connection that it alone uses, made when it is needed."""

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        autocommit: bool = False,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`settings` are Postgres' own, for the connection."""
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._database = database
        self._autocommit = autocommit
        self._settings = settings
        self._connection: SyncConnection | None = None

    def connection(self) -> SyncConnection:
        """This will give the connection. Only for the thread. Raises StorageUnavailable."""
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect(autocommit=self._autocommit, settings=self._settings)
        return self._connection

    def disconnect(self) -> None:
        """This will close the connection, and let a transaction go. Only for the thread."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """This will end the thread: after what is under way, or, if that takes too long, in the middle of it."""
        ended = self.executor.submit(self.disconnect)
        self.executor.shutdown(wait=False)
        with suppress(TimeoutError):
            ended.result(timeout=PATIENCE_SECONDS)
            return
        log.warning("Postgres does not answer; what is under way is given up")
        connection = self._connection
        if connection is not None:
            with suppress(psycopg.Error):  # so that it lets go of its locks
                connection.cancel_safe(timeout=CANCEL_SECONDS)
            _hang_up(connection)
        self.executor.shutdown(wait=True)


def _hang_up(connection: SyncConnection) -> None:
    """This will wake the thread that waits for an answer, if it still does."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
