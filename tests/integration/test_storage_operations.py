"""Backups by Postgres' own programs, a move to another Postgres, and the plan of disk, as in docs/history.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy.engine import make_url

from control_plane import __main__ as command_line
from control_plane import settings
from control_plane.model.errors import ConfigurationError
from control_plane.storage import disk_plan, migrations, moving
from control_plane.storage.disk_plan import Fleet, Kept, Sizes
from control_plane.storage.embedded import EmbeddedPostgres
from control_plane.storage.postgres_binaries import find_binaries
from control_plane.storage.session import Database
from control_plane.terminal import storage
from tests.integration.test_packing import BEGIN, ENTITIES, PackingWorld, blocks, same, some_unknown
from tests.support.postgres import PostgresForTests
from tests.support.rollups import RollupWorld

TABLES = ("gpu", "host", "inference")
EVERY_TABLE = (
    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace "
    "AND NOT relispartition ORDER BY relname"
)


@pytest.fixture(scope="module")
def world(postgres_server: PostgresForTests) -> Iterator[PackingWorld]:
    """A database with a packed day, a loose one, rollups of both, and marks of what came late; nobody changes it."""
    url = postgres_server.migrated()
    world = PackingWorld(Database(url), BEGIN)
    world.work()
    for table in TABLES:
        world.store(some_unknown(blocks(table, ENTITIES[table][1])))
    world.advance(hours=3)
    world.later(hours=37)
    world.pack()
    world.store(some_unknown(blocks("gpu", [1, 2], start=world.now.replace(minute=0), ticks=50)))
    world.store(blocks("gpu", [3], start=BEGIN.replace(hour=20), ticks=5))
    yield world
    world.close()
    postgres_server.drop(url)


@pytest.fixture
async def elsewhere(postgres_server: PostgresForTests) -> AsyncIterator[str]:
    """An empty database."""
    url = postgres_server.empty()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="optiinfra-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def contents(url: str) -> dict[str, list[str]]:
    """Every row of every table, written out (a NaN is not itself); those of partitions with their parent's."""
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        names = [name for (name,) in connection.execute(EVERY_TABLE).fetchall()]
        return {
            name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}").fetchall()))  # type: ignore[arg-type]
            for name in names if name != "alembic_version"
        }  # fmt: skip


def programs(url: str) -> tuple[Path, dict[str, str]]:
    """Where Postgres' programs are, and the environment that leads them to a database."""

    parsed = make_url(url)
    place = {
        "PGHOST": str(parsed.host or parsed.query.get("host")), "PGUSER": str(parsed.username),
        "PGPORT": str(parsed.port or parsed.query.get("port", 5432)), "PGDATABASE": str(parsed.database),
        "PGPASSWORD": str(parsed.password or ""),
    }  # fmt: skip
    return find_binaries().program("psql").parent, {**os.environ, **place}


