"""What GPUs and inference servers did, summed up five minutes by five minutes, and again where samples came late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from control_plane.analysis.utilization import servers as serving
from control_plane.analysis.utilization.cells import gpu_cells
from control_plane.analysis.utilization.existence import paid
from control_plane.analysis.utilization.instances import INSTANCE_FIELDS, Part, divided_looks, parts_of
from control_plane.analysis.utilization.judging import judge
from control_plane.analysis.utilization.looks import (
    FIELDS,
    SECOND_US,
    Looks,
    Spans,
    spans,
    usual_interval_us,
    within,
)
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
_NONE = Looks(gpu_ids=np.zeros(0, np.int64), taken_at_us=np.zeros(0, np.int64), columns={})


def sum_up(connection: SyncConnection, start_us: int, node_ids: Sequence[int] | None = None) -> None:
    """This will write one slot's cells inside the caller's transaction, in place of those that are there.

    None for `node_ids` means of all nodes.
    """
    gpus = entities.every(connection, EntityKind.GPU, node_ids)
    servers = entities.every(connection, EntityKind.INFERENCE_SERVER, node_ids)
    served = _read(connection, "inference", serving.FIELDS, start_us, servers if node_ids is not None else None)
    looked = _read(connection, "gpu", FIELDS, start_us, gpus if node_ids is not None else None)
    instances = entities.every(connection, EntityKind.GPU_INSTANCE, node_ids)
    parts = parts_of(gpus, instances)
    divided_into = [each for each in instances if each.entity_id in {part.instance_id for part in parts}]
    of_instances = _read(connection, "gpu_instance", INSTANCE_FIELDS, start_us, divided_into) if divided_into else None
    there = [server for server in servers if server.attributes.get("state") != "gone"]
    owner_of = _owners_of(parts, gpus, owners([*gpus, *divided_into], there))
    numbers = use.owner_ids(connection, owner_of)
    for kind in ("gpu", "server"):
        use.erase(connection, kind, "slot", start_us, node_ids)
    use.write(
        connection, "gpu", "slot", _gpu_cells(looked, of_instances, served, gpus, parts, owner_of, numbers, start_us)
    )
    use.write(connection, "server", "slot", _server_cells(served, servers, start_us))


def _owners_of(parts: Sequence[Part], gpus: Sequence[Entity], of: Mapping[int, Owner]) -> list[Owner]:
    """This will say of each part who has it: of what no instance covers, nobody."""
    labels = {gpu.entity_id: gpu.node_labels for gpu in gpus}
    return [
        of[part.owner_id] if part.owner_id is not None else Owner(allocated=False, labels=labels[part.gpu_id])
        for part in parts
    ]


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
    rows: SampleRows, of_instances: SampleRows | None, served: SampleRows, gpus: Sequence[Entity],
    parts: Sequence[Part], owner_of: Sequence[Owner], numbers: Mapping[Owner, int], start_us: int,
) -> Cells:  # fmt: skip
    end_us = start_us + use.SLOT_US
    every = _looks(rows)
    running = _running(every.gpu_ids, every.taken_at_us, served, parts, owner_of)
    looks = divided_looks(every, _looks(of_instances) if of_instances is not None else _NONE, parts, running)
    judged = judge(looks.judged_by)
    whole = spans(looks.judged_by, interval_us=usual_interval_us(looks.judged_by))
    times = within(whole, since_us=start_us, until_us=end_us)
    allocated = {place: owner.allocated for place, owner in enumerate(owner_of)}
    shares = np.array([part.share for part in parts], np.float64)[looks.places]
    division = divided(looks.judged_by, judged, whole, times, allocated=allocated).scaled(shares)
    # Parts of one GPU that have one owner are one cell.
    cell_of: dict[tuple[int, int], int] = {}
    at = np.array(
        [
            cell_of.setdefault((part.gpu_id, numbers[owner]), len(cell_of))
            for part, owner in zip(parts, owner_of, strict=True)
        ],
        np.int64,
    )
    groups = np.where(times.ends_us > times.starts_us, at[looks.places], -1)
    observed = np.bincount(
        groups[groups >= 0],
        weights=(division.busy_seconds + division.rest_seconds)[groups >= 0],
        minlength=len(cell_of),
    )
    there = _there(gpus, parts, looks.places, times, start_us)
    share_of_cell = np.bincount(at, weights=[part.share for part in parts], minlength=len(cell_of))
    rows_of = {gpu.entity_id: row for row, gpu in enumerate(gpus)}
    gpu_rows = np.array([rows_of[gpu_id] for gpu_id, _ in cell_of], np.int64)
    paid_seconds = np.maximum(there[gpu_rows] * share_of_cell, observed)
    cells = Cells(
        starts_us=np.full(len(cell_of), start_us, np.int64),
        node_ids=np.array([gpus[row].node_id for row in gpu_rows], np.int64),
        entity_ids=np.array([gpu_id for gpu_id, _ in cell_of], np.int64),
        owner_ids=np.array([owner_id for _, owner_id in cell_of], np.int64),
        columns=gpu_cells(looks.means_of, judged, division, groups=groups, paid_seconds=paid_seconds),
    )
    return cells.taken(paid_seconds > 0)


def _looks(rows: SampleRows) -> Looks:
    columns = {name: np.asarray(values, np.float64) for name, values in rows.columns.items()}
    return Looks(gpu_ids=rows.entity_ids.astype(np.int64), taken_at_us=rows.taken_at_us, columns=columns)


def _there(
    gpus: Sequence[Entity], parts: Sequence[Part], places: npt.NDArray[np.int64], times: Spans, start_us: int
) -> npt.NDArray[np.float64]:
    """This will give the seconds for which each GPU is paid in a slot.

    Samples may be older than the moment at which a GPU was first announced here: it was there from the first on.
    """
    end_us = start_us + use.SLOT_US
    rows_of = {gpu.entity_id: row for row, gpu in enumerate(gpus)}
    at = np.array([rows_of[part.gpu_id] for part in parts], np.int64)[places]
    earliest = np.full(len(gpus), end_us, np.int64)
    seen = times.ends_us > times.starts_us
    np.minimum.at(earliest, at[seen], times.starts_us[seen])
    return _overlap(gpus, start_us, end_us, earliest)


def _running(
    gpu_ids: npt.NDArray[np.int64], taken_at_us: npt.NDArray[np.int64], served: SampleRows, parts: Sequence[Part],
    owner_of: Sequence[Owner],
) -> dict[int, npt.NDArray[np.float64]]:  # fmt: skip
    """This will give, by part, the requests that its server was working on at each look; NaN where nobody says."""
    running = np.asarray(served.columns["requests_running_count"], np.float64)
    out = {}
    for place, (part, owner) in enumerate(zip(parts, owner_of, strict=True)):
        if owner.server_id is None:
            continue
        begin, end = np.searchsorted(gpu_ids, [part.gpu_id, part.gpu_id + 1])
        first, last = np.searchsorted(served.entity_ids, [owner.server_id, owner.server_id + 1])
        if begin == end or first == last:
            continue
        at = np.searchsorted(served.taken_at_us[first:last], taken_at_us[begin:end], side="right") - 1
        newest = first + np.maximum(at, 0)
        age = taken_at_us[begin:end] - served.taken_at_us[newest]
        out[place] = np.where((at >= 0) & (age <= MOST_AGE_US), running[newest], np.nan)
    return out


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
    return cells.taken(columns["observed_seconds"] > 0)
