"""How a node is watched: what was asked of it, what its agent made of that, and what holds."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from control_plane.api import etags, scope
from control_plane.api.answers import answer
from control_plane.api.audit_trail import Changed
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Name, Parameters
from control_plane.api.schemas import TEXT, TIME, UNKNOWN
from control_plane.model.configuration import (
    FLEET_REVISION,
    ConfigurationStatus,
    NodeConfiguration,
    StoredConfiguration,
)
from control_plane.model.errors import Conflict, PreconditionFailed
from control_plane.model.node import Node
from control_plane.storage import configurations

router = APIRouter(tags=["nodes"])

# An agent checks, keeps and applies in a moment, or its stream is stuck.
ANSWER_SECONDS = 10.0
# What every agent refuses, whatever its host allows; node_agent/configuration/policy.py has the whole of it.
MOST_TARGETS, LONGEST_TARGET = 32, 256


def _server(value: str) -> str:
    """This will refuse what is no server at all, so that a slip is not found out at the node."""
    try:
        parts = urlsplit(value)
        named, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("write http://host:port or https://host:port") from error
    if "@" in value:
        raise ValueError("a target holds no name or password; /metrics of engines needs none")
    printable = all("!" <= character <= "~" for character in value)
    extra = parts.path.removeprefix("/") or parts.query or parts.fragment or value.endswith(("?", "#"))
    if parts.scheme not in ("http", "https") or not named or port == 0 or extra or not printable:
        raise ValueError("write http://host:port or https://host:port, without a path")
    return value.removesuffix("/")


Target = Annotated[str, Field(max_length=LONGEST_TARGET), AfterValidator(_server)]


class NodeConfig(BaseModel):
    """All that a node is configured to. What is left out, or null, is as the host's own settings say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sampling_interval_seconds: float | None = Field(
        None, ge=0.5, le=300, allow_inf_nan=False, description="seconds between two samples, to the millisecond"
    )
    scrape_targets: list[Target] | None = Field(
        None,
        max_length=MOST_TARGETS,
        description="inference servers beside those of the host's own settings, as http://host:port: on the host "
        "itself, or named in its pushed_targets",
    )
    gpu_monitoring_enabled: bool | None = Field(None, description="false: let go of NVML and look at no GPU")
    discover_engines: bool | None = Field(None, description="false: watch only the servers that are named")

    def meant(self) -> NodeConfiguration:
        """This will give it as it is stored: to the millisecond that can be asked for, each target once."""
        seconds = self.sampling_interval_seconds
        return NodeConfiguration(
            sampling_interval_seconds=None if seconds is None else round(seconds, 3),
            scrape_targets=tuple(dict.fromkeys(self.scrape_targets or ())),
            gpu_monitoring_enabled=self.gpu_monitoring_enabled,
            discover_engines=self.discover_engines,
        )


CONFIGURED = {"type": "object", "description": "what is configured, and nothing of the rest"}
MAYBE_REVISION = {"type": ["integer", "null"]}
ANSWER_SCHEMA = {
    "type": "object",
    "properties": {
        "node_id": {"type": "integer"},
        "node": TEXT,
        "status": {"enum": [status.value for status in ConfigurationStatus]},
        "detail": {"type": "string", "description": "why it is refused, or what is waited for"},
        "revision": {"type": "integer", "description": "of `desired`; 1: only what holds for the whole fleet"},
        "desired": {**CONFIGURED, "description": "what was asked for this node"},
        "fleet": {**CONFIGURED, "description": "what holds for every node that has no word of its own"},
        "in_force": {"type": ["object", "null"], "description": "what its agent has taken over, the fleet's included"},
        "in_force_revision": MAYBE_REVISION,
        "changed_at": TIME,
        "answered_at": TIME,
        "unknown": UNKNOWN,
    },
}


def _detail(context: ApiContext, node: Node, stored: StoredConfiguration) -> str:
    match stored.status:
        case ConfigurationStatus.PENDING if node.node_id in context.ingest.connected_nodes():
            return "it was sent, and the agent has not answered yet"
        case ConfigurationStatus.PENDING:
            return "the node's agent has no stream to this control plane; it is told when it connects"
        case ConfigurationStatus.REFUSED:
            return stored.answer.detail if stored.answer else ""
        case _:
            return ""