def run(url: str, program: str, *arguments: str) -> None:
    folder, environment = programs(url)
    done = subprocess.run([folder / program, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_a_dump_that_is_restored_is_what_was_dumped(world: PackingWorld, elsewhere: str, tmp_path: Path) -> None:
    dump = tmp_path / "history.dump"
    run(world.database.url, "pg_dump", "--format=custom", f"--file={dump}")
    run(elsewhere, "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={urlsplit(elsewhere).path[1:]}", str(dump))
    assert contents(elsewhere) == contents(world.database.url)
    other = PackingWorld.__new__(PackingWorld)
    other.database = Database(elsewhere)
    for table in TABLES:
        same(other.everything(table), world.everything(table))
    await other.database.close()


def test_a_base_backup_is_a_database_that_starts(folder: Path) -> None:
    here, there = folder / "here", folder / "there"
    server = EmbeddedPostgres(here)
    server.start()
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        run(server.url, "pg_basebackup", f"--pgdata={folder / 'copy'}", "--checkpoint=fast", "--wal-method=stream")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("DELETE FROM kept")
        shutil.copytree(here, there, ignore=shutil.ignore_patterns("pgdata", "lock", "socket*"))
        shutil.move(folder / "copy", there / "pgdata")
        if os.geteuid() == 0:
            owner = (here / "pgdata").stat()
            for path in (there, *there.rglob("*")):
                if not path.is_symlink():
                    os.chown(path, owner.st_uid, owner.st_gid)
    finally:
        server.stop()
    restored = EmbeddedPostgres(there)
    restored.start()
    try:
        with psycopg.connect(restored.url) as connection:
            assert connection.execute("SELECT count(*), max(n) FROM kept").fetchone() == (1000, 1000)
    finally:
        restored.stop()


async def test_everything_is_moved_and_goes_on_there(world: PackingWorld, elsewhere: str) -> None:
    before = contents(world.database.url)
    said: list[str] = []
    moved = moving.move(world.database, elsewhere, say=said.append)
    assert moved.rows == sum(map(len, before.values()))
    assert any(line.startswith("gpu_sample_") for line in said)
    after = contents(elsewhere)
    assert after.pop("rollup_progress") != []
    before.pop("rollup_progress")
    assert after == before
    there = RollupWorld(Database(elsewhere), world.now)
    with there.database.connect(autocommit=True) as connection:  # a number that is new
        row = connection.execute(
            "INSERT INTO entity (node_id, kind, key, attributes, first_seen_at, last_seen_at, state_since) "
            "VALUES (1, 2, 'new', '{}', now(), now(), now()) RETURNING entity_id"
        ).fetchone()
        assert row is not None
    there.work()
    there.close()
    await there.database.close()


def test_a_move_that_was_interrupted_goes_on_where_it_was(
    world: PackingWorld, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, copied = moving._copy, []

    def dies(old: object, new: object, table: moving.Table) -> None:
        if len(copied) == 9:
            raise KeyboardInterrupt
        copied.append(table.name)
        copy(old, new, table)  # type: ignore[arg-type]

    monkeypatch.setattr(moving, "SMALL", 0)
    with monkeypatch.context() as patch:
        patch.setattr(moving, "_copy", dies)
        with pytest.raises(KeyboardInterrupt):
            moving.move(world.database, elsewhere)
    moved = moving.move(world.database, elsewhere)
    assert moved.already_there == len(copied), "what is copied is not copied again"
    before, after = contents(world.database.url), contents(elsewhere)
    assert {n: len(r) for n, r in after.items() if n != "rollup_progress"} == {
        n: len(r) for n, r in before.items() if n != "rollup_progress"
    }


def test_what_is_not_empty_is_left_alone(
    world: PackingWorld, elsewhere: str, postgres_server: PostgresForTests
) -> None:
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        connection.execute("CREATE TABLE somebody_s (n int)")
    with pytest.raises(ConfigurationError, match="not empty"):
        moving.move(world.database, elsewhere)
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        connection.execute("DROP TABLE somebody_s")
        connection.execute("CREATE TABLE optiinfra_move (source text)")
        connection.execute("INSERT INTO optiinfra_move VALUES ('postgresql://another')")
    with pytest.raises(ConfigurationError, match="not finished"):
        moving.move(world.database, elsewhere)


def test_the_environment_for_postgres_programs_holds_no_password(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "postgres")
    server.start()
    try:
        found = storage.environment(settings.load({"data_dir": str(folder)}, {}, Path("no such file")))
        assert (folder / "postgres" / "password").read_text().strip() not in found
        script = f"{found}\npsql --no-align --tuples-only --command 'SELECT 41 + 1'"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout == "42\n"
    finally:
        server.stop()


def test_a_dump_is_restored_into_a_folder_that_is_new(world: PackingWorld, folder: Path) -> None:
    """As docs/history.md says: nothing else writes to the new database meanwhile, and the reader's rights follow."""
    dump = folder / "history.dump"
    run(world.database.url, "pg_dump", "--format=custom", f"--file={dump}")
    new = settings.load({"data_dir": str(folder / "new")}, {}, Path("no such file"))
    restore = ["pg_restore", "--no-owner", "--no-acl", "--exit-on-error", "--dbname=postgres", str(dump)]
    assert storage.run_program(new, restore) == 0
    assert storage.run_program(new, ["false"]) == 1
    with pytest.raises(ConfigurationError, match="no program no-such"):
        storage.run_program(new, ["no-such"])
    restored = EmbeddedPostgres(folder / "new" / "postgres")
    restored.start()
    try:
        assert contents(restored.url) == contents(world.database.url)
        migrations.upgrade(restored.url)
        with psycopg.connect(restored.url) as connection:
            connection.execute("SET ROLE optiinfra_reader")
            assert connection.execute("SELECT count(*) FROM optiinfra_nodes").fetchone() == (1,)
    finally:
        restored.stop()


def test_newest_rows_take_no_more_room_however_often_they_change(database: Database) -> None:
    """An update stays on its half-empty page, whose dead rows the next one clears: nobody has to vacuum."""
    world, gpus = RollupWorld(database, BEGIN), range(1, 31)
    world.entities(*gpus, kind=2)
    sizes = []
    for tick in range(20):
        world.store(blocks("gpu", gpus, start=BEGIN + timedelta(seconds=5 * tick), ticks=1))
        sizes += world.rows("SELECT pg_relation_size('gpu_latest'), pg_indexes_size('gpu_latest')")
    world.close()
    assert sizes[-1] == sizes[4]


KEPT = Kept(samples=14, packed_after=1, minutes=30, hours=400)


def test_a_plan_adds_up_what_is_kept() -> None:
    sizes = {"gpu": Sizes(loose=200, packed=40, minutes=1_000, hours=100)}
    found = disk_plan.plan(Fleet(gpus=1_000), KEPT, sizes)
    (gpu,) = [line for line in found.lines if line.table == "gpu"]
    assert (gpu.rows, gpu.loose, gpu.packed) == (17_280_000, 3.456e9, 691.2e6)
    assert gpu.kept == 3 * gpu.loose + 12 * gpu.packed + 30 * 1_000 * 1_000 + 400 * 100 * 1_000
    assert found.total > sum(line.kept for line in found.lines)
    assert {line.table for line in found.lines} >= {"disk", "network", "gpu_process", "event", "inference"}


def test_more_of_everything_takes_more_and_packing_takes_less() -> None:
    base = disk_plan.plan(Fleet(gpus=1_000), KEPT).total
    for more in (
        Fleet(gpus=1_100), Fleet(gpus=1_000, disks_per_node=40), Fleet(gpus=1_000, links_per_node=40),
        Fleet(gpus=1_000, processes_per_gpu=9), Fleet(gpus=1_000, events_per_node=50_000),
        Fleet(gpus=1_000, interval_seconds=1),
    ):  # fmt: skip
        assert disk_plan.plan(more, KEPT).total > base * 1.01
    never = Kept(samples=14, packed_after=14, minutes=30, hours=400)
    assert disk_plan.plan(Fleet(gpus=1_000), never).total > base * 1.5


def test_what_is_stored_can_be_measured(world: PackingWorld) -> None:
    with world.database.connect(autocommit=True) as connection:
        connection.execute("ANALYZE")
        assert disk_plan.measured(connection) == {}, "too little of anything to say much"


def test_the_command_line_says_what_a_fleet_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["storage", "plan", "--gpus", "1000", "--retention", "14"]) == 0
    said = capsys.readouterr().out
    assert "1,000 GPUs on 125 nodes" in said
    assert "samples 14 days (3 loose, 12 packed)" in said
    assert command_line.main(["storage", "plan", "--gpus", "0"]) == 2
    assert command_line.main(["storage", "plan", "--gpus", "8", "--retention", "0"]) == 2
