"""A real Postgres for tests: a migrated template once, then a database of its own for each test in milliseconds."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from control_plane.storage import migrations
from control_plane.storage.embedded import EmbeddedPostgres

# The URL of a server on which the tests may create and drop databases of their own.
EXTERNAL_URL = "OPTIINFRA_TEST_DATABASE_URL"


def with_database(url: str, name: str) -> str:
    """This will give the URL of another database on the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)


class PostgresForTests:
    """One server, and the databases that tests make on it."""

    def __init__(self, url: str, embedded: EmbeddedPostgres | None = None) -> None:
        """`url` names a database from which others can be created; `embedded` is the server when it is ours."""
        self.url = url
        self.embedded = embedded
        self._template: str | None = None

    def empty(self) -> str:
        """This will make a database without any table and give its URL."""
        return self._create(_new_name("empty"), "template0")

    def migrated(self) -> str:
        """This will make a database at this release's schema and give its URL."""
        if self._template is None:
            template = _new_name("template")
            migrations.upgrade(self._create(template, "template0"))
            self._template = template
        return self._create(_new_name("test"), self._template)

    def copy(self, url: str) -> str:
        """This will make a database with all that lies in that at `url`, to which nobody may be connected."""
        name = make_url(url).database
        assert name is not None
        return self._create(_new_name("copy"), name)

    def drop(self, url: str) -> None:
        """This will drop a database, ending whatever is connected to it."""
        name = make_url(url).database
        assert name is not None
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        """This will drop the template."""
        if self._template is not None:
            self.drop(with_database(self.url, self._template))

    def _create(self, name: str, template: str) -> str:
        # Copying files is faster than logging every page, which the default of Postgres 15 does.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return with_database(self.url, name)

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


def _new_name(kind: str) -> str:
    return f"optiinfra_{kind}_{uuid.uuid4().hex[:12]}"


@contextmanager
def running_postgres() -> Iterator[PostgresForTests]:
    """This will give the server that the environment names, or start the embedded one. Main thread only."""
    external = os.environ.get(EXTERNAL_URL)
    if external:
        server = PostgresForTests(external)
        try:
            yield server
        finally:
            server.close()
        return
    with embedded_postgres() as embedded:
        yield PostgresForTests(embedded.url, embedded)


class _WithoutSync(EmbeddedPostgres):
    """The embedded server without waiting for the disk: tests outlive no power cut, and make many databases."""

    def _arguments(self, sockets: Path) -> list[str]:
        return [*super()._arguments(sockets), "-c", "fsync=off"]  # of two, the later one counts


@contextmanager
def embedded_postgres() -> Iterator[EmbeddedPostgres]:
    """This will start an embedded server on a folder of its own. Main thread only."""
    folder = Path(tempfile.mkdtemp(prefix="optiinfra-postgres-"))
    folder.chmod(0o755)  # as root the server runs as nobody, who has to come through here
    embedded = _WithoutSync(folder / "data")
    try:
        embedded.start()
        yield embedded
    finally:
        embedded.stop()
        shutil.rmtree(folder)
