"""Verdicts while samples come: one subject followed look by look, without flapping.

A subject is an inference server with its GPUs, or a GPU that no server has. Every new look is judged together with
those of the last quarter minute; what binds changes when another class has held for half a minute of the last 45 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import mean, median

from control_plane.analysis.bottlenecks.engine_facts import engine_history, engine_window
from control_plane.analysis.bottlenecks.facts import EngineHistory, EngineWindow
from control_plane.analysis.bottlenecks.gpu_facts import GpuLook, gpu_window
from control_plane.analysis.bottlenecks.timeline import GAP_FACTOR, RECENT
from control_plane.analysis.bottlenecks.verdicts import judge
from control_plane.model.bottleneck import Bottleneck, Habits, Spell, Verdict
from control_plane.model.sample import Reading

# Three looks at the usual five seconds: fewer cannot show that nothing moves.
WINDOW = timedelta(seconds=15)
# What binds changes when another class has held for so much of the horizon. What passes within a window touches
# as many windows as end within two of it: it must not be enough.
HORIZON, ENOUGH = timedelta(seconds=45), timedelta(seconds=30)
# A server that is looked at more seldom has longer windows; nothing is concluded after so long without a look.
SILENCE, SILENT_LOOKS = timedelta(seconds=30), 3.0
# What a window itself proves, however short it is: nothing at all moved in it.
AT_ONCE = frozenset({Bottleneck.STUCK_COLLECTIVE, Bottleneck.HUNG_ENGINE})
# An engine's start is told by a clock that two looks may round differently.
SAME_START_SECONDS = 5.0
MOST_PACES = 32
# Looks may come every half second; a verdict on nearly the same window is the same.
LEAST_STEP = timedelta(seconds=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server's configuration says, where it is known."""

    max_num_seqs: float | None = None
    prefix_caching: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    window_since: datetime
    since: datetime  # when the window before ended: the time that this verdict speaks for
    until: datetime
    verdict: Verdict


