"""What a host of the simulated fleet shows: 8 GPUs as an H200 is read, 64 cores, and two engines as a real vLLM is.

The engines' fields and histograms are those of a recorded page of vLLM on an H200, grown by chance for each node:
random bits would tell nothing of how rows compress. What that page does not expose is unknown here too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from node_agent.clock import Instant
from node_agent.collectors.engines.mapping import read_values
from node_agent.collectors.engines.registry import ENGINES, WANTED
from node_agent.collectors.exposition import read
from node_agent.model import CollectorReport, Entity, EntityKind, Histogram, Outcome, Reason, Sample, Tick, Value
from optiinfra.catalogue import TABLES, FieldSpec

GPUS, ENGINES_PER_HOST, CORES = 8, 2, 64
ROWS = 1 + GPUS + ENGINES_PER_HOST
# Values beyond this would be no more telling: counters of a machine that has run for a while.
LARGEST = 1e12
# What alerts look at is as it is on a host that is well; on one node of so many it is by chance, and alerts fire.
ONE_SICK_NODE_IN = 50
WELL: Mapping[str, tuple[float, float]] = {
    "temperature_gpu_celsius": (45, 70), "temperature_memory_celsius": (50, 80), "clock_event_reasons_bits": (0, 0),
}  # fmt: skip
PAGE = Path(__file__).parents[1] / "tests/data/engines/vllm-h200-prefill/0041.prom"


@cache
def _page() -> Mapping[str, Value]:
    return read_values(ENGINES["vllm"], read(PAGE.read_bytes(), WANTED["vllm"])).values


def _grown(value: Value, chance: random.Random) -> Value:
    factor = chance.randrange(1, 500)
    match value:
        case Histogram(bounds=bounds, counts=counts, sum=total):
            return Histogram(bounds=bounds, counts=tuple(c * factor for c in counts), sum=total * factor)
        case int():
            return value * factor
        case _:
            return value


def _value(field: FieldSpec, chance: random.Random) -> Value:
    assert field.minimum is not None
    assert field.maximum is not None
    top = min(field.maximum, LARGEST)
    if field.type == "real[]":
        return tuple(chance.uniform(field.minimum, top) for _ in range(CORES))
    if field.type == "bigint":
        return chance.randrange(int(field.minimum), int(top))
    return chance.uniform(field.minimum, top)


def _values(table: str, chance: random.Random, *, is_well: bool) -> dict[str, Value]:
    if table != "inference":
        values = {field.name: _value(field, chance) for field in TABLES[table].fields}
        well = {name: float(round(chance.uniform(*limits))) for name, limits in WELL.items() if name in values}
        return values | (well if is_well else {})
    of_the_scrape: dict[str, Value] = {"up_flag": 1.0, "scrape_seconds": 0.01, "counters_since_unix_seconds": 1.7e9}
    return of_the_scrape | {name: _grown(value, chance) for name, value in _page().items()}


def _entities(node: int) -> Iterator[tuple[str, Entity]]:
    yield "host", Entity(kind=EntityKind.NODE, key="node", attributes={"cpu": "a CPU"})
    for gpu in range(GPUS):
        attributes: dict[str, object] = {"index": gpu, "name": "NVIDIA H200"}
        yield "gpu", Entity(kind=EntityKind.GPU, key=f"GPU-{node:06d}-{gpu}", attributes=attributes)
    for engine in range(ENGINES_PER_HOST):
        attributes = {"engine": "vllm", "model": "a/model", "state": "up"}
        url = f"http://127.0.0.1:{8000 + engine}"
        yield "inference", Entity(kind=EntityKind.INFERENCE_SERVER, key=url, attributes=attributes)


def tick(node: int, now: Instant) -> Tick:
    """This will make what a host sees at one moment."""
    chance = random.Random(node)
    named = list(_entities(node))
    return Tick(
        taken_at=now,
        entities=[entity for _, entity in named],
        samples=[
            Sample(
                table=table,
                entity=(entity.kind, entity.key),
                values=_values(table, chance, is_well=node % ONE_SICK_NODE_IN != 0),
            )
            for table, entity in named
        ],
        reports=[
            CollectorReport(collector=name, outcome=Outcome.OK, duration_seconds=0.01)
            for name in ("system", "gpu", "engine")
        ],
    )


def known_values(seen: Tick) -> int:
    """This will count the numbers in a tick; a histogram's buckets and sum are numbers, unknown values are none."""
    count = 0
    for value in (value for sample in seen.samples for value in sample.values.values()):
        match value:
            case Reason():
                continue
            case Histogram(counts=counts):
                count += len(counts) + 1
            case tuple():
                count += len(value)
            case _:
                count += 1
    return count
