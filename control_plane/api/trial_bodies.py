"""What a test run is asked with, and how one is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from control_plane.api.parameters import Name
from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.trial import OVER, Trial, TrialKind, TrialSpec, TrialState

Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Length = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=2000, allow_inf_nan=False)]
_LENGTHS = "tokens: 512, 128-1024, lognormal:512,0.8 (median, sigma), counted:128=90,1024=10 (up to, how many)"

TRIAL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "test_id": TEXT,
        "kind": {"enum": [kind.value for kind in TrialKind]},
        "state": {"enum": [state.value for state in TrialState]},
        "verdict": {"enum": ["pass", "fail", "inconclusive", None], "description": "only pass is a pass"},
        "because": TEXT,
        "asked_at": TIME,
        "asked_by": TEXT,
        "started_at": TIME,
        "ended_at": TIME,
        "progress": {"type": ["object", "null"], "description": "how far it is: requests planned, due, under way"},
        "asked": {"type": "object"},
        "unknown": UNKNOWN,
    },
}
WHOLE_SCHEMA: dict[str, Any] = TRIAL_SCHEMA | {
    "properties": TRIAL_SCHEMA["properties"]
    | {
        "result": {
            "type": ["object", "null"],
            "description": "figures as `optiinfra load --json` gives them (docs/load.md); null in it is not known",
        }
    }
}
PROFILE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "profile_id": TEXT,
        "source": {"enum": ["live", "built_in"]},
        "description": TEXT,
        "model": MAYBE_TEXT,
        "load": {"type": "object", "description": "to be put into POST /test/run or /test/validate as it is"},
        "requests": {"type": ["number", "null"], "description": "finished, from which it was learnt"},
        "not_learnt": {"type": "object", "description": "parts of the load that are the usual ones, and why"},
        "since": TIME,
        "until": TIME,
        "unknown": UNKNOWN,
    },
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoadBody(_Body):
    """What is sent, and when. A profile's `load` fits here as it is."""

    rate: Rate = Field(1.0, description="requests per second")
    ramp_to_rate: Rate | None = Field(None, description="go from rate to this in a straight line")
    variation: float = Field(1.0, ge=0, le=10, description="of gaps: 0 a metronome, 1 Poisson, more in bursts")
    prompt_length: Length = Field("512", description=_LENGTHS)
    output_length: Length = Field("128", description="likewise")
    prefixes: int = Field(0, ge=0, le=100_000, description="how many prefixes requests share")
    prefix_tokens: int = Field(0, ge=0, le=1_000_000, description="how long they are")
    prefix_ratio: float = Field(1.0, ge=0, le=1, description="of requests that have one")


class ObjectiveBody(_Body):
    """What makes a request a good one, and how many have to be good."""

    ttft_seconds: Seconds | None = Field(None, description="the first token within")
    tpot_seconds: Seconds | None = Field(None, description="each further token within, on average")
    e2e_seconds: Seconds | None = Field(None, description="the last token within")
    good_ratio: float = Field(0.95, gt=0, lt=1, description="of requests that have to keep it")


class _Asked(_Body):
    model: Name | None = Field(None, description="its name at the server; by default the only one that it has")
    api: Literal["chat", "completions"] = Field("chat", description="the door")
    load: LoadBody = Field(default_factory=LoadBody)
    seconds: Seconds = Field(60.0, description="how long requests are due; of a search, each try at least")
    warm_up_seconds: float = Field(5.0, ge=0, le=86_400, description="of that, seconds that are not measured")
    objective: ObjectiveBody = Field(default_factory=ObjectiveBody)
    timeout_seconds: Seconds = Field(120.0, description="after which a request has failed")
    most_in_flight: int = Field(1000, ge=1, le=20_000, description="requests under way at a time")
    seed: int = Field(1, ge=0, le=2**31, description="the same seed sends the same requests")
    api_key: SecretStr | None = Field(
        None, min_length=1, max_length=4096, description="the server's; sealed, and forgotten when it has ended"
    )

    def common(self) -> dict[str, Any]:
        """This will give what both kinds of tests have."""
        load, objective = self.load.model_dump(), self.objective.model_dump()
        named = ("model", "api", "seconds", "warm_up_seconds", "timeout_seconds", "most_in_flight", "seed")
        return load | objective | {name: getattr(self, name) for name in named}


class NewTest(_Asked):
    """Load on one server."""

    base_url: Url = Field(description="the server, http(s)://host:port; see docs/load.md for where load may go")
    find_highest_rate: bool = Field(False, description="search the highest rate that keeps the objective")
    most_rate: Rate = Field(2000.0, description="where the search ends")

    def meant(self) -> tuple[TrialSpec, dict[str, str]]:
        """This will give what it stands for, and the keys of servers."""
        kind = TrialKind.HIGHEST_RATE if self.find_highest_rate else TrialKind.LOAD
        spec = TrialSpec(kind=kind, base_url=self.base_url, most_rate=self.most_rate, **self.common())
        return spec, {} if self.api_key is None else {"base_url": self.api_key.get_secret_value()}


