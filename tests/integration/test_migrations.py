"""The migrations on a real Postgres: they make the schema that the code believes in, once, and can be undone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Double, Engine, MetaData, UniqueConstraint, create_engine, inspect
from sqlalchemy.dialects import postgresql

from control_plane.model.errors import ConfigurationError, StorageUnavailable
from control_plane.storage import migrations, schema_rollout, schema_trial
from control_plane.storage.schema import LATEST_TABLES, LEFT_BEHIND, SAMPLE_TABLES
from control_plane.storage.schema_alerts import alert
from control_plane.storage.schema_bottlenecks import bottleneck_now
from control_plane.storage.schema_decisions import recommendation
from control_plane.storage.schema_slo import metadata
from control_plane.storage.session import Database, sqlalchemy_url
from optiinfra.catalogue import TABLES, FieldSpec
from tests.support.postgres import with_database

assert {alert.name, bottleneck_now.name, recommendation.name} <= metadata.tables.keys(), (
    "every module that holds tables has been imported"
)


def engine_for(url: str) -> Engine:
    return create_engine(sqlalchemy_url(url))


def columns_in_postgres(url: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Name, type and NULL-ability of every column of every table, in their order on disk."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull "
            "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
            "AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum"
        ).fetchall()
    tables: dict[str, list[tuple[str, str, bool]]] = {}
    for table, *column in rows:
        tables.setdefault(table, []).append((column[0], column[1], column[2]))
    return tables


def type_in_postgres(kind: Any) -> str:
    """How Postgres' format_type names a SQLAlchemy type."""
    text = "double precision" if isinstance(kind, Double) else kind.compile(postgresql.dialect()).lower()  # type: ignore[no-untyped-call]
    return text.removesuffix(" not null")


def test_an_empty_database_is_brought_to_the_newest_revision(empty_database_url: str) -> None:
    assert migrations.upgrade(empty_database_url) == (None, migrations.head_revision())


def test_every_table_that_the_code_knows_exists_with_the_same_columns(database_url: str) -> None:
    found = columns_in_postgres(database_url)
    found.pop("alembic_version")
    assert schema_rollout.metadata is schema_trial.metadata is metadata  # every module that holds tables is loaded
    expected = {
        table.name: {(c.name, type_in_postgres(c.type), bool(c.nullable)) for c in table.columns}
        for table in metadata.sorted_tables
    }
    # Not their order: an expand migration can only add columns at the end, and COPY names the columns.
    assert {
        name: {column for column in columns if column[0] not in LEFT_BEHIND.get(name, ())}
        for name, columns in found.items()
    } == expected


def test_what_is_left_behind_for_the_release_before_is_there_and_can_be_empty(database_url: str) -> None:
    found = columns_in_postgres(database_url)
    for table, names in LEFT_BEHIND.items():
        assert names <= {name for name, _, may_be_null in found[table] if may_be_null}


def test_keys_and_references_are_those_that_the_code_knows(database_url: str) -> None:
    engine = engine_for(database_url)
    try:
        reflected = MetaData()
        reflected.reflect(engine)
        inspector = inspect(engine)
        for table in metadata.sorted_tables:
            keys = {c.name for c in table.primary_key.columns}
            assert set(inspector.get_pk_constraint(table.name)["constrained_columns"]) == keys, table.name
            references = {(f.parent.name, f.target_fullname, f.ondelete) for f in table.foreign_keys}
            found = reflected.tables[table.name].foreign_keys
            assert {(f.parent.name, f.target_fullname, f.ondelete) for f in found} == references, table.name
            unique = {
                frozenset(col.name for col in c.columns) for c in table.constraints if isinstance(c, UniqueConstraint)
            }
            uniques = {
                frozenset(str(c) for c in u["column_names"]) for u in inspector.get_unique_constraints(table.name)
            }
            assert uniques == unique, table.name
    finally:
        engine.dispose()


