"""Rollouts on a real HAProxy with users who stream all the time: how long, how soon noticed, how many were hurt."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from benchmarks.figures import Figure, Result
from control_plane.model.rollout import WHOLE, Event, Plan, State
from control_plane.rollouts.actuators.haproxy_socket import AdminSocket
from control_plane.trials.load.records import Outcome, RequestRecord
from tests.support.haproxy import PROGRAM
from tests.support.postgres import running_postgres
from tests.support.rollout_stage import CLOCK, OUTPUT_TOKENS, QUICK, Stage, stage

RATE = 40.0
SLOW_SECONDS = 1.5
PLAN = replace(QUICK, shares=(500, 2500, 5000, WHOLE), least_seconds=10, least_requests=30, bake_seconds=10)
RECORD = Path(__file__).parents[1] / "docs" / "images" / "rollout-slower.svg"


Work = Callable[[Stage], Awaitable[None]]
ENDS = (State.SUCCEEDED, State.ROLLED_BACK, State.PAUSED, State.TAKEN_OVER, State.NEEDS_HUMAN)


async def _driven(on: Stage, plan: Plan, meanwhile: Work | None = None) -> State:
    task = asyncio.get_running_loop().create_task(on.driver().run())
    try:
        await on.start(plan)
        async with on.users(RATE):
            if meanwhile is not None:
                await on.until(State.OBSERVING)
                await meanwhile(on)
            stored = await on.until(*ENDS, seconds=400)
    finally:
        task.cancel()
        await asyncio.wait((task,))
    return stored.rollout.state


def _lost(on: Stage) -> list[RequestRecord]:
    return [r for r in on.run.records if r.outcome is not Outcome.COMPLETED or r.output_tokens != OUTPUT_TOKENS]


async def _since(on: Stage, state: State) -> datetime:
    return next(note.at for note in await on.notes() if note.state is state)


async def _good(folder: Path, url: str, values: dict[str, list[float]]) -> None:
    async with stage(folder, url) as on:
        state = await _driven(on, PLAN)
        assert state is State.SUCCEEDED, state
        notes = await on.notes()
        values["promoted"].append((notes[-1].at - notes[0].at).total_seconds())
        values["requests"].append(len(on.run.records))
        values["lost"].append(len(_lost(on)))


async def _crashing(folder: Path, url: str, values: dict[str, list[float]]) -> None:
    killed: list[datetime] = []

    async def kill(on: Stage) -> None:
        await asyncio.sleep(3)
        killed.append(CLOCK.now())
        on.green.process.kill()

    async with stage(folder, url) as on:
        state = await _driven(on, replace(PLAN, shares=(2500, 5000, WHOLE)), kill)
        assert state is State.ROLLED_BACK, state
        values["crash back"].append((await _since(on, State.ROLLING_BACK) - killed[0]).total_seconds())
        values["crash lost"].append(len(_lost(on)))


async def _restarting(folder: Path, url: str, values: dict[str, list[float]]) -> None:
    async def restart(on: Stage) -> None:
        on.haproxy.stop()  # kill -9
        await asyncio.to_thread(on.haproxy.start)

    async with stage(folder, url) as on:
        state = await _driven(on, replace(PLAN, shares=(2500, WHOLE)), restart)
        assert state is State.SUCCEEDED, state
        values["restart lost"].append(len(_lost(on)))


async def _by_hand(folder: Path, url: str, values: dict[str, list[float]]) -> None:
    changed: list[datetime] = []

    async def set_share(on: Stage) -> None:
        changed.append(CLOCK.now())
        on.haproxy.map_file.write_text("tiny 100\n")
        await AdminSocket(on.haproxy.socket).ask(f"set map {on.haproxy.map_file} tiny 100")

    async with stage(folder, url) as on:
        state = await _driven(on, replace(PLAN, shares=(2500, WHOLE)), set_share)
        assert state is State.TAKEN_OVER, state
        assert "tiny 100" in on.haproxy.map_file.read_text()
        values["by hand"].append((await _since(on, State.TAKEN_OVER) - changed[0]).total_seconds())
        values["lost"].append(len(_lost(on)))


async def _slower(folder: Path, url: str, values: dict[str, list[float]], shares: tuple[int, ...]) -> list[list[float]]:
    async with stage(folder, url) as on:
        await asyncio.to_thread(on.green.behave, prefill_seconds=SLOW_SECONDS)
        state = await _driven(on, replace(PLAN, shares=shares))
        assert state is State.ROLLED_BACK, state
        assert on.began is not None
        notes, bad = await on.notes(), on.bad()
        # A busy machine makes requests to the stable version wait too: only what came once the share was set counts.
        shifted = (await _since(on, State.SHIFTING) - on.began).total_seconds()
        bad = [r for r in bad if r.due_seconds >= shifted]
        first = min(r.due_seconds for r in bad)
        seen = next(n.at for n in notes if n.event == Event.VIOLATION)
        zero = next(n.at for n in notes if n.event == Event.SHARE_IS_ZERO)
        name = f"{shares[0] / 100:g}"
        values[f"detected {name}"].append((seen - on.began).total_seconds() - first)
        values[f"zero {name}"].append((zero - seen).total_seconds())
        values[f"bad {name}"].append(len(bad))
        values["lost"].append(len(_lost(on)))
        marks = [first, (seen - on.began).total_seconds(), (zero - on.began).total_seconds()]
        return [marks, *([r.due_seconds, r.ttft_seconds or 0.0] for r in on.run.records)]


def drawn(points: list[list[float]]) -> str:
    """This will draw users' waits for the first token over time, with the moments that matter."""
    (first, seen, zero), waits = points[0], points[1:]
    begin, end = first - 10, zero + 10
    across = lambda t: 50 + 640 * (t - begin) / (end - begin)  # noqa: E731
    down = lambda s: 210 - 180 * min(s, 2.0) / 2.0  # noqa: E731
    dots = "".join(
        f'<circle cx="{across(t):.1f}" cy="{down(s):.1f}" r="1.6" fill="{"#c33" if s > 0.5 else "#369"}"/>'
        for t, s in waits
        if begin <= t <= end
    )
    lines = "".join(
        f'<line x1="{across(t):.1f}" x2="{across(t):.1f}" y1="24" y2="210" stroke="#888" stroke-dasharray="3 3"/>'
        f'<text x="{across(t) + 3:.1f}" y="{y}" font-size="11" fill="#444">{word}</text>'
        for t, y, word in ((first, 22, "first bad request"), (seen, 34, "noticed"), (zero, 46, "share is zero"))
    )
    labels = "".join(
        f'<text x="44" y="{down(s) + 4:.0f}" font-size="11" text-anchor="end" fill="#444">{s:g} s</text>'
        for s in (0, 0.5, 1, 1.5, 2)
    )
    seconds = "".join(
        f'<text x="{across(first + t):.0f}" y="226" font-size="11" text-anchor="middle" fill="#444">{t} s</text>'
        for t in range(0, int(end - first) + 1, 5)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 240" font-family="sans-serif">'
        '<rect width="720" height="240" fill="#fff"/>'
        f"{lines}{dots}{labels}{seconds}</svg>\n"
    )


