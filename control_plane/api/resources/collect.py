"""Asking agents for a sample now, and the control plane's own figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import Field

from control_plane import __version__
from control_plane.api import scope
from control_plane.api.answers import answer
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Name, Parameters
from control_plane.storage import nodes

router = APIRouter(tags=["inference metrics"])

GAUGES = ("streams", "pending_bytes", "streams_held_back")
HELP = {
    "streams": "Agents connected to this replica.",
    "streams_failed": "Streams that ended by a mistake of the control plane.",
    "batches_committed": "Batches stored.",
    "rows_committed": "Rows stored.",
    "batches_duplicate": "Batches that were stored before.",
    "batches_refused": "Batches that could not be stored.",
    "values_impossible": "Values outside their range, stored as unknown.",
    "ticks_lost": "Ticks that agents reported lost.",
    "stamps_corrected": "Ticks of nodes whose wall clock was wrong, stamped by ours.",
    "commits": "Transactions committed.",
    "commit_seconds": "Time spent committing.",
    "commit_failures": "Transactions that failed and were tried again.",
    "pending_bytes": "Batches received and not yet committed.",
    "times_held_back": "Times that a stream was not read because too much of it, or of all, waited to be committed.",
    "nodes_held_back": "Nodes of which a stream was ever held back.",
    "streams_held_back": "Streams that are held back now.",
    "held_back_seconds": "Time for which streams were held back, of all of them together.",
}


class CollectQuestion(Parameters):
    """Which nodes, and how long to wait for them."""

    node: list[Name] = Field(default_factory=list, max_length=1000, description="node name or id; default: all")
    timeout_seconds: float = Field(10.0, ge=0.1, le=60, description="how long to wait for the samples")


@router.post(
    "/metrics/collect",
    **operation("metrics_collect", "Take a sample now", scope="operate", errors=(404, 422, 503)),
)
async def collect(asked: Annotated[CollectQuestion, Query()], context: Context) -> Response:
    """Answers when the samples are committed, or says of each node why its sample did not come."""
    wanted = await scope.find_nodes(context, asked.node)
    if not wanted:
        live = context.ingest.connected_nodes()
        wanted = [n for n in await nodes.find(context.database.engine, limit=100_000) if n.node_id in live]
    came = await context.ingest.collect_now([n.node_id for n in wanted], asked.timeout_seconds)
    items = [{"node": n.name, "node_id": n.node_id, "outcome": came[n.node_id]} for n in wanted]
    return answer({"items": items, "committed": sum(item["outcome"] == "committed" for item in items)})


class _Figures(Collector):
    """Ingest's counters as Prometheus families, read when they are asked for."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def collect(self) -> Iterable[Metric]:
        """This will give every family with its value now."""
        info = GaugeMetricFamily("optiinfra_build_info", "The running release.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        uptime = (self._context.clock.now() - self._context.started_at).total_seconds()
        yield GaugeMetricFamily("optiinfra_uptime_seconds", "Time since the process started.", value=uptime)
        for name, value in self._context.ingest.figures().items():
            family = GaugeMetricFamily if name in GAUGES else CounterMetricFamily
            yield family(f"optiinfra_ingest_{name}", HELP.get(name, name), value=value)


@router.get(
    "/metrics",
    **operation(
        "metrics_exposition",
        "The control plane's own metrics, for Prometheus",
        scope="read",
        answer={"type": "string"},
        media_type="text/plain",
        errors=(422,),
    ),
)
async def exposition(_: Annotated[Parameters, Query()], context: Context) -> Response:
    """Ingest's counters and gauges."""
    registry = CollectorRegistry()
    registry.register(_Figures(context))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
