"""The inference servers of this machine: what they say, and whether they still say anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from node_agent.clock import Clock, Instant
from node_agent.collectors.engine_aside import Aside
from node_agent.collectors.engine_samples import entities_of, samples_of
from node_agent.collectors.engine_scrape import Scrape, State, health_status, read_configuration, scrape
from node_agent.collectors.engine_watch import Watched
from node_agent.collectors.engines import progress
from node_agent.collectors.engines.mapping import Configuration, Engine
from node_agent.collectors.engines.registry import identify
from node_agent.collectors.engines.sglang import IN_STEP
from node_agent.collectors.server_cgroup import server_cgroup, unread
from node_agent.discovery import CONFIGURED, Discovery
from node_agent.host.cgroup_tree import CgroupTree
from node_agent.model import Collected, Outcome, Reason

_log = logging.getLogger(__name__)

MAX_SERVERS = 64  # a machine of eight GPUs runs eight small engines at most; remote ones may be configured
_NAMED_IN_DETAIL = 3  # failing servers; the others are on their own pages
_NOT_WATCHED = Scrape(state=State.NOT_WATCHED, detail="it was taken out of the node's configuration")
_NO_SERVERS = "no inference server is configured or listening on this host"


class EngineCollector:
    """Scrapes every known inference server at once, each within its own time limit.

    A run takes at most two times `timeout_seconds`: a third to look whether a new socket is an engine's, the
    whole to fetch and a third to read, and a third to ask for its health and once a minute for its
    configuration. It asks for nothing that makes an engine work: what watches a server must not load it.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        targets: Sequence[str] = (),
        discover: bool = True,
        proc_root: str = "/proc",
        groups: CgroupTree | None = None,
        scan_interval_seconds: float = 10.0,
        timeout_seconds: float = 2.0,
        max_bytes: int = 16 * 1024 * 1024,
        forget_after_seconds: float = 600.0,
        config_interval_seconds: float = 60.0,
    ) -> None:
        """This will open nothing. `targets` are base addresses such as http://127.0.0.1:8000.

        `groups` is where the control groups of the servers' processes are looked at; None: nowhere.
        """
        self._clock = clock
        self._groups = groups
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._forget_after_seconds = forget_after_seconds
        self._config_interval_seconds = config_interval_seconds
        self._aside = Aside()
        self._watched: dict[str, Watched] = {}
        self._withdrawn: list[Watched] = []  # to be described once more, so that nobody takes them for up
        self._discovery = Discovery(
            targets=targets,
            identify=identify,
            scan=discover,
            proc_root=proc_root,
            scan_interval_seconds=scan_interval_seconds,
            probe_timeout_seconds=timeout_seconds / 3,
            max_bytes=max_bytes,
        )

    def watch(self, *, pushed: Sequence[str], discover: bool, timeout_seconds: float) -> None:
        """This will watch these servers beside those it was built with, and look for others or not, from now on."""
        self._timeout_seconds = timeout_seconds
        self._discovery.configure(pushed=pushed, scan=discover, probe_timeout_seconds=timeout_seconds / 3)

    @property
    def name(self) -> str:
        """This will give the collector's name, as reports show it."""
        return "engine"

    async def collect(self, now: Instant) -> Collected:
        """This will look at every server that is configured, listens, or did so lately."""
        problems = await self._renew(now)
        looks: dict[str, Scrape] = {}

        async def look(url: str, watched: Watched) -> None:
            looks[url] = await self._look(watched, now)

        async with asyncio.TaskGroup() as group:
            for url, watched in self._watched.items():
                group.create_task(look(url, watched))
        self._forget(looks, now)
        if self._groups is not None:
            await asyncio.to_thread(self._look_at_groups, self._groups, looks)
        return self._collected(looks, problems, now)

    async def close(self) -> None:
        """This will let the threads go; no connection outlives its look."""
        self._aside.close()

    async def _renew(self, now: Instant) -> list[str]:
        """This will bring the watched servers up to date, and say what stood in the way."""
        self._withdrawn = []
        try:
            servers = await self._discovery.servers(now)
        except Exception as error:  # boundary: a failed search must not silence the servers that are known
            _log.warning("looking for inference servers failed: %s", type(error).__name__)
            return [f"looking for inference servers failed ({type(error).__name__})"]
        gone = [url for url, watched in self._watched.items() if not self._discovery.wants(watched.server)]
        self._withdrawn = [self._watched.pop(url) for url in gone]
        for server in servers:
            watched = self._watched.get(server.url)
            if watched is not None:
                watched.server, watched.present_at = server, now.monotonic_seconds
            elif len(self._watched) < MAX_SERVERS:
                self._watched[server.url] = Watched(server=server, present_at=now.monotonic_seconds)
        left_out = sum(server.url not in self._watched for server in servers)
        return [f"{left_out} servers beyond the first {MAX_SERVERS} are not watched"] if left_out else []

    async def _look(self, watched: Watched, now: Instant) -> Scrape:
        """This will scrape one server, and read its configuration when that is due."""
        try:
            found = await scrape(
                watched.server.url,
                clock=self._clock,
                aside=self._aside,
                timeout_seconds=self._timeout_seconds,
                max_bytes=self._max_bytes,
            )
            if found.engine is not None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._follow(watched, found, now))
                    group.create_task(self._ask_health(watched, found.engine))
                return self._judged(watched, found, now)
            watched.progress, watched.health = progress.Progress(), None
        except Exception as error:  # boundary: one strange server must not silence the others
            _log.warning("reading %s failed: %s", watched.server.url, type(error).__name__)
            return Scrape(state=State.ERROR, detail=f"the agent could not read the answer ({type(error).__name__})")
        return found

    async def _follow(self, watched: Watched, found: Scrape, now: Instant) -> None:
        """This will take over what a server that is up says about itself."""
        assert found.engine is not None
        assert found.reading is not None
        assert found.exposition is not None
        declared = found.reading.started_unix_seconds or watched.server.process_started_unix_seconds
        since = watched.epoch.follow(found.reading.values, declared=declared, now_unix_seconds=now.wall.timestamp())
        watched.engine, watched.models = found.engine, found.reading.models
        if since != watched.since or now.monotonic_seconds >= watched.config_due_at:
            if since != watched.since:
                watched.configuration, watched.config_read_at = Configuration(), None  # it was another process's
            watched.since = since
            watched.config_due_at = now.monotonic_seconds + self._config_interval_seconds
            said = await read_configuration(
                found.engine, watched.server.url, found.exposition, timeout_seconds=self._timeout_seconds / 3
            )
            watched.configuration = _refreshed(watched.configuration, said)
            if said.version is not None or said.model is not None:
                watched.config_read_at = now.wall

    async def _ask_health(self, watched: Watched, engine: Engine) -> None:
        """This will ask for the engine's own opinion, where it can be had for nothing."""
        watched.health = await health_status(engine, watched.server.url, timeout_seconds=self._timeout_seconds / 3)

    def _judged(self, watched: Watched, found: Scrape, now: Instant) -> Scrape:
        """This will say whether a server that answers also works."""
        assert found.engine is not None
        assert found.exposition is not None
        assert found.reading is not None
        seen = progress.work(found.engine, found.exposition)
        if watched.configuration.config.get(IN_STEP) is True:
            seen = progress.in_step(seen)
        watched.progress = progress.follow(watched.progress, seen, now)
        if watched.health == 503:
            detail = f"{found.engine.health_path} answered HTTP 503, though /metrics answers"
            return replace(found, state=State.UNHEALTHY, detail=detail)
        if found.reading.values.get("healthy_flag") == 0:
            return replace(found, state=State.UNHEALTHY, detail="the cache says that it is not healthy")
        patience = progress.patience_seconds(watched.longest_request_tokens)
        stuck = progress.hang(watched.progress, now, patience=patience)
        if stuck is None:
            return found
        unaware = f"; {found.engine.health_path} does not object" if watched.health == 200 else ""
        return replace(found, state=State.HUNG, detail=f"{stuck}{unaware}")

    def _look_at_groups(self, groups: CgroupTree, looks: Mapping[str, Scrape]) -> None:
        """A dozen small files for each server that runs here, whether or not it answers."""
        for url, watched in self._watched.items():
            if looks[url].state is State.GONE:
                watched.group = unread(url, Reason.SERVER_GONE)
            elif watched.server.pid is None:  # it runs on another machine, or discovery is off
                watched.group = unread(url, Reason.NOT_COLLECTED)
            else:
                watched.group = server_cgroup(groups, url, watched.server.pid)

    def _forget(self, looks: dict[str, Scrape], now: Instant) -> None:
        """This will drop discovered servers that have not listened for long enough."""
        for url, found in looks.items():
            watched = self._watched[url]
            if found.reading is not None:
                watched.present_at = now.monotonic_seconds
            absent_seconds = now.monotonic_seconds - watched.present_at
            if watched.server.source != CONFIGURED and absent_seconds > self._forget_after_seconds:
                del self._watched[url]

    def _collected(self, looks: dict[str, Scrape], problems: list[str], now: Instant) -> Collected:
        """This will report every look, and sum up those that brought nothing."""
        shown = {url: found for url, found in looks.items() if url in self._watched}
        failing = [f"{url} is {found.state.value} ({found.detail})" for url, found in shown.items() if _failed(found)]
        if failing:
            problems = [*problems, f"{len(failing)} of {len(shown)} servers do not work", *failing[:_NAMED_IN_DETAIL]]
        if not shown and not problems and not self._withdrawn:
            return Collected(outcome=Outcome.ABSENT, detail=_NO_SERVERS)
        return Collected(
            outcome=Outcome.PARTIAL if problems else Outcome.OK,
            detail="; ".join(problems),
            entities=[
                *(e for url, found in shown.items() for e in entities_of(self._watched[url], found)),
                *(e for watched in self._withdrawn for e in entities_of(watched, _NOT_WATCHED)),
            ],
            samples=[s for url, found in shown.items() for s in samples_of(self._watched[url], found)],
        )


def _refreshed(before: Configuration, after: Configuration) -> Configuration:
    """This will give the newer configuration, and from before what one process will not have changed."""
    return Configuration(
        version=after.version or before.version,
        model=after.model or before.model,
        max_model_len=after.max_model_len or before.max_model_len,
        config={**before.config, **after.config},
    )


def _failed(found: Scrape) -> bool:
    """This will say whether a server is not as it should be."""
    return found.state is not State.UP
