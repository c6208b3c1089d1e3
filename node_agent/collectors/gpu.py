"""The GPUs of this host, and the life cycle of NVML: late drivers, lost GPUs, wedged calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from node_agent.clock import Instant
from node_agent.collectors.gpu_values import GpuReader, attributes_of
from node_agent.host.nvml_protocol import GpuLost, Nvml, NvmlRefused, NvmlUnavailable
from node_agent.host.nvml_thread import NvmlThread
from node_agent.model import Collected, Entity, EntityKind, Outcome, Reason, Sample, Value
from optiinfra.catalogue import TABLES

TABLE = "gpu"
CLOSE_SECONDS = 1.0  # nvmlShutdown takes milliseconds; after that the driver is wedged and not worth waiting for
DETAIL_SENTENCES = 5  # of a host full of broken GPUs, a report names this many


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDelays:
    """How long to wait before NVML is opened again, doubling. No jitter: the driver is this host's own."""

    first_seconds: float
    longest_seconds: float


# A failing nvmlInit may run nvidia-modprobe, so not every tick; a new driver should show within a minute.
NO_DRIVER = RetryDelays(first_seconds=5, longest_seconds=60)
# Opening anew voids every handle and costs the healthy GPUs one tick of GPM values; few lost GPUs come back.
LOST_GPU = RetryDelays(first_seconds=30, longest_seconds=600)


class Retry:
    """When to open NVML next."""

    def __init__(self) -> None:
        self._delay_seconds = 0.0
        self._due_at: float | None = 0.0  # None: everything is open

    def is_due(self, now: Instant) -> bool:
        """This will say whether it is time."""
        return self._due_at is not None and now.monotonic_seconds >= self._due_at

    def schedule(self, now: Instant, delays: RetryDelays) -> None:
        """This will set the next time, each one later than the one before."""
        doubled = max(self._delay_seconds * 2, delays.first_seconds)
        self._delay_seconds = min(doubled, delays.longest_seconds)
        self._due_at = now.monotonic_seconds + self._delay_seconds

    def schedule_if_none(self, now: Instant, delays: RetryDelays) -> None:
        """This will set a time unless one is set."""
        if self._due_at is None:
            self.schedule(now, delays)

    def settle(self) -> None:
        """This will forget about trying again: all is well."""
        self._delay_seconds, self._due_at = 0.0, None


