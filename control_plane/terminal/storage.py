"""`optiinfra storage`: what history takes, where it lies for Postgres' own programs, and how it goes elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from control_plane.model.errors import ConfigurationError
from control_plane.settings import Settings
from control_plane.storage import disk_plan, moving
from control_plane.storage.disk_plan import DiskPlan, Fleet, Kept
from control_plane.storage.embedded import EmbeddedPostgres, running_url
from control_plane.storage.postgres_account import EmbeddedPostgresError
from control_plane.storage.postgres_binaries import find_binaries
from control_plane.storage.session import Database, redacted_url

OK = 0
_NUMBERS = {
    "gpus_per_node": "GPUs of a node",
    "engines_per_node": "inference servers of a node",
    "disks_per_node": "disks of a node",
    "filesystems_per_node": "file systems of a node",
    "links_per_node": "network interfaces of a node",
    "infiniband_ports_per_node": "InfiniBand ports of a node",
    "processes_per_gpu": "processes on a GPU",
    "instances_per_gpu": "MIG instances of a GPU",
    "caches_per_node": "LMCache servers of a node",
    "events_per_node": "events of a node in a day",
    "interval_seconds": "seconds between samples",
}


def add(parser: argparse.ArgumentParser, add_settings: Callable[[argparse.ArgumentParser], None]) -> None:
    """This will add the actions and their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="plan|move|env|run")
    plan = actions.add_parser("plan", help="say how much disk a fleet's history takes, in a day and in all")
    plan.add_argument("--gpus", type=int, required=True, help="GPUs of the whole fleet")
    plan.add_argument("--retention", type=int, metavar="DAYS", help="the same as --retention-days")
    defaults = Fleet(gpus=1)
    for name, what in _NUMBERS.items():
        default = getattr(defaults, name)
        plan.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{what} ({default:g})"
        )
    plan.add_argument("--measured", action="store_true", help="by what rows take in the database in use")
    plan.add_argument("--json", action="store_true", help="for programs")
    move = actions.add_parser("move", help="copy everything from the embedded Postgres to one of your own")
    move.add_argument(
        "--to", required=True, metavar="URL", help="an empty database: postgresql://user:password@host/name"
    )
    environment = actions.add_parser("env", help='for psql and pg_dump: eval "$(optiinfra storage env)"')
    program = actions.add_parser(
        "run",
        help="run one of Postgres' programs on the database: optiinfra storage run -- pg_dump --file=history.sql",
        epilog="The embedded database is started for it if it does not run, and made if there is none.",
    )
    program.add_argument("command", nargs="+", metavar="PROGRAM ...", help="after --, with its own flags")
    for action in (plan, move, environment, program):
        add_settings(action)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """This will carry out one action and give its exit code."""
    match arguments.action:
        case "plan":
            _say(_plan(settings, arguments))
        case "move":
            _move(settings, arguments.to)
        case "run":
            return run_program(settings, arguments.command)
        case _:
            _say(environment(settings))
    return OK


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _url(settings: Settings) -> str:
    given = settings.database_url
    return running_url(settings.data_dir.absolute() / "postgres") if given is None else given.get_secret_value()


def _plan(settings: Settings, arguments: argparse.Namespace) -> str:
    if arguments.gpus < 1 or arguments.gpus_per_node < 1 or arguments.interval_seconds <= 0:
        raise ConfigurationError("a fleet has a GPU at least, and seconds between its samples")
    if arguments.retention is not None and arguments.retention < 1:
        raise ConfigurationError("samples are kept for a day at least: --retention 1")
    fleet = Fleet(gpus=arguments.gpus, **{name: getattr(arguments, name) for name in _NUMBERS})
    kept = Kept(
        samples=arguments.retention or settings.retention_days,
        packed_after=settings.pack_after_days,
        minutes=settings.minute_retention_days,
        hours=settings.hour_retention_days,
    )
    sizes = dict(disk_plan.MEASURED)
    if arguments.measured:
        with Database(_url(settings)).connect(autocommit=True) as connection:
            sizes |= disk_plan.measured(connection)
    found = disk_plan.plan(fleet, kept, sizes)
    if arguments.json:
        return json.dumps({"total": found.total, "bytes_per_day": found.bytes_per_day, "tables": [
            asdict(line) for line in found.lines
        ]}, indent=2)  # fmt: skip
    return as_text(fleet, kept, found)


