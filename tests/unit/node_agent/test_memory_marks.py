"""What no disk took is counted, by a file that a full disk lets us write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.uplink import memory_marks
from node_agent.uplink.memory_marks import SLOT_BYTES, SLOTS, MemoryMarks

A, B = b"a" * 16, b"b" * 16


def opened(path: Path) -> MemoryMarks:
    marks = MemoryMarks(path)
    marks.open()
    return marks


def found(path: Path) -> list[tuple[bytes, int, int, int, int]]:
    marks = MemoryMarks(path)
    left = [(m.epoch, m.first_seq, m.last_seq, m.first_us, m.last_us) for m in marks.open()]
    marks.close()
    return left


def note(marks: MemoryMarks, epoch: bytes, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        marks.note(epoch=epoch, seq=seq, taken_at_unix_us=seq * 10)


def test_a_run_is_left_to_the_next_process(tmp_path: Path) -> None:
    note(opened(tmp_path / "m"), A, 5, 9)  # and it is killed
    assert found(tmp_path / "m") == [(A, 5, 9, 50, 90)]


def test_what_is_on_disk_again_leaves_nothing(tmp_path: Path) -> None:
    marks = opened(tmp_path / "m")
    note(marks, A, 5, 9)
    marks.sound()
    assert found(tmp_path / "m") == []
    note(marks, A, 20, 21)
    assert found(tmp_path / "m") == [(A, 20, 21, 200, 210)]


def test_a_new_epoch_or_a_gap_is_a_new_run(tmp_path: Path) -> None:
    marks = opened(tmp_path / "m")
    note(marks, A, 1, 2)
    note(marks, B, 1, 1)
    assert found(tmp_path / "m") == [(B, 1, 1, 10, 10)], "a run ends when its epoch does: that is in the book of losses"


def test_each_of_many_kills_keeps_its_own_until_it_is_cleared(tmp_path: Path) -> None:
    epochs = [bytes([number]) * 16 for number in range(1, SLOTS + 1)]
    for epoch in epochs:
        note(opened(tmp_path / "m"), epoch, 1, 3)
    assert sorted(epoch for epoch, *_ in found(tmp_path / "m")) == epochs
    one_more = opened(tmp_path / "m")
    note(one_more, b"z" * 16, 1, 3)
    assert len(found(tmp_path / "m")) == SLOTS, "the earlier ones stay"
    marks = MemoryMarks(tmp_path / "m")
    for mark in marks.open():
        marks.clear(mark)
    assert found(tmp_path / "m") == []


def test_the_file_takes_one_page_and_never_more(tmp_path: Path) -> None:
    note(opened(tmp_path / "m"), A, 1, 5_000)
    assert (tmp_path / "m").stat().st_size == SLOTS * SLOT_BYTES == 4096


def test_a_folder_that_cannot_be_written_is_said_and_outlived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    marks = MemoryMarks(tmp_path / "none" / "m")
    assert marks.open() == ()
    note(marks, A, 1, 3)
    marks.sound()
    marks.close()
    assert "will not be counted" in caplog.text


def test_a_disk_that_fails_under_it_is_outlived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = opened(tmp_path / "m")

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(memory_marks.os, "pwrite", fail)
    note(marks, A, 1, 3)
    marks.sound()


@given(st.binary(max_size=SLOTS * SLOT_BYTES + 10), st.integers(0, SLOTS * SLOT_BYTES - 1))
def test_whatever_is_in_the_file_only_whole_marks_are_read(data: bytes, torn: int) -> None:
    path = Path(f"/tmp/marks-{os.getpid()}")
    try:
        path.write_bytes(data)
        assert found(path) == []
        note(opened(path), A, 7, 8)
        content = bytearray(path.read_bytes())
        content[torn] ^= 0xFF
        path.write_bytes(content)
        assert found(path) in ([], [(A, 7, 8, 70, 80)])
    finally:
        path.unlink()