class MarginsBody(_Body):
    """How much worse a candidate may be and still pass."""

    bad_ratio: float = Field(0.02, gt=0, lt=1, description="of requests, more than of the baseline")
    ttft_factor: float | None = Field(1.10, gt=1, le=10, description="times as slow; null: not compared")
    tpot_factor: float | None = Field(1.10, gt=1, le=10, description="likewise, per further token")


class NewValidation(_Asked):
    """A candidate beside its baseline."""

    candidate_url: Url = Field(description="the server that shall replace the other")
    baseline_url: Url = Field(description="the server that it shall replace")
    baseline_model: Name | None = Field(None, description="its name there; by default as at the candidate")
    compare_words: bool = Field(True, description="also compare what both say to the same prompts")
    margins: MarginsBody = Field(default_factory=MarginsBody)
    baseline_api_key: SecretStr | None = Field(None, min_length=1, max_length=4096, description="as api_key")

    def meant(self) -> tuple[TrialSpec, dict[str, str]]:
        """This will give what it stands for, and the keys of servers."""
        spec = TrialSpec(
            kind=TrialKind.VALIDATION, base_url=self.candidate_url, baseline_url=self.baseline_url,
            baseline_model=self.baseline_model, compares_words=self.compare_words,
            bad_margin_ratio=self.margins.bad_ratio, ttft_margin_factor=self.margins.ttft_factor,
            tpot_margin_factor=self.margins.tpot_factor, **self.common(),
        )  # fmt: skip
        given = {"base_url": self.api_key, "baseline_url": self.baseline_api_key}
        return spec, {name: key.get_secret_value() for name, key in given.items() if key is not None}


def shown(trial: Trial) -> dict[str, Any]:
    """This will show a test run without its figures."""
    unknown = {}
    if trial.verdict is None:
        ended = trial.state is TrialState.FINISHED
        unknown["verdict"] = "no_objective" if ended else "cut_off" if trial.state in OVER else "not_ended"
    if trial.started_at is None:
        unknown["started_at"] = "never_started" if trial.state in OVER else "not_started"
    if trial.ended_at is None:
        unknown["ended_at"] = "not_ended"
    if trial.progress is None:
        unknown["progress"] = "not_told"
    return {
        "test_id": trial.trial_id, "kind": trial.spec.kind.value, "state": trial.state.value, "verdict": trial.verdict,
        "because": trial.because, "asked_at": trial.asked_at, "asked_by": trial.asked_by,
        "started_at": trial.started_at, "ended_at": trial.ended_at, "progress": _explained(trial.progress),
        "asked": asked_of(trial.spec), "unknown": unknown,
    }  # fmt: skip


# Why a figure of a result may be null, by its name; the others because too few requests came.
_WHY_NULL = {
    "prompt_tokens_per_second": "not_counted", "output_tokens_per_second": "not_counted",
    "prompt_tokens_mean": "not_counted", "output_tokens_mean": "not_counted", "cached_prompt_ratio": "not_counted",
    "saturated": "too_short_to_tell", "highest_rate": "at_no_rate_tried", "lowest_rate_not_kept": "never_broken",
    "words": "not_compared", "log_likelihood": "engine_does_not_say", "candidate": "not_run", "baseline": "not_run",
}  # fmt: skip


def _explained(found: Any) -> Any:
    """This will put beside each null of a result why it is null."""
    if isinstance(found, Mapping):
        out = {name: _explained(value) for name, value in found.items()}
        unknown = {name: _WHY_NULL.get(name, "too_few_requests") for name, value in out.items() if value is None}
        return out | {"unknown": unknown} if unknown else out
    return [_explained(entry) for entry in found] if isinstance(found, list) else found


def whole(trial: Trial) -> dict[str, Any]:
    """This will show a test run with its figures."""
    out = shown(trial) | {"result": _explained(trial.result)}
    if trial.result is None:
        why = "no_figures" if trial.state in OVER else "not_ended"
        out["unknown"] = out["unknown"] | {"result": why}
    return out


def asked_of(spec: TrialSpec) -> dict[str, Any]:
    """This will show what was asked for, without what was left out."""
    load = {name: getattr(spec, name) for name in LoadBody.model_fields}
    objective = {name: getattr(spec, name) for name in ObjectiveBody.model_fields}
    said: dict[str, Any] = {
        "model": spec.model, "api": spec.api, "load": _given(load), "seconds": spec.seconds,
        "warm_up_seconds": spec.warm_up_seconds, "objective": _given(objective),
        "timeout_seconds": spec.timeout_seconds, "most_in_flight": spec.most_in_flight, "seed": spec.seed,
    }  # fmt: skip
    match spec.kind:
        case TrialKind.VALIDATION:
            margins = {
                "bad_ratio": spec.bad_margin_ratio, "ttft_factor": spec.ttft_margin_factor,
                "tpot_factor": spec.tpot_margin_factor,
            }  # fmt: skip
            said |= {
                "candidate_url": spec.base_url, "baseline_url": spec.baseline_url,
                "baseline_model": spec.baseline_model, "compare_words": spec.compares_words, "margins": _given(margins),
            }  # fmt: skip
        case TrialKind.HIGHEST_RATE:
            said |= {"base_url": spec.base_url, "find_highest_rate": True, "most_rate": spec.most_rate}
        case TrialKind.LOAD:
            said |= {"base_url": spec.base_url}
    return _given(said)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
