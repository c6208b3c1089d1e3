"""The GPUs of this host, and the life cycle of NVML: late drivers, lost GPUs, wedged calls."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

from node_agent.clock import Instant
from node_agent.collectors.gpu_events import MOST_WAITING, GpuEvents, kernel_log_at
from node_agent.collectors.gpu_reports import (
    TABLE,
    first_sentences,
    gpu_entity,
    gpus_of,
    instance_entities,
    is_gone,
    lost_sentence,
    seen,
    silent,
    unseen,
)
from node_agent.collectors.gpu_retry import LOST_GPU, NO_DRIVER, Retry
from node_agent.collectors.gpu_values import GpuLook, GpuReader, attributes_of
from node_agent.host.nvml_facts import XidEvent
from node_agent.host.nvml_protocol import GpuLost, Nvml, NvmlRefused, NvmlUnavailable
from node_agent.host.nvml_thread import NvmlThread
from node_agent.host.nvml_watch import CallWatch, watched
from node_agent.model import Collected, Entity, Outcome, Reason, Severity

log = logging.getLogger(__name__)

# A whole look at eight GPUs takes some 60 ms, and the rarest slow calls tens of milliseconds; a GPU that wakes
# without persistence mode takes seconds. Beyond that nobody waits for the driver any more.
HUNG_AFTER_SECONDS = 10.0
# A package upgrade swaps the kernel module within seconds; a restart in the middle of it would be in vain.
RESTART_AFTER_SECONDS = 60.0
LONGEST_LEASE_SECONDS = 3600.0  # a forgotten lease must not blind a host for longer than a shift's coffee
CLOSE_SECONDS = 1.0  # nvmlShutdown takes milliseconds; after that the driver is wedged and not worth waiting for


class GpuCollector:
    """Looks at every GPU. A GPU that was seen once never vanishes silently."""

    def __init__(self, driver: Nvml, *, proc_root: Path = Path("/proc"), kernel_log: Path = Path("/dev/kmsg")) -> None:
        self._watch = CallWatch()
        self._driver = watched(driver, self._watch)
        self._proc_root = proc_root
        self._thread = NvmlThread()
        self._xids: deque[XidEvent] = deque(maxlen=MOST_WAITING)  # from the NVML thread to the loop
        # Everything below up to _running belongs to the NVML thread; the loop reads it only while that rests.
        self._readers: dict[str, GpuReader] = {}  # by GPU UUID
        self._known: dict[str, Entity] = {}  # every GPU ever opened, as last seen
        self._instances: dict[str, list[Entity]] = {}  # by GPU UUID, as last seen
        self._unopened: list[str] = []
        self._down: NvmlUnavailable | None = None
        self._retry = Retry()
        self._was_open = False  # whether this process ever had NVML: then its library fitted the driver
        self._mismatched_at: Instant | None = None
        self._watches_xids = True
        # The rest belongs to the event loop.
        self._running: Future[Collected] | None = None
        self._running_since: Instant | None = None
        self._last: Collected | None = None
        self._was_silent = False  # the report before said that all is unknown: then the next one has to say all
        self._events = GpuEvents(kernel_log_at(kernel_log))
        self._is_hung = False
        self._lost: set[str] = set()
        self._lease_seconds: float | None = None  # asked for, and not begun
        self._leased_until: Instant | None = None

    @property
    def name(self) -> str:
        """This will give the collector's name, as reports show it."""
        return "gpu"

    async def collect(self, now: Instant) -> Collected:
        """This will look at every GPU, on the thread that owns NVML.

        While an earlier look has not come back this one asks nothing, since NVML bears one caller,
        and says what is stuck. What such a look brings in the end is nobody's: each look has a
        future of its own, and the one of a look that was given up is never read.
        """
        self._events.read_log(now, gpus_of(self._last) if self._last else ())
        return self._with_events(now, await self._collected(now))

    async def _collected(self, now: Instant) -> Collected:
        if self._is_released(now):
            return self._released()
        if self._running is not None and not self._running.done():
            return self._stalled(now, 0.0)
        if self._down is not None and not self._retry.is_due(now):  # the thread rests, and would only say so again
            return self._report_down(now, self._down)
        renew, self._was_silent = self._was_silent, False
        self._running, self._running_since = self._thread.submit(lambda: self._look(now, renew=renew)), now
        try:
            async with asyncio.timeout(HUNG_AFTER_SECONDS):
                self._last = await asyncio.wrap_future(self._running)
        except TimeoutError:
            return self._stalled(now, HUNG_AFTER_SECONDS)
        return self._last

    async def release(self, seconds: float) -> bool:
        """This will let go of NVML for `seconds` (at most an hour), so that a GPU can be reset or its MIG mode changed.

        The lease counts from the next look on and ends by itself; 0 ends it early. False says that
        a call into the driver has not come back, so that NVML is still held.
        """
        if seconds <= 0:
            self._lease_seconds, self._leased_until = None, None
            return True
        self._lease_seconds = min(seconds, LONGEST_LEASE_SECONDS)
        return await self._answered(self._thread.submit(self._let_go))

    async def close(self) -> None:
        """This will let go of NVML, without waiting for a call that does not come back."""
        closing = self._thread.submit(self._driver.close)
        self._thread.stop()
        await self._answered(closing)
        self._events.close()

    async def _answered(self, work: Future[None]) -> bool:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.shield(asyncio.wrap_future(work))  # what is queued must still be done
        except TimeoutError:
            return False
        return True

    def _is_released(self, now: Instant) -> bool:
        if self._lease_seconds is not None:
            lease, self._lease_seconds = self._lease_seconds, None
            self._leased_until = Instant(
                wall=now.wall + timedelta(seconds=lease), monotonic_seconds=now.monotonic_seconds + lease
            )
        if self._leased_until is not None and now.monotonic_seconds >= self._leased_until.monotonic_seconds:
            self._leased_until = None
        return self._leased_until is not None

    def _released(self) -> Collected:
        assert self._leased_until is not None
        until = self._leased_until.wall.astimezone(UTC)
        return self._all_unknown(
            Outcome.ABSENT, f"NVML was released on command until {until:%Y-%m-%dT%H:%M:%SZ}", Reason.NOT_COLLECTED
        )

    def _stalled(self, now: Instant, waited_seconds: float) -> Collected:
        since = self._running_since or now
        seconds = max(now.monotonic_seconds - since.monotonic_seconds, waited_seconds)
        hung = seconds >= HUNG_AFTER_SECONDS
        return self._all_unknown(
            Outcome.TIMED_OUT,
            f"the NVIDIA driver has not answered for {seconds:.0f} s: {self._watch.sentence()}",
            Reason.HUNG if hung else Reason.TIMED_OUT,
        )

    def _all_unknown(self, outcome: Outcome, detail: str, reason: Reason) -> Collected:
        """This will report every GPU of the last look without asking NVML anything."""
        self._was_silent = True
        entities = [unseen(entity) for entity in self._last.entities if not is_gone(entity)] if self._last else []
        return Collected(
            outcome=outcome,
            detail=detail,
            entities=entities,
            samples=[sample for entity in entities for sample in silent(entity, reason)],
        )

    def _let_go(self) -> None:
        self._driver.close()
        self._readers, self._unopened, self._down, self._retry = {}, [], None, Retry()

    def _with_events(self, now: Instant, collected: Collected) -> Collected:
        """This will add to a report what has happened, and how many XIDs there were."""
        # A GPU that is lost comes last, and another may have its index now.
        gpus = {entity.attributes.get("index"): entity for entity in reversed(gpus_of(collected))}
        xids = [self._xids.popleft() for _ in range(len(self._xids))]
        self._events.take_xids(now, [(gpus.get(xid.index), xid) for xid in xids])
        self._note_changes(now, collected)
        samples = [
            sample
            if sample.table != TABLE or "xid_errors_total" in sample.values  # unknown, as all of it is
            else replace(sample, values={**sample.values, "xid_errors_total": self._events.counts[sample.entity[1]]})
            for sample in collected.samples
        ]
        return replace(collected, samples=samples, events=self._events.taken())

    def _note_changes(self, now: Instant, collected: Collected) -> None:
        """This will turn what is different from the look before into events."""
        lost, hung = set(), False
        for sample in collected.samples:
            reason = sample.values.get("xid_errors_total")
            hung = hung or reason is Reason.HUNG
            if reason is Reason.DEVICE_LOST:
                lost.add(sample.entity[1])
        if hung and not self._is_hung:
            self._events.add(now, "gpu_hung", None, Severity.CRITICAL, text=collected.detail)
        readable = collected.outcome in (Outcome.OK, Outcome.PARTIAL)
        if self._is_hung and readable:
            self._events.add(now, "gpu_recovered", None, Severity.INFO, text="the NVIDIA driver answers again")
        self._is_hung = hung or (self._is_hung and not readable)
        if not readable:
            return
        for gpu in gpus_of(collected):
            if gpu.key in lost - self._lost:
                self._events.add(now, "gpu_lost", gpu, Severity.CRITICAL, text=lost_sentence(gpu))
            elif gpu.key in self._lost - lost:
                self._events.add(now, "gpu_recovered", gpu, Severity.INFO, text="the GPU answers again")
        self._lost = lost

    def _look(self, now: Instant, *, renew: bool) -> Collected:
        try:
            if self._retry.is_due(now):
                self._open(now)
            if self._down is None:
                collected = self._look_at_all(now, renew=renew)
                self._take_xids()  # after the look: those that it met belong to it
                return collected
        except NvmlUnavailable as unavailable:
            self._shut(now, unavailable)
        assert self._down is not None
        return self._report_down(now, self._down)

    def _take_xids(self) -> None:
        if not self._watches_xids:
            return
        try:
            self._xids.extend(self._driver.xid_events())
        except GpuLost as lost:  # of one GPU: the set still speaks for the others
            log.debug("NVML's event set: %s", lost)
        except NvmlRefused as refused:  # no event set on this platform, or not for us: there is the log
            log.info("NVML's event set gives no XIDs: %s", refused)
            self._watches_xids = False

    def _open(self, now: Instant) -> None:
        self._driver.close()
        self._readers, self._unopened, self._down = {}, [], None
        count = self._driver.open()
        self._was_open, self._mismatched_at, self._watches_xids = True, None, True
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
        if unavailable.needs_restart and self._mismatched_at is None:
            self._mismatched_at = now
        self._retry.schedule(now, NO_DRIVER)

    def _report_down(self, now: Instant, down: NvmlUnavailable) -> Collected:
        known = [unseen(entity) for uuid in self._known for entity in self._as_known(uuid)]
        return Collected(
            outcome=Outcome.ABSENT if down.absent and not known else Outcome.FAILED,
            detail=str(down),
            entities=known,
            samples=[sample for entity in known for sample in silent(entity, Reason.ERROR)],
            restart_because=str(down) if self._restart_helps(now) else "",
        )

    def _restart_helps(self, now: Instant) -> bool:
        """This will say whether only a new process gets at the driver.

        One that never had NVML open loaded the newest library already, and waits for the module instead:
        else the agent of a half-upgraded host would be started again for ever.
        """
        since = self._mismatched_at
        return (
            self._was_open
            and since is not None
            and now.monotonic_seconds - since.monotonic_seconds >= RESTART_AFTER_SECONDS
        )

    def _look_at_all(self, now: Instant, *, renew: bool) -> Collected:
        looks: dict[str, GpuLook] = {}
        complaints: list[str] = []
        for uuid, reader in list(self._readers.items()):
            try:
                look = reader.look(now, renew=renew)
            except GpuLost:
                self._known.setdefault(uuid, gpu_entity(uuid, attributes_of(reader.identity, processes=None)))
                del self._readers[uuid]
                self._retry.schedule_if_none(now, LOST_GPU)
                continue
            self._known[uuid] = gpu_entity(uuid, look.attributes)
            self._instances[uuid] = [entity for entity in instance_entities(look) if not is_gone(entity)]
            looks[uuid] = look
            complaints.extend(look.complaints)
        lost_gpus = [uuid for uuid in self._known if uuid not in looks]
        lost = [unseen(entity) for uuid in lost_gpus for entity in self._as_known(uuid)]
        troubles = [*(lost_sentence(self._known[uuid]) for uuid in lost_gpus), *self._unopened, *complaints]
        return Collected(
            outcome=Outcome.PARTIAL if troubles else Outcome.OK,
            detail=first_sentences(troubles),
            entities=[
                *(e for uuid, look in looks.items() for e in (self._known[uuid], *instance_entities(look))),
                *lost,
            ],
            samples=[
                *(sample for uuid, look in looks.items() for sample in seen(uuid, look)),
                *(sample for entity in lost for sample in silent(entity, Reason.DEVICE_LOST)),
            ],
        )

    def _as_known(self, uuid: str) -> list[Entity]:
        """This will give a GPU and its instances as they were last seen."""
        return [self._known[uuid], *self._instances.get(uuid, ())]
