"""What GPUs and inference servers did, summed up five minutes by five minutes, and again where samples came late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from control_plane.analysis.utilization import servers as serving
from control_plane.analysis.utilization.cells import gpu_cells
from control_plane.analysis.utilization.existence import paid
from control_plane.analysis.utilization.judging import judge
from control_plane.analysis.utilization.looks import FIELDS, SECOND_US, Looks, spans, usual_interval_us, within
from control_plane.analysis.utilization.owners import owners
from control_plane.analysis.waste.division import divided
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.use import SERVER_USE, Cells, Owner
from control_plane.storage import entities, moments, sample_rows, use
from control_plane.storage.sample_rows import SampleRows, Stretch
from control_plane.storage.session import SyncConnection

# What a look says hangs on those beside it; and the look after the end speaks for a part of the slot.
BEFORE_US, AFTER_US = 90 * SECOND_US, 60 * SECOND_US
# A gauge of a server that is older than this says nothing about its GPU's look.
MOST_AGE_US = 30 * SECOND_US


def sum_up(connection: SyncConnection, start_us: int, node_ids: Sequence[int] | None = None) -> None:
    """This will write one slot's cells inside the caller's transaction, in place of those that are there.

    None for `node_ids` means of all nodes.
    """
    gpus = entities.every(connection, EntityKind.GPU, node_ids)
    servers = entities.every(connection, EntityKind.INFERENCE_SERVER, node_ids)
    served = _read(connection, "inference", serving.FIELDS, start_us, servers if node_ids is not None else None)
    looked = _read(connection, "gpu", FIELDS, start_us, gpus if node_ids is not None else None)
    there = [server for server in servers if server.attributes.get("state") != "gone"]
    of = owners(gpus, there)
    numbers = use.owner_ids(connection, of.values())
    for kind in ("gpu", "server"):
        use.erase(connection, kind, "slot", start_us, node_ids)
    use.write(connection, "gpu", "slot", _gpu_cells(looked, served, gpus, of, numbers, start_us))
    use.write(connection, "server", "slot", _server_cells(served, servers, start_us))


def _read(
    connection: SyncConnection, table: str, names: Sequence[str], start_us: int, of: Sequence[Entity] | None
) -> SampleRows:
    stretch = Stretch(
        since_us=start_us - BEFORE_US,
        until_us=start_us + use.SLOT_US + AFTER_US,
        entity_ids=None if of is None else [entity.entity_id for entity in of],
    )
    return sample_rows.read(connection, table, names, stretch)


def _gpu_cells(
    rows: SampleRows, served: SampleRows, gpus: Sequence[Entity], of: Mapping[int, Owner],
    numbers: Mapping[Owner, int], start_us: int,
) -> Cells:  # fmt: skip
    end_us = start_us + use.SLOT_US
    columns = {name: np.asarray(values, np.float64) for name, values in rows.columns.items()}
    ids = rows.entity_ids.astype(np.int64)
    columns["requests_running_count"] = _running(ids, rows.taken_at_us, served, of)
    looks = Looks(gpu_ids=ids, taken_at_us=rows.taken_at_us, columns=columns)
    judged = judge(looks)
    whole = spans(looks, interval_us=usual_interval_us(looks))
    times = within(whole, since_us=start_us, until_us=end_us)
    allocated = {gpu_id: owner.allocated for gpu_id, owner in of.items()}
    division = divided(looks, judged, whole, times, allocated=allocated)
    known = np.array([gpu.entity_id for gpu in gpus], np.int64)
    groups = _places(ids, known)
    groups = np.where(times.ends_us > times.starts_us, groups, -1)
    # Samples may be older than the moment at which a GPU was first announced here: it was there from the first on.
    earliest = np.full(len(gpus), end_us, np.int64)
    seen = groups >= 0
    np.minimum.at(earliest, groups[seen], times.starts_us[seen])
    observed = np.bincount(groups[seen], weights=times.seconds[seen], minlength=len(gpus))
    paid_seconds = np.maximum(_overlap(gpus, start_us, end_us, earliest), observed)
    cells = Cells(
        starts_us=np.full(len(gpus), start_us, np.int64),
        node_ids=np.array([gpu.node_id for gpu in gpus], np.int64),
        entity_ids=known,
        owner_ids=np.array([numbers[of[gpu.entity_id]] for gpu in gpus], np.int64),
        columns=gpu_cells(looks, judged, division, groups=groups, paid_seconds=paid_seconds),
    )
    return _only(cells, paid_seconds > 0)


def _running(
    gpu_ids: npt.NDArray[np.int64], taken_at_us: npt.NDArray[np.int64], served: SampleRows, of: Mapping[int, Owner]
) -> npt.NDArray[np.float64]:
    """This will give the requests that each GPU's server was working on at each look; NaN where nobody says."""
    running = np.asarray(served.columns["requests_running_count"], np.float64)
    out = np.full(len(gpu_ids), np.nan)
    for gpu_id, owner in of.items():
        if owner.server_id is None:
            continue
        begin, end = np.searchsorted(gpu_ids, [gpu_id, gpu_id + 1])
        first, last = np.searchsorted(served.entity_ids, [owner.server_id, owner.server_id + 1])
        if begin == end or first == last:
            continue
        at = np.searchsorted(served.taken_at_us[first:last], taken_at_us[begin:end], side="right") - 1
        newest = first + np.maximum(at, 0)
        age = taken_at_us[begin:end] - served.taken_at_us[newest]
        out[begin:end] = np.where((at >= 0) & (age <= MOST_AGE_US), running[newest], np.nan)
    return out


def _places(ids: npt.NDArray[np.int64], known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if not len(known):
        return np.full(len(ids), -1, np.int64)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[place] == ids, place, -1)


def _overlap(
    gpus: Sequence[Entity], start_us: int, end_us: int, earliest_us: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """This will give the seconds of a stretch in which each GPU is paid for; each was there at its earliest look."""
    of = paid(gpus)
    since = [min(moments.to_us(of[g.entity_id][0]), int(at)) for g, at in zip(gpus, earliest_us, strict=True)]
    until = [moments.to_us(of[gpu.entity_id][1]) for gpu in gpus]
    lengths = np.clip(until, start_us, end_us) - np.clip(since, start_us, end_us)
    return np.asarray(np.maximum(lengths, 0) / SECOND_US, np.float64)


def _server_cells(rows: SampleRows, servers: Sequence[Entity], start_us: int) -> Cells:
    columns = serving.server_cells(
        rows.entity_ids.astype(np.int64), rows.taken_at_us,
        {name: np.asarray(values, np.float64) for name, values in rows.columns.items()},
        of=[server.entity_id for server in servers], since_us=start_us, until_us=start_us + use.SLOT_US,
    )  # fmt: skip
    cells = Cells(
        starts_us=np.full(len(servers), start_us, np.int64),
        node_ids=np.array([server.node_id for server in servers], np.int64),
        entity_ids=np.array([server.entity_id for server in servers], np.int64),
        owner_ids=np.full(len(servers), use.NOBODY, np.int64),
        columns={name: columns[name] for name in SERVER_USE},
    )
    return _only(cells, columns["observed_seconds"] > 0)


def _only(cells: Cells, kept: npt.NDArray[np.bool_]) -> Cells:
    return replace(
        cells,
        starts_us=cells.starts_us[kept],
        node_ids=cells.node_ids[kept],
        entity_ids=cells.entity_ids[kept],
        owner_ids=cells.owner_ids[kept],
        columns={name: values[kept] for name, values in cells.columns.items()},
    )
