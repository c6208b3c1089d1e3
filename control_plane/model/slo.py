"""Service level objectives: what was promised of whom, and the events that it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Indicator(StrEnum):
    """What is promised."""

    TTFT = "ttft"
    TIME_PER_OUTPUT_TOKEN = "time_per_output_token"  # noqa: S105 - of a request: its mean after the first token
    INTER_TOKEN = "inter_token"  # noqa: S105 - between two tokens
    END_TO_END = "end_to_end"
    ERROR_RATE = "error_rate"  # requests that end as they should, of those that the server ended
    AVAILABILITY = "availability"  # time in which at least one server answers and makes progress
    THROUGHPUT_FLOOR = "throughput_floor"  # time in which, while requests wait, enough tokens come out
    GOODPUT = "goodput"  # requests that keep every one of several limits, and do not fail


# Each latency's histogram: its unit of counting is a request, but for INTER_TOKEN, where it is a token.
HISTOGRAMS: Mapping[Indicator, str] = {
    Indicator.TTFT: "ttft_seconds",
    Indicator.TIME_PER_OUTPUT_TOKEN: "time_per_output_token_seconds",
    Indicator.INTER_TOKEN: "inter_token_latency_seconds",
    Indicator.END_TO_END: "end_to_end_seconds",
}
# What goodput may limit: of each request there is one observation.
GOODPUT_LIMITS = ("ttft_seconds", "time_per_output_token_seconds", "end_to_end_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class SloScope:
    """Of which inference servers. None is of any."""

    model: str | None = None
    engine: str | None = None  # vllm, sglang, tgi
    server: str | None = None  # its URL
    node: str | None = None
    namespace: str | None = None

    def said(self) -> dict[str, str]:
        """This will give what narrows it."""
        named = {
            "model": self.model, "engine": self.engine, "server": self.server,
            "node": self.node, "namespace": self.namespace,
        }  # fmt: skip
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class SloDefinition:
    """One promise. What an indicator has no use for is None."""

    name: str
    indicator: Indicator
    target_ratio: float  # 0..1: of events that must be good
    window_days: int  # rolling
    scope: SloScope = field(default_factory=SloScope)
    threshold_seconds: float | None = None  # latency: up to here an event is good
    limits: Mapping[str, float] = field(default_factory=dict)  # goodput: histogram -> seconds
    floor_tokens_per_second: float | None = None  # throughput floor: of all servers in scope together
    route: str | None = None  # a name that people and routers give it; carried along, judged by the scope
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    @property
    def allowed_share(self) -> float:
        """This will give the share of events that may be bad."""
        return round(1.0 - self.target_ratio, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """A promise as it is stored."""

    slo_id: int
    definition: SloDefinition
    created_at: datetime
    changed_at: datetime
    counted_since: datetime  # since when its events are counted as they happen
    history_since: datetime | None = None  # since when those of before are counted too, from stored samples

    @property
    def covered_since(self) -> datetime:
        """This will say since when events are counted."""
        return self.counted_since if self.history_since is None else min(self.counted_since, self.history_since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Events of some stretch of time: requests, tokens or seconds, as the indicator has it."""

    good: float = 0.0
    bad: float = 0.0
    doubtful: float = 0.0  # in the bucket that the limit lies in: neither for certain

    @property
    def total(self) -> float:
        """This will give all of them."""
        return self.good + self.bad + self.doubtful

    def __add__(self, other: Events) -> Events:
        return Events(good=self.good + other.good, bad=self.bad + other.bad, doubtful=self.doubtful + other.doubtful)


class GuardVerdict(StrEnum):
    """What the guard says. Only PASS is a pass."""

    PASS = "pass"  # noqa: S105 - a verdict
    VIOLATION = "violation"
    NOT_ENOUGH_TRAFFIC = "not_enough_traffic"  # too few events to say either, or none at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with what it rests on."""

    verdict: GuardVerdict
    since: datetime | None  # of a violation: when it most likely began
    events: float  # since then; else of what the verdict looked at
    bad: float
    bad_share: float | None
    evidence: float  # 0..1 of what an alarm needs, on a logarithmic scale; can exceed 1
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerJudgement:
    """What the guard last said of one server, or of all in scope together."""

    slo_id: int
    entity_id: int  # 0: all in scope together
    judged_at: datetime
    tolerated_share: float
    judgement: Judgement
    unknown: str | None  # why nothing could be counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A stretch of time in which a promise was not kept, beyond chance."""

    violation_id: int
    slo_id: int
    entity_id: int  # 0: all in scope together
    since: datetime  # when it most likely began
    detected_at: datetime
    ended_at: datetime | None  # None: it goes on
    events: float  # up to when it was detected
    bad: float
    detail: Mapping[str, object]
