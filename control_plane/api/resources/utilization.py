"""Which resources are used too little or too much: GPUs, servers, models, and the hosts' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from control_plane.analysis.findings import hosts, serving, verdicts
from control_plane.analysis.findings.verdicts import Judgement, Verdict
from control_plane.api import scope, uses
from control_plane.api.answers import page
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Moment, Name, OfUse, Parameters, decode_cursor
from control_plane.api.resources.cost import shown
from control_plane.api.resources.waste import CONFIDENCE, EVIDENCE, NAMES, picked
from control_plane.api.schemas import MAYBE_TEXT, TEXT, UNKNOWN
from control_plane.model.finding import Finding
from control_plane.storage import findings

router = APIRouter(tags=["analysis"])

Resource = Literal["gpu", "server", "model", "host"]
GPU_FIGURES = (
    "busy_ratio", "gpu_utilization_ratio", "graphics_active_ratio", "sm_active_ratio", "tensor_active_ratio",
    "dram_active_ratio", "roofline_ratio", "power_draw_watts", "memory_used_bytes", "power_capped_ratio",
    "slowed_ratio", "observed_ratio", "activity", "activity_shares", "signal", "classes", "confidence", "evidence",
)  # fmt: skip
SERVING_FIGURES = (
    "server_id", "url", "node", "engine", "model", "servers", "gpus", "gpu_model", "requests_per_second",
    "output_tokens_per_second", "requests_running", "requests_waiting", "kv_cache_usage_ratio", "ttft_seconds_mean",
    "inter_token_seconds_mean", "gpu_busy_ratio", "mfu_ratio", "mbu_ratio", "attainable_output_tokens_per_second",
    "attained_ratio", "evidence",
)  # fmt: skip


class UtilizationQuestion(BaseModel):
    """A scope and a window. What is left out means all, and the last day."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Moment | None = Field(None, description="RFC 3339 time, or a duration back from now such as 24h")
    until: Moment | None = Field(None, description="the same; default: now")
    node: list[Name] = Field(default_factory=list, max_length=100)
    gpu: list[Name] = Field(default_factory=list, max_length=100)
    server: list[Name] = Field(default_factory=list, max_length=100)
    model: list[Name] = Field(default_factory=list, max_length=100)
    resource: list[Resource] = Field(default_factory=list, max_length=4, description="default: all")
    verdict: list[Verdict] = Field(default_factory=list, max_length=4, description="only these; default: all")
    limit: int = Field(1000, ge=1, le=10_000)
    cursor: str | None = Field(None, max_length=512)

    def of_use(self) -> OfUse:
        """This will ask the same of use."""
        return OfUse(
            since=self.since, until=self.until, node=self.node, gpu=self.gpu, server=self.server, model=self.model,
            limit=10_000, by="gpu",
        )  # fmt: skip


ITEM = {
    "type": "object",
    "properties": {
        "resource": {"enum": ["gpu", "server", "model", "cpu", "memory", "disk", "network"]},
        "verdict": {"enum": [v.value for v in Verdict]},
        "because": {"type": "array", "items": TEXT},
        **{name: MAYBE_TEXT for name in NAMES if name not in ("index", "fleet", "namespace", "gpu_model")},
        "confidence": CONFIDENCE, "evidence": EVIDENCE, "unknown": UNKNOWN,
    },
}  # fmt: skip


@router.post(
    "/analysis/utilization",
    **operation(
        "analysis_utilization",
        "Under- and over-used resources in a scope and window",
        scope="read",
        rate="heavy",
        errors=(404, 422, 503),
        answer=listed(ITEM, **uses.WINDOW_SCHEMA),
    ),
)
async def analysis_utilization(
    parameters: Annotated[Parameters, Query()],
    context: Context,
    asked: Annotated[UtilizationQuestion, Body(default_factory=UtilizationQuestion)],
) -> Response:
    """Each item names one resource, its verdict and the figures that this stands on; the rest is how it was used.

    Servers, models and hosts are judged over the windows that are kept ready: 1h, 24h (default), 7d, 30d.
    """
    del parameters
    question = asked.of_use()
    wanted = asked.resource or ["gpu", "server", "model", "host"]
    found = await uses.answer(context, question, by="gpu", limit=10_000)
    items = []
    if "gpu" in wanted:
        items += [_gpu(each.body) for each in found.found]
    for kind in ("server", "model"):
        if kind in wanted and not asked.gpu:
            items += [_served(each.body, kind) for each in await _serving(context, question, kind)]
    if "host" in wanted and not (asked.gpu or asked.server or asked.model):
        items += [item for each in await _hosts(context, question) for item in _host(each.body)]
    items = [item for item in items if not asked.verdict or item["verdict"] in asked.verdict]
    begin = decode_cursor(asked.cursor, "after")
    return page(
        items[begin : begin + asked.limit], more=len(items) > begin + asked.limit, last_id=begin + asked.limit,
        **found.around(),
    )  # fmt: skip


def _judged(resource: str, judged: Judgement) -> dict[str, Any]:
    return {"resource": resource, "verdict": judged.verdict, "because": list(judged.because)}


def _gpu(body: Mapping[str, Any]) -> dict[str, Any]:
    return _judged("gpu", verdicts.of_gpu(body)) | picked(body, GPU_FIGURES)


def _served(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return _judged(kind, verdicts.of_server(body)) | shown(body, SERVING_FIGURES)


def _host(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {**resource, "node": body["node"], "evidence": {**body["evidence"], "numbers": body["evidence"]["numbers"]}}
        for resource in body["resources"]
    ]


async def _serving(context: ApiContext, question: OfUse, kind: str) -> Sequence[Finding]:
    length = uses.kept_window(question)
    if length is None:
        return []
    ids = await scope.server_ids(context, question.server)
    subjects = question.model or None if kind == "model" else None if ids is None else [str(i) for i in ids]
    found = await findings.read(
        context.database.engine, serving.KIND, length // timedelta(seconds=1), kind,
        node_ids=await scope.node_ids(context, question.node) if kind == "server" else None,
        subjects=subjects, limit=10_000,
    )  # fmt: skip
    if kind == "server" and question.model:
        found = [each for each in found if each.body["model"] in question.model]
    return [] if kind == "model" and (question.node or question.server) else found


async def _hosts(context: ApiContext, question: OfUse) -> Sequence[Finding]:
    length = uses.kept_window(question)
    if length is None:
        return []
    return await findings.read(
        context.database.engine, hosts.KIND, length // timedelta(seconds=1), "node",
        node_ids=await scope.node_ids(context, question.node), limit=10_000,
    )  # fmt: skip
