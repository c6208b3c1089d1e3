"""One look at one inference server: its metrics, and now and then its configuration."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from functools import partial

from node_agent.clock import Clock
from node_agent.collectors.engine_aside import Aside
from node_agent.collectors.engines.lmcache import LMCACHE
from node_agent.collectors.engines.mapping import Configuration, Engine, Reading, read_values
from node_agent.collectors.engines.registry import ENGINES, WANTED, has_cache_inside, identify
from node_agent.collectors.exposition import Exposition, read
from node_agent.host import http
from node_agent.model import Reason
from node_agent.untrusted import read_json

_CONFIG_BYTES = 1024 * 1024  # SGLang's /server_info, the largest answer, has about 20 KB
_INLINE_BYTES = 256 * 1024  # more than this is parsed beside the event loop; most real bodies have 0.05 MB


class State(Enum):
    """How a server answered."""

    UP = "up"
    HUNG = "hung"  # answers, but its running requests get nowhere
    UNHEALTHY = "unhealthy"  # answers, but its /health is 503: it starts, drains, or its worker has died
    GONE = "gone"  # nothing listens at its address
    UNREACHABLE = "unreachable"  # no answer in time, or no way there
    ERROR = "error"  # an answer that is of no use
    NOT_WATCHED = "not_watched"  # it was taken out of the configuration; nobody looks any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """What came of one look."""

    state: State
    detail: str = ""
    missing: Reason = Reason.ERROR  # why the values are unknown, unless the server is up
    engine: Engine | None = None
    reading: Reading | None = None
    exposition: Exposition | None = None
    inner_cache: Reading | None = None  # of an LMCache inside of the server
    seconds: float | None = None


async def scrape(base_url: str, *, clock: Clock, aside: Aside, timeout_seconds: float, max_bytes: int) -> Scrape:
    """This will fetch and read /metrics; whatever goes wrong becomes a state.

    It takes `timeout_seconds` to fetch, and a third of it to read.
    """
    began = clock.now().monotonic_seconds
    try:
        answer = await http.get(f"{base_url}/metrics", timeout_seconds=timeout_seconds, max_bytes=max_bytes)
    except http.ServerGone as error:
        return Scrape(state=State.GONE, detail=str(error), missing=Reason.SERVER_GONE)
    except http.TimedOut as error:
        return Scrape(state=State.UNREACHABLE, detail=str(error), missing=Reason.TIMED_OUT)
    except http.Unreachable as error:
        return Scrape(state=State.UNREACHABLE, detail=str(error))
    except http.HttpError as error:
        return Scrape(state=State.ERROR, detail=str(error))
    seconds = max(clock.now().monotonic_seconds - began, 0.0)
    if answer.status != 200:
        return Scrape(state=State.ERROR, detail=_status_detail(answer.status))
    if len(answer.body) <= _INLINE_BYTES:
        return _read(answer.body, seconds)
    try:
        return await aside.run(partial(_read, seconds=seconds), answer.body, timeout_seconds=timeout_seconds / 3)
    except TimeoutError:
        return Scrape(state=State.ERROR, detail=_too_long_detail(len(answer.body)), missing=Reason.TIMED_OUT)


async def health_status(engine: Engine, base_url: str, *, timeout_seconds: float) -> int | None:
    """This will ask for the engine's own opinion as an HTTP status, None without an answer in time."""
    if engine.health_path is None:
        return None
    url = f"{base_url}{engine.health_path}"
    try:
        return (await http.get(url, timeout_seconds=timeout_seconds, max_bytes=_CONFIG_BYTES)).status
    except http.HttpError:
        return None


async def read_configuration(
    engine: Engine, base_url: str, exposition: Exposition, *, timeout_seconds: float
) -> Configuration:
    """This will ask the engine's allow-listed paths; one that does not answer leaves its part unknown."""
    answers: dict[str, object] = {}

    async def ask(paths: tuple[str, ...]) -> None:
        for path in paths:
            answer = await _get_json(f"{base_url}{path}", timeout_seconds=timeout_seconds / len(paths))
            if answer is not None:
                answers[path] = answer
                return

    async with asyncio.TaskGroup() as group:
        for paths in engine.config_paths:
            group.create_task(ask(paths))
    return engine.configuration(answers, exposition)


async def _get_json(url: str, *, timeout_seconds: float) -> object:
    """This will fetch a JSON document, None when there is none."""
    try:
        answer = await http.get(url, timeout_seconds=timeout_seconds, max_bytes=_CONFIG_BYTES)
    except http.HttpError:
        return None
    return read_json(answer.body) if answer.status == 200 else None


def _read(body: bytes, seconds: float) -> Scrape:
    """This will read an exposition."""
    name = identify(body)
    if name is None:
        return Scrape(state=State.ERROR, detail="/metrics answered, but without the metrics of an engine that is known")
    engine = ENGINES[name]
    exposition = read(body, WANTED[name])
    inside = read_values(LMCACHE, read(body, WANTED[LMCACHE.name])) if _holds_cache(engine, body) else None
    return Scrape(
        state=State.UP,
        detail=_reading_detail(exposition),
        engine=engine,
        reading=read_values(engine, exposition),
        exposition=exposition,
        inner_cache=inside,
        seconds=seconds,
    )


def _holds_cache(engine: Engine, body: bytes) -> bool:
    """This will say whether an inference server's answer is also that of a cache inside of it."""
    return engine is not LMCACHE and has_cache_inside(body)


def _too_long_detail(size: int) -> str:
    """This will say that reading a page took too long."""
    return f"/metrics answered {size / 1e6:.1f} MB, which could not be read in time"


def _status_detail(status: int) -> str:
    """This will say what an HTTP status means here."""
    hint = " (SGLang needs --enable-metrics)" if status == 404 else ""
    return f"/metrics answered HTTP {status}{hint}"


def _reading_detail(exposition: Exposition) -> str:
    """This will say what of an exposition was not read."""
    parts = []
    if exposition.malformed_lines:
        parts.append(f"{exposition.malformed_lines} lines of /metrics could not be read")
    if exposition.dropped_samples:
        parts.append(f"{exposition.dropped_samples} samples of metrics with too many were left out")
    return "; ".join(parts)
