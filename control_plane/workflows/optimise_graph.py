"""The graph of a workflow, and nothing else: which step follows which. Loaded with the first workflow that is driven.

collect → analyse → find → predict → rank → approve → execute → watch ⟲ → record. The state holds ids and small words;
what is true stands in the tables. A step that was begun and not finished is begun again from its first line, so each
stores what it did once, under its own name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, TimeoutPolicy, interrupt

GRAPH_VERSION = 1
STEP_SECONDS = 90.0
MOST_STEPS = 60  # a run between two waits; a loop would be a fault of ours


class Work(Protocol):
    """What the steps do. Each may be done again with the same arguments."""

    async def collect(self, asked: dict[str, Any]) -> dict[str, Any]:
        """This will say what there is in scope."""
        ...

    async def analyse(self, asked: dict[str, Any]) -> dict[str, Any]:
        """This will say what binds."""
        ...

    async def find(self, asked: dict[str, Any]) -> list[int]:
        """This will ask the policies, keep what they recommend, and give the ids."""
        ...

    async def predict(self, found: list[int]) -> dict[str, Any]:
        """This will say what each would bring."""
        ...

    async def rank(self, found: list[int]) -> list[int]:
        """This will order them, the one to take first at the front; those that rails refuse are left out."""
        ...

    async def execute(self, recommendation_id: int) -> dict[str, Any]:
        """This will carry one out, or say what would be done."""
        ...

    async def watch(self, recommendation_id: int, number: int) -> dict[str, Any]:
        """This will look at what came of it; `over` says whether enough was seen."""
        ...

    async def record(self, recommendation_id: int, verdict: str) -> dict[str, Any]:
        """This will write down what was promised and what came."""
        ...


@dataclass(frozen=True)
class Drive:
    """What a run is given; it is not stored."""

    work: Work
    note: Callable[[str, dict[str, Any]], Awaitable[bool]]
    about: Callable[[int], Awaitable[None]]


class State(TypedDict, total=False):
    """What is stored between steps."""

    asked: dict[str, Any]
    found: list[int]
    chosen: int | None
    looks: int
    verdict: str
    because: str


async def collect(state: State, runtime: Runtime[Drive]) -> State:
    """This will look at what there is."""
    await runtime.context.note("collect", await runtime.context.work.collect(state["asked"]))
    return {}


async def analyse(state: State, runtime: Runtime[Drive]) -> State:
    """This will look at what binds."""
    await runtime.context.note("analyse", await runtime.context.work.analyse(state["asked"]))
    return {}


async def find(state: State, runtime: Runtime[Drive]) -> State:
    """This will ask the policies."""
    given = state["asked"].get("recommendation_id")
    found = [given] if given is not None else await runtime.context.work.find(state["asked"])
    await runtime.context.note("find", {"recommendation_ids": found})
    return {"found": found}


async def predict(state: State, runtime: Runtime[Drive]) -> State:
    """This will note what is promised, before anything is done."""
    await runtime.context.note("predict", await runtime.context.work.predict(state["found"]))
    return {}


async def rank(state: State, runtime: Runtime[Drive]) -> State:
    """This will choose."""
    ranked = await runtime.context.work.rank(state["found"])
    await runtime.context.note("rank", {"recommendation_ids": ranked, "refused": sorted({*state["found"]} - {*ranked})})
    if not ranked:
        why = "rails refuse what was asked for" if state["found"] else "nothing is recommended"
        return {"chosen": None, "verdict": "done", "because": why}
    await runtime.context.about(ranked[0])
    return {"chosen": ranked[0]}


async def approve(state: State, runtime: Runtime[Drive]) -> State:
    """This will wait for a person, unless one has agreed before."""
    answer = state["asked"].get("approved") or interrupt({"kind": "approval", "recommendation_id": state["chosen"]})
    await runtime.context.note("approve", {name: answer.get(name) for name in ("approved", "by", "reason")})
    if answer.get("approved"):
        return {"looks": 0}
    verdict = "cancelled" if answer.get("cancel") else "rejected"
    return {"verdict": verdict, "because": f"{verdict} by {answer.get('by')}"}


async def execute(state: State, runtime: Runtime[Drive]) -> State:
    """This will carry it out, or say what would be done."""
    assert state["chosen"] is not None
    await runtime.context.note("execute", await runtime.context.work.execute(state["chosen"]))
    return {}


def wait(state: State) -> State:
    """This will let the run end until it is due again; no task sleeps."""
    answer = interrupt({"kind": "wait", "seconds": state["asked"].get("watch_seconds", 60.0), "look": state["looks"]})
    if isinstance(answer, dict) and answer.get("cancel"):
        return {"verdict": "cancelled", "because": f"cancelled by {answer.get('by')}"}
    return {}


async def watch(state: State, runtime: Runtime[Drive]) -> State:
    """This will look at what came of it."""
    assert state["chosen"] is not None
    number = state["looks"] + 1
    seen = await runtime.context.work.watch(state["chosen"], number)
    await runtime.context.note(f"watch {number}", seen)
    over = bool(seen.get("over")) or number >= int(state["asked"].get("watch_looks", 3))
    return {"looks": number, **({"verdict": "done", "because": str(seen.get("because", "watched"))} if over else {})}


async def record(state: State, runtime: Runtime[Drive]) -> State:
    """This will write down what was promised and what came."""
    assert state["chosen"] is not None
    await runtime.context.note("record", await runtime.context.work.record(state["chosen"], state["verdict"]))
    return {}


def _after_rank(state: State) -> str:
    return "approve" if state.get("chosen") is not None else END


def _after_approve(state: State) -> str:
    return END if state.get("verdict") else "execute"


def _after_wait(state: State) -> str:
    return "record" if state.get("verdict") else "watch"


def _after_watch(state: State) -> str:
    return "record" if state.get("verdict") else "wait"


def build() -> StateGraph[State, Drive, State, State]:
    """This will give the graph, without where it is stored."""
    graph: StateGraph[State, Drive, State, State] = StateGraph(State, context_schema=Drive)
    retry = RetryPolicy(max_attempts=2, initial_interval=0.2, retry_on=(OSError, TimeoutError))
    limit = TimeoutPolicy(run_timeout=STEP_SECONDS)
    for step in (collect, analyse, find, predict, rank, execute, watch, record):
        graph.add_node(step.__name__, step, retry_policy=retry, timeout=limit)
    graph.add_node("approve", approve)
    graph.add_node("wait", wait)
    for before, after in (
        (START, "collect"), ("collect", "analyse"), ("analyse", "find"), ("find", "predict"), ("predict", "rank"),
        ("execute", "wait"), ("record", END),
    ):  # fmt: skip
        graph.add_edge(before, after)
    graph.add_conditional_edges("rank", _after_rank, ["approve", END])
    graph.add_conditional_edges("approve", _after_approve, ["execute", END])
    graph.add_conditional_edges("wait", _after_wait, ["record", "watch"])
    graph.add_conditional_edges("watch", _after_watch, ["record", "wait"])
    return graph
