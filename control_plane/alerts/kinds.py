"""The kinds of rules: what each looks for, its parameters with their limits, and what they usually are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType

from control_plane.model.alert import AlertRule, AlertSeverity, RuleKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number of a rule."""

    usual: float
    least: float
    most: float
    means: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a kind of rule looks for."""

    means: str
    about: Sequence[str]  # the labels of what it is about
    severity: AlertSeverity
    wait: timedelta
    keep: timedelta
    parameters: Mapping[str, Parameter]
    matchers: Mapping[str, str] = field(default_factory=dict)  # of a rule that has none of its own


def _kind(means: str, about: str, severity: AlertSeverity, wait: float, keep: float, **parameters: Parameter) -> Kind:
    return Kind(
        means=means, about=tuple(about.split()), severity=severity, wait=timedelta(seconds=wait),
        keep=timedelta(seconds=keep), parameters=parameters,
    )  # fmt: skip


_CRITICAL, _WARNING, _INFO = AlertSeverity.CRITICAL, AlertSeverity.WARNING, AlertSeverity.INFO
_HOLD = Parameter(usual=900, least=60, most=86400, means="seconds for which an event counts")
_GPU, _SERVER = "node gpu gpu_index", "node server model engine"

KINDS: Mapping[RuleKind, Kind] = MappingProxyType(
    {
        # NVML's own thresholds are a GPU's attributes where it says them; these are for those that do not.
        RuleKind.GPU_TEMPERATURE: _kind(
            "a GPU, or its memory, is hotter than it should be", _GPU, _WARNING, 60, 60,
            celsius=Parameter(usual=85, least=20, most=150, means="of the die"),
            memory_celsius=Parameter(usual=95, least=20, most=150, means="of the memory"),
        ),
        RuleKind.GPU_THROTTLED: _kind(
            "heat or the power supply slows a GPU down; its power limit does not count", _GPU, _WARNING, 30, 60
        ),
        RuleKind.GPU_XID: _kind(
            "the driver reported an XID error that is not the application's own", _GPU, _WARNING, 0, 0,
            hold_seconds=_HOLD,
            only_critical=Parameter(usual=0, least=0, most=1, means="1: only those after which a reset is needed"),
        ),
        RuleKind.GPU_MEMORY_ERRORS: _kind(
            "memory errors that were not corrected, or a row that waits to be remapped or cannot be", _GPU, _CRITICAL,
            0, 60,
        ),
        RuleKind.GPU_HUNG: _kind(
            "a GPU has fallen off the bus, or the driver does not come back", _GPU, _CRITICAL, 0, 30, hold_seconds=_HOLD
        ),
        RuleKind.ENGINE_HUNG: _kind(
            "an inference server answers, and its requests get nowhere", _SERVER, _CRITICAL, 0, 15
        ),
        RuleKind.ENGINE_DOWN: _kind(
            "an inference server does not answer, is unhealthy, or went away within the last hour", _SERVER,
            _CRITICAL, 10, 30,
            gone_counts=Parameter(usual=1, least=0, most=1, means="0: one that went away was taken away on purpose"),
        ),
        RuleKind.STUCK_COLLECTIVE: _kind(
            "GPUs are 100 % utilised and do nothing: a collective that never ends", "node server gpu", _CRITICAL, 0, 60
        ),
        # What a busy server that is well is bound by (memory bandwidth, arithmetic) needs nobody.
        RuleKind.BOTTLENECK: replace(
            _kind("something binds an inference server that can be helped", f"{_SERVER} bottleneck", _WARNING,
                  300, 300),
            matchers={"bottleneck": "throttled_or_faulty_gpu|kv_capacity_bound|prefix_cache_miss|batch_limited|"
                                    "network_or_client|communication_bound|host_bound|queue_bound"},
        ),
        RuleKind.LOW_UTILIZATION: _kind(
            "a GPU that somebody holds is hardly busy", _GPU, _INFO, 0, 3600,
            busy_ratio=Parameter(usual=0.1, least=0, most=1, means="busy for less than this share of the time"),
            hours=Parameter(usual=6, least=1, most=168, means="over so many whole hours"),
        ),
        RuleKind.WASTE: _kind(
            "paid GPU time goes to waste: memory is held and no work done, or it is given to who does not use it", _GPU,
            _INFO, 0, 3600,
            waste_ratio=Parameter(usual=0.8, least=0.01, most=1, means="more than this share of the time"),
            hours=Parameter(usual=24, least=1, most=168, means="over so many whole hours"),
        ),
        RuleKind.SLO_VIOLATED: _kind(
            "the guard sees that an objective is not kept now", "slo server model route", _CRITICAL, 0, 30
        ),
        RuleKind.SLO_BURNING: _kind(
            "an objective's error budget is used up too fast, or used up", "slo window route", _WARNING, 0, 300
        ),
        RuleKind.FILESYSTEM_FILLS: _kind(
            "a file system will be full soon, as it fills now", "node mountpoint", _WARNING, 300, 600,
            hours=Parameter(usual=24, least=0.5, most=720, means="full within so many hours"),
            look_back_hours=Parameter(usual=3, least=0.5, most=48, means="as it filled in so many hours"),
        ),
        RuleKind.NODE_SILENT: _kind(
            "no samples come from a node", "node", _CRITICAL, 0, 10,
            seconds=Parameter(usual=60, least=10, most=86400, means="none for so long"),
        ),
    }
)  # fmt: skip


def usual_rule(kind: RuleKind) -> AlertRule:
    """This will give the rule that there is of a kind until somebody says otherwise."""
    found = KINDS[kind]
    return AlertRule(
        name=kind.value, kind=kind, severity=found.severity, wait=found.wait, keep=found.keep,
        parameters={name: p.usual for name, p in found.parameters.items()}, matchers=found.matchers,
    )  # fmt: skip


def usual_rules() -> list[AlertRule]:
    """This will give one rule of every kind."""
    return [usual_rule(kind) for kind in KINDS]
