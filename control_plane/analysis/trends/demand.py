"""What demand was, in equal bins: of each model and server, requests and tokens, and the busiest minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from control_plane.analysis.utilization.looks import Integers, Numbers
from control_plane.model.use import Cells

# What is forecast: name → the column of SERVER_USE. Capacity needs the busiest minute; tokens cost as requests do not.
SERIES: Mapping[str, str] = {
    "requests": "requests_arrived",
    "requests_busiest_minute": "requests_arrived_minute_peak",
    "prompt_tokens": "prompt_tokens",
    "output_tokens": "output_tokens",
}
UNITS: Mapping[str, str] = {
    "requests": "requests in 5 minutes",
    "requests_busiest_minute": "requests in the busiest minute",
    "prompt_tokens": "tokens in 5 minutes",
    "output_tokens": "tokens in 5 minutes",
}
FLEET = ("fleet", "fleet")
Subject = tuple[str, str]  # kind and name


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Demand of subjects over bins: NaN where nobody counted it."""

    subjects: Sequence[Subject]
    starts_us: Integers  # (bins,), each bin_us after the one before
    values: Numbers  # (subjects, SERIES, bins)


def demand(
    cells: Cells, models: Mapping[int, str | None], *, starts_us: Integers, of: Sequence[int] | None = None
) -> Demand:
    """This will lay the cells of the servers `of` (None: those that have any) onto bins, and add them up.

    Of a peak the sum over servers is taken: that all of them have it in the same minute is what capacity must be for.
    """
    servers = np.unique(cells.entity_ids if of is None else np.asarray(of, np.int64))
    of_server = np.full((len(servers), len(SERIES), len(starts_us)), np.nan)
    if len(starts_us) and len(cells) and len(servers):
        at = np.minimum(np.searchsorted(starts_us, cells.starts_us), len(starts_us) - 1)
        row = np.minimum(np.searchsorted(servers, cells.entity_ids), len(servers) - 1)
        inside = (starts_us[at] == cells.starts_us) & (servers[row] == cells.entity_ids)
        for number, column in enumerate(SERIES.values()):
            of_server[row[inside], number, at[inside]] = cells.columns[column][inside]
    named: dict[Subject, list[int]] = {FLEET: list(range(len(servers)))}
    for place, server_id in enumerate(servers):
        model = models.get(int(server_id))
        if model:
            named.setdefault(("model", model), []).append(place)
    subjects = [*named, *(("server", str(server_id)) for server_id in servers)]
    sums = [_together(of_server[places]) for places in named.values()]
    return Demand(
        subjects=subjects,
        starts_us=starts_us,
        values=np.concatenate([np.stack(sums), of_server]) if sums else of_server,
    )


def _together(values: Numbers) -> Numbers:
    """This will add servers up; NaN where nothing is known of any."""
    known = ~np.isnan(values)
    return np.where(known.any(axis=0), np.where(known, values, 0.0).sum(axis=0), np.nan)
