"""An engine's family of real processes, titled as vLLM titles its own, and real control groups around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

METRICS = Path(__file__).parents[1] / "data" / "engines" / "vllm-healthy" / "0050.prom"
GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The pids of an engine, and where it answers."""

    launcher: int
    core: int
    workers: tuple[int, ...]
    url: str


@contextmanager
def family(group: Path | None = None) -> Iterator[Family]:
    """This will run an engine's family of four processes, in `group` from its birth where one is given."""
    words = ["vllm", str(Path(__file__).with_name("family_process.py")), "serve", str(METRICS)]
    launcher = subprocess.Popen(
        words, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    pids = [launcher.pid]
    try:
        if group is not None:
            (group / "cgroup.procs").write_text(str(launcher.pid))
        launcher.stdin.write("go\n")
        launcher.stdin.flush()
        said = json.loads(launcher.stdout.readline())
        pids += [said["core"], *said["workers"]]
        yield Family(
            launcher=launcher.pid,
            core=said["core"],
            workers=tuple(said["workers"]),
            url=f"http://127.0.0.1:{said['port']}",
        )
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        launcher.stdin.close()
        launcher.stdout.close()
        launcher.wait()


def version_2_root() -> Path:
    """This will give where control groups of version 2 are mounted. Raises OSError where they are not."""
    for root in (GROUPS, GROUPS / "unified"):
        if (root / "cgroup.controllers").exists():
            return root
    raise OSError("control groups version 2 are not mounted")


@contextmanager
def groups(*paths: str) -> Iterator[list[Path]]:
    """This will make control groups, each below the one before. Raises OSError where that is not allowed."""
    with ExitStack() as made:
        folder, folders = version_2_root(), []
        for path in paths:
            folder = folder / path
            folder.mkdir()
            made.callback(_remove, folder)
            folders.append(folder)
        yield folders


def _remove(group: Path) -> None:
    """A group goes once its last process has been reaped, which may be a moment after its end."""
    (group / "cgroup.kill").write_text("1")
    for _ in range(100_000):
        with suppress(OSError):
            group.rmdir()
            return
    raise OSError(f"{group} is left over")
