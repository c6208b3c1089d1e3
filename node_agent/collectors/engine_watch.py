"""What is remembered of one server between looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from node_agent.collectors.engines import progress
from node_agent.collectors.engines.epoch import CounterEpoch
from node_agent.collectors.engines.mapping import Configuration, Engine
from node_agent.collectors.server_cgroup import ServerGroup
from node_agent.discovery import Server


@dataclass(slots=True)
class Watched:
    """What is remembered of one server between looks."""

    server: Server
    present_at: float  # monotonic seconds, when it last listened or answered
    engine: Engine | None = None
    models: tuple[str, ...] = ()
    epoch: CounterEpoch = field(default_factory=CounterEpoch)
    configuration: Configuration = field(default_factory=Configuration)
    config_read_at: datetime | None = None
    config_due_at: float = 0.0
    since: float | None = None  # the epoch of the counters, and of the configuration
    health: int | None = None  # what its /health answered when it was asked last
    group: ServerGroup | None = None  # None: nobody looks at control groups here
    progress: progress.Progress = field(default_factory=progress.Progress)

    @property
    def longest_request_tokens(self) -> int | None:
        """This will give how many tokens a request may have, as the engine or its command line says."""
        said = self.configuration.max_model_len or self.server.flags.get("max_model_len")
        return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else None
