"""Following servers look by look: what was counted for each objective, and what its guards say.

Held in memory by who does the work. All of it can be made again from the samples of the last minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from control_plane.model.entity import Entity
from control_plane.model.sample import Reading
from control_plane.model.slo import Events, Indicator, Judgement, ServerJudgement, Slo
from control_plane.slo import guard
from control_plane.slo.counting import Counted, Track, counted
from control_plane.slo.guard import GuardPlan, GuardState, Seen
from control_plane.slo.habit import tolerated_share
from control_plane.slo.scope import ServerNow, availability, matches, throughput

# All in scope together, in the place of a server's id.
TOGETHER = 0
# A longer gap between two looks says what happened, and no longer when: nothing for a guard.
LONGEST_GAP = 60.0
# How often servers are looked at, unless their looks say otherwise.
USUAL_SECONDS, SHORTEST_SECONDS, SLOWEST_SECONDS = 5.0, 1.0, 15.0

Key = tuple[int, int]  # objective, server


@dataclass(slots=True)
class Tally:
    """What was counted since it was last written down."""

    minutes: dict[tuple[int, datetime], Events] = field(default_factory=dict)
    hours: dict[tuple[int, datetime], Events] = field(default_factory=dict)
    server_hours: dict[datetime, dict[Key, Events]] = field(default_factory=dict)
    seen: dict[int, datetime] = field(default_factory=dict)  # server -> newest sample

    def add(self, slo_id: int, entity_id: int, at: datetime, events: Events) -> None:
        """This will add events of one server, or of all together."""
        minute = at.replace(second=0, microsecond=0)
        hour = minute.replace(minute=0)
        self.minutes[slo_id, minute] = self.minutes.get((slo_id, minute), Events()) + events
        self.hours[slo_id, hour] = self.hours.get((slo_id, hour), Events()) + events
        if entity_id != TOGETHER:
            of_hour = self.server_hours.setdefault(hour, {})
            of_hour[slo_id, entity_id] = of_hour.get((slo_id, entity_id), Events()) + events


class Watch:
    """Every objective over every server in its scope."""

    def __init__(self) -> None:
        self.slos: Sequence[Slo] = ()
        self.servers: dict[int, Entity] = {}
        self.tally = Tally()
        self.counted_until: dict[int, datetime] = {}  # up to here samples are in what was written down
        self.usual: Mapping[Key, Events] = {}
        self.guards: dict[Key, GuardState] = {}
        self._members: dict[int, list[int]] = {}
        self._tracks: dict[Key, Track] = {}
        self._newest: dict[int, Reading] = {}
        self._pairs: dict[int, tuple[Reading, Reading]] = {}
        self._unknown: dict[Key, str | None] = {}
        self._gaps: dict[int, float] = {}
        self._step: dict[int, Counted] = {}
        self._stepped_at: datetime | None = None

    def follow(self, slos: Sequence[Slo], servers: Sequence[Entity]) -> None:
        """This will take over which objectives and servers there are."""
        changed = {new.slo_id for new in slos if new.counted_since != self._counted_since(new.slo_id)}
        self.slos = slos
        self.servers = {server.entity_id: server for server in servers}
        self._members = {
            slo.slo_id: [server.entity_id for server in servers if matches(slo.definition.scope, server)]
            for slo in slos
        }
        kept = self.keys()
        for held in (self._tracks, self.guards, self._unknown):
            for key in [key for key in held if key not in kept or key[0] in changed]:
                del held[key]

    def _counted_since(self, slo_id: int) -> datetime | None:
        return next((slo.counted_since for slo in self.slos if slo.slo_id == slo_id), None)

    def watched(self) -> set[int]:
        """This will give the servers that some objective is about."""
        return {entity_id for members in self._members.values() for entity_id in members}

    def keys(self) -> set[Key]:
        """This will give every objective with each of its servers, and with all of them together."""
        found = {(slo_id, TOGETHER) for slo_id in self._members}
        for slo in self.slos:
            if not _is_of_all(slo):
                found |= {(slo.slo_id, entity_id) for entity_id in self._members[slo.slo_id]}
        return found

    def look(self, reading: Reading) -> None:
        """This will take a server's next sample into account; samples come in the order of time."""
        entity_id = reading.entity_id
        before = self._newest.get(entity_id)
        self._newest[entity_id] = reading
        self.tally.seen[entity_id] = reading.taken_at
        if reading.values.get("up_flag") != 1:
            self._pairs.pop(entity_id, None)
            return
        if before is not None:
            self._pairs[entity_id] = (before, reading)
            self._gaps[entity_id] = (reading.taken_at - before.taken_at).total_seconds()
        for slo in self.slos:
            if entity_id in self._members[slo.slo_id] and not _is_of_all(slo):
                self._count(slo, reading)

    def _count(self, slo: Slo, reading: Reading) -> None:
        key = (slo.slo_id, reading.entity_id)
        track, found = counted(slo.definition, self._tracks.get(key, Track()), reading)
        self._tracks[key] = track
        if found is None:
            return
        self._unknown[key] = found.unknown
        is_new = reading.taken_at > max(self.counted_until.get(reading.entity_id, slo.counted_since), slo.counted_since)
        if found.events.total and is_new:
            self.tally.add(slo.slo_id, reading.entity_id, reading.taken_at, found.events)
        if found.seconds <= LONGEST_GAP:
            self._guard(slo, reading.entity_id, reading.taken_at, found)
            before = self._step.get(slo.slo_id)
            self._step[slo.slo_id] = found if before is None else _together(before, found)

    def step(self, now: datetime) -> None:
        """This will judge what is of all servers in scope together; call it when the samples at hand were looked at."""
        passed = None if self._stepped_at is None else (now - self._stepped_at).total_seconds()
        self._stepped_at = now
        if passed is None or not 0 < passed <= LONGEST_GAP:
            self._step.clear()
            return
        for slo in self.slos:
            found = self._of_all(slo, now, passed) if _is_of_all(slo) else self._step.get(slo.slo_id)
            if found is not None and found.events.total:
                self._guard(slo, TOGETHER, now, found)
        self._step.clear()

    def _of_all(self, slo: Slo, now: datetime, seconds: float) -> Counted | None:
        members = self._members[slo.slo_id]
        events: Events | None
        if slo.definition.indicator is Indicator.AVAILABILITY:
            looked = [ServerNow(entity=self.servers[i], reading=self._newest.get(i)) for i in members]
            events = availability(looked, now, seconds)
            self._unknown[slo.slo_id, TOGETHER] = "no_samples" if events is None else None
        else:
            fresh = [p for i in members if (p := self._pairs.get(i)) and (now - p[1].taken_at).total_seconds() <= 15.0]
            events, rate = throughput(slo.definition, fresh, seconds)
            self._unknown[slo.slo_id, TOGETHER] = "no_samples" if rate is None else None
        if events is None or not events.total:
            return None
        self.tally.add(slo.slo_id, TOGETHER, now, events)
        return Counted(events=events, seconds=seconds, at_once=USUAL_SECONDS)

    def _guard(self, slo: Slo, entity_id: int, at: datetime, found: Counted) -> None:
        key = (slo.slo_id, entity_id)
        events = found.events
        seen = Seen(
            at=at, seconds=found.seconds, good=events.good, bad=events.bad, doubtful=events.doubtful,
            at_once=found.at_once,
        )  # fmt: skip
        self.guards[key] = guard.watch(self.plan(slo, entity_id), self.guards.get(key, GuardState()), seen)

    def plan(self, slo: Slo, entity_id: int) -> GuardPlan:
        """This will give what a server's guard watches for: what is usual there, where that is known."""
        allowed = slo.definition.allowed_share
        usual = self.usual.get((slo.slo_id, entity_id))
        tolerated = None if usual is None else tolerated_share(allowed, events=usual.total, bad=usual.bad)
        gap = self._gaps.get(entity_id, USUAL_SECONDS)
        interval = min(max(gap, SHORTEST_SECONDS), SLOWEST_SECONDS)
        return GuardPlan(allowed_share=allowed, tolerated_share=tolerated, interval_seconds=interval)

    def judged(self, now: datetime) -> list[ServerJudgement]:
        """This will give every guard's verdict as of now."""
        out = []
        of = {slo.slo_id: slo for slo in self.slos}
        for key in sorted(self.keys()):
            plan = self.plan(of[key[0]], key[1])
            found = guard.judge(plan, self._settled(key, now), now)
            out.append(
                ServerJudgement(
                    slo_id=key[0], entity_id=key[1], judged_at=now, tolerated_share=plan.tolerated,
                    judgement=found, unknown=self._why_unknown(key),
                )
            )  # fmt: skip
        return out

    def _settled(self, key: Key, now: datetime) -> GuardState:
        """This will give a guard's state; a violation after which an hour passed without an event is history."""
        state = self.guards.get(key, GuardState())
        is_old = all(piece.end <= now - guard.RECENT for piece in state.recent)
        if state.violated_since is not None and is_old and now - state.violated_since > guard.RECENT:
            state = self.guards[key] = GuardState()
        return state

    def _why_unknown(self, key: Key) -> str | None:
        if key[1] != TOGETHER or key in self._unknown:
            return self._unknown.get(key)
        reasons = {self._unknown.get((key[0], entity_id)) for entity_id in self._members[key[0]]}
        return next(iter(reasons)) if len(reasons) == 1 else None

    def violations(self) -> dict[Key, Judgement]:
        """This will give the violations that go on."""
        now = self._stepped_at
        of = {slo.slo_id: slo for slo in self.slos}
        return {
            key: guard.judge(self.plan(of[key[0]], key[1]), state, now or state.evaluated_at or state.violated_since)
            for key, state in self.guards.items()
            if state.violated_since is not None
        }

    def resume(self, going_on: Mapping[Key, tuple[datetime, datetime]]) -> None:
        """This will take over violations that went on when somebody else held this work."""
        for key, (since, detected_at) in going_on.items():
            state = self.guards.get(key, GuardState())
            if key in self.keys() and state.violated_since is None:
                self.guards[key] = GuardState(
                    statistics=state.statistics, onsets=state.onsets, recent=state.recent, violated_since=since,
                    alarmed_at=detected_at, evaluated_at=state.evaluated_at,
                )  # fmt: skip

    def oldest_needed(self, now: datetime) -> datetime:
        """This will say from when on samples are needed to make the state again."""
        return now - guard.COARSE - timedelta(seconds=LONGEST_GAP)


def _is_of_all(slo: Slo) -> bool:
    return slo.definition.indicator in (Indicator.AVAILABILITY, Indicator.THROUGHPUT_FLOOR)


def _together(left: Counted, right: Counted) -> Counted:
    """This will add up what several servers did in the same time."""
    events = left.events + right.events
    return Counted(events=events, seconds=max(left.seconds, right.seconds), at_once=max(left.at_once, right.at_once))