@pytest.mark.parametrize("table", TABLES)
def test_every_field_of_the_catalogue_has_its_columns_in_the_sample_and_the_latest_table(
    table: str, database_url: str
) -> None:
    found = columns_in_postgres(database_url)
    for name in (SAMPLE_TABLES[table].name, LATEST_TABLES[table].name):
        types = {column: kind for column, kind, _ in found[name] if column not in LEFT_BEHIND.get(name, ())}
        for spec in TABLES[table].fields:
            for column, kind in expected_columns(spec).items():
                assert types.pop(column) == kind, f"{name}.{column}"
        assert types.keys() <= {
            "taken_at", "received_at", "node_id", "entity_id", "unknown_set_id", "layout_id", "clock_offset_seconds",
        }  # fmt: skip


def expected_columns(spec: FieldSpec) -> dict[str, str]:
    if spec.type == "histogram":
        return {f"{spec.name}_sum": "double precision", f"{spec.name}_buckets": "bigint[]"}
    return {spec.name: "double precision" if spec.type == "double" else spec.type}


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    before = columns_in_postgres(database_url)
    head = migrations.head_revision()
    assert migrations.upgrade(database_url) == (head, head)
    assert columns_in_postgres(database_url) == before


def test_replicas_that_migrate_at_once_take_turns(empty_database_url: str) -> None:
    head = migrations.head_revision()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(migrations.upgrade, [empty_database_url] * 4))
    assert sorted(before or "" for before, _ in results) == ["", head, head, head]
    assert {after for _, after in results} == {head}


def test_a_database_that_is_newer_than_this_release_is_refused_and_left_alone(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = columns_in_postgres(database_url)
    with pytest.raises(ConfigurationError, match="9999, newer than this release"):
        migrations.upgrade(database_url)
    assert columns_in_postgres(database_url) == before


def test_a_refused_migration_lets_go_of_its_lock(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError):
        migrations.upgrade(database_url)
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (migrations.MIGRATION_LOCK,)).fetchone()
    assert row == (True,)


def test_a_migration_can_be_undone_and_done_again(empty_database_url: str) -> None:
    migrations.upgrade(empty_database_url)
    head = columns_in_postgres(empty_database_url)
    downgrade_to(empty_database_url, "base")
    assert set(columns_in_postgres(empty_database_url)) <= {"alembic_version"}
    assert migrations.upgrade(empty_database_url)[0] is None
    assert columns_in_postgres(empty_database_url) == head


def downgrade_to(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "migrations")
    engine = engine_for(url)
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, revision)
    finally:
        engine.dispose()


async def test_the_revision_of_an_empty_database_is_unknown_and_that_of_a_migrated_one_is_head(
    empty_database_url: str,
) -> None:
    database = Database(empty_database_url)
    try:
        assert await migrations.current_revision(database.engine) is None
        migrations.upgrade(empty_database_url)
        assert await migrations.current_revision(database.engine) == migrations.head_revision()
    finally:
        await database.close()


def test_a_postgres_that_does_not_answer_is_unavailable_and_no_password_is_shown() -> None:
    with pytest.raises(StorageUnavailable) as error:
        migrations.upgrade("postgresql://somebody:secret@127.0.0.1:1/nothing?connect_timeout=1")
    assert "127.0.0.1" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.slow  # as long as a migration waits for a lock
def test_a_migration_that_cannot_get_its_lock_gives_up_and_says_so(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as other:
        other.execute("CREATE TABLE node (n int)")
        with pytest.raises(StorageUnavailable, match="long transaction"):
            migrations.upgrade(empty_database_url)
    migrations_left = columns_in_postgres(empty_database_url)
    assert "gpu_sample" not in migrations_left


def test_a_database_that_does_not_exist_is_unavailable(database_url: str) -> None:
    with pytest.raises(StorageUnavailable):
        migrations.upgrade(with_database(database_url, "optiinfra_there_is_none"))
