"""Recordings of engines under load (tests/data/loads): what was asked of them, and what the agent makes of them."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane.analysis.distributions import increase
from control_plane.model.sample import Distribution
from node_agent.collectors.engines.mapping import read_values
from node_agent.collectors.engines.registry import ENGINES, WANTED, identify
from node_agent.collectors.exposition import read
from node_agent.model import Histogram, Value

FOLDER = Path(__file__).parents[1] / "tests" / "data" / "loads"
# What the load generator measured of each request, and our field.
LATENCIES = {"ttft": "ttft_seconds", "tpot": "time_per_output_token_seconds", "e2e": "end_to_end_seconds"}
_FIRST_TOKEN = 300  # the load generator drew token numbers from here to the size of its vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One server, one load."""

    name: str
    pages: Sequence[tuple[int, bytes]]  # seconds since the traffic began, and the body of /metrics
    summary: Mapping[str, Any]  # empty where the load generator's was not kept
    gpu_rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a load was, or what was counted of it; None is unknown."""

    requests: float | None
    prompt_tokens: float | None
    output_tokens: float | None
    errors: float | None


def recordings() -> list[Recording]:
    """This will read all of them, by name."""
    return [_read(path) for path in sorted(FOLDER.glob("*.tar.xz"))]


def _read(path: Path) -> Recording:
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r:xz") as archive:
        files = {each.name: file.read() for each in archive if (file := archive.extractfile(each)) is not None}
    return Recording(
        name=path.name.removesuffix(".tar.xz"),
        pages=[(int(name.removesuffix(".prom")), files[name]) for name in sorted(files) if name.endswith(".prom")],
        summary=json.loads(files.get("summary.json", b"{}")),
        gpu_rows=[json.loads(line) for line in files.get("gpu.jsonl", b"").splitlines()],
    )


def asked(recording: Recording) -> Counts:
    """This will give what the clients sent and got, the tokens by drawing their lengths once more."""
    arguments, requests = recording.summary["args"], int(recording.summary["completed"])
    drawn = random.Random(arguments["seed"])

    def length(key: str) -> int:
        low, _, high = str(arguments[key]).partition(":")
        return drawn.randint(int(low), int(high or low))

    assert not arguments["prefix"], "shared prefixes are drawn before the first request"
    prompt = output = 0
    for _ in range(requests):
        if arguments["rate"]:
            drawn.expovariate(arguments["rate"])  # when the next one starts
        this_prompt, this_output = length("in_len"), length("out_len")
        for _ in range(this_prompt):
            drawn.randrange(_FIRST_TOKEN, arguments["vocab"])
        prompt, output = prompt + this_prompt, output + this_output
    errors = sum(recording.summary["errors"].values())
    return Counts(requests=requests, prompt_tokens=prompt, output_tokens=output, errors=errors)


def counted(recording: Recording) -> Counts:
    """This will give what the agent read between the first page and the last."""
    first, last = (parsed(body) for _, body in (recording.pages[0], recording.pages[-1]))

    def gained(name: str) -> float | None:
        before, after = first[name], last[name]
        if not isinstance(after, int | float):
            return None
        return after - before if isinstance(before, int | float) else after  # not exposed before its first increment

    aborted, failed = gained("requests_aborted_total"), gained("requests_failed_total")
    return Counts(
        requests=gained("requests_finished_total"),
        prompt_tokens=gained("prompt_tokens_total"),
        output_tokens=gained("generation_tokens_total"),
        errors=None if aborted is None or failed is None else aborted + failed,
    )


def observed(recording: Recording, field: str) -> Distribution | None:
    """This will give a distribution of all requests of the load."""
    first, last = (_distribution(parsed(body)[field]) for _, body in (recording.pages[0], recording.pages[-1]))
    return None if last is None else increase(first, last)


def parsed(body: bytes) -> Mapping[str, Value]:
    """This will read a page as the agent does."""
    name = identify(body)
    assert name is not None
    return read_values(ENGINES[name], read(body, WANTED[name])).values


def _distribution(value: Value) -> Distribution | None:
    if not isinstance(value, Histogram):
        return None
    return Distribution(bounds=value.bounds, counts=value.counts, sum=value.sum)
