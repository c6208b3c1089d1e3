"""What inference servers did, summed up by server and stretch of time, from where their counters stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from control_plane.analysis.utilization.looks import SECOND_US, Flags, Integers, Numbers

# Fields of `inference` that are read; `ttft_seconds_count` is the number of observations of a histogram.
GAUGES = ("requests_running_count", "requests_waiting_count", "kv_cache_usage_ratio")
COUNTERS = (
    "requests_finished_total", "requests_failed_total", "requests_aborted_total", "prompt_tokens_total",
    "prompt_tokens_live_total", "generation_tokens_total", "generation_tokens_live_total", "prompt_tokens_cached_total",
    "ttft_seconds_sum", "ttft_seconds_count", "inter_token_latency_seconds_sum", "inter_token_latency_seconds_count",
)  # fmt: skip
FIELDS = ("up_flag", "counters_since_unix_seconds", *GAUGES, *COUNTERS)
# Beyond this nobody knows in which stretch something grew.
MOST_APART_SECONDS = 90.0
MINUTE_US = 60 * SECOND_US


def server_cells(
    server_ids: Integers, taken_at_us: Integers, columns: Mapping[str, Numbers], *, of: Sequence[int],
    since_us: int, until_us: int,
) -> Mapping[str, Numbers]:  # fmt: skip
    """This will sum up what the servers `of` did in one stretch, from samples in the order of server and time.

    Samples from before the stretch are needed to know where counters stood. Gives the columns of SERVER_USE.
    """
    ids = np.asarray(of, np.int64)
    place = np.searchsorted(ids, server_ids)
    known = (place < len(ids)) & (ids[np.minimum(place, max(len(ids) - 1, 0))] == server_ids if len(ids) else False)
    inside = known & (taken_at_us > since_us) & (taken_at_us <= until_us)
    follows = np.zeros(len(server_ids), bool)
    follows[1:] = server_ids[1:] == server_ids[:-1]
    seconds = np.zeros(len(server_ids))
    seconds[1:] = np.where(follows[1:], np.diff(taken_at_us) / SECOND_US, 0.0)
    close = follows & (seconds <= MOST_APART_SECONDS)
    span = np.where(close & inside, np.minimum(seconds, (taken_at_us - since_us) / SECOND_US), 0.0)
    up = columns["up_flag"] == 1
    sums = _Sums(at=place, inside=inside, count=len(ids))
    grown = {name: _growth(columns, name, close & up) for name in COUNTERS}
    counted = ~np.isnan(grown["requests_finished_total"])
    arrived = _arrived(columns, grown, close)
    out = {
        "observed_seconds": sums.of(span),
        "up_seconds": sums.of(span * up),
        "counted_seconds": sums.of(span * counted),
        "requests_finished": sums.known(grown["requests_finished_total"]),
        "requests_failed": sums.known(np.nan_to_num(grown["requests_failed_total"]) + grown["requests_aborted_total"]),
        "requests_arrived": sums.known(arrived),
        "requests_arrived_minute_peak": _peaks(sums, taken_at_us, arrived),
        "prompt_tokens": sums.known(_either(grown, "prompt_tokens_live_total", "prompt_tokens_total")),
        "output_tokens": sums.known(_either(grown, "generation_tokens_live_total", "generation_tokens_total")),
        "cached_tokens": sums.known(grown["prompt_tokens_cached_total"]),
        "ttft_seconds_sum": sums.known(grown["ttft_seconds_sum"]),
        "ttft_count": sums.known(grown["ttft_seconds_count"]),
        "inter_token_seconds_sum": sums.known(grown["inter_token_latency_seconds_sum"]),
        "inter_token_count": sums.known(grown["inter_token_latency_seconds_count"]),
    }
    for name, gauge in zip(("requests_running", "requests_waiting", "kv_cache_usage"), GAUGES, strict=True):
        out[f"{name}_sum"] = sums.of(np.nan_to_num(columns[gauge]) * span)
    out["load_seconds"] = sums.of(span * ~np.isnan(columns["requests_running_count"]))
    return out


class _Sums:
    """Sums by server over the samples inside."""

    def __init__(self, *, at: Integers, inside: Flags, count: int) -> None:
        self.inside, self.count = inside, count
        self.at = at[inside]

    def of(self, values: Numbers) -> Numbers:
        """This will sum what is known everywhere."""
        return np.bincount(self.at, weights=values[self.inside], minlength=self.count).astype(np.float64)

    def known(self, values: Numbers) -> Numbers:
        """This will sum what is known; NaN for a server of which nothing was."""
        mine = values[self.inside]
        is_known = ~np.isnan(mine)
        total = np.bincount(self.at[is_known], weights=mine[is_known], minlength=self.count)
        return np.where(np.bincount(self.at[is_known], minlength=self.count) > 0, total, np.nan)


def _growth(columns: Mapping[str, Numbers], name: str, close: Flags) -> Numbers:
    """This will give how much a counter grew since the sample before; what stands after a restart has grown since."""
    values, began = columns[name], columns["counters_since_unix_seconds"]
    grown = np.full(len(values), np.nan)
    change = values[1:] - values[:-1]
    # The start of a process is known to some seconds only; a later one by more than that is a restart.
    anew = (began[1:] - began[:-1] > 5.0) | (change < 0)
    grown[1:] = np.where(close[1:], np.where(anew, values[1:], change), np.nan)
    return grown


def _either(grown: Mapping[str, Numbers], live: str, at_the_end: str) -> Numbers:
    return np.where(np.isnan(grown[live]), grown[at_the_end], grown[live])


def _arrived(columns: Mapping[str, Numbers], grown: Mapping[str, Numbers], close: Flags) -> Numbers:
    """This will give how many requests came: those that ended, and those more that are there now.

    Ended ones alone hide an overload: while it lasts, few end.
    """
    there = np.nan_to_num(columns["requests_running_count"]) + np.nan_to_num(columns["requests_waiting_count"])
    more = np.zeros(len(there))
    more[1:] = np.where(close[1:], there[1:] - there[:-1], 0.0)
    ended = grown["requests_finished_total"] + np.nan_to_num(grown["requests_failed_total"])
    ended = ended + np.nan_to_num(grown["requests_aborted_total"])
    return np.maximum(ended + more, 0.0)


def _peaks(sums: _Sums, taken_at_us: npt.NDArray[np.int64], arrived: Numbers) -> Numbers:
    """This will give the most requests that came to each server within one minute of the clock."""
    mine, minute = arrived[sums.inside], taken_at_us[sums.inside] // MINUTE_US
    if not len(mine):
        return np.full(sums.count, np.nan)
    minute = minute - minute.min()
    width = int(minute.max()) + 1
    is_known = ~np.isnan(mine)
    at = sums.at[is_known] * width + minute[is_known]
    by_minute = np.bincount(at, weights=mine[is_known], minlength=sums.count * width).reshape(sums.count, width)
    any_known = np.bincount(sums.at[is_known], minlength=sums.count) > 0
    return np.where(any_known, by_minute.max(axis=1), np.nan)