class GpuCollector:
    """Looks at every GPU. A GPU that was seen once never vanishes silently."""

    def __init__(self, driver: Nvml, *, proc_root: Path = Path("/proc")) -> None:
        self._driver = driver
        self._proc_root = proc_root
        self._thread = NvmlThread()
        # Everything below up to _running belongs to the NVML thread.
        self._readers: dict[str, GpuReader] = {}  # by GPU UUID
        self._known: dict[str, Entity] = {}  # every GPU ever opened, as last seen
        self._unopened: list[str] = []
        self._down: NvmlUnavailable | None = None
        self._retry = Retry()
        # The rest belongs to the event loop.
        self._running: Future[Collected] | None = None
        self._running_since: Instant | None = None
        self._last: Collected | None = None

    @property
    def name(self) -> str:
        """This will give the collector's name, as reports show it."""
        return "gpu"

    async def collect(self, now: Instant) -> Collected:
        """This will look at every GPU, on the thread that owns NVML.

        When an earlier look was abandoned and its call still has not come back, this one reports
        that and asks nothing: NVML bears one caller.
        """
        if self._running is not None and not self._running.done():
            return self._stalled(now)
        self._running, self._running_since = self._thread.submit(lambda: self._look(now)), now
        self._last = await asyncio.wrap_future(self._running)
        return self._last

    async def close(self) -> None:
        """This will let go of NVML, without waiting for a call that does not come back."""
        closing = self._thread.submit(self._driver.close)
        self._thread.stop()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.wrap_future(closing)
        except TimeoutError:
            return

    def _stalled(self, now: Instant) -> Collected:
        since = self._running_since or now
        seconds = now.monotonic_seconds - since.monotonic_seconds
        entities = [unseen(entity) for entity in self._last.entities] if self._last else []
        return Collected(
            outcome=Outcome.TIMED_OUT,
            detail=f"the NVIDIA driver has not answered for {seconds:.0f} s: a call into it is still running",
            entities=entities,
            samples=[silent(entity, Reason.TIMED_OUT) for entity in entities],
        )

    def _look(self, now: Instant) -> Collected:
        try:
            if self._retry.is_due(now):
                self._open(now)
            if self._down is None:
                return self._look_at_all(now)
        except NvmlUnavailable as unavailable:
            self._shut(now, unavailable)
        return self._report_down()

    def _open(self, now: Instant) -> None:
        self._driver.close()
        self._readers, self._unopened, self._down = {}, [], None
        count = self._driver.open()
        if count == 0 and not self._known:
            raise NvmlUnavailable("the NVIDIA driver is loaded, but it shows no GPU", absent=True)
        for index in range(count):
            try:
                reader = GpuReader(self._driver, index, now=now, proc_root=self._proc_root)
            except (GpuLost, NvmlRefused) as error:
                self._unopened.append(f"the GPU at index {index} cannot be opened: {error}")
            else:
                self._readers[reader.identity.uuid] = reader
        if self._unopened or self._known.keys() - self._readers.keys():
            self._retry.schedule(now, LOST_GPU)
        else:
            self._retry.settle()

    def _shut(self, now: Instant, unavailable: NvmlUnavailable) -> None:
        self._driver.close()
        self._readers, self._down = {}, unavailable
        self._retry.schedule(now, NO_DRIVER)

    def _report_down(self) -> Collected:
        assert self._down is not None
        known = [unseen(entity) for entity in self._known.values()]
        return Collected(
            outcome=Outcome.ABSENT if self._down.absent and not known else Outcome.FAILED,
            detail=str(self._down),
            entities=known,
            samples=[silent(entity, Reason.ERROR) for entity in known],
        )

    def _look_at_all(self, now: Instant) -> Collected:
        values: dict[str, Mapping[str, Value]] = {}
        complaints: list[str] = []
        for uuid, reader in list(self._readers.items()):
            try:
                look = reader.look(now)
            except GpuLost:
                self._known[uuid] = gpu_entity(uuid, attributes_of(reader.identity, processes=None))
                del self._readers[uuid]
                self._retry.schedule_if_none(now, LOST_GPU)
                continue
            self._known[uuid] = gpu_entity(uuid, look.attributes)
            values[uuid] = look.values
            complaints.extend(look.complaints)
        lost = [unseen(entity) for uuid, entity in self._known.items() if uuid not in values]
        troubles = [*map(lost_sentence, lost), *self._unopened, *complaints]
        return Collected(
            outcome=Outcome.PARTIAL if troubles else Outcome.OK,
            detail=first_sentences(troubles),
            entities=[*(self._known[uuid] for uuid in values), *lost],
            samples=[
                *(Sample(table=TABLE, entity=(EntityKind.GPU, uuid), values=seen) for uuid, seen in values.items()),
                *(silent(entity, Reason.DEVICE_LOST) for entity in lost),
            ],
        )


def gpu_entity(uuid: str, attributes: Mapping[str, object]) -> Entity:
    """This will name a GPU by its UUID: its index may change with a reboot."""
    return Entity(kind=EntityKind.GPU, key=uuid, attributes=attributes)


def unseen(entity: Entity) -> Entity:
    """This will keep what a GPU is and drop what was running on it: nobody knows that now."""
    return gpu_entity(entity.key, {**entity.attributes, "processes": None})


def silent(entity: Entity, reason: Reason) -> Sample:
    """This will give the sample of a GPU of which nothing could be read."""
    return Sample(
        table=TABLE,
        entity=(entity.kind, entity.key),
        values=dict.fromkeys((spec.name for spec in TABLES[TABLE].fields), reason),
    )


def lost_sentence(entity: Entity) -> str:
    """This will say which GPU is lost, by every name that an operator may know it by."""
    attributes = entity.attributes
    return f"GPU {attributes.get('index')} ({entity.key}, PCI {attributes.get('pci_bus_id')}) is lost"


def first_sentences(sentences: Sequence[str]) -> str:
    """This will join sentences into a detail of bounded length."""
    more = len(sentences) - DETAIL_SENTENCES
    return "; ".join(sentences[:DETAIL_SENTENCES]) + (f"; and {more} more" if more > 0 else "")
