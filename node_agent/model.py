"""The agent's nouns: what a collector saw, and why it did not see the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from node_agent.clock import Instant
from optiinfra.catalogue import TABLES


class Reason(Enum):
    """Why a value is unknown. The numbers are those of telemetry.proto's UnknownReason."""

    NOT_A_NUMBER = 0
    UNSUPPORTED = 1
    NO_PERMISSION = 2
    DEVICE_LOST = 3
    TIMED_OUT = 4
    ERROR = 5
    FIRST_SAMPLE = 6
    NOT_EXPOSED = 7
    SERVER_GONE = 8
    OUT_OF_RANGE = 9
    NOT_SENT = 10
    NOT_COLLECTED = 11
    HUNG = 12


class EntityKind(Enum):
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


class Outcome(Enum):
    """How a collector's run ended. The numbers are those of telemetry.proto's CollectorOutcome."""

    OK = 1
    PARTIAL = 2
    ABSENT = 3
    FAILED = 4
    TIMED_OUT = 5
    DISABLED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """A cumulative-over-time distribution as an engine keeps it since its counters began.

    `counts[i]` observations fell into (bounds[i-1], bounds[i]]; the last count is everything
    above the last bound. Counts are per bucket, not running totals over buckets.
    """

    bounds: tuple[float, ...]  # ascending, finite
    counts: tuple[int, ...]  # len(bounds) + 1
    sum: float

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds) + 1:
            raise ValueError(f"{len(self.bounds)} bounds need {len(self.bounds) + 1} counts, got {len(self.counts)}")


Value = float | int | Reason | Histogram | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One thing that samples are about: a GPU, a disk, an inference server, the node itself."""

    kind: EntityKind
    key: str  # stable: a GPU's UUID, a device's name, a mount point, a server's URL
    attributes: Mapping[str, object] = field(default_factory=dict)  # JSON-serialisable identity, configuration, state


_NAMES = {table: frozenset(spec.name for spec in spec.fields) for table, spec in TABLES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The values of one entity at one moment.

    A field of the table that `values` does not name is sent as unknown, not collected. A name
    that the catalogue does not have is a bug and raises ValueError.
    """

    table: str
    entity: tuple[EntityKind, str]  # kind and key
    values: Mapping[str, Value]

    def __post_init__(self) -> None:
        known = _NAMES[self.table]
        if not self.values.keys() <= known:
            raise ValueError(f"{self.table}: not in the catalogue: {sorted(self.values.keys() - known)}")


class Severity(Enum):
    """How bad an event is. The numbers are those of telemetry.proto's EventSeverity."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at one moment, perhaps before the tick that carries it."""

    taken_at: datetime  # UTC, the node's clock
    kind: str  # a word: docs/events.md
    entity: tuple[EntityKind, str]
    severity: Severity
    detail: Mapping[str, object] = field(default_factory=dict)  # JSON-serialisable


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine in the kernel's own detail: for the host's own page. It is not sent, so there is no field for it."""

    # Jiffies and not seconds: hundreds of CPUs are read at every tick, and the page is asked for now and then.
    cpu_ticks: Mapping[int, Sequence[int]] | None = None  # by CPU, in the order of cpu_modes; None: unknown
    cpu_modes: Sequence[str] = ()
    ticks_per_second: int = 100
    memory_bytes: Mapping[str, int] | None = None  # as /proc/meminfo names it
    booted_unix_seconds: int | None = None
    kernel: Mapping[str, str] = field(default_factory=dict)  # as uname(1) says


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one collector saw in one run."""

    outcome: Outcome
    detail: str = ""  # a sentence for people when the outcome is not OK
    entities: Sequence[Entity] = ()
    samples: Sequence[Sample] = ()
    events: Sequence[Event] = ()
    restart_because: str = ""  # only a new process can see more; the agent ends once this is queued
    machine: Machine | None = None


class Collector(Protocol):
    """One look at one kind of thing. The sampler gives each run a deadline."""

    @property
    def name(self) -> str:
        """This will give the collector's name, as reports show it."""
        ...

    async def collect(self, now: Instant) -> Collected:
        """This will look once. It may be abandoned at its deadline, but never runs twice at once."""
        ...

    async def close(self) -> None:
        """This will let go of whatever the collector holds open."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorReport:
    """How one collector's run went, for the control plane to show."""

    collector: str
    outcome: Outcome
    duration_seconds: float
    detail: str = ""
    last_success_age_seconds: float | None = None  # None: none since the agent started
    last_error: str = ""  # stays when the collector recovers
    last_error_age_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How well the agent keeps its rhythm."""

    tick_seconds: float | None = None  # None: no tick has ended yet
    lateness_seconds: float = 0.0
    skipped_total: int = 0
    collectors_failing: int | None = None  # None: no tick has ended yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What the agent has not delivered yet, and how its link does."""

    batches: int
    bytes: int
    lost_ticks_total: int
    reconnects_total: int
    acknowledged_at: float | None  # monotonic seconds; None: nothing was acknowledged yet


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfiguration:
    """All that the control plane configures here. `None`, and no target, mean: as the host's own settings say."""

    revision: int  # 0: the host's own settings alone
    sampling_interval_seconds: float | None = None
    scrape_targets: tuple[str, ...] = ()  # beside those of the host's own settings
    gpu_monitoring_enabled: bool | None = None
    discover_engines: bool | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """This will name what is configured."""
        return tuple(name for name in CONFIGURABLE if getattr(self, name) not in (None, ()))


CONFIGURABLE = ("sampling_interval_seconds", "scrape_targets", "gpu_monitoring_enabled", "discover_engines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What holds now, whatever was asked for last."""

    revision: int  # 0: the host's own settings alone
    sampling_interval_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Everything seen at one moment."""

    taken_at: Instant
    entities: Sequence[Entity]
    samples: Sequence[Sample]
    reports: Sequence[CollectorReport]
    command_id: str = ""
    events: Sequence[Event] = ()
    restart_because: str = ""
    machine: Machine | None = None
