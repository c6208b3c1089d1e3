"""What policies are told of one server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from control_plane.decisions.tuning.facts import ServerFacts
from control_plane.model.architecture import Architecture
from control_plane.model.machine import Machine
from control_plane.model.recommendation import Flag


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """One inference server: what it is, what it runs on, what is asked of it. None is unknown."""

    server: str  # how answers call it
    engine: str
    version: str | None
    model: str | None
    architecture: Architecture | None
    machine: Machine | None
    gpus: int | None
    config: Mapping[str, object] = field(default_factory=dict)  # flags as the engine, or its command line, says
    input_tokens: float | None = None  # of one request, mean
    output_tokens: float | None = None
    concurrency: float | None = None  # requests that run or wait while it is busy
    usd_per_gpu_hour: float | None = None
    healthy: bool | None = None
    tuned: ServerFacts | None = None  # how it ran; None: too few samples

    def whole(self, *names: str, otherwise: int = 1) -> int:
        """This will give the first of these flags that is a whole number; `otherwise` where none is said."""
        for name in names:
            value = self.config.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 1e9:
                return int(value)
        return otherwise

    @property
    def tensor_parallel(self) -> int:
        """This will give the ranks that a layer is divided among."""
        return self.whole("tensor_parallel_size", "tp_size", "num_shard")

    @property
    def pipeline_parallel(self) -> int:
        """This will give the stages that layers are divided among."""
        return self.whole("pipeline_parallel_size", "pp_size")

    @property
    def data_parallel(self) -> int:
        """This will give the copies of attention within the server."""
        return self.whole("data_parallel_size", "dp_size")


# What starting a server again takes, where nobody has measured it: pods of this size took 52 to 112 s (llm-d's reports
# on actuation), larger models up to seven minutes.
START_SECONDS = 180.0
HOURS_A_MONTH = 730.0
SECONDS_PER_HOUR = 3600.0


def spelt(flags: Sequence[Flag]) -> str:
    """This will write flags as a command line has them; one without a value is left out."""
    return " ".join(f"{f.name} {f.value}".strip() if f.value is not None else f"no {f.name}" for f in flags)
