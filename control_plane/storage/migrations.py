"""Bringing the schema to this release, and saying whether it is there."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

import migrations
from control_plane.model.errors import ConfigurationError, StorageUnavailable
from control_plane.storage import sql_contract
from control_plane.storage.session import redacted_url, sqlalchemy_url

# Any 64-bit number that nobody else uses: replicas that start together take turns on it.
MIGRATION_LOCK = 0x6F70_7469_696E_6672
OLDEST_POSTGRES = 150000  # 15: the oldest release that Debian 12 and the users run


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def head_revision() -> str:
    """This will name the newest revision that this release knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def upgrade(url: str) -> tuple[str | None, str]:
    """This will bring the schema to head and give the revisions before and after.

    Replicas that call it together take turns. Raises StorageUnavailable when Postgres does not
    answer, ConfigurationError when it is too old or the schema is newer than this release.
    """
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.connect() as connection:
            version = int(connection.scalar(text("SHOW server_version_num")) or 0)
            if version < OLDEST_POSTGRES:
                raise ConfigurationError(f"Postgres {version // 10000} is too old; use 15 or newer")
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            before = MigrationContext.configure(connection).get_current_revision()
            config = _config()
            if before is not None and before not in {
                s.revision for s in ScriptDirectory.from_config(config).walk_revisions()
            }:
                raise ConfigurationError(
                    f"the database is at revision {before}, newer than this release; upgrade OptiInfra"
                )
            connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            sql_contract.install(driver)
            connection.commit()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
        return before, head_revision()
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise StorageUnavailable("a table to be migrated is in use by a long transaction; try again") from error
        raise StorageUnavailable(f"Postgres does not answer at {redacted_url(url)}") from error
    finally:
        engine.dispose()


async def current_revision(engine: AsyncEngine) -> str | None:
    """This will name the revision that the database is at; None for an empty one."""
    async with engine.connect() as connection:
        exists = await connection.scalar(text("SELECT to_regclass('alembic_version')"))
        if exists is None:
            return None
        revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)
