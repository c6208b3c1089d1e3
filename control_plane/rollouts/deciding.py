"""What a rollout does next: from what is stored and what was just seen, one transition or one effect. Pure.

Order is safety's: first what sends it back, then what people ask, then whether somebody else has changed things, and
only then the way forward. Whatever is not known leaves it where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from control_plane.model.rollout import (
    WHOLE,
    Command,
    Effect,
    Event,
    Intent,
    Look,
    Note,
    Observed,
    Rollout,
    State,
    Strategy,
)  # fmt: skip
from control_plane.rollouts import machine, sequential
from control_plane.rollouts.plan import replicas_for
from control_plane.statistics.sequences import Verdict

# A replica that misses one health check is not lost; one that is gone for longer is.
LOST_SECONDS = 10.0
# The way forward is given up, for a person to look, when nothing has answered for so long.
SILENT_SECONDS = 300.0
LOOK_SECONDS = 5.0
WATCH_SECONDS = 2.0  # while the candidate has traffic
BACK_SECONDS = 0.5
NEXT_SECONDS = 0.5  # after a transition, or a new effect: what follows may be possible already
# On the way back the share is set to zero again this often before a note of it becomes a cry.
LOUD_CORRECTIONS = 3
# Of what a person asked for: which event it is. PROMOTE is none: it only shortens a step.
EVENTS = {
    Command.APPROVE: Event.APPROVED,
    Command.PAUSE: Event.PAUSE,
    Command.RESUME: Event.RESUME,
    Command.ROLL_BACK: Event.ROLL_BACK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen just now. None is what is not known."""

    observed: Observed | None = None  # None: it does not answer
    look: Look | None = None  # since the last one
    guard: Verdict = Verdict.INCONCLUSIVE  # of the candidate's requests, by the objective
    problems: tuple[str, ...] | None = None  # why it cannot begin; () is none; asked only before it begins
    warm: bool | None = None  # the candidate answered real requests since it is ready
    frozen: bool = False  # nothing moves forward now


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What follows. `intent` is carried out after `rollout` and it are stored, and only then."""

    rollout: Rollout
    intent: Intent | None = None
    notes: tuple[Note, ...] = ()
    wake_seconds: float = LOOK_SECONDS


@dataclass(slots=True)
class _Thought:
    """One decision in the making."""

    rollout: Rollout
    facts: Facts
    now: datetime
    intent: Intent | None = None
    notes: list[Note] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Seconds in this state."""
        return (self.now - self.rollout.since).total_seconds()

    @property
    def next_share(self) -> int:
        return self.rollout.plan.shares[self.rollout.step]

    def move(self, event: Event, because: str) -> None:
        """Go where the table leads, and prepare what belongs to the new state."""
        before = self.rollout
        state = machine.after(before.state, event)
        step = before.step + (before.state is State.OBSERVING and event in (Event.STEP_PASSED, Event.APPROVAL_NEEDED))
        rollout = replace(
            before, state=state, since=self.now, epoch=before.epoch + 1, step=step, because=because, lost_since=None
        )
        if state is State.SHIFTING:
            rollout = _asking(rollout, rollout.plan.shares[step])
        elif state is State.ROLLING_BACK:
            rollout = _asking(rollout, 0)
        elif state is State.OBSERVING:
            rollout = replace(rollout, looks=(), share_seen=True)
        self.rollout = rollout
        self.notes.append(Note(at=self.now, event=event, state=state, because=because))

    def act(self, effect: Effect, value: int) -> None:
        """Decide on an effect. The same decision in the same epoch has the same key."""
        key = f"{self.rollout.rollout_id}/{self.rollout.epoch}/{effect}/{value}"
        before = self.rollout.intent
        if before is None or before.key != key:
            intent = Intent(key=key, effect=effect, value=value, decided_at=self.now)
            details = {"key": key, "value": value}
            self.notes.append(
                Note(at=self.now, event=effect, state=self.rollout.state, because="decided", details=details)
            )
            self.rollout = replace(self.rollout, intent=intent)
        self.intent = self.rollout.intent

    def remark(self, event: str, because: str) -> None:
        """Say once why it stays where it is."""
        if self.rollout.because != because:
            self.rollout = replace(self.rollout, because=because)
            self.notes.append(Note(at=self.now, event=event, state=self.rollout.state, because=because))


