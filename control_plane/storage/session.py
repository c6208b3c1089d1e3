"""Connections to Postgres: one URL, an async engine for reading, plain psycopg for bulk writing."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import PoolProxiedConnection

from control_plane.model.errors import ConfigurationError, StorageRefused, StorageUnavailable

# A read that takes longer has lost its reader; the limit keeps one bad query from starving the rest.
READ_STATEMENT_TIMEOUT_MS = 30_000
# Without it a dead network holds a commit until TCP gives up, 15 minutes by Linux's default.
TCP_USER_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_SECONDS = 10

# Of a connection that looks rows up by their keys and does nothing else. A plan that was made while a partition was
# empty would read all of it once it is not; and planning anew for each commit costs more than the commit.
LOOKUPS_ONLY: Mapping[str, str] = MappingProxyType(
    {
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
    }
)

SyncConnection = psycopg.Connection[tuple[Any, ...]]


def integers(values: Iterable[int]) -> str:
    """This will write numbers as Postgres reads an array of them; the driver's own way costs ten times as much."""
    return f"{{{','.join(map(str, values))}}}"


def byte_strings(values: Iterable[bytes]) -> str:
    """This will write byte strings as Postgres reads an array of them."""
    return "{" + ",".join(f'"\\\\x{value.hex()}"' for value in values) + "}"


def texts(values: Iterable[str]) -> str:
    """This will write texts as Postgres reads an array of them."""
    return "{" + ",".join(f'"{value}"' for value in (v.replace("\\", "\\\\").replace('"', '\\"') for v in values)) + "}"


def numbers(values: Iterable[float | None]) -> str:
    """This will write numbers, some of them unknown, as Postgres reads an array of them."""
    return f"{{{','.join('NULL' if value is None else repr(value) for value in values)}}}"


@contextmanager
def storage_errors() -> Iterator[None]:
    """This will turn the driver's errors into StorageUnavailable (try again) or StorageRefused (do not)."""
    try:
        yield
    except (psycopg.Error, SQLAlchemyError) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = f"{type(cause).__name__}: {cause}".splitlines()[0]
        if isinstance(cause, psycopg.DataError | psycopg.IntegrityError):
            raise StorageRefused(text) from error
        # A restart, a full disk, a deadlock, a standby, a missing right, a plan older than a migration:
        # none of it is the data's fault, so the data must wait and not be refused.
        raise StorageUnavailable(text) from error


def sqlalchemy_url(url: str) -> URL:
    """This will turn a libpq or SQLAlchemy URL into one that names the psycopg driver.

    Raises ConfigurationError when it is not a Postgres URL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            "DATABASE_URL is not a URL; write postgresql://user:password@host:5432/name"
        ) from error
    if parsed.drivername.split("+")[0] not in ("postgres", "postgresql"):
        raise ConfigurationError(f"DATABASE_URL names {parsed.drivername}; only Postgres 15 or newer is supported")
    try:
        conninfo_to_dict(parsed.set(drivername="postgresql").render_as_string(hide_password=False))
    except psycopg.ProgrammingError as error:  # libpq says which option it does not know
        raise ConfigurationError(f"DATABASE_URL: {str(error).splitlines()[0]}") from error
    return parsed.set(drivername="postgresql+psycopg")


def libpq_url(url: str) -> str:
    """This will turn a libpq or SQLAlchemy URL into one that libpq reads, with a TCP time limit."""
    parts = urlsplit(sqlalchemy_url(url).render_as_string(hide_password=False))
    query = dict(parse_qsl(parts.query)) | {
        "tcp_user_timeout": str(TCP_USER_TIMEOUT_MS),
        "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
    }
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))


def redacted_url(url: str) -> str:
    """This will give the URL as it may be shown: without its password."""
    return sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=True)


class Engine(AsyncEngine):
    """An engine whose connections ask: each statement by itself. What is done in `begin` is one transaction."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """This will give a connection on which all that is done is one transaction, committed at the end."""
        async with AsyncEngine.begin(self.execution_options(isolation_level="READ COMMITTED")) as connection:
            yield connection


MOST_LOOKS = 3


def _raise_if_gone(connection: PoolProxiedConnection, *_others: object) -> None:
    """This will see that the server has ended a pooled connection, as it has told us: the pool then makes another.

    An idle connection is sent nothing but that, and notices.
    """
    pgconn = connection.driver_connection.pgconn  # type: ignore[union-attr]
    socket = select.poll()
    socket.register(pgconn.socket, select.POLLIN)
    try:
        for _ in range(MOST_LOOKS):  # a notice is read and gone; an end stays
            if not socket.poll(0):
                return
            pgconn.consume_input()
    except psycopg.OperationalError as error:
        raise DisconnectionError(str(error)) from error
    raise DisconnectionError("the server has ended the connection")


class Database:
    """One Postgres, by its URL. Closing it ends every pooled connection."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        """`pool_size` bounds the concurrent reads; more wait for a free connection."""
        self.url = url
        # Most questions are one statement each: BEGIN, ROLLBACK and a ping would be more than it.
        asking = create_async_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=5,
            isolation_level="AUTOCOMMIT",
            connect_args={
                "options": f"-c statement_timeout={READ_STATEMENT_TIMEOUT_MS} -c timezone=UTC",
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            },
        )

        self.engine: AsyncEngine = Engine(asking.sync_engine)
        event.listen(self.engine.sync_engine, "checkout", _raise_if_gone)

    def connect(
        self, *, autocommit: bool = False, settings: Mapping[str, str] = MappingProxyType({})
    ) -> SyncConnection:
        """This will open a plain connection for bulk work, outside the pool, with `settings` of Postgres' own.

        Raises StorageUnavailable when Postgres does not answer.
        """
        options = " ".join(f"-c {name}={value}" for name, value in {"timezone": "UTC", **settings}.items())
        try:
            return psycopg.connect(libpq_url(self.url), autocommit=autocommit, options=options)
        except psycopg.OperationalError as error:
            raise StorageUnavailable(f"Postgres does not answer at {redacted_url(self.url)}") from error

    async def ping(self) -> str:
        """This will ask Postgres for its version, in words."""
        async with self.engine.connect() as connection:
            version = await connection.scalar(text("SHOW server_version"))
        return str(version)

    async def close(self) -> None:
        """This will close the pool."""
        await self.engine.dispose()
