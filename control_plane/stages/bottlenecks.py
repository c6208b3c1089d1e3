"""The bottleneck job: follow every inference server and every GPU that none has, and keep what binds them.

What binds is written down a few times a minute, and when it changes, with what was learnt of each engine; a replica
that takes over goes on from there with the samples of the last minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from control_plane.analysis.bottlenecks.following import WINDOW, Following, Settings
from control_plane.analysis.bottlenecks.gpu_facts import STORED, GpuLook, look_of
from control_plane.analysis.bottlenecks.timeline import RECENT
from control_plane.analysis.utilization.owners import owners
from control_plane.model.bottleneck import Bottleneck, Spell
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Reading
from control_plane.runtime.jobs import Report
from control_plane.storage import bottlenecks, entities, moments, sample_rows
from control_plane.storage.leading import LeadingJob
from control_plane.storage.leases import Lease
from control_plane.storage.newest import NewestReader
from control_plane.storage.sample_rows import Stretch
from control_plane.storage.server_looks import MOST_LOOKS, LookReader
from control_plane.storage.session import Database, SyncConnection

NAME = "bottlenecks"
LEASE_LIFETIME = timedelta(seconds=30)
WRITE_EVERY, CLEAN_EVERY = timedelta(seconds=15), timedelta(hours=1)
# What is well, or does nothing, is most of a fleet: that it still is so need not be written as often.
WRITE_AT_EASE_EVERY = timedelta(minutes=1)
AT_EASE = frozenset({Bottleneck.HEALTHY, Bottleneck.IDLE})
# What happened in a longer time without a control plane is not judged any more: what binds now is asked for first.
LONGEST_CATCH_UP = timedelta(minutes=5)
# Of a subject that was never followed: enough for its first window and for its last minute's habits.
LOOK_BACK = RECENT + WINDOW
# Nodes send at their own pace: what one sent so much later than another is still looked for.
LATE = timedelta(seconds=30)
# Nodes' clocks are mapped onto ours, to a second or two.
AHEAD = timedelta(seconds=10)
SCALARS = (
    "up_flag", "counters_since_unix_seconds", "requests_running_count", "requests_waiting_count",
    "kv_cache_usage_ratio", "kv_cache_capacity_tokens", "preemptions_total", "prompt_tokens_total",
    "prompt_tokens_live_total", "generation_tokens_total", "generation_tokens_live_total",
    "prefix_cache_queries_total", "prefix_cache_hits_total", "requests_finished_total", "requests_aborted_total",
    "requests_failed_total",
)  # fmt: skip
HISTOGRAMS = (
    "ttft_seconds", "inter_token_latency_seconds", "iteration_tokens", "queue_seconds", "prefill_seconds",
    "prompt_length_tokens", "output_length_tokens",
)  # fmt: skip
_OVER = frozenset({"gone", "not_watched"})


class BottleneckJob(LeadingJob):
    """Follows and keeps. Owned by one thread at a time."""

    name, lease_lifetime = NAME, LEASE_LIFETIME

    def __init__(self, database: Database, *, holder: str, now: Callable[[], datetime]) -> None:
        """`holder` names this replica; `now` is the control plane's clock."""
        super().__init__(database, holder=holder, now=now)
        self._reader = LookReader(SCALARS, HISTOGRAMS)
        self._health = NewestReader("gpu_health", ["nvlink_links_active_count", "nvlink_link_speed_bytes_per_second"])
        self._token: int | None = None
        self._followed: dict[int, Following] = {}
        self._cursor: dict[int, datetime] = {}
        self._gpu_cursor: dict[int, datetime] = {}
        self._gpus_since = now()
        self._highest_clock: dict[int, float] = {}
        self._ended: list[Spell] = []
        self._written: dict[int, tuple[Bottleneck, datetime]] = {}
        self._rows_at: dict[int, datetime] = {}
        self._written_at: datetime | None = None
        self._cleaned_at: datetime | None = None

    def _lost(self) -> None:
        self._token = None

    def _step(self, connection: SyncConnection, lease: Lease, now: datetime) -> Report:
        if self._token != lease.token:
            self._begin(connection, now)
            self._token = lease.token
        more = self._look(connection, now)
        binding = {i: _which(f.spell) for i, f in self._followed.items() if f.spell is not None}
        is_due = self._written_at is None or now - self._written_at >= WRITE_EVERY
        if is_due or binding != self._written:
            self._write(connection, lease, now)
            self._written, self._written_at = binding, now
        figures: dict[str, float | str | None] = {
            "followed": float(len(self._followed)), "bound": float(sum(b not in AT_EASE for b, _ in binding.values())),
        }  # fmt: skip
        return Report(leading=True, more=more, figures=figures)

    def _begin(self, connection: SyncConnection, now: datetime) -> None:
        standing = bottlenecks.standing(connection)
        self._followed = {i: Following(i, spell=spell, habits=habits) for i, (spell, habits) in standing.items()}
        oldest = now - LONGEST_CATCH_UP
        self._cursor = {i: max(oldest, spell.until - LOOK_BACK) for i, (spell, _) in standing.items()}
        self._gpus_since = min([now - LOOK_BACK, *self._cursor.values()])
        self._gpu_cursor, self._written, self._written_at, self._ended = {}, {}, None, []
        self._rows_at = {}

    def _look(self, connection: SyncConnection, now: datetime) -> bool:
        """This will look at what came since, and say whether there is more at hand."""
        gpus = entities.every(connection, EntityKind.GPU)
        servers = [
            server for server in entities.every(connection, EntityKind.INFERENCE_SERVER)
            if server.attributes.get("state") not in _OVER
        ]  # fmt: skip
        of = {gpu_id: owner.server_id for gpu_id, owner in owners(gpus, servers).items()}
        alone = {gpu_id for gpu_id, server_id in of.items() if server_id is None}
        self._follow(alone | {server.entity_id for server in servers}, servers, now)
        fresh = now - LOOK_BACK
        found = self._reader.read(connection, {s.entity_id: self._cursor.get(s.entity_id, fresh) for s in servers},
                                  now + AHEAD)  # fmt: skip
        # GPUs after engines: of the moment of an engine's newest look, those of its GPUs have come too.
        looks = [(of[gpu_id] or gpu_id, at, look) for gpu_id, at, look in self._gpu_looks(connection, gpus, now)]
        counts = self._see(found, looks)
        more = any(count >= MOST_LOOKS for count in counts.values())
        if not more:  # while catching up, now is not when it happened
            for following in self._followed.values():
                following.step(now)
        return more

    def _follow(self, subjects: set[int], servers: Sequence[Entity], now: datetime) -> None:
        for entity_id in self._followed.keys() - subjects:
            self._followed[entity_id].end(now)
            self._ended += self._followed.pop(entity_id).take_closed()
        for entity_id in subjects - self._followed.keys():
            self._followed[entity_id] = Following(entity_id)
        for server in servers:
            self._followed[server.entity_id].settings = settings_of(server)

    def _see(self, found: Sequence[Reading], looks: Sequence[tuple[int, datetime, GpuLook]]) -> dict[int, int]:
        """This will hand on what came in the order in which it was taken, and count the looks at each engine."""
        counts: dict[int, int] = {}
        waiting = deque(looks)
        for reading in found:
            while waiting and waiting[0][1] <= reading.taken_at:
                subject, at, look = waiting.popleft()
                self._followed[subject].see_gpu(at, look)
            self._followed[reading.entity_id].see(reading)
            self._cursor[reading.entity_id] = reading.taken_at
            counts[reading.entity_id] = counts.get(reading.entity_id, 0) + 1
        for subject, at, look in waiting:
            self._followed[subject].see_gpu(at, look)
        return counts

    def _gpu_looks(
        self, connection: SyncConnection, gpus: Sequence[Entity], now: datetime
    ) -> list[tuple[int, datetime, GpuLook]]:
        """This will give looks at GPUs that were not seen yet, in the order of time."""
        oldest = max(now - LOOK_BACK, *self._gpu_cursor.values()) - LATE if self._gpu_cursor else self._gpus_since
        oldest = min(oldest, now - LATE)
        stretch = Stretch(since_us=moments.to_us(oldest), until_us=moments.to_us(now + AHEAD))
        rows = sample_rows.read(connection, "gpu", STORED, stretch)
        keys = {gpu.entity_id: gpu.key for gpu in gpus}
        capacity = {i: _nvlink(health) for i, health in self._health.read(connection).items()} if len(rows) else {}
        out = []
        columns = {name: rows.columns[name].tolist() for name in STORED}
        for n, (gpu_id, at_us) in enumerate(zip(rows.entity_ids.tolist(), rows.taken_at_us.tolist(), strict=True)):
            at = moments.to_datetime(at_us)
            if gpu_id not in keys or at <= self._gpu_cursor.get(gpu_id, oldest):
                continue
            values = {name: None if of[n] != of[n] else of[n] for name, of in columns.items()}  # NaN is not itself
            clock = values["sm_clock_megahertz"]
            if clock is not None:
                self._highest_clock[gpu_id] = max(clock, self._highest_clock.get(gpu_id, 0.0))
            look = look_of(
                keys[gpu_id], values, highest_clock=self._highest_clock.get(gpu_id),
                nvlink_bytes_per_second=capacity.get(gpu_id),
            )  # fmt: skip
            self._gpu_cursor[gpu_id] = at
            out.append((gpu_id, at, look))
        return sorted(out, key=lambda found: found[1])

    def _write(self, connection: SyncConnection, lease: Lease, now: datetime) -> None:
        closed = [spell for following in self._followed.values() for spell in following.take_closed()] + self._ended
        standing = {i: f.spell for i, f in self._followed.items() if f.spell is not None}
        due = {i for i, spell in standing.items() if self._is_due(spell, now)}
        open_now = [(standing[i], self._followed[i].habits) for i in due]
        with self._under(connection, lease):
            bottlenecks.write(connection, closed=closed, open_now=open_now, followed=list(standing))
            if self._cleaned_at is None or now - self._cleaned_at >= CLEAN_EVERY:
                bottlenecks.drop_before(connection, now - bottlenecks.KEPT)
                self._cleaned_at = now
        self._ended = []
        self._rows_at = {i: now if i in due else self._rows_at[i] for i in standing}

    def _is_due(self, spell: Spell, now: datetime) -> bool:
        """This will say whether what binds has to be written again."""
        written_at = self._rows_at.get(spell.entity_id)
        if written_at is None or _which(spell) != self._written.get(spell.entity_id):
            return True
        return now - written_at >= (WRITE_AT_EASE_EVERY if spell.verdict.bottleneck in AT_EASE else WRITE_EVERY)


def _which(spell: Spell) -> tuple[Bottleneck, datetime]:
    return spell.verdict.bottleneck, spell.since


def settings_of(server: Entity) -> Settings:
    """This will take what a verdict needs from a server's configuration, which comes from outside."""
    config = server.attributes.get("config")
    said: Mapping[str, object] = config if isinstance(config, dict) else {}
    limit = said.get("max_num_seqs") or said.get("max_running_requests")
    caching = said.get("enable_prefix_caching")
    return Settings(
        max_num_seqs=float(limit) if isinstance(limit, int | float) and not isinstance(limit, bool) else None,
        prefix_caching=caching if isinstance(caching, bool) else None,
    )


def _nvlink(health: Reading) -> float | None:
    links = health.values.get("nvlink_links_active_count")
    speed = health.values.get("nvlink_link_speed_bytes_per_second")
    known = isinstance(links, int | float) and isinstance(speed, int | float)
    return float(links) * float(speed) if known else None  # type: ignore[arg-type]  # both are numbers