def _shown(context: ApiContext, node: Node, stored: StoredConfiguration | None) -> dict[str, Any]:
    head = {"node_id": node.node_id, "node": node.name, "fleet": context.ingest.fleet_configuration().said()}
    if stored is None:
        read = dict.fromkeys(("in_force", "in_force_revision", "changed_at", "answered_at"))
        return head | {
            "status": ConfigurationStatus.DEFAULT,
            "detail": "nothing was configured for this node: its host's own settings hold",
            "revision": FLEET_REVISION,
            "desired": {},
            **read,
            "unknown": dict.fromkeys(read, "never_configured"),
        }
    said = stored.answer
    in_force = None if said is None or said.in_force is None else said.in_force.said()
    read = {"in_force": in_force, "in_force_revision": said.in_force_revision if said else None}
    why = "never_answered" if said is None else "own_settings" if said.in_force_revision is None else "not_known"
    unknown = {name: why for name, value in read.items() if value is None}
    if stored.answered_at is None:
        unknown["answered_at"] = "never_answered"
    return head | {
        "status": stored.status,
        "detail": _detail(context, node, stored),
        "revision": stored.revision,
        "desired": stored.desired.said(),
        **read,
        "changed_at": stored.changed_at,
        "answered_at": stored.answered_at,
        "unknown": unknown,
    }


@router.get(
    "/nodes/{node_id}/config",
    **operation(
        "node_config",
        "How one node is configured",
        scope="read",
        versioned=True,
        errors=(404, 422, 503),
        answer=ANSWER_SCHEMA,
    ),
)
async def get_config(
    node_id: Annotated[Name, Path(description="a node's id or name")],
    _: Annotated[Parameters, Query()],
    context: Context,
) -> Response:
    """`desired` is what was asked, `in_force` what its agent has taken over. A refusal leaves what held before."""
    node = await scope.find_node(context, node_id)
    stored = await configurations.find(context.database.engine, node.node_id)
    return _versioned(answer(_shown(context, node, stored)), stored)


def _revision(stored: StoredConfiguration | None) -> int:
    return FLEET_REVISION if stored is None else stored.revision


def _versioned(shown: Response, stored: StoredConfiguration | None) -> Response:
    shown.headers["ETag"] = etags.tag(_revision(stored))
    return shown


@router.put(
    "/nodes/{node_id}/config",
    **operation(
        "node_configure",
        "Configure one node",
        scope="admin",
        versioned=True,
        errors=(400, 404, 409, 413, 422, 503),
        answer=ANSWER_SCHEMA,
        later="stored; its agent is not connected here, or has not answered yet",
    ),
)
async def put_config(
    node_id: Annotated[Name, Path(description="a node's id or name")],
    _: Annotated[Parameters, Query()],
    asked: NodeConfig,
    request: Request,
    context: Context,
    change: Changed,
) -> Response:
    """Takes the place of all that was configured before; `{}` gives the node back to its host's own settings. Answers
    when the agent has: `applied`, or `refused` with its host's reason. `pending` (202) is told when it connects."""
    node = await scope.find_node(context, node_id)
    if node.replayed:
        raise Conflict(f"node {node.name} is a recording that is played; it takes no configuration")
    engine = context.database.engine
    before = await configurations.find(engine, node.node_id)
    change.was(None if before is None else {"revision": before.revision, "desired": before.desired.said()})
    expected = _revision(before) if etags.require(request, _revision(before)) else None
    if not await configurations.write(engine, node.node_id, asked.meant(), context.clock.now(), expected=expected):
        raise PreconditionFailed("it was changed at this very moment; read it again")
    await context.ingest.configure(node.node_id, ANSWER_SECONDS)
    stored = await configurations.find(engine, node.node_id)
    is_pending = stored is not None and stored.status is ConfigurationStatus.PENDING
    return _versioned(answer(_shown(context, node, stored), status=202 if is_pending else 200), stored)
