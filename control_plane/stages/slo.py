"""The SLO job: look at what servers did since the last look, count, judge, and keep what came of it.

What is counted is written down a few times a minute, with how far it goes, in one transaction: a replica that dies
in between leaves no trace, and the next one counts from there. Guards are not written down: the samples of the last
minutes make them again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from control_plane.model.entity import EntityKind
from control_plane.model.slo import Events
from control_plane.runtime.jobs import Report
from control_plane.slo.watching import TOGETHER, Key, Tally, Watch
from control_plane.storage import entities, slo_events, slos
from control_plane.storage.leading import LeadingJob
from control_plane.storage.leases import Lease
from control_plane.storage.server_looks import MOST_LOOKS, LookReader
from control_plane.storage.session import Database, SyncConnection

NAME = "slo"
LEASE_LIFETIME = timedelta(seconds=20)
WRITE_EVERY = timedelta(seconds=15)
# What is usual for a server is taken from these days, and looked up anew so often.
USUAL_OF, USUAL_EVERY = timedelta(days=7), timedelta(minutes=10)
# After a longer time without a control plane, what came before it is not counted.
LONGEST_CATCH_UP = timedelta(hours=6)
OVERLAP = timedelta(minutes=1)
# Nodes' clocks are mapped onto ours, to a second or two.
AHEAD = timedelta(seconds=10)
SCALARS = (
    "up_flag", "counters_since_unix_seconds", "requests_running_count", "requests_waiting_count",
    "requests_finished_total", "requests_aborted_total", "requests_failed_total", "requests_rejected_total",
)  # fmt: skip
HISTOGRAMS = ("ttft_seconds", "inter_token_latency_seconds", "time_per_output_token_seconds", "end_to_end_seconds")


class SloJob(LeadingJob):
    """Counts and judges. Owned by one thread at a time."""

    name, lease_lifetime = NAME, LEASE_LIFETIME

    def __init__(self, database: Database, *, holder: str, now: Callable[[], datetime]) -> None:
        """`holder` names this replica; `now` is the control plane's clock."""
        super().__init__(database, holder=holder, now=now)
        self._reader = LookReader(SCALARS, HISTOGRAMS)
        self._watch: Watch | None = None
        self._token: int | None = None
        self._written_at: datetime | None = None
        self._usual_at: datetime | None = None
        self._cursor: dict[int, datetime] = {}
        self._going_on: set[Key] = set()

    def _lost(self) -> None:
        self._watch = self._token = None

    def _step(self, connection: SyncConnection, lease: Lease, now: datetime) -> Report:
        if self._watch is None or self._token != lease.token:
            self._watch, self._token = self._begin(connection, now), lease.token
        watch = self._watch
        self._follow(connection, watch, now)
        more = self._look(connection, watch, now)
        if not more:  # while catching up, now is not when it happened
            watch.step(now)
        found = watch.violations()
        is_due = self._written_at is None or now - self._written_at >= WRITE_EVERY
        if is_due or more or found.keys() != self._going_on:
            with self._under(connection, lease):
                self._write(connection, watch, now)
            self._going_on = set(found)
        figures: dict[str, float | str | None] = {
            "objectives": float(len(watch.slos)), "servers": float(len(watch.watched())),
            "violations": float(len(found)),
        }  # fmt: skip
        return Report(leading=True, more=more, figures=figures)

    def _begin(self, connection: SyncConnection, now: datetime) -> Watch:
        watch = Watch()
        counted = slo_events.progress(connection)
        watch.counted_until = dict(counted)
        oldest = now - LONGEST_CATCH_UP
        # From a little before: what is counted are differences between two looks.
        self._cursor = {
            entity_id: max(oldest, min(seen_at - OVERLAP, watch.oldest_needed(now)))
            for entity_id, seen_at in counted.items()
        }
        self._usual_at = self._written_at = None
        going_on = slo_events.going_on(connection)
        self._follow(connection, watch, now)
        watch.resume(going_on)
        self._going_on = set(going_on)
        return watch

    def _follow(self, connection: SyncConnection, watch: Watch, now: datetime) -> None:
        watch.follow(slos.every(connection), entities.every(connection, EntityKind.INFERENCE_SERVER))
        if self._usual_at is None or now - self._usual_at >= USUAL_EVERY:
            this_hour = now.replace(minute=0, second=0, microsecond=0)
            usual = slo_events.usual(connection, since=now - USUAL_OF, until=this_hour)
            for (slo_id, _), events in list(usual.items()):
                usual[slo_id, TOGETHER] = usual.get((slo_id, TOGETHER), Events()) + events
            watch.usual, self._usual_at = usual, now
            slo_events.drop_before(connection, now)

    def _look(self, connection: SyncConnection, watch: Watch, now: datetime) -> bool:
        """This will look at the samples that came since, and say whether there are more at hand."""
        after = {i: self._cursor.get(i, watch.oldest_needed(now)) for i in watch.watched()}
        found = self._reader.read(connection, after, now + AHEAD)
        looks: dict[int, int] = {}
        for reading in found:
            watch.look(reading)
            looks[reading.entity_id] = looks.get(reading.entity_id, 0) + 1
            self._cursor[reading.entity_id] = reading.taken_at
        return any(count >= MOST_LOOKS for count in looks.values())

    def _write(self, connection: SyncConnection, watch: Watch, now: datetime) -> None:
        tally, watch.tally = watch.tally, Tally()
        slo_events.add(connection, "slo_minute", tally.minutes)
        slo_events.add(connection, "slo_hour", tally.hours)
        for start, counts in tally.server_hours.items():
            slo_events.add_server_hours(connection, start, counts)
        slo_events.advance(connection, tally.seen)
        judged = watch.judged(now)
        slo_events.write_judgements(connection, judged)
        slo_events.drop_judgements(connection, [(j.slo_id, j.entity_id) for j in judged])
        stored = slo_events.going_on(connection)
        for key, judgement in watch.violations().items():
            if key not in stored:
                slo_events.begin_violation(connection, key, judgement, now, {"because": judgement.because})
        for key in stored.keys() - watch.violations().keys():
            slo_events.end_violation(connection, key, now)
        self._written_at = now
