"""`optiinfra diagnose`: verdicts from a folder of saved /metrics, without a control plane or a database.

The folder holds `0000.prom`, `0005.prom`, … (or `.prom.gz`): answers of one server's /metrics, named by the
seconds since the first; and, if there is one, `gpu.jsonl`: one line per GPU and look, `t` in seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from control_plane.analysis.bottlenecks.gpu_facts import (
    HEAT_REASONS,
    PCIE_BYTES_PER_SECOND,
    POWER_CAP_REASON,
    GpuLook,
)
from control_plane.analysis.bottlenecks.timeline import Judged, Recorded, timeline
from control_plane.model.bottleneck import Bottleneck
from control_plane.model.errors import InvalidRequest
from control_plane.model.sample import Distribution, Reading

ReadExposition = Callable[[Path], Mapping[str, Any] | None]

_NAME = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\.prom(?:\.gz)?")
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_SNAPSHOTS = 100_000
_MEBIBYTE = 1024 * 1024
# One direction of one NVLink of Hopper and later; what `nvlink_l0_*` is a part of.
_NVLINK_BYTES_PER_SECOND = 25e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What was found in a recording's folder."""

    engine: str | None
    models: Sequence[str]
    recorded: Recorded
    skipped: Sequence[str]  # what could not be read, and why


def load(path: Path, read_exposition: ReadExposition) -> Folder:
    """This will read a folder. Raises InvalidRequest when it holds nothing to judge."""
    if not path.is_dir():
        raise InvalidRequest(f"{path} is no folder; name one that holds 0000.prom, 0005.prom, …")
    skipped: list[str] = []
    snapshots = [(seconds, _read(file, read_exposition, skipped)) for seconds, file in _files(path)]
    looks = list(_gpu_looks(path / "gpu.jsonl", skipped))
    known = [found for _, found in snapshots if found is not None]
    engines = {found["engine"] for found in known}
    if len(engines) > 1:
        raise InvalidRequest(f"{path} mixes servers of {' and '.join(sorted(engines))}; judge one at a time")
    if len(known) < 2 and len(looks) < 2:
        why = f" ({skipped[0]})" if skipped else ""
        raise InvalidRequest(
            f"{path} holds {len(known)} readable answers of an engine's /metrics{why}; two are the least, "
            "named by seconds: 0000.prom, 0005.prom, …"
        )
    config = known[-1]["config"] if known else {}
    return Folder(
        engine=next(iter(engines), None),
        models=known[-1]["models"] if known else (),
        skipped=skipped,
        recorded=Recorded(
            readings=[_reading(seconds, found) for seconds, found in snapshots],
            gpu_looks=looks,
            max_num_seqs=_number(config.get("max_num_seqs") or config.get("max_running_requests")),
            prefix_caching=config.get("enable_prefix_caching"),
        ),
    )


def as_json(folder: Folder) -> str:
    """This will give the verdicts for programs."""
    judged = timeline(folder.recorded)
    cannot_tell = judged[-1].verdict.cannot_tell if judged else {}
    document = {
        "engine": folder.engine,
        "models": list(folder.models),
        "windows": [_window(each) for each in judged],
        "cannot_tell": dict(cannot_tell),
        "skipped": list(folder.skipped),
    }
    return json.dumps(document, indent=1)


def as_text(folder: Folder) -> str:
    """This will give the verdicts for people: spells of the same verdict, each with its evidence and remedies."""
    judged = timeline(folder.recorded)
    lines = [f"{folder.engine or 'no engine seen'} {', '.join(folder.models)}".rstrip()]
    begin = 0
    while begin < len(judged):
        end = begin
        while end < len(judged) and judged[end].verdict.bottleneck is judged[begin].verdict.bottleneck:
            end += 1
        lines += _spell(judged[begin:end])
        begin = end
    if judged and judged[-1].verdict.cannot_tell:
        names = ", ".join(sorted(judged[-1].verdict.cannot_tell))
        lines.append(f"cannot be told apart here: {names}: {next(iter(judged[-1].verdict.cannot_tell.values()))}")
    lines += [f"skipped: {what}" for what in folder.skipped]
    return "\n".join(lines)


def _spell(spell: Sequence[Judged]) -> Iterator[str]:
    strongest = max(spell, key=lambda each: each.verdict.score)
    verdict = strongest.verdict
    runner_up = f", then {verdict.runner_up} {verdict.runner_up_score:.2f}" if verdict.runner_up else ""
    span = f"{_seconds(spell[0].since):g}-{_seconds(spell[-1].until):g} s"
    yield f"{span:>14}  {verdict.bottleneck} {verdict.score:.2f}{runner_up}"
    if verdict.bottleneck is Bottleneck.IDLE:
        return
    for each in verdict.evidence:
        yield f"{'':16}{each.name} {each.value:.4g} {each.unit}: {each.means}"
    for remedy in verdict.remedies:
        yield f"{'':16}→ {remedy}"