def _asking(rollout: Rollout, share: int) -> Rollout:
    asked = rollout.shares_asked if share in rollout.shares_asked else (*rollout.shares_asked, share)
    return replace(rollout, share=share, share_seen=False, shares_asked=asked, looks=(), corrections=0)


def decide(rollout: Rollout, facts: Facts, now: datetime) -> Turn:
    """This will say what a rollout does next. It never does more than one step of its way."""
    thought = _Thought(rollout, facts, now)
    if rollout.state not in machine.ENDED:
        _take_note(thought)
        state = thought.rollout.state
        if not (_sent_back(thought) or _commanded(thought) or _given_up(thought) or _changed_by_hand(thought)):
            _go_on(thought)
        if thought.rollout.state is not state and thought.rollout.state is State.ROLLING_BACK:
            thought.act(Effect.SET_SHARE, 0)  # at once: the way back does not wait for another look
    return Turn(
        rollout=thought.rollout, intent=thought.intent, notes=tuple(thought.notes),
        wake_seconds=_wake(rollout, thought.rollout),
    )  # fmt: skip


def _wake(before: Rollout, rollout: Rollout) -> float:
    if rollout.state is State.ROLLING_BACK:
        return BACK_SECONDS
    if rollout.epoch != before.epoch or rollout.intent != before.intent:
        return NEXT_SECONDS
    return WATCH_SECONDS if rollout.share and rollout.state in machine.GUARDED else LOOK_SECONDS


def _take_note(thought: _Thought) -> None:
    """Keep what was seen, and since when something is missing."""
    rollout, facts, observed = thought.rollout, thought.facts, thought.facts.observed
    silent = None if observed is not None else rollout.silent_since or thought.now
    lost = rollout.lost_since
    if observed is not None and observed.candidate_ready is not None:
        needed = replicas_for(rollout.plan, rollout.share) if rollout.share else 0
        lost = None if observed.candidate_ready >= needed else lost or thought.now
    looks = rollout.looks
    if facts.look is not None and rollout.share and rollout.share_seen:
        looks = sequential.added(looks, facts.look)
    thought.rollout = replace(rollout, silent_since=silent, lost_since=lost, looks=looks)


def _sent_back(thought: _Thought) -> bool:
    """Whatever speaks against the candidate, in every state in which it may have traffic."""
    rollout = thought.rollout
    if rollout.state not in machine.GUARDED or not _may_have_traffic(rollout):
        return False
    for event, because in _against(thought):
        thought.move(event, because)
        return True
    return False


def _may_have_traffic(rollout: Rollout) -> bool:
    return rollout.share > 0 or len(rollout.shares_asked) > 1


def _against(thought: _Thought) -> list[tuple[Event, str]]:
    rollout, facts = thought.rollout, thought.facts
    found = []
    if facts.guard is Verdict.FAIL:
        found.append((Event.VIOLATION, "the candidate surely breaks its objective"))
    if rollout.lost_since is not None and (thought.now - rollout.lost_since).total_seconds() >= LOST_SECONDS:
        found.append((Event.CANDIDATE_LOST, f"the candidate has too few replicas for {rollout.share / 100:g} %"))
    if 0 < rollout.share < WHOLE:
        if _compared(rollout) is Verdict.FAIL:
            found.append((Event.VIOLATION, "the candidate surely has more bad requests than the stable version"))
        if sequential.split(rollout.looks, share=rollout.share) is Verdict.FAIL:
            found.append((Event.VIOLATION, f"the candidate gets more traffic than {rollout.share / 100:g} %"))
    return found


def _compared(rollout: Rollout) -> Verdict:
    return sequential.compared(rollout.looks, margin=rollout.plan.bad_margin, planned=rollout.plan.least_requests)


def _commanded(thought: _Thought) -> bool:
    command, by = thought.rollout.command, thought.rollout.commanded_by
    if command is None or command is Command.PROMOTE:
        return False
    thought.rollout = replace(thought.rollout, command=None)
    event = EVENTS[command]
    if not machine.accepts(thought.rollout.state, event):
        because = f"{by} asked to {command}, which a rollout that is {thought.rollout.state} cannot"
        thought.notes.append(Note(at=thought.now, event=command, state=thought.rollout.state, because=because))
        return False
    thought.move(event, f"{by} asked to {command}")
    return True