def as_text(fleet: Fleet, kept: Kept, found: DiskPlan) -> str:
    """This will write a plan as a table."""
    lines: list[tuple[str, ...]] = [("", "rows a day", "loose", "packed", "minutes", "hours", "all kept")]
    lines += [
        (line.table, f"{line.rows:,.0f}", *map(_size, (line.loose, line.packed, line.minutes, line.hours, line.kept)))
        for line in found.lines
    ]
    sums = (sum(getattr(line, name) for line in found.lines) for name in ("loose", "packed", "minutes", "hours"))
    lines.append(("a day", "", *map(_size, sums), ""))
    return "\n".join([
        f"{fleet.gpus:,} GPUs on {fleet.nodes:,} nodes, every {fleet.interval_seconds:g} s. Bytes of a day:",
        *(f"{name:16}" + "".join(f"{cell:>13}" for cell in cells) for name, *cells in lines),
        "",
        f"kept: samples {kept.samples} days ({kept.loose} loose, {kept.packed} packed), minutes {kept.minutes}, "
        f"hours {kept.hours}",
        f"disk: {_size(found.total)} when all of that is there, the write-ahead log included",
    ])  # fmt: skip


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:,.3g} TB"


def _move(settings: Settings, to: str) -> None:
    if settings.database_url is not None:
        raise ConfigurationError(
            "what is stored lies in a Postgres of your own already: pg_dump moves it (docs/history.md)"
        )
    embedded = EmbeddedPostgres(settings.data_dir.absolute() / "postgres")
    embedded.start()  # refuses while `optiinfra up` runs on it
    try:
        moved = moving.move(Database(embedded.url), to, say=_say)
    finally:
        embedded.stop()
    _say(
        f"{moved.rows:,} rows of {moved.tables} tables copied"
        + (f"; {moved.already_there} tables were there from before" if moved.already_there else "")
        + f".\nStart OptiInfra with DATABASE_URL set to {redacted_url(to)}. {settings.data_dir} keeps the old "
        "database, which you may then remove, and the fleet's certificates, which you must keep."
    )


def run_program(settings: Settings, command: Sequence[str]) -> int:
    """This will run a program with the environment that leads it to the database, and give its exit code."""
    place = settings.data_dir.absolute() / "postgres"
    if settings.database_url is not None:
        return _run_with(settings.database_url.get_secret_value(), command)
    try:
        url = running_url(place)
    except EmbeddedPostgresError:
        embedded = EmbeddedPostgres(place)
        embedded.start()
        try:
            return _run_with(embedded.url, command)
        finally:
            embedded.stop()
    return _run_with(url, command)


def _run_with(url: str, command: Sequence[str]) -> int:
    found = Database(url).engine.url
    where = {
        "PGHOST": found.host or found.query.get("host"), "PGPORT": found.port or found.query.get("port"),
        "PGUSER": found.username, "PGPASSWORD": found.password, "PGDATABASE": found.database,
    }  # fmt: skip
    known = {name: str(value) for name, value in where.items() if value}
    path = f"{find_binaries().program('psql').parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    program = shutil.which(command[0], path=path)
    if program is None:
        raise ConfigurationError(f"there is no program {command[0]}")
    return subprocess.run([program, *command[1:]], env={**os.environ, "PATH": path, **known}, check=False).returncode


def environment(settings: Settings) -> str:
    """This will give shell commands that lead Postgres' own programs to the embedded database, no password in them."""
    if settings.database_url is not None:
        raise ConfigurationError("DATABASE_URL leads to a Postgres of your own: give its programs that URL")
    place = settings.data_dir.absolute() / "postgres"
    url = Database(running_url(place)).engine.url
    programs = find_binaries().program("psql").parent
    return "\n".join([
        f"export PGHOST={shlex.quote(str(url.query['host']))} PGPORT={shlex.quote(str(url.query['port']))}",
        f"export PGUSER={shlex.quote(str(url.username))} PGDATABASE={shlex.quote(str(url.database))}",
        f'export PGPASSWORD="$(cat {shlex.quote(str(place / "password"))})"',
        f'export PATH={shlex.quote(str(programs))}:"$PATH"',
    ])  # fmt: skip
