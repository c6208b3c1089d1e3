"""Where in the machine's tree of control groups, version 2, a process is.

The kernel writes the paths in /proc/<pid>/cgroup as the reader sees them. In a container, which has a
cgroup namespace of its own, they begin where the container's own group is, and go up by /../.. to the
others. So the place of that group in the machine's tree must be known first; names do not tell it, but
the number of its folder does: it is the same whoever mounts it.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from node_agent.host.cgroup import NoLimit

# A host of 250 pods has some thousand groups; a search that is longer finds something else than a tree.
_MOST_FOLDERS = 50_000
_UNIFIED = "unified"  # where systemd mounts version 2 beside version 1
_LIMITING = {"cpu", "memory"}  # the controllers whose limits matter to a server


class CgroupTree:
    """The machine's groups, as mounted at `root`; `own_root` is what our own namespace has for a tree."""

    def __init__(self, proc_root: Path, root: Path, *, own_root: Path = Path("/sys/fs/cgroup")) -> None:
        """This will look at nothing yet."""
        self._proc_root = proc_root
        self._mounted_at = root
        self._own_root = own_root
        self._base: Path | None = None
        self._is_version_1: bool | None = None

    @property
    def root(self) -> Path:
        """This will give the folder of the root group."""
        return _version_2(self._mounted_at)

    @property
    def is_version_1(self) -> bool:
        """This will say whether version 1 has the limits here, as it was when a process was first looked up."""
        return bool(self._is_version_1)

    def find(self, pid: int) -> Path:
        """This will give the folder of the group that a process is in.

        Raises ProcessLookupError when it is gone, PermissionError where the group is not in the tree that we
        see, and NoLimit in the root group and where version 2 is not in use.
        """
        try:
            text = (self._proc_root / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError as error:
            raise ProcessLookupError(f"process {pid} is gone") from error
        if self._is_version_1 is None:
            self._is_version_1 = _limited_by_version_1(text)
        path = next((line[3:] for line in text.splitlines() if line.startswith("0::")), None)
        if path is None:
            raise NoLimit("control groups version 2 are not in use")
        group = self._at(path)
        if group == self.root:
            raise NoLimit("it is in the root group, which has no limits")
        if not group.is_dir():
            raise PermissionError(f"{path} is not in the control groups that are mounted here")
        return group

    def _at(self, path: str) -> Path:
        parts = [part for part in path.split("/") if part]
        names = [part for part in parts if part != ".."]
        if self._base is None:
            self._base = self._find_base()
        group = self._base
        for _ in range(len(parts) - len(names)):  # the kernel writes them in front, and nowhere else
            if group == self.root:
                raise PermissionError(f"{path} is above the control groups that are mounted here")
            group = group.parent
        return group.joinpath(*names)

    def _find_base(self) -> Path:
        """This will find the root of our own namespace in the machine's tree."""
        own = _version_2(self._own_root).stat()
        waiting, seen = deque([self.root]), 0
        while waiting and seen < _MOST_FOLDERS:
            folder = waiting.popleft()
            seen += 1
            try:
                found = folder.stat()
                if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
                    return folder
                with os.scandir(folder) as entries:
                    waiting.extend(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
            except FileNotFoundError:
                continue  # a group that ended meanwhile
        raise PermissionError("our own control group is not in those that are mounted here")


def _limited_by_version_1(text: str) -> bool:
    """A controller is in one version at a time, for the whole machine (cgroups(7)); those of version 1 are named."""
    return any(not _LIMITING.isdisjoint(line.split(":")[1].split(",")) for line in text.splitlines() if ":" in line)


def _version_2(mounted_at: Path) -> Path:
    unified = mounted_at / _UNIFIED
    return mounted_at if (mounted_at / "cgroup.controllers").exists() or not unified.is_dir() else unified
