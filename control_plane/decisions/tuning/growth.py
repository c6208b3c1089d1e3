"""What more requests at once do to a server's speed, from how it ran with fewer.

A request takes the engine's time for its prompt, P, and for each of its output tokens a share of a step: s(n) / n. The
recording gives s(n) at the n that was allowed, and from the rate at which requests ended what is left for P. How much a
step grows with n is a belief: s(n') = s(n) (n' / n)^b. Where memory bandwidth bounds decoding, reading the weights does
not grow at all and the KV cache does: b is near 0 while both GPU activities are low.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.decisions.tuning.facts import ServerFacts
from control_plane.model.recommendation import Effect, Interval

# b: low, expected, high. On a GPU whose memory and tensor pipes are mostly idle a step of an 8B model grew with
# b = 0.09 from 8 to 96 requests; a busy one grows nearly in proportion. Without its metrics nobody can tell.
IDLE_GPU = (0.0, 0.12, 0.45)
UNSEEN = (0.0, 0.35, 0.85)
# Of what is left of a request's time once its decoding is taken away, the share that is its prompt's: the rest is gaps
# between requests, which a full batch fills.
PROMPT_SHARE = (0.1, 0.7, 1.0)
BUSY = 0.7  # activity at which more requests cost what they cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What one request takes of the engine, as it ran."""

    running: float
    step_seconds: float
    output_tokens: float
    request_seconds: float  # of the engine, for one request: 1 / rate

    @property
    def decoding_seconds(self) -> float:
        """This will give the engine's time for the output of one request."""
        return self.output_tokens * self.step_seconds / self.running


def pace_of(facts: ServerFacts) -> Pace | None:
    """This will read the pace off a recording; None when it does not say enough."""
    rate, step, tokens, running = (
        facts.requests_per_second, facts.inter_token_seconds, facts.output_tokens, facts.running_most or facts.running,
    )  # fmt: skip
    if not rate or not step or not tokens or not running:
        return None
    return Pace(running=running, step_seconds=step, output_tokens=tokens, request_seconds=1.0 / rate)


def more_at_once(facts: ServerFacts, pace: Pace, running: Interval) -> Effect:
    """This will predict the effect of letting more requests run."""
    low_growth, growth, high_growth = _exponents(facts)
    left = max(pace.request_seconds - pace.decoding_seconds, 0.0)
    low_prompt, prompt, high_prompt = (share * left for share in PROMPT_SHARE)
    return Effect(
        requests_ratio=Interval(
            low=max(_gain(pace, running.low, high_growth, high_prompt), _no_less(high_growth)),
            expected=_gain(pace, running.expected, growth, prompt),
            high=_gain(pace, running.high, low_growth, low_prompt),
        ),
        token_time_ratio=Interval(
            low=1.0,
            expected=(running.expected / pace.running) ** growth,
            high=(running.high / pace.running) ** high_growth * 1.1,
        ),
        running=running,
    )


def _no_less(high_growth: float) -> float:
    # More requests at once never made a server slower by more than its scheduling noise while it had room.
    return 0.9 if high_growth >= UNSEEN[2] else 0.95


def _gain(pace: Pace, running: float, exponent: float, prompt: float) -> float:
    """This will give the rate after by the rate before."""
    step = pace.step_seconds * (running / pace.running) ** exponent
    before = max(pace.request_seconds, pace.decoding_seconds)
    return float(before / (prompt + pace.output_tokens * step / running))


def _exponents(facts: ServerFacts) -> tuple[float, float, float]:
    if not facts.on_gpu:
        return UNSEEN
    busy = max(facts.dram_active or 0.0, facts.tensor_active or 0.0)
    weight = min(max(busy / BUSY, 0.0), 1.0)
    low, expected, high = IDLE_GPU
    return low, expected + weight * 0.4, high + weight * 0.5