def measure(*, quick: bool) -> Result:
    """This will promote a good candidate, and roll back slow ones, several times."""
    assert PROGRAM is not None, "this needs HAProxy: apt install haproxy"
    runs = 1 if quick else 3
    values: dict[str, list[float]] = defaultdict(list)
    with running_postgres() as server:

        def on_a_new_one(work: object, *arguments: object) -> object:
            url = server.migrated()
            with tempfile.TemporaryDirectory() as folder:
                return asyncio.run(work(Path(folder), url, values, *arguments))  # type: ignore[operator]

        for _ in range(runs):
            on_a_new_one(_good)
            on_a_new_one(_slower, (500, 2500, 5000, WHOLE))
            points = on_a_new_one(_slower, (2500, 5000, WHOLE))
            on_a_new_one(_crashing)
            on_a_new_one(_restarting)
            on_a_new_one(_by_hand)
    if not quick:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(drawn(json.loads(json.dumps(points))), encoding="utf-8")
    return Result(
        name="rollout_haproxy",
        title="Rollouts on HAProxy, with users who stream",
        explanation=(
            f"HAProxy before two servers that stream as vLLM does, {RATE:.0f} requests a second of {OUTPUT_TOKENS} "
            "tokens each (Poisson), every token counted by its user. A good candidate goes 5 → 25 → 50 → 100 %; one "
            f"that is {SLOW_SECONDS} s slower to its first token (0.5 s are allowed, for 95 % of requests) is rolled "
            "back. Noticed: from when the first bad request was due until the verdict, so a part of it is the wait "
            "itself, and the time in which enough bad requests come: two a second at 5 %, ten at 25 %. Steps last 10 s "
            "at least here, minutes by default. One whose server is killed at 25 % is rolled back when gone for ten "
            "seconds; HAProxy sends its users to the stable version until then. HAProxy itself is killed and "
            "started again in the first step, and the rollout is promoted; a share that is set by hand stops the "
            "rollout, and stays. The driver is killed in every state by a test "
            "(`tests/integration/rollouts/test_on_haproxy.py`)."
        ),
        figures=[
            Figure(name="a good candidate promoted after", unit="s", values=values["promoted"]),
            Figure(name="requests of users meanwhile", unit="", values=values["requests"]),
            Figure(name="slower at 5 %: noticed after", unit="s", values=values["detected 5"]),
            Figure(name="slower at 5 %: share zero, after it was noticed", unit="s", values=values["zero 5"]),
            Figure(name="slower at 5 %: bad requests", unit="", values=values["bad 5"]),
            Figure(name="slower at 25 %: noticed after", unit="s", values=values["detected 25"]),
            Figure(name="slower at 25 %: share zero, after it was noticed", unit="s", values=values["zero 25"]),
            Figure(name="slower at 25 %: bad requests", unit="", values=values["bad 25"]),
            Figure(name="killed at 25 %: on the way back after", unit="s", values=values["crash back"]),
            Figure(name="killed at 25 %: requests that failed", unit="", values=values["crash lost"]),
            Figure(name="HAProxy killed: requests that it cut or refused", unit="", values=values["restart lost"]),
            Figure(name="share set by hand: stopped after", unit="s", values=values["by hand"]),
            Figure(name="streams cut or tokens lost, where nothing was killed", unit="", values=values["lost"]),
        ],
        notes=["docs/rollouts.md shows one of them: users' waits for their first token."],
    )