def _given_up(thought: _Thought) -> bool:
    """Nothing answers: nobody can say what is, so nothing moves; after a while a person has to look."""
    silent = thought.rollout.silent_since
    if silent is None:
        return False
    thought.remark("silent", "what is rolled out to does not answer")
    if thought.rollout.state in machine.FORWARD and (thought.now - silent).total_seconds() >= SILENT_SECONDS:
        thought.move(Event.CANNOT_ACT, f"nothing has answered for {SILENT_SECONDS:.0f} s")
        return True
    # The way back is tried all the same: what does not answer may still hear.
    return thought.rollout.state is not State.ROLLING_BACK


def _changed_by_hand(thought: _Thought) -> bool:
    rollout, observed = thought.rollout, thought.facts.observed
    if observed is None or observed.share is None or not machine.accepts(rollout.state, Event.CHANGED_BY_HAND):
        return False
    foreign = observed.share != rollout.share if rollout.share_seen else observed.share not in rollout.shares_asked
    if foreign:
        because = f"the share is {observed.share / 100:g} % and not {rollout.share / 100:g} %: somebody else set it"
        thought.move(Event.CHANGED_BY_HAND, because)
    return foreign


def _go_on(thought: _Thought) -> None:
    state = thought.rollout.state
    match state:
        case State.PENDING:
            _begin(thought)
        case State.PROVISIONING:
            _provision(thought)
        case State.WARMING:
            _warm(thought)
        case State.SHIFTING:
            _shift(thought)
        case State.OBSERVING:
            _observe(thought)
        case State.BAKING:
            if thought.elapsed >= thought.rollout.plan.bake_seconds and not thought.facts.frozen:
                thought.move(Event.BAKED, "it has kept its objective with all traffic")
        case State.RETIRING:
            _retire(thought)
        case State.ROLLING_BACK | State.DRAINING | State.REMOVING:
            _go_back(thought)
        case State.AWAITING_APPROVAL | State.PAUSED | State.NEEDS_HUMAN | State.TAKEN_OVER:
            pass  # it waits for a person, guarded
        case State.SUCCEEDED | State.ROLLED_BACK | State.REFUSED:
            pass
        case _:
            assert_never(state)


def _begin(thought: _Thought) -> None:
    problems, observed = thought.facts.problems, thought.facts.observed
    if problems is None or observed is None or observed.share is None:
        return
    if observed.share != 0:
        problems = (*problems, f"the router gives the candidate {observed.share / 100:g} % already")
    if problems:
        thought.move(Event.PREFLIGHT_FAILED, "; ".join(problems))
    elif thought.facts.frozen:
        thought.remark("frozen", "nothing begins in a freeze window")
    else:
        thought.rollout = replace(thought.rollout, share_seen=True)
        if thought.next_share in thought.rollout.plan.approve_before:
            thought.move(Event.APPROVAL_NEEDED, f"somebody has to agree to {thought.next_share / 100:g} %")
        else:
            thought.move(Event.PREFLIGHT_PASSED, "nothing speaks against it")


def _provision(thought: _Thought) -> None:
    observed, plan = thought.facts.observed, thought.rollout.plan
    if observed is None or observed.candidate_ready is None or observed.stable_ready is None:
        return
    needed = replicas_for(plan, thought.next_share)
    if thought.elapsed > plan.ready_seconds:
        because = f"{observed.candidate_ready} of {needed} replicas are ready after {plan.ready_seconds:.0f} s"
        thought.move(Event.TOO_LONG, because)
    elif observed.candidate_ready < needed:
        thought.act(Effect.ENSURE_CANDIDATE, needed)
    elif observed.stable_ready < plan.replicas:
        thought.remark("stable_not_whole", f"only {observed.stable_ready} stable replicas are ready: nothing moves")
    elif thought.facts.frozen:
        thought.remark("frozen", "nothing moves forward in a freeze window")
    else:
        thought.move(Event.READY, f"{observed.candidate_ready} replicas of the candidate are ready")


def _warm(thought: _Thought) -> None:
    if thought.facts.warm and thought.facts.frozen:
        thought.remark("frozen", "nothing moves forward in a freeze window")
    elif thought.facts.warm:
        thought.move(Event.WARMED, "the candidate answers")
    elif thought.elapsed > thought.rollout.plan.warm_seconds:
        thought.move(Event.TOO_LONG, "the candidate is ready and does not answer as it should")


