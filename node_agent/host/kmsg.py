"""The kernel's log, as /dev/kmsg gives it: one record each read, never waiting."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_RECORDS = 1000  # in one look: a driver that floods the log must not hold up the agent; the rest comes next time
RECORD_BYTES = 8192  # printk's CONSOLE_EXT_LOG_MAX, Documentation/ABI/testing/dev-kmsg

_RECORD = re.compile(rb"\d+,\d+,(\d+),[^;]*;([^\n]*)")
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2})[^)]*\): (\d{1,6})(?:, (.*))?$")
_SXID = re.compile(r"SXid \(PCI:([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2})[^)]*\): (\d{1,6})(?:, (.*))?$")
_INSTANCE = re.compile(r"\bGPU-I:(\d{1,3})\b")  # beside the address, of a GPU in MIG mode
_PID = re.compile(r"\bpid='?(\d{1,10})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLine:
    """One line of the kernel's log."""

    since_boot_seconds: float  # by a clock that nobody corrects
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverError:
    """An XID of a GPU or an SXID of an NVSwitch, as the driver wrote it into the log."""

    is_switch: bool
    pci: str  # as written
    number: int
    pid: int | None
    text: str
    gpu_instance_id: int | None = None  # None: of the whole GPU


def parse_record(record: bytes) -> KernelLine | None:
    """This will read one record of /dev/kmsg; None for what is none."""
    found = _RECORD.match(record)
    if found is None:
        return None
    text = found[2].decode(errors="replace")
    return KernelLine(since_boot_seconds=int(found[1]) / 1e6, text="".join(c for c in text if c.isprintable()))


def driver_error(text: str) -> DriverError | None:
    """This will find an XID or SXID in a line; None for every other line."""
    found = _XID.search(text)
    is_switch = found is None
    found = found or _SXID.search(text)
    if found is None:
        return None
    pid, instance = _PID.search(found[3] or ""), _INSTANCE.search(found[0])
    return DriverError(
        is_switch=is_switch,
        pci=found[1],
        number=int(found[2]),
        pid=int(pid[1]) if pid else None,
        text=text[:500],
        gpu_instance_id=int(instance[1]) if instance else None,
    )


class KernelLog:
    """What the kernel says from now on. Lines of before are another run's: they would be told twice."""

    def __init__(self, path: Path = Path("/dev/kmsg")) -> None:
        """Raises OSError where the device is absent or forbidden."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._descriptor, 0, os.SEEK_END)

    def lines(self) -> Iterator[KernelLine]:
        """This will give what is new, at most MOST_RECORDS."""
        for _ in range(MOST_RECORDS):
            try:
                record = os.read(self._descriptor, RECORD_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten before it was read: the next read goes on after it
                    continue
                raise
            if not record:  # only a plain file ends
                return
            line = parse_record(record)
            if line is not None:
                yield line

    def close(self) -> None:
        """This will let go of the device."""
        os.close(self._descriptor)
