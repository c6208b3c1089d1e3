"""Values that evolve as a fleet's do, as a tick of an agent and as the series of a remote write: the same numbers.

A node is 8 GPUs, its host with 64 cores and two inference servers; each number of an array or a histogram is a series.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from benchmarks.history import Ticks, block_of
from control_plane.model.sample import SampleBlock
from node_agent.clock import Instant
from node_agent.model import Entity, EntityKind, Histogram, Sample, Tick, Value
from optiinfra.catalogue import TABLES

INTERVAL_US = 5_000_000
GPUS, SERVERS = 8, 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KINDS = {"gpu": EntityKind.GPU, "host": EntityKind.NODE, "inference": EntityKind.INFERENCE_SERVER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Ticks of every node from a moment on, all at the same moments: 5 s apart."""

    start_us: int
    ticks: int

    def at_us(self, tick: int) -> int:
        """This will give the moment of a tick, counted from 0."""
        return self.start_us + tick * INTERVAL_US


def _things(node: int) -> Iterator[tuple[str, str, int]]:
    yield "host", "node", node * 16
    for gpu in range(GPUS):
        yield "gpu", f"GPU-{node:06d}-{gpu}", node * 16 + 1 + gpu
    for server in range(SERVERS):
        yield "inference", f"http://127.0.0.1:{8000 + server}", node * 16 + 1 + GPUS + server


def blocks(node: int, past: Past) -> list[tuple[str, str, SampleBlock]]:
    """This will make all rows of a node: table, key of the thing, rows."""
    ticks = Ticks(start_us=past.start_us, count=past.ticks, interval_us=INTERVAL_US)
    return [
        (table, key, block_of(TABLES[table], node=node, entity=number, ticks=ticks))
        for table, key, number in _things(node)
    ]


def ticks_of(node: int, past: Past) -> Iterator[Tick]:
    """This will give a node's ticks, as its agent makes them."""
    made = blocks(node, past)
    attributes: Mapping[str, dict[str, object]] = {
        "host": {"cpu": "a CPU"}, "gpu": {"name": "NVIDIA H200"},
        "inference": {"engine": "vllm", "model": "a/model", "state": "up"},
    }  # fmt: skip
    entities = [Entity(kind=KINDS[table], key=key, attributes=attributes[table]) for table, key, _ in made]
    for number in range(past.ticks):
        yield Tick(
            taken_at=Instant(wall=_EPOCH, monotonic_seconds=0.0),  # who sends it stamps it
            entities=entities,
            samples=[
                Sample(table=table, entity=(KINDS[table], key), values=_row(block, number))
                for table, key, block in made
            ],
            reports=[],
        )


def _row(block: SampleBlock, number: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for field in block.table.fields:
        if field.type == "histogram":
            found = block.histograms[field.name]
            counts, total = found.counts[number].tolist(), float(found.sums[number])
            values[field.name] = Histogram(bounds=found.bounds, counts=tuple(counts), sum=total)
        elif field.type == "real[]":
            values[field.name] = tuple(block.columns[field.name][number].tolist())
        else:
            value = float(block.columns[field.name][number])
            values[field.name] = int(value) if field.type == "bigint" else value
    return values


def _label(name: str, value: str) -> bytes:
    pair = b"\x0a" + _sized(name.encode()) + b"\x12" + _sized(value.encode())
    return b"\x0a" + _sized(pair)


def _sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def varint(number: int) -> bytes:
    """This will write a number as protobuf and snappy do."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def series(node: int, past: Past) -> Iterator[tuple[bytes, npt.NDArray[np.float64]]]:
    """This will give every series of a node: its labels as remote write has them, sorted, and its values."""
    for table, key, block in blocks(node, past):
        thing = {} if table == "host" else {"gpu" if table == "gpu" else "server": key}
        for field in block.table.fields:
            name = f"optiinfra_{table}_{field.name}"
            if field.type == "histogram":
                found = block.histograms[field.name]
                edges = [*(f"{bound:g}" for bound in found.bounds), "+Inf"]
                counts = np.cumsum(found.counts, axis=1).astype(np.float64)
                for place, edge in enumerate(edges):
                    yield _labels(f"{name}_bucket", node, {**thing, "le": edge}), counts[:, place]
                yield _labels(f"{name}_sum", node, thing), found.sums.astype(np.float64)
            elif field.type == "real[]":
                columns = block.columns[field.name].astype(np.float64)
                for core in range(columns.shape[1]):
                    yield _labels(name, node, {"core": str(core), **thing}), columns[:, core]
            else:
                yield _labels(name, node, thing), block.columns[field.name].astype(np.float64)


def _labels(name: str, node: int, more: Mapping[str, str]) -> bytes:
    labels = {"__name__": name, "node": f"bench-{node:05d}", **more}
    return b"".join(_label(key, labels[key]) for key in sorted(labels))


def write_requests(node: int, past: Past, ticks_at_once: int) -> list[bytes]:
    """This will give a node's remote writes, snappy and all: of each series, so many samples in each."""
    # prometheus/prompb/types.proto: TimeSeries{1: labels, 2: samples}, Sample{1: double value, 2: int64 ms}.
    parts: list[list[bytes]] = [[] for _ in range(0, past.ticks, ticks_at_once)]
    milliseconds = [varint(past.at_us(tick) // 1000) for tick in range(past.ticks)]
    width = len(milliseconds[0])
    layout = np.dtype([
        ("tag", "S2"), ("value_tag", "u1"), ("value", "<f8"), ("time_tag", "u1"), ("time", f"S{width}"),
    ])  # fmt: skip
    for labels, values in series(node, past):
        samples = np.empty(past.ticks, layout)
        samples["tag"], samples["value_tag"], samples["time_tag"] = bytes((0x12, layout.itemsize - 2)), 0x09, 0x10
        samples["value"], samples["time"] = values, milliseconds
        for place, first in enumerate(range(0, past.ticks, ticks_at_once)):
            parts[place].append(b"\x0a" + _sized(labels + samples[first : first + ticks_at_once].tobytes()))
    return [snappy(b"".join(part)) for part in parts]


def values_of(past: Past) -> int:
    """This will count the numbers of a node."""
    return sum(len(values) for _, values in series(0, past))


def snappy(data: bytes) -> bytes:
    """This will frame data as snappy's block format does, in literals: valid, and the quickest to take apart.

    https://github.com/google/snappy/blob/main/format_description.txt
    """
    pieces: Sequence[bytes] = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    return varint(len(data)) + b"".join(b"\xf4" + struct.pack("<H", len(piece) - 1) + piece for piece in pieces)
