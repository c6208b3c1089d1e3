"""What live traffic was like: how much, how long, how much of it began alike. Never what it said.

Servers count lengths in buckets and tokens that their prefix cache held; nothing else is known of a request, so
nothing else is learnt. Two things are not: how regularly requests came (they are counted, not stamped), and how many
different prefixes there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.analysis import distributions
from control_plane.analysis.serving import Served
from control_plane.model.sample import Distribution

# Fewer requests say little about lengths.
LEAST_REQUESTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The traffic of one model, as it can be sent again. None is what is not known."""

    requests: float  # that ended as they should
    per_second: float  # of a server's time that was looked at; all servers together
    prompt_lengths: Sequence[tuple[int, float]] | None  # (up to so many tokens, how many requests)
    output_lengths: Sequence[tuple[int, float]] | None
    cached_ratio: float | None  # of prompt tokens, found in the prefix cache
    mean_prompt_tokens: float | None


def learnt(group: Sequence[Served]) -> Workload | None:
    """This will put together what a model's servers counted; None when too few requests are known to have ended."""
    ended = [(served.growth.get("requests_finished_total"), served.seconds) for served in group]
    known = [(count, seconds) for count, seconds in ended if count is not None and seconds > 0]
    requests = sum(count for count, _ in known)
    if requests < LEAST_REQUESTS:
        return None
    prompts, outputs = _lengths(group, "prompt_length_tokens"), _lengths(group, "output_length_tokens")
    hits = [served.growth.get("prefix_cache_hits_total") for served in group]
    asked = [served.growth.get("prefix_cache_queries_total") for served in group]
    found, looked = (sum(v for v in values if v is not None) for values in (hits, asked))
    return Workload(
        requests=requests,
        per_second=sum(count / seconds for count, seconds in known),
        prompt_lengths=_counts(prompts),
        output_lengths=_counts(outputs),
        cached_ratio=None if None in hits or None in asked or not looked else min(1.0, found / looked),
        mean_prompt_tokens=None if prompts is None else distributions.mean(prompts),
    )


def _lengths(group: Sequence[Served], name: str) -> Distribution | None:
    """Replicas of one engine have the same bounds; where they differ nothing honest can be added up."""
    return distributions.merged([served.distributions[name] for served in group if name in served.distributions])


def _counts(found: Distribution | None) -> Sequence[tuple[int, float]] | None:
    """What lies beyond the last bound is put on it: how much longer those were is not known."""
    if found is None or not sum(found.counts):
        return None
    bounds = [max(1, int(bound)) for bound in found.bounds]
    counts = dict.fromkeys(bounds, 0.0)
    for number, count in enumerate(found.counts):
        counts[bounds[min(number, len(bounds) - 1)]] += count
    return [(bound, count) for bound, count in sorted(counts.items()) if count] or None
