"""Mounted file systems: which the machine has, and how full they are, without waiting for one that hangs."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from node_agent.host.procfs import why_unknown
from node_agent.model import Reason

# File systems on devices of this machine that can fill up. A list of the wanted, not of the unwanted: NFS, CIFS and
# FUSE can hang for ever, squashfs and ISO images are always full, and overlays show the disk below them once more.
_LOCAL_TYPES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "ntfs3"})

# Volumes and images of containers: they come and go with pods, and are the business of whoever runs these.
_CONTAINERS = re.compile(r"/(var/lib/(kubelet/pods|kubelet/plugins|docker|containers|containerd|rancher)|run)/")

# statvfs of a healthy file system takes microseconds; one that needs a second is in trouble, and says so.
_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One file system: under which name the machine knows it, and where this process can look at it."""

    point: str
    device: str
    kind: str
    reachable_at: str | None  # None: this process, in its container, has no mount of that device


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How full a file system is. Inodes are None where there is no fixed number of them."""

    total_bytes: int
    used_bytes: int
    available_bytes: int
    inodes_total: int | None
    inodes_free: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line of mountinfo, as proc(5) documents it."""

    device_number: str  # major:minor, the same in every container
    point: str
    kind: str
    device: str
    is_whole: bool  # the mount shows the file system's root, not a folder or file of it


def read_mounts(root: Path, own_proc_root: Path) -> Sequence[Mount]:
    """This will list the machine's local file systems, one entry for each, in the order of their mount points.

    The names are those of pid 1. A container sees other paths: what it can reach is found by the
    number of the device, so that a single mounted folder is enough to measure its whole disk.
    """
    own = _read_lines(own_proc_root / "self" / "mountinfo")
    try:
        machine = _read_lines(root / "1" / "mountinfo")
    except (FileNotFoundError, PermissionError):
        machine = own
    reachable = {line.device_number: line.point for line in reversed(own)}
    mounts: dict[str, Mount] = {}
    for line in machine:
        if line.device_number not in mounts and not _CONTAINERS.match(line.point):
            mounts[line.device_number] = Mount(
                point=line.point,
                device=line.device,
                kind=line.kind,
                reachable_at=reachable.get(line.device_number),
            )
    return sorted(mounts.values(), key=lambda mount: mount.point)


def _read_lines(path: Path) -> Sequence[_Line]:
    """Local file systems only, the best names first: whole before parts, short before long."""
    lines: list[_Line] = []
    for text in path.read_bytes().splitlines():
        before, _, after = os.fsdecode(text).partition(" - ")
        _, _, device_number, root, point, *_ = before.split()
        kind, device, *_ = after.split()
        if kind in _LOCAL_TYPES:
            lines.append(
                _Line(
                    device_number=device_number,
                    point=_unescaped(point),
                    kind=kind,
                    device=_unescaped(device),
                    is_whole=root == "/",
                )
            )
    return sorted(lines, key=lambda line: (not line.is_whole, len(line.point), line.point))


def _unescaped(text: str) -> str:
    """mountinfo writes space, tab, newline and backslash in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


class UsageReader:
    """statvfs with patience. A file system that hangs costs one thread, once, and none of the others."""

    def __init__(self, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._timeout_seconds = timeout_seconds
        self._running: dict[str, Future[Usage | Reason]] = {}

    async def read(self, paths: Sequence[str]) -> Mapping[str, Usage | Reason]:
        """This will look at all paths at once; one that takes too long is TIMED_OUT until it answers."""
        looks: dict[str, Future[Usage | Reason]] = {}
        for path in paths:
            hanging = self._running.get(path)
            looks[path] = hanging if hanging is not None else _look(path)
        self._running = looks
        if looks:
            await asyncio.wait([asyncio.wrap_future(look) for look in looks.values()], timeout=self._timeout_seconds)
        answers = {path: look.result() if look.done() else Reason.TIMED_OUT for path, look in looks.items()}
        self._running = {path: look for path, look in looks.items() if not look.done()}
        return answers


def _look(path: str) -> Future[Usage | Reason]:
    """In a thread of its own, which may hang in the kernel: it neither fills a pool nor keeps the agent from ending."""
    answer: Future[Usage | Reason] = Future()
    answer.set_running_or_notify_cancel()  # from here on nobody can cancel it under the thread

    def look() -> None:
        try:
            answer.set_result(_usage(path))
        except OSError as error:
            answer.set_result(why_unknown(error))

    threading.Thread(target=look, name=f"statvfs {path}", daemon=True).start()
    return answer


def _usage(path: str) -> Usage:
    status = os.statvfs(path)
    return Usage(
        total_bytes=status.f_blocks * status.f_frsize,
        used_bytes=(status.f_blocks - status.f_bfree) * status.f_frsize,
        available_bytes=status.f_bavail * status.f_frsize,
        inodes_total=status.f_files or None,  # btrfs and zfs make them as needed, and say 0
        inodes_free=status.f_ffree if status.f_files else None,
    )
