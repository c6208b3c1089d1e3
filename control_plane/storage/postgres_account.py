"""Whose processes the embedded Postgres consists of, and how they are started."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from control_plane.model.errors import OptiInfraError

# prctl(2), linux/prctl.h. Loaded here, before any fork: a child between fork and exec must not load libraries.
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1

# initdb writes some 40 MB and syncs them; a minute is usual on a bad disk, five never.
_TOOL_TIMEOUT_SECONDS = 300.0


class EmbeddedPostgresError(OptiInfraError):
    """The embedded Postgres cannot do what was asked. This will say why, where, and what to do, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccount:
    """The user that Postgres runs as: ourselves, or, as Postgres refuses root, somebody without rights."""

    uid: int
    gid: int
    differs_from_ours: bool  # we are root and have to become that user

    @classmethod
    def for_data(cls, pgdata: Path) -> ServerAccount:
        """This will choose ourselves, or as root the owner of the data that exists, or else nobody."""
        if os.geteuid() != 0:
            return cls(uid=os.geteuid(), gid=os.getegid(), differs_from_ours=False)
        if pgdata.exists() and pgdata.stat().st_uid != 0:
            owner = pgdata.stat()
            return cls(uid=owner.st_uid, gid=owner.st_gid, differs_from_ours=True)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError as error:
            raise EmbeddedPostgresError(
                "Postgres refuses to run as root and this machine has no user nobody to run it as:"
                " start as an ordinary user"
            ) from error
        return cls(uid=nobody.pw_uid, gid=nobody.pw_gid, differs_from_ours=True)

    @property
    def name(self) -> str:
        """This will give the user's name, or its number when it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"

    def own(self, path: Path) -> None:
        """This will hand one file or folder, which must be of our own making, to the account."""
        if self.differs_from_ours:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def first_closed_folder(self, path: Path) -> Path | None:
        """This will find the topmost folder on the way to `path`, itself included, that the account cannot enter.

        What does not exist yet counts as open. Only mode bits are read: a way that an access list
        alone opens counts as closed.
        """
        if not self.differs_from_ours:
            return None
        for folder in (*reversed(path.parents), path):
            if not folder.exists():  # of our own making, later
                return None
            status = folder.stat()
            if status.st_uid == self.uid:
                needed = stat.S_IXUSR
            else:
                needed = stat.S_IXGRP if status.st_gid == self.gid else stat.S_IXOTH
            if not status.st_mode & needed:
                return folder
        return None

    def run(self, command: Sequence[str | Path], *, cwd: Path) -> subprocess.CompletedProcess[str]:
        """This will run one of Postgres's tools to its end and give its output, stderr within stdout."""
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TOOL_TIMEOUT_SECONDS,
            check=False,
            cwd=cwd,
            env=_environment(),
            user=self.uid if self.differs_from_ours else None,
            group=self.gid if self.differs_from_ours else None,
            extra_groups=[] if self.differs_from_ours else None,
            start_new_session=True,
            preexec_fn=_interrupted_when_we_die(),
        )

    def spawn(self, command: Sequence[str | Path], *, cwd: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """This will start the server as our direct child, in a session of its own, writing to `log`.

        The session keeps a terminal's Ctrl-C away: we end the server, after those who use it.
        """
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=cwd,
            env=_environment(),
            user=self.uid if self.differs_from_ours else None,
            group=self.gid if self.differs_from_ours else None,
            extra_groups=[] if self.differs_from_ours else None,
            start_new_session=True,
            preexec_fn=_interrupted_when_we_die(),
        )


def _environment() -> dict[str, str]:
    """Ours must not leak in: PGDATA, PGOPTIONS, LD_LIBRARY_PATH of a conda shell, a locale that is not installed."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _interrupted_when_we_die() -> Callable[[], None]:
    """SIGINT is Postgres's fast shutdown: kill -9 of ours ends the server cleanly instead of orphaning it.

    Set after the change of user (the kernel clears it there), which is where subprocess calls this.
    """
    parent = os.getpid()

    def before_exec() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT.value, 0, 0, 0)
        if os.getppid() != parent:  # we died between fork and prctl: no signal will come
            os._exit(1)

    return before_exec
