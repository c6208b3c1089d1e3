"""Mounted file systems: which the machine has, and how full they are, without waiting for one that hangs."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from node_agent.host.procfs import bytes_of, why_unknown
from node_agent.model import Reason

# File systems on devices of this machine that can fill up. A list of the wanted, not of the unwanted: NFS, CIFS and
# FUSE can hang for ever, squashfs and ISO images are always full, and overlays show the disk below them once more.
_LOCAL_TYPES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "ntfs3"})

# Volumes and images of containers: they come and go with pods, and are the business of whoever runs these.
_CONTAINERS = re.compile(r"/(var/lib/(kubelet/pods|kubelet/plugins|docker|containers|containerd|rancher)|run)/")

# statvfs of a healthy file system takes microseconds; one that needs this long is in trouble, and says so. It is
# waited for once, which fits into the deadline of the shortest interval: it does not make the rest late.
_TIMEOUT_SECONDS = 0.3


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


class MountReader:
    """Lists the machine's local file systems. What has not changed since the look before is not parsed again."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._seen: tuple[bytes, bytes] | None = None
        self._mounts: Sequence[Mount] = ()

    def read(self, root: Path, own_proc_root: Path) -> Sequence[Mount]:
        """This will give one entry for each, in the order of their mount points.

        The names are those of pid 1. A container sees other paths: what it can reach is found by the
        number of the device, so that a single mounted folder is enough to measure its whole disk.
        """
        own = bytes_of(own_proc_root / "self" / "mountinfo")
        try:
            machine = bytes_of(root / "1" / "mountinfo")
        except (FileNotFoundError, PermissionError):
            machine = own
        if (machine, own) != self._seen:
            self._mounts = _mounts(machine, own)
            self._seen = machine, own
        return self._mounts


def _mounts(machine_text: bytes, own_text: bytes) -> Sequence[Mount]:
    machine, own = _lines(machine_text), _lines(own_text)
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


def _lines(mountinfo: bytes) -> Sequence[_Line]:
    """Local file systems only, the best names first: whole before parts, short before long."""
    lines: list[_Line] = []
    for text in mountinfo.splitlines():
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
    """statvfs with patience. One that hangs costs a thread, once, and holds up none of the others."""

    def __init__(self, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._timeout_seconds = timeout_seconds
        self._worker = _Worker()
        self._hanging: dict[str, _Worker] = {}

    def read(self, paths: Sequence[str]) -> Mapping[str, Usage | Reason]:
        """This will look at all paths, each once; one that takes too long is TIMED_OUT until it answers.

        The healthy ones share one thread, which goes from one to the next within microseconds. When it does
        not come back, the path that it is in is left to it, and the rest of them to the next thread.
        """
        answers: dict[str, Usage | Reason] = {}
        for path in [p for p in self._hanging if p not in paths or self._hanging[p].is_idle()]:
            del self._hanging[path]  # it answered, or is gone; its thread ends with it
        left = [path for path in dict.fromkeys(paths) if path not in self._hanging]
        while left:
            answers |= self._worker.look(left, timeout_seconds=self._timeout_seconds)
            left = [path for path in left if path not in answers]
            if left:
                stuck, self._worker = self._worker, _Worker()
                self._hanging[left.pop(0)] = stuck
        return {path: answers.get(path, Reason.TIMED_OUT) for path in paths}


class _Worker:
    """One daemon thread, which may hang in the kernel: it neither fills a pool nor keeps the agent from ending."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[_Looks] = SimpleQueue()
        self._looks: _Looks | None = None
        self._started = False

    def look(self, paths: Sequence[str], *, timeout_seconds: float) -> Mapping[str, Usage | Reason]:
        """This will look at one path after the other; what is missing in the answer was not looked at in time.

        The first that is missing is the one that hangs. Then this worker must not be asked again.
        """
        if not self._started:
            threading.Thread(target=self._run, name="statvfs", daemon=True).start()
            self._started = True
        self._looks = looks = _Looks(paths)
        self._asked.put(looks)
        if not looks.done.wait(timeout_seconds):
            looks.given_up = True
        return dict(looks.answers)

    def is_idle(self) -> bool:
        """This will say whether the last call came back."""
        return self._looks is None or self._looks.done.is_set()

    def _run(self) -> None:
        while True:
            looks = self._asked.get()
            for path in looks.paths:
                looks.answers[path] = _answer(path)
                if looks.given_up:
                    break
            looks.done.set()
            if looks.given_up:
                return


class _Looks:
    """What a worker is asked for in one go. Filled by its thread, read by whoever asked."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        self.answers: dict[str, Usage | Reason] = {}
        self.done = threading.Event()
        self.given_up = False


def _answer(path: str) -> Usage | Reason:
    try:
        return _usage(path)
    except OSError as error:
        return why_unknown(error)


def _usage(path: str) -> Usage:
    status = os.statvfs(path)
    return Usage(
        total_bytes=status.f_blocks * status.f_frsize,
        used_bytes=(status.f_blocks - status.f_bfree) * status.f_frsize,
        available_bytes=status.f_bavail * status.f_frsize,
        inodes_total=status.f_files or None,  # btrfs and zfs make them as needed, and say 0
        inodes_free=status.f_ffree if status.f_files else None,
    )
