"""How a node is to be watched, as somebody put it, and what its agent made of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum

# What holds for every node; a node's own revisions count on from it.
FLEET_REVISION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfiguration:
    """All that is configured. `None`, and no target, mean: as the host's own settings say."""

    sampling_interval_seconds: float | None = None
    scrape_targets: tuple[str, ...] = ()  # beside those of the host's own settings
    gpu_monitoring_enabled: bool | None = None
    discover_engines: bool | None = None

    def said(self) -> Mapping[str, object]:
        """This will give what is configured, and nothing of the rest, as JSON has it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value not in (None, ())
        }

    def over(self, fleet: NodeConfiguration) -> NodeConfiguration:
        """This will give what a node is asked for: its own word where there is one, else the fleet's."""
        if self.sampling_interval_seconds is not None:
            return self
        return replace(self, sampling_interval_seconds=fleet.sampling_interval_seconds)


class ConfigurationStatus(StrEnum):
    """How far a node's configuration has come."""

    DEFAULT = "default"  # nothing was configured for this node
    PENDING = "pending"  # its agent has not answered yet
    APPLIED = "applied"
    REFUSED = "refused"  # by its host; what held before still holds


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationAnswer:
    """What an agent said to a revision, and what holds on its node since."""

    revision: int
    is_applied: bool
    detail: str  # why not
    in_force_revision: int | None  # None: the host's own settings alone
    in_force: NodeConfiguration | None  # None: nothing, or a revision that is not known here


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConfiguration:
    """What is stored of one node's configuration."""

    node_id: int
    revision: int
    desired: NodeConfiguration
    changed_at: datetime
    answer: ConfigurationAnswer | None = None  # the newest; it may be to an older revision
    answered_at: datetime | None = None

    @property
    def status(self) -> ConfigurationStatus:
        """This will say how far the newest revision has come."""
        if self.answer is None or self.answer.revision != self.revision:
            return ConfigurationStatus.PENDING
        return ConfigurationStatus.APPLIED if self.answer.is_applied else ConfigurationStatus.REFUSED