def _shift(thought: _Thought) -> None:
    observed, rollout = thought.facts.observed, thought.rollout
    if observed is None or observed.share is None or observed.candidate_ready is None:
        return
    if observed.share == rollout.share and observed.share_kept:
        thought.move(Event.SHIFTED, f"the router gives the candidate {rollout.share / 100:g} %")
    elif thought.facts.frozen:
        thought.remark("frozen", "nothing moves forward in a freeze window")
    elif observed.candidate_ready >= replicas_for(rollout.plan, rollout.share):
        thought.act(Effect.SET_SHARE, rollout.share)


def _observe(thought: _Thought) -> None:
    rollout, plan = thought.rollout, thought.rollout.plan
    missing = _missing(thought)
    if thought.facts.frozen:
        thought.remark("frozen", "nothing moves forward in a freeze window")
    elif missing is None:
        thought.rollout = replace(rollout, command=None)
        if rollout.step == len(plan.shares) - 1:
            thought.move(Event.LAST_STEP_PASSED, "it keeps its objective with all traffic")
        elif (following := plan.shares[rollout.step + 1]) in plan.approve_before:
            thought.move(Event.APPROVAL_NEEDED, f"somebody has to agree to {following / 100:g} %")
        else:
            thought.move(Event.STEP_PASSED, f"it keeps its objective with {rollout.share / 100:g} %")
    elif thought.elapsed > plan.most_seconds:
        thought.move(Event.INCONCLUSIVE, f"after {plan.most_seconds:.0f} s {missing}")
    else:
        thought.remark("observing", missing)


def _missing(thought: _Thought) -> str | None:
    """What keeps this step from having passed; None when nothing does."""
    rollout, plan = thought.rollout, thought.rollout.plan
    if thought.elapsed < plan.least_seconds and rollout.command is not Command.PROMOTE:
        return "the step has not lasted long enough"
    if rollout.command is Command.PROMOTE:
        return None
    if sequential.candidate_requests(rollout.looks) < plan.least_requests:
        return "the candidate has had too few requests"
    if thought.facts.guard is not Verdict.PASS:
        return "it is not certain that the candidate keeps its objective"
    if rollout.share < WHOLE and sequential.split(rollout.looks, share=rollout.share) is not Verdict.PASS:
        return "the candidate does not get the traffic that it should"
    if plan.strategy is Strategy.AB and rollout.share < WHOLE and _compared(rollout) is not Verdict.PASS:
        return "the test is not decided"
    return None


def _retire(thought: _Thought) -> None:
    observed = thought.facts.observed
    if observed is None or observed.stable_running is None or observed.share is None:
        return
    if observed.share != WHOLE:
        # Somebody sent traffic back to the stable version: it must not be taken away.
        thought.remark("not_retired", f"the candidate has {observed.share / 100:g} %: the stable version stays")
    elif observed.stable_running == 0:
        thought.move(Event.RETIRED, "the stable version is gone")
    else:
        thought.act(Effect.RETIRE_STABLE, 0)


def _go_back(thought: _Thought) -> None:
    rollout, observed = thought.rollout, thought.facts.observed
    if observed is None or observed.share != 0 or not observed.share_kept:
        if observed is not None and observed.share and rollout.share_seen:
            corrections = rollout.corrections + 1
            thought.rollout = replace(rollout, corrections=corrections, share_seen=False)
            loud = "; somebody sets it again and again" if corrections >= LOUD_CORRECTIONS else ""
            because = f"the share is {observed.share / 100:g} % again, on the way back{loud}"
            thought.notes.append(Note(at=thought.now, event="corrected", state=rollout.state, because=because))
        thought.act(Effect.SET_SHARE, 0)
        return
    thought.rollout = rollout = replace(rollout, share_seen=True)
    if rollout.state is State.ROLLING_BACK:
        thought.move(Event.SHARE_IS_ZERO, "no new request goes to the candidate")
    elif rollout.state is State.DRAINING:
        if observed.candidate_in_flight == 0 or observed.candidate_running == 0:
            thought.move(Event.DRAINED, "its last stream has ended")
        elif thought.elapsed >= rollout.plan.drain_seconds:
            left = observed.candidate_in_flight
            because = "nobody knows whether its streams have ended" if left is None else f"{left} streams had not ended"
            thought.move(Event.DRAINED, f"{because}: what has not is cut")
    elif observed.candidate_running == 0:
        thought.move(Event.REMOVED, "the candidate is gone")
    else:
        thought.act(Effect.REMOVE_CANDIDATE, 0)
