"""What samples are about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from control_plane.model.labels import Labels


class EntityKind(IntEnum):
    """What a sample can be about. The numbers are those of telemetry.proto's EntityKind."""

    NODE = 1
    GPU = 2
    DISK = 3
    FILESYSTEM = 4
    NETWORK_INTERFACE = 5
    INFERENCE_SERVER = 6
    GPU_INSTANCE = 7
    INFINIBAND_PORT = 8
    CACHE_SERVER = 9
    GPU_PROCESS = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedEntity:
    """One thing on one node, as its agent describes it; the description is untrusted."""

    node_id: int
    kind: EntityKind
    key: str
    attributes: Mapping[str, object]
    is_old: bool = False  # told from a backlog: it fills what is not known, and changes nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One thing on one node, as it is stored."""

    entity_id: int
    node_id: int
    node_name: str
    kind: EntityKind
    key: str
    attributes: Mapping[str, object]
    first_seen_at: datetime
    last_seen_at: datetime
    state_since: datetime  # when the attribute "state" last changed
    node_labels: Labels = ()
