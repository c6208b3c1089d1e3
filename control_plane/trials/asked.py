"""A test run as it is asked for, made into what the load generator takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from control_plane.model.errors import InvalidRequest
from control_plane.model.trial import TrialKind, TrialSpec
from control_plane.trials.comparison.measures import Margins
from control_plane.trials.load import arrivals, lengths, search
from control_plane.trials.load.connection import Address
from control_plane.trials.load.plan import LoadPlan
from control_plane.trials.load.prompts import Sharing
from control_plane.trials.load.requesting import Api, Target
from control_plane.trials.load.summary import Objective

MOST_SECONDS = 86_400.0
MOST_REQUESTS = 1_000_000  # each is kept until the end: some hundred bytes
# A search doubles and halves: by then it has found what there is to find, or nothing answers.
MOST_SEARCH_SECONDS = 86_400.0


def checked(spec: TrialSpec) -> TrialSpec:
    """This will give the spec, or raise InvalidRequest and say what is wrong with it."""
    target(spec)
    objective(spec)
    margins(spec)
    if spec.kind is TrialKind.VALIDATION and spec.baseline_url is None:
        raise InvalidRequest("a validation compares a candidate with a baseline: name both")
    if not 0 < spec.seconds <= MOST_SECONDS:
        raise InvalidRequest("requests are due for up to a day")
    if spec.kind is TrialKind.HIGHEST_RATE:
        if not has_objective(spec):
            raise InvalidRequest("the highest rate is searched that keeps an objective: name ttft, tpot or e2e")
        if not search.LEAST_RATE <= spec.rate <= spec.most_rate <= search.MOST_RATE:
            raise InvalidRequest(f"rates of a search go from 1/600 up to {search.MOST_RATE:.0f} requests/s")
    rates = [spec.rate] if spec.ramp_to_rate is None else [spec.rate, spec.ramp_to_rate]
    if max(rates) > search.MOST_RATE or sum(rates) / len(rates) * spec.seconds > MOST_REQUESTS:
        raise InvalidRequest(f"one run has up to {search.MOST_RATE:.0f} requests/s and {MOST_REQUESTS:,} requests")
    plan(spec, due(spec), spec.seconds)
    return spec


def due(spec: TrialSpec) -> arrivals.Seconds:
    """This will draw when requests are due. Raises InvalidRequest."""
    last = spec.rate if spec.ramp_to_rate is None else spec.ramp_to_rate
    profile = arrivals.ramp(spec.rate, last, spec.seconds)
    return arrivals.arrivals(profile, variation=spec.variation, random=np.random.default_rng(spec.seed))


def due_at(spec: TrialSpec, rate: float, seconds: float) -> arrivals.Seconds:
    """This will draw when requests of one try of a search are due."""
    profile = arrivals.constant(rate, seconds)
    return arrivals.arrivals(profile, variation=spec.variation, random=np.random.default_rng(spec.seed))


def plan(spec: TrialSpec, due_seconds: arrivals.Seconds, seconds: float) -> LoadPlan:
    """This will give what the load generator takes. Raises InvalidRequest."""
    sharing = Sharing(groups=spec.prefixes, tokens=spec.prefix_tokens, share=spec.prefix_ratio)
    return LoadPlan(
        due_seconds=due_seconds, seconds=seconds, warmup_seconds=spec.warm_up_seconds,
        prompt_tokens=lengths.parse(spec.prompt_length), output_tokens=lengths.parse(spec.output_length),
        sharing=sharing, timeout_seconds=spec.timeout_seconds, most_in_flight=spec.most_in_flight, seed=spec.seed,
    )  # fmt: skip


def target(spec: TrialSpec, *, api_key: str | None = None, connect_to: str | None = None) -> Target:
    """This will give the server that is asked; its model may still be "". Raises InvalidRequest."""
    if spec.api not in set(Api):
        raise InvalidRequest(f"the door is one of {', '.join(Api)}")
    address = replace(Address.parse(spec.base_url), connect_to=connect_to)
    return Target(address=address, model=spec.model or "", api=Api(spec.api), api_key=api_key)


def baseline(spec: TrialSpec, *, api_key: str | None = None, connect_to: str | None = None) -> Target:
    """This will give the server beside which a candidate is put. Raises InvalidRequest."""
    assert spec.baseline_url is not None
    meant = replace(spec, base_url=spec.baseline_url, model=spec.baseline_model or spec.model)
    return target(meant, api_key=api_key, connect_to=connect_to)


def objective(spec: TrialSpec) -> Objective:
    """This will give what makes a request a good one. Raises InvalidRequest."""
    return Objective(
        ttft_seconds=spec.ttft_seconds, tpot_seconds=spec.tpot_seconds, e2e_seconds=spec.e2e_seconds,
        share=spec.good_ratio,
    )  # fmt: skip


def has_objective(spec: TrialSpec) -> bool:
    """This will say whether any limit is named."""
    return any(limit is not None for limit in (spec.ttft_seconds, spec.tpot_seconds, spec.e2e_seconds))


def margins(spec: TrialSpec) -> Margins:
    """This will give how much worse a candidate may be. Raises InvalidRequest."""
    return Margins(
        bad_share=spec.bad_margin_ratio, ttft_ratio=spec.ttft_margin_factor, tpot_ratio=spec.tpot_margin_factor
    )


def most_seconds(spec: TrialSpec) -> float:
    """This will say after how long a run must have ended; one that has not is ended."""
    if spec.kind is TrialKind.HIGHEST_RATE:
        return MOST_SEARCH_SECONDS
    words = 40 * spec.timeout_seconds if spec.kind is TrialKind.VALIDATION and spec.compares_words else 0.0
    return spec.seconds + spec.timeout_seconds + words + 600.0
