"""`optiinfra predict`: how fast configurations would be, from a table of them; no control plane, database or GPU."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from control_plane.catalogue.machines import machine
from control_plane.decisions.performance.calibrate import Offset, offsets, spread_after
from control_plane.decisions.performance.intervals import NINE_IN_TEN, spread_of
from control_plane.decisions.performance.model_config import architecture
from control_plane.decisions.performance.rows import Case, blocks, case_of, gathered
from control_plane.decisions.performance.serving import Served
from control_plane.decisions.performance.shipped import knowledge, model_of
from control_plane.model.architecture import Architecture
from control_plane.model.errors import InvalidRequest

COLUMNS = ("tpot_ms", "tpot_low", "tpot_high", "ttft_ms", "memory_bytes", "max_concurrency", "note")
MOST_ROWS = 1_000_000
MILLI = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What is predicted for one row, or why nothing is."""

    served: Served | None
    spread: float | None  # standard deviation of the log of the time per token
    kv_bytes: float = 0.0  # on each GPU, of the requests that run at once
    note: str = ""


def read_models(folder: Path | None) -> dict[str, Architecture]:
    """This will read a folder of models: NAME/config.json, or NAME.json with `--` for the owner's slash."""
    found: dict[str, Architecture] = {}
    if folder is None:
        return found
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no folder; name one that holds MODEL/config.json")
    for path in sorted([*folder.rglob("config.json"), *folder.glob("*.json")]):
        name = str(path.parent.relative_to(folder)) if path.name == "config.json" else path.stem
        name = name.removesuffix("_config").replace("--", "/")
        try:
            found[name.lower()] = architecture(json.loads(path.read_text(encoding="utf-8")), name=name)
        except (ValueError, AttributeError, TypeError) as error:
            raise InvalidRequest(f"{path} is no model's config.json: {error}") from error
    return found


def predict(
    rows: Sequence[dict[str, str]], models: dict[str, Architecture], *, measured: Sequence[dict[str, str]] = ()
) -> list[Predicted]:
    """This will predict every row; one that cannot be understood gets a note instead.

    Rows of `measured` have `measured_tpot_ms` too: they correct the rows of the same model, engine, release, GPU and
    format.
    """
    out, cases = _told(rows, models)
    kept = [row for row in measured if row.get("measured_tpot_ms")]
    sweeps, told, came = [], [], []
    for one, case, row in zip(*_told(kept, models), kept, strict=True):
        if case is not None and one.served is not None:
            sweeps.append(case.sweep)
            told.append(float(np.log(one.served.tpot_seconds)))
            came.append(_measured(row))
    found = offsets(sweeps, told, came)
    return [_corrected(one, found.get(case.sweep) if case else None) for one, case in zip(out, cases, strict=True)]


def _measured(row: dict[str, str]) -> float:
    try:
        value = float(row["measured_tpot_ms"])
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise InvalidRequest(f"measured_tpot_ms is {row['measured_tpot_ms'][:40]!r}; milliseconds above 0 are expected")
    return float(np.log(value / MILLI))


def _corrected(one: Predicted, offset: Offset | None) -> Predicted:
    if offset is None or one.served is None or one.spread is None:
        return one
    served = replace(one.served, tpot_seconds=float(one.served.tpot_seconds) * float(np.exp(offset.log)))
    note = f"corrected by {float(np.expm1(offset.log)):+.1%} from {offset.rows} measured rows"
    return replace(
        one, served=served, spread=spread_after(one.spread, offset), note="; ".join(filter(None, (one.note, note)))
    )


def _told(rows: Sequence[dict[str, str]], models: dict[str, Architecture]) -> tuple[list[Predicted], list[Case | None]]:

    def find_model(name: str) -> Architecture | None:
        return models.get(name.lower()) or model_of(name)

    cases: list[Case] = []
    places: list[int] = []
    understood: list[Case | None] = [None] * len(rows)
    out = [Predicted(served=None, spread=None)] * len(rows)
    for place, row in enumerate(rows):
        try:
            understood[place] = case = case_of(row, find_model=find_model, find_machine=machine)
            cases.append(case)
            places.append(place)
        except ValueError as error:
            out[place] = Predicted(served=None, spread=None, note=str(error))
    groups, known_constants = blocks(cases), knowledge()
    served = gathered(groups, known_constants.constants, len(cases))
    spreads = spread_of(groups, known_constants, len(cases)) if cases else np.zeros(0)
    for place, case, one, spread in zip(places, cases, served, spreads, strict=True):
        running = min(case.concurrency, float(one.memory.max_concurrency)) / case.data_parallel
        out[place] = Predicted(
            served=one, spread=float(spread), kv_bytes=running * float(one.memory.per_request), note=_note(case, one)
        )
    return out, understood


def _note(case: Case, served: Served) -> str:
    found = []
    if case.model.guessed:
        found.append(f"model guessed ({case.model.source})")
    if not case.machine.listed:
        found.append("GPU not listed: the middle of those that are")
    elif not case.machine.rates_measured:
        found.append("kernels of another GPU generation stand in")
    if served.memory.room <= 0:
        found.append("does not fit into memory; as fast as if it did")
    elif case.concurrency > served.memory.max_concurrency:
        found.append("more requests than fit: the rest waits")
    return "; ".join(found)


def read_rows(path: Path) -> list[dict[str, str]]:
    """This will read a CSV file, plain or gzipped. Raises InvalidRequest in words."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as CSV: {error}") from error
    reader = csv.DictReader(io.StringIO(text))
    wanted = {"model", "system", "isl", "osl"}
    if missing := wanted - set(reader.fieldnames or ()):
        raise InvalidRequest(f"{path} has no column {', '.join(sorted(missing))}")
    rows = [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
    if len(rows) > MOST_ROWS:
        raise InvalidRequest(f"{path} has {len(rows)} rows; {MOST_ROWS} are the most")
    return rows


def write(rows: Sequence[dict[str, str]], predicted: Sequence[Predicted]) -> str:
    """This will write the rows with their predictions beside them, as CSV."""
    out = io.StringIO()
    names = [name for name in rows[0] if name not in COLUMNS] if rows else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *COLUMNS])
    for row, one in zip(rows, predicted, strict=True):
        writer.writerow([*(row[name] for name in names), *_cells(one)])
    return out.getvalue()


def _cells(one: Predicted) -> tuple[str, ...]:
    if one.served is None or one.spread is None:
        return ("", "", "", "", "", "", one.note)
    served, factor = one.served, float(np.exp(NINE_IN_TEN * one.spread))
    tpot = float(served.tpot_seconds) * MILLI
    memory = float(served.memory.weights) + float(served.memory.runtime) + one.kv_bytes
    return (
        f"{tpot:.5g}", f"{tpot / factor:.5g}", f"{tpot * factor:.5g}", f"{float(served.ttft_seconds) * MILLI:.5g}",
        f"{memory:.0f}", f"{float(served.memory.max_concurrency):.0f}", one.note,
    )  # fmt: skip
