"""A summary in words and as JSON values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control_plane.statistics.intervals import Estimate
from control_plane.trials.load.summary import Objective, Spread, Summary


def as_values(summary: Summary) -> dict[str, Any]:
    """This will give a summary as JSON values; null is what is not known."""
    return {
        "window_seconds": summary.window_seconds,
        "requests": summary.requests,
        "warmup_requests": summary.warmup_requests,
        "outcomes": {str(outcome): count for outcome, count in sorted(summary.outcomes.items())},
        "details": dict(summary.details),
        "due_per_second": summary.due_per_second,
        "sent_per_second": summary.sent_per_second,
        "completed_per_second": summary.completed_per_second,
        "prompt_tokens_per_second": summary.prompt_tokens_per_second,
        "output_tokens_per_second": summary.output_tokens_per_second,
        "prompt_tokens_mean": summary.prompt_tokens_mean,
        "output_tokens_mean": summary.output_tokens_mean,
        "cached_prompt_ratio": summary.cached_prompt_ratio,
        "ttft_seconds": _spread(summary.ttft),
        "tpot_seconds": _spread(summary.tpot),
        "e2e_seconds": _spread(summary.e2e),
        "itl_seconds": {"mean": summary.itl_mean} | {_name(k): v for k, v in summary.itl_percentiles.items()},
        "good_ratio": _estimate(summary.good_ratio),
        "good_per_second": summary.good_per_second,
        "in_flight_mean": summary.in_flight_mean,
        "saturated": summary.saturated,
        "late_seconds_p99": summary.late_seconds_p99,
        "doubts": list(summary.doubts),
        "stopped": summary.stopped,
    }


def _name(level: float) -> str:
    return f"p{100 * level:g}"


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _spread(spread: Spread) -> dict[str, Any]:
    percentiles = {_name(level): _estimate(found) for level, found in spread.percentiles.items()}
    return {"count": spread.count, "mean": _estimate(spread.mean), **percentiles, "max": spread.most}


def as_text(summary: Summary, objective: Objective) -> str:
    """This will describe a run for people; what is in brackets holds the true value 95 times in 100."""
    ended = ", ".join(f"{count} {outcome}" for outcome, count in sorted(summary.outcomes.items()))
    lines = [
        f"{summary.requests} requests in {summary.window_seconds:.1f} s after {summary.warmup_requests} to warm up: "
        f"{ended or 'none'}",
        *(f"  {count} × {detail}" for detail, count in summary.details.items()),
        f"offered {summary.due_per_second:.2f}/s, sent {summary.sent_per_second:.2f}/s, completed "
        f"{summary.completed_per_second:.2f}/s; {summary.in_flight_mean:.1f} under way on average",
        f"tokens/s: {_number(summary.prompt_tokens_per_second)} in, {_number(summary.output_tokens_per_second)} out; "
        f"per request {_number(summary.prompt_tokens_mean)} in, {_number(summary.output_tokens_mean)} out",
        "",
        f"{'milliseconds':14}{'p50':>24}{'p90':>24}{'p95':>24}{'p99':>24}",
        *(_line(name, s.percentiles) for name, s in _spreads(summary).items() if s.count),
    ]
    if any(value is not None for value in summary.itl_percentiles.values()):
        cells = "".join(f"{_milliseconds(value):>24}" for value in summary.itl_percentiles.values())
        lines.append(f"{'between chunks':14}{cells}")
    lines += ["", *_judged(summary, objective)]
    return "\n".join(lines)


def _spreads(summary: Summary) -> Mapping[str, Spread]:
    return {"first token": summary.ttft, "per token": summary.tpot, "whole": summary.e2e}


def _line(name: str, percentiles: Mapping[float, Estimate]) -> str:
    cells = []
    for found in percentiles.values():
        around = f" ({_milliseconds(found.low)}–{_milliseconds(found.high)})"
        cells.append(f"{_milliseconds(found.value) + around:>24}")
    return f"{name:14}{''.join(cells)}"


def _milliseconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{1000 * seconds:.4g}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.5g}"


def _judged(summary: Summary, objective: Objective) -> list[str]:
    good = summary.good_ratio
    limits = {
        "first token": objective.ttft_seconds,
        "per token": objective.tpot_seconds,
        "whole": objective.e2e_seconds,
    }
    asked = ", ".join(f"{name} within {seconds:g} s" for name, seconds in limits.items() if seconds is not None)
    lines = []
    if good.value is not None and good.low is not None and good.high is not None:
        lines.append(
            f"good requests ({asked or 'completed'}): {100 * good.value:.2f} % ({100 * good.low:.2f}–"
            f"{100 * good.high:.2f}), {summary.good_per_second:.2f}/s"
        )
    if summary.saturated:
        lines.append("requests pile up: the server does not keep up with this rate")
    lines += [f"doubt: {doubt}" for doubt in summary.doubts]
    return lines