class Following:
    """One subject, followed. Looks come in the order of time."""

    def __init__(self, entity_id: int, *, spell: Spell | None = None, habits: Habits | None = None) -> None:
        """`spell` is what bound when it was last followed, `habits` what was learnt until then."""
        self.entity_id = entity_id
        self.spell = spell
        self.habits = habits or Habits()
        self.settings = Settings()
        self._readings: deque[Reading] = deque()
        self._gpu_looks: deque[tuple[datetime, GpuLook]] = deque()
        self._recent: deque[_Judged] = deque()
        self._judged_until: datetime | None = None if spell is None else spell.until
        self._closed: list[Spell] = []
        self._is_server = False
        if spell is not None:  # another process judged it: what it found takes as long to be overruled as what we found
            since = max(spell.since, spell.until - HORIZON)
            self._recent.append(_Judged(window_since=since, since=since, until=spell.until, verdict=spell.verdict))

    def see_gpu(self, at: datetime, look: GpuLook) -> None:
        """This will take a look at one of its GPUs, before the engine's look of that moment."""
        self._gpu_looks.append((at, look))
        while self._gpu_looks[0][0] < at - RECENT:
            self._gpu_looks.popleft()

    def see(self, reading: Reading) -> None:
        """This will take a look at the engine, and judge the window that ends with it."""
        self._is_server = True
        if self._is_another_start(reading):
            self._readings.clear()
            self.habits = Habits()
        self._readings.append(reading)
        while len(self._readings) > 2 and self._readings[1].taken_at <= reading.taken_at - RECENT:
            self._readings.popleft()
        self._learn(reading)
        if self._is_due(reading.taken_at):
            self._judge_engine(reading)

    def step(self, now: datetime) -> None:
        """This will judge what needs no look of an engine: GPUs without one, and silence."""
        newest_gpu = self._gpu_looks[-1][0] if self._gpu_looks else None
        if not self._is_server and newest_gpu is not None and self._is_due(newest_gpu):
            since = max(newest_gpu - WINDOW, self._gpu_looks[0][0])
            looks = [look for at, look in self._gpu_looks if since <= at]
            self._note(since, newest_gpu, judge(None, EngineHistory(), gpu_window(looks), before=self._before))
        heard = self._readings[-1].taken_at if self._readings else None if self._is_server else newest_gpu
        heard = heard or self._judged_until
        if heard is not None and now - heard > self._longest_silence():
            self._note(heard, now, _missing())

    def take_closed(self) -> list[Spell]:
        """This will give the spells that ended since this was last asked."""
        closed, self._closed = self._closed, []
        return closed

    def end(self, now: datetime) -> None:
        """This will end what binds: the subject is no more."""
        if self.spell is not None:
            self._closed.append(replace(self.spell, until=min(now, self.spell.until)))
        self.spell = None

    def _is_due(self, at: datetime) -> bool:
        return self._judged_until is None or at - self._judged_until >= LEAST_STEP

    @property
    def _before(self) -> Bottleneck | None:
        return None if self.spell is None else self.spell.verdict.bottleneck

    def _is_another_start(self, reading: Reading) -> bool:
        began = reading.values.get("counters_since_unix_seconds")
        if not isinstance(began, int | float):
            return False
        before = self.habits.counters_since
        self.habits = replace(self.habits, counters_since=float(began))
        return before is not None and abs(began - before) > SAME_START_SECONDS

    def _learn(self, reading: Reading) -> None:
        if len(self._readings) < 2:
            return
        newest = engine_history([self._readings[-2], reading], ())
        running = [value for value in (self.habits.most_running, newest.most_running) if value is not None]
        self.habits = replace(
            self.habits, most_running=max(running, default=None), paces=_best(*self.habits.paces, *newest.paces)
        )

    def _judge_engine(self, last: Reading) -> None:
        first = next(
            (r for r in reversed(self._readings) if r.taken_at <= last.taken_at - WINDOW + WINDOW / 15),
            self._readings[0],
        )
        if first is last:
            return  # one look says nothing of what happens
        looks = [look for at, look in self._gpu_looks if first.taken_at <= at <= last.taken_at]
        gpu = gpu_window(looks)
        between = [r for r in self._readings if first.taken_at <= r.taken_at]
        down = any(reading.values.get("up_flag", 1.0) == 0 for reading in between)
        if down or self._has_gap(between):
            verdict = judge(None, EngineHistory(), gpu, before=self._before)
            if verdict.bottleneck in (Bottleneck.IDLE, Bottleneck.HEALTHY):
                verdict = _missing()  # that GPUs rest says nothing good of a server that does not answer
        else:
            window = _with_all_looks(engine_window(first, last), between)
            verdict = judge(window, self._history(), gpu, before=self._before)
        self._note(first.taken_at, last.taken_at, verdict)

    def _history(self) -> EngineHistory:
        readings = list(self._readings)
        of_now = engine_history(
            readings[-1:], readings, max_num_seqs=self.settings.max_num_seqs,
            prefix_caching=self.settings.prefix_caching,
        )  # fmt: skip
        return replace(of_now, most_running=self.habits.most_running, paces=self.habits.paces)

    def _usual_gap(self) -> timedelta | None:
        gaps = [later.taken_at - sooner.taken_at for sooner, later in pairwise(self._readings)]
        return timedelta(seconds=median(gap.total_seconds() for gap in gaps)) if gaps else None

    def _has_gap(self, readings: Sequence[Reading]) -> bool:
        usual = self._usual_gap()
        return usual is not None and any(b.taken_at - a.taken_at > GAP_FACTOR * usual for a, b in pairwise(readings))

    def _longest_silence(self) -> timedelta:
        usual = self._usual_gap()
        return SILENCE if usual is None else max(SILENCE, SILENT_LOOKS * usual)

    def _note(self, window_since: datetime, until: datetime, verdict: Verdict) -> None:
        if self.spell is not None and window_since - self.spell.until > self._longest_silence():
            self.end(window_since)  # nobody looked at what came in between
            self._recent.clear()
        since = max(window_since, self._judged_until or window_since)
        self._judged_until = until
        self._recent.append(_Judged(window_since=window_since, since=since, until=until, verdict=verdict))
        while self._recent[0].until <= until - HORIZON:
            self._recent.popleft()
        binds = self._binding()
        newest = next(j for j in reversed(self._recent) if j.verdict.bottleneck is binds or binds is self._before)
        if binds is self._before and self.spell is not None:
            kept = verdict if verdict.bottleneck is binds else self.spell.verdict
            self.spell = replace(self.spell, until=until, verdict=kept)
            return
        first = next(j for j in self._recent if j.verdict.bottleneck is binds)
        began = first.window_since if binds in AT_ONCE or self.spell is None else first.since
        if self.spell is not None:
            began = max(began, self.spell.since)
            self._closed.append(replace(self.spell, until=began))
        self.spell = Spell(entity_id=self.entity_id, since=began, until=until, verdict=newest.verdict)

    def _binding(self) -> Bottleneck:
        """This will say what binds by the verdicts of the horizon."""
        newest, before = self._recent[-1].verdict.bottleneck, self._before
        if before is None or newest in AT_ONCE:
            return newest
        seconds: dict[Bottleneck, float] = {}
        for judged in self._recent:
            of = judged.verdict.bottleneck
            begin = max(judged.since, self._recent[-1].until - HORIZON)
            seconds[of] = seconds.get(of, 0.0) + (judged.until - begin).total_seconds()
        most = max(seconds, key=lambda of: seconds[of])
        # Where looks are rarer than the horizon is long, one look is all of it.
        if before not in seconds or seconds[most] >= ENOUGH.total_seconds():
            return most
        return before


def _missing() -> Verdict:
    return judge(None, EngineHistory(), None)


def _with_all_looks(window: EngineWindow, looks: Sequence[Reading]) -> EngineWindow:
    """This will take the gauges of a window from all of its looks, not only from its ends."""

    def known(name: str) -> list[float]:
        return [float(value) for look in looks if isinstance(value := look.values.get(name), int | float)]

    running, waiting = known("requests_running_count"), known("requests_waiting_count")
    return replace(
        window, running=mean(running) if running else None, running_most=max(running, default=None),
        waiting=mean(waiting) if waiting else None, waiting_least=min(waiting, default=None),
        kv_usage=max(known("kv_cache_usage_ratio"), default=None),
    )  # fmt: skip


def _best(*paces: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """This will keep the paces that none with as many requests beats."""
    kept: list[tuple[float, float]] = []
    for decoding, pace in sorted(paces, reverse=True):
        if not kept or pace < kept[-1][1]:
            kept.append((decoding, pace))
    # The quickest are last: those are what a busy window is compared with.
    return tuple(reversed(kept[-MOST_PACES:]))
