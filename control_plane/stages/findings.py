"""What is found out of what was summed up: for each window that is kept ready, one piece of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from control_plane.analysis.findings import correlation, gpu_use, opportunities, serving, timeline
from control_plane.analysis.findings import hosts as host_use
from control_plane.analysis.findings.correlation import CorrelationFacts
from control_plane.analysis.findings.gpu_use import Gpu, UseFacts
from control_plane.analysis.findings.hosts import Host
from control_plane.analysis.findings.opportunities import OpportunityFacts
from control_plane.analysis.findings.serving import Server, ServingFacts
from control_plane.analysis.trends import trends
from control_plane.analysis.trends.demand import demand
from control_plane.analysis.trends.trends import TrendFacts
from control_plane.catalogue.tables import gpu_spec
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.finding import WINDOWS
from control_plane.model.use import Cells
from control_plane.storage import entities, findings, moments, prices, use
from control_plane.storage.session import SyncConnection

# How often each window is looked at again: a hundredth of it, but not more often than a slot ends; an hour at most.
REFRESH: Mapping[timedelta, timedelta] = {
    window: min(max(window / 96, timedelta(minutes=5)), timedelta(hours=1)) for window in WINDOWS
}


# In an hour nothing has a trend.
TRENDS_FROM = timedelta(days=1)


def gpus_of(found: list[Entity]) -> dict[int, Gpu]:
    """This will name GPUs as answers do."""
    return {
        gpu.entity_id: Gpu(
            entity_id=gpu.entity_id, key=gpu.key, node_id=gpu.node_id, node=gpu.node_name,
            index=index if isinstance(index := gpu.attributes.get("index"), int) else None,
            name=str(gpu.attributes["name"]) if gpu.attributes.get("name") else None,
        )
        for gpu in found
    }  # fmt: skip


def servers_of(found: list[Entity]) -> dict[int, Server]:
    """This will name inference servers as answers do."""
    return {
        server.entity_id: Server(
            server_id=server.entity_id, url=server.key, node_id=server.node_id, node=server.node_name,
            engine=_text(server.attributes.get("engine")), model=_text(server.attributes.get("model")),
        )
        for server in found
    }  # fmt: skip


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def load(connection: SyncConnection, *, since_us: int, until_us: int) -> tuple[UseFacts, ServingFacts]:
    """This will give the facts of a window of whole slots."""
    since, until = moments.to_datetime(since_us), moments.to_datetime(until_us)
    hours_until_us = until_us // use.HOUR_US * use.HOUR_US
    parts = use.parts(since_us, until_us, hours_until_us=hours_until_us)
    servers = servers_of(entities.every(connection, EntityKind.INFERENCE_SERVER))
    gpus, owners, held = (
        gpus_of(entities.every(connection, EntityKind.GPU)), use.owners(connection), prices.history(connection)
    )  # fmt: skip
    cells = use.joined(
        [
            use.starting(use.total(connection, "gpu", use.parts(begin, end, hours_until_us=hours_until_us)), begin)
            for begin, end in use.cut(since_us, until_us, held.changes(since, until))
        ]
    )
    used = UseFacts(
        cells=cells, gpus=gpus, owners=owners, prices=held, since=since, until=until,
        servers={server_id: f"{server.url} on {server.node}" for server_id, server in servers.items()},
    )  # fmt: skip
    served = ServingFacts(
        server_cells=use.total(connection, "server", parts), gpu_cells=cells, servers=servers, gpus=gpus,
        specs={gpu.name: gpu_spec(gpu.name) for gpu in gpus.values() if gpu.name}, owners=owners, prices=held,
        since=since, until=until,
    )  # fmt: skip
    return used, served


def find_out(
    connection: SyncConnection, window: timedelta, *, until_us: int, now: datetime, hosts: Sequence[Host] | None
) -> None:
    """This will judge a window that ends at `until_us` and keep what was found, inside the caller's transaction.

    `hosts` is what was read of the hosts; None leaves out what is found of them.
    """
    used, served = load(connection, since_us=until_us - window // timedelta(microseconds=1), until_us=until_us)
    by_server = serving.drafts(served)
    everything = [(gpu_use.KIND, gpu_use.drafts(used)), (serving.KIND, by_server)]
    if hosts is not None:
        everything.append((host_use.KIND, host_use.drafts(hosts, since=used.since, until=used.until)))
    if window >= TRENDS_FROM:
        by_time = trends_of(connection, window, until_us=until_us)
        everything.append((trends.KIND, trends.drafts(by_time.facts)))
        everything.append((correlation.KIND, correlation.drafts(by_time.correlation(), by_server)))
        everything.append((opportunities.KIND, opportunities.drafts(by_time.opportunities(used), by_server)))
        everything.append((timeline.KIND, [timeline.draft(by_time.facts)]))
    for kind, found in everything:
        findings.replace(
            connection, kind, window // timedelta(seconds=1), found, since=used.since, until=used.until, found_at=now
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ByTime:
    """A window's cells by bins of one width."""

    facts: TrendFacts
    server_cells: Cells
    models: Mapping[int, str | None]

    def correlation(self) -> CorrelationFacts:
        """This will give what correlations are made of."""
        return CorrelationFacts(
            server_cells=self.server_cells, gpu_cells=self.facts.gpu_cells, models=self.models,
            owners=self.facts.owners, starts_us=self.facts.starts_us, bin_seconds=self.facts.bin_seconds,
        )  # fmt: skip

    def opportunities(self, used: UseFacts) -> OpportunityFacts:
        """This will give what opportunities are made of."""
        return OpportunityFacts(
            cells=self.facts.gpu_cells, gpus=self.facts.gpus, owners=self.facts.owners, servers=used.servers,
            book=used.prices.at(self.facts.until), starts_us=self.facts.starts_us, bin_seconds=self.facts.bin_seconds,
            since=self.facts.since, until=self.facts.until,
        )  # fmt: skip


def trends_of(connection: SyncConnection, window: timedelta, *, until_us: int) -> ByTime:
    """This will give a window by hours, a day by slots."""
    level: use.Level = "slot" if window <= timedelta(days=1) else "hour"
    bin_us = use.LENGTHS[level]
    end_us = until_us // bin_us * bin_us
    since_us = end_us - window // timedelta(microseconds=1)
    found = entities.every(connection, EntityKind.INFERENCE_SERVER)
    models = {server_id: server.model for server_id, server in servers_of(found).items()}
    starts = np.arange(since_us, end_us, bin_us, dtype=np.int64)
    served = use.stretch(connection, "server", level, since_us, end_us)
    facts = TrendFacts(
        gpu_cells=use.stretch(connection, "gpu", level, since_us, end_us),
        gpus=gpus_of(entities.every(connection, EntityKind.GPU)),
        owners=use.owners(connection),
        demand=demand(served, models, starts_us=starts),
        starts_us=starts,
        bin_seconds=bin_us / 1e6,
        since=moments.to_datetime(since_us),
        until=moments.to_datetime(end_us),
    )
    return ByTime(facts=facts, server_cells=served, models=models)