def _window(judged: Judged) -> dict[str, object]:
    verdict = judged.verdict
    return {
        "from_seconds": _seconds(judged.since),
        "to_seconds": _seconds(judged.until),
        "bottleneck": verdict.bottleneck,
        "runner_up": verdict.runner_up,
        "score": verdict.score,
        "evidence": [{"name": e.name, "value": e.value, "unit": e.unit, "means": e.means} for e in verdict.evidence],
        "remedies": list(verdict.remedies),
    }


def _seconds(at: datetime) -> float:
    return (at - _BEGIN).total_seconds()


def _files(path: Path) -> list[tuple[float, Path]]:
    named = [(float(match[1]), file) for file in path.iterdir() if (match := _NAME.fullmatch(file.name))]
    if len(named) > _MOST_SNAPSHOTS:
        raise InvalidRequest(f"{path} holds {len(named)} snapshots; at most {_MOST_SNAPSHOTS} are judged at once")
    return sorted(named)


def _read(file: Path, read_exposition: ReadExposition, skipped: list[str]) -> Mapping[str, Any] | None:
    try:
        found = read_exposition(file)
    except (OSError, EOFError) as error:  # EOFError: a compressed file that was cut off
        skipped.append(f"{file.name}: {getattr(error, 'strerror', None) or error}")
        return None
    if found is None:
        skipped.append(f"{file.name}: not the metrics of an inference server that is known (vLLM, SGLang, TGI)")
    return found


def _reading(seconds: float, found: Mapping[str, Any] | None) -> Reading:
    """This will give a reading; one that could not be read is a server that did not answer."""
    at = _BEGIN + timedelta(seconds=seconds)
    if found is None:
        return Reading(entity_id=0, taken_at=at, values={"up_flag": 0.0}, unknown={})
    return Reading(
        entity_id=0,
        taken_at=at,
        values=found["values"],
        unknown=found["unknown"],
        distributions={
            name: Distribution(bounds=tuple(h["bounds"]), counts=tuple(h["counts"]), sum=h["sum"])
            for name, h in found["histograms"].items()
        },
    )


def _gpu_looks(path: Path, skipped: list[str]) -> Iterator[tuple[datetime, GpuLook]]:
    """This will read a recording of GPUs; its first look is taken for the moment of the first snapshot."""
    if not path.is_file():
        return
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            row = json.loads(line)
            float(row["t"])
        except (ValueError, TypeError, KeyError):
            skipped.append(f"{path.name}: line {number} is no JSON object with a number t")
            continue
        rows.append(row)
    highest_clock = max((clock for row in rows if (clock := _number(row.get("sm_mhz")))), default=None)
    began = min((float(row["t"]) for row in rows), default=0.0)
    for row in sorted(rows, key=lambda row: float(row["t"])):
        yield _BEGIN + timedelta(seconds=float(row["t"]) - began), _look(row, highest_clock)


def _look(row: Mapping[str, Any], highest_clock: float | None) -> GpuLook:
    reasons, clock, power = row.get("reasons"), _number(row.get("sm_mhz")), _number(row.get("power_mw"))
    link, capacity = _link(row)
    return GpuLook(
        gpu=str(row.get("uuid") or row.get("gpu", 0)),
        classic_utilization=_share(row, "util_gpu"),
        sm_active=_share(row, "sm_util"),
        tensor_active=_share(row, "any_tensor_util"),
        dram_active=_share(row, "dram_bw_util"),
        link_bytes_per_second=link,
        link_capacity_bytes_per_second=capacity,
        sm_clock_share=None if clock is None or not highest_clock else clock / highest_clock,
        slowed_by_heat=bool(reasons & HEAT_REASONS) if isinstance(reasons, int) else None,
        at_power_cap=bool(reasons & POWER_CAP_REASON) if isinstance(reasons, int) else None,
        power_watts=None if power is None else power / 1000,
    )


def _link(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """This will give the busier link's bytes per second in its busier direction, and what it can carry."""
    pcie = max((_rate(row, f"pcie_{way}_per_sec") or 0.0) for way in ("tx", "rx"))
    nvlink = max((_rate(row, f"nvlink_total_{way}_per_sec") or 0.0) for way in ("tx", "rx"))
    one = max((_rate(row, f"nvlink_l0_{way}_per_sec") or 0.0) for way in ("tx", "rx"))
    if nvlink > 0 and one > 0:
        return nvlink, nvlink / one * _NVLINK_BYTES_PER_SECOND
    if nvlink > pcie:
        return nvlink, None
    known = any(name.startswith("pcie_") for name in row)
    return (pcie, PCIE_BYTES_PER_SECOND) if known else (None, None)


def _rate(row: Mapping[str, Any], name: str) -> float | None:
    mebibytes = _number(row.get(name))
    return None if mebibytes is None else mebibytes * _MEBIBYTE


def _share(row: Mapping[str, Any], name: str) -> float | None:
    percent = _number(row.get(name))
    return None if percent is None or not 0 <= percent <= 100.5 else percent / 100


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
