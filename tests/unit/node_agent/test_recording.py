"""Recordings: what an agent saw, on disk, and whole up to wherever it was cut off."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node_agent.clock import Instant
from node_agent.model import CollectorReport, Entity, EntityKind, Outcome, Reason, Sample, Tick, Value
from node_agent.uplink.client import Identity, Outgoing
from node_agent.uplink.recording import LARGEST_MESSAGE, Announced, Recorder, RecordingError, load
from node_agent.uplink.restamp import Restamper
from node_agent.uplink.wire import Encoder, unix_us
from tests.fakes.wire_reader import Reader

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
IDENTITY = Identity(
    agent_id="11111111-2222-3333-4444-555555555555",
    node_name="node-a",
    agent_version="1.2.3",
    epoch=b"e" * 16,
    attributes_json=b'{"kernel":"6.1"}',
)


def instant(seconds: float) -> Instant:
    return Instant(wall=START + timedelta(seconds=seconds), monotonic_seconds=500.0 + seconds)


def ticks(count: int) -> list[Tick]:
    """One every 5 s; a second disk comes with the third."""
    made = []
    for number in range(count):
        disks = ["sda", "sdb"] if number >= 2 else ["sda"]
        made.append(
            Tick(
                taken_at=instant(5.0 * number),
                entities=[Entity(kind=EntityKind.DISK, key=key) for key in disks],
                samples=[
                    Sample(table="disk", entity=(EntityKind.DISK, key), values={"reads_total": number}) for key in disks
                ],
                reports=[CollectorReport(collector="system", outcome=Outcome.OK, duration_seconds=0.01)],
            )
        )
    return made


def record(path: Path, count: int) -> tuple[list[Outgoing], list[int]]:
    """A recording of `count` ticks, what went into it, and the file's size after each tick."""
    encoder, written, sizes = Encoder(), [], []
    with Recorder(path, IDENTITY, instant(0)) as recorder:
        for number, tick in enumerate(ticks(count), 1):
            announce, message = encoder.encode(tick)
            written.append(Outgoing(announce=announce, tick=message))
            assert recorder.write(written[-1]) == number
            sizes.append(path.stat().st_size)
    return written, sizes


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    written, _ = record(path, 4)
    recording = load(path)
    assert [tick.outgoing for tick in recording.ticks] == written
    assert [tick.unix_us for tick in recording.ticks] == [unix_us(instant(5.0 * n)) for n in range(4)]
    assert recording.seconds == 15.0
    assert (recording.hello.node_name, recording.hello.epoch) == ("node-a", IDENTITY.epoch)


def test_a_recording_that_was_cut_short_holds_every_tick_that_was_written_whole(tmp_path: Path) -> None:
    path, cut = tmp_path / "r.gz", tmp_path / "cut.gz"
    written, sizes = record(path, 5)
    whole = path.read_bytes()
    for length in range(sizes[0], len(whole)):
        cut.write_bytes(whole[:length])
        found = [tick.outgoing for tick in load(cut).ticks]
        surely = sum(size <= length for size in sizes)
        assert found == written[: len(found)], f"cut at {length}: what is read is what was written"
        assert len(found) >= surely, f"cut at {length}: {surely} ticks had reached the disk"


def test_the_file_is_readable_while_it_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    encoder = Encoder()
    announce, message = encoder.encode(ticks(1)[0])
    with Recorder(path, IDENTITY, instant(0)) as recorder:
        recorder.write(Outgoing(announce=announce, tick=message))
        assert len(load(path).ticks) == 1


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    path.write_text("dear")
    with pytest.raises(FileExistsError):
        Recorder(path, IDENTITY, instant(0))
    assert path.read_text() == "dear"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain text, not gzip at all",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"hello, this is some other gzip file", mtime=0),
        gzip.compress(b"\x05\x00\x00\x00\xff\xff\xff\xff\xff", mtime=0),
        gzip.compress((LARGEST_MESSAGE + 1).to_bytes(4, "little") + b"x", mtime=0),
        gzip.compress(b"x" * 1000, mtime=0)[:-200],
        gzip.compress(bytes(range(256)) * 40, mtime=0)[:30] + b"\x00" * 50,
    ],
)
def test_a_file_that_is_no_recording_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"holiday\.jpg"):
        load(path)


def test_a_recording_without_a_tick_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    with Recorder(path, IDENTITY, instant(0)):
        pass
    with pytest.raises(RecordingError, match="holds no tick"):
        load(path)


def test_a_replayed_node_is_plainly_a_replay_and_never_the_node_itself(tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    record(path, 1)
    recording = load(path)
    same, other = (recording.identity(epoch=b"n" * 16, node_name=name) for name in (None, "demo"))
    for identity in (same, other):
        assert identity.replayed
        assert json.loads(identity.attributes_json) == {"kernel": "6.1", "replayed_from": "node-a"}
        assert identity.epoch == b"n" * 16
    assert (same.node_name, other.node_name) == ("node-a", "demo")
    assert len({same.agent_id, other.agent_id, IDENTITY.agent_id}) == 3
    assert all(len(identity.agent_id) <= 128 for identity in (same, recording.identity(epoch=b"", node_name="x" * 200)))


def test_restamping_moves_a_tick_on_both_clocks_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    record(path, 3)
    played = load(path).ticks
    now, shift_us = instant(1000.0), 900_000_000
    restamper = Restamper()
    stamped = [restamper.moved(t.outgoing, taken_at_unix_us=t.unix_us + shift_us, now=now).tick for t in played]
    assert [t.taken_at_unix_us for t in stamped] == [t.unix_us + shift_us for t in played]
    for tick in stamped:
        age_us = unix_us(now) - tick.taken_at_unix_us
        assert round(now.monotonic_seconds * 1e6) - tick.taken_at_monotonic_us == age_us, "one age by both clocks"
    assert [t.rows for t in stamped] == [t.outgoing.tick.rows for t in played]
    assert played[0].outgoing.tick.taken_at_unix_us == played[0].unix_us, "the recording itself stays as it was"


def test_a_moment_among_the_values_moves_along_and_an_unknown_one_keeps_its_reason() -> None:
    server = (EntityKind.INFERENCE_SERVER, "http://127.0.0.1:8000")
    began = START.timestamp() - 60

    def values(since: Value) -> Tick:
        sample = Sample(table="inference", entity=server, values={"counters_since_unix_seconds": since, "up_flag": 1.0})
        entity = Entity(kind=server[0], key=server[1])
        return Tick(taken_at=instant(0), entities=[entity], samples=[sample], reports=[])

    encoder, restamper = Encoder(), Restamper()
    for since in (began, Reason.NOT_EXPOSED):
        announce, message = encoder.encode(values(since))
        before = Outgoing(announce=announce, tick=message)
        moved = restamper.moved(before, taken_at_unix_us=message.taken_at_unix_us + 3_600_000_000, now=instant(3600))
        reader = Reader()
        reader.learn(encoder.everything())
        (_, _, read) = reader.rows(moved.tick)[0]
        assert read["counters_since_unix_seconds"] == (began + 3600 if isinstance(since, float) else since)
        assert read["up_flag"] == 1.0


def test_a_connection_in_the_midst_of_a_replay_is_told_all_that_came_before(tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    record(path, 3)
    announced = Announced()
    for tick in load(path).ticks:
        announced.learn(tick.outgoing)
        again = replace(tick.outgoing)
        announced.learn(again)
    assert [entity.key for entity in announced.everything().entities] == ["sda", "sdb"]
    assert len(announced.everything().schemas) == 1
