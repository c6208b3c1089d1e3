"""What happens to GPUs: XIDs from the driver and from the kernel's log, each told once; lost, hung, recovered."""

from __future__ import annotations

import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from node_agent.clock import Instant
from node_agent.collectors.xid_ledger import XidLedger
from node_agent.collectors.xids import NAMES, class_of, severity_of
from node_agent.host.kmsg import DriverError, KernelLog, driver_error
from node_agent.host.nvml_facts import XidEvent
from node_agent.model import Entity, EntityKind, Event, Severity

log = logging.getLogger(__name__)

MOST_WAITING = 256  # a look that hangs for hours must not fill the memory
NODE = (EntityKind.NODE, "node")  # as the system collector names it

_PCI = re.compile(r"([0-9a-f]+):([0-9a-f]{2}):([0-9a-f]{2})", re.IGNORECASE)

PciAddress = tuple[int, int, int]


def pci_address(text: object) -> PciAddress | None:
    """This will read domain, bus and device, which NVML and the kernel write in different widths."""
    found = _PCI.search(text) if isinstance(text, str) else None
    return None if found is None else (int(found[1], 16), int(found[2], 16), int(found[3], 16))


class GpuEvents:
    """Gathers events until a report takes them along. Belongs to the event loop."""

    def __init__(self, open_log: Callable[[], KernelLog] = KernelLog) -> None:
        """A log that cannot be opened is said once."""
        self._waiting: deque[Event] = deque(maxlen=MOST_WAITING)
        self._ledger = XidLedger()
        self._polled_at: datetime | None = None
        self._read_at: Instant | None = None
        self._log: KernelLog | None = None
        self.counts: Counter[str] = Counter()  # XIDs by GPU UUID
        try:
            self._log = open_log()
        except OSError as error:
            log.info("XIDs come from NVML alone: the kernel's log cannot be read (%s)", error.strerror or error)

    def read_log(self, now: Instant, gpus: Iterable[Entity]) -> None:
        """This will take over what the driver has written into the kernel's log."""
        if self._log is None:
            return
        by_pci = {pci_address(gpu.attributes.get("pci_bus_id")): gpu for gpu in gpus}
        before, self._read_at = self._read_at or now, now
        most_seconds = now.monotonic_seconds - before.monotonic_seconds
        try:
            for line in self._log.lines():
                error = driver_error(line.text)
                if error is not None:
                    # The kernel's clock strays by seconds in months; the line came since the last look at any rate.
                    age_seconds = min(max(now.monotonic_seconds - line.since_boot_seconds, 0.0), most_seconds)
                    at = now.wall - timedelta(seconds=age_seconds)
                    if self._ledger.line(_key(error), at, error.pid):
                        self._add_error(at, error, by_pci.get(pci_address(error.pci)), 1)
        except OSError as error:
            log.warning("the kernel's log is no longer read: %s", error.strerror or error)
            self._log.close()
            self._log = None

    def take_xids(self, now: Instant, xids: Sequence[tuple[Entity | None, XidEvent]]) -> None:
        """This will take over what NVML's event set gave: since the time before, when exactly it does not say.

        Several of one number from one GPU are one event with a count, since nothing tells them apart.
        """
        since, self._polled_at = self._polled_at or now.wall, now.wall
        gpus = {gpu.key: gpu for gpu, _ in xids if gpu is not None}
        alike = Counter((gpu.key if gpu else None, xid.number, xid.gpu_instance_id) for gpu, xid in xids)
        for (uuid, number, instance), count in alike.items():
            gpu = None if uuid is None else gpus[uuid]
            pci = str(gpu.attributes.get("pci_bus_id")) if gpu else ""
            error = DriverError(is_switch=False, pci=pci, number=number, pid=None, text="", gpu_instance_id=instance)
            news = self._ledger.events(_key(error), since, now.wall, count)
            if news:
                self._add_error(now.wall, error, gpu, news)

    def add(self, now: Instant, kind: str, gpu: Entity | None, severity: Severity, **detail: object) -> None:
        """This will note that something happened to a GPU, or to all of them (None)."""
        entity = NODE if gpu is None else (gpu.kind, gpu.key)
        self._waiting.append(Event(taken_at=now.wall, kind=kind, entity=entity, severity=severity, detail=detail))

    def taken(self) -> Sequence[Event]:
        """This will hand over what has been gathered."""
        events = tuple(self._waiting)
        self._waiting.clear()
        return events

    def close(self) -> None:
        """This will let go of the kernel's log."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _add_error(self, at: datetime, error: DriverError, gpu: Entity | None, count: int) -> None:
        if gpu is not None:
            self.counts[gpu.key] += count
        entity = NODE if gpu is None else (gpu.kind, gpu.key)
        severity = Severity.WARNING if error.is_switch else severity_of(error.number)
        kind = "sxid" if error.is_switch else "xid"
        detail = _detail(error) | ({"count": count} if count > 1 else {})
        self._waiting.append(Event(taken_at=at, kind=kind, entity=entity, severity=severity, detail=detail))


def _key(error: DriverError) -> tuple[PciAddress | None, int, bool]:
    return pci_address(error.pci), error.number, error.is_switch


def _detail(error: DriverError) -> dict[str, object]:
    detail: dict[str, object] = {"number": error.number, "pci": error.pci or None}
    if not error.is_switch:
        detail["class"] = class_of(error.number)
        if error.number in NAMES:
            detail["name"] = NAMES[error.number]
    if error.pid is not None:
        detail["pid"] = error.pid
    if error.gpu_instance_id is not None:
        detail["gpu_instance_id"] = error.gpu_instance_id
    if error.text:
        detail["text"] = error.text
    detail["source"] = "kmsg" if error.text else "nvml"
    return detail


def kernel_log_at(path: Path) -> Callable[[], KernelLog]:
    """This will give what opens the log at `path`."""
    return lambda: KernelLog(path)
