"""Damage in a file stays where it is: everything that is whole is still read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.uplink.segment import Header, Record, header_bytes, record_bytes, scan

HEAD = header_bytes(Header(epoch=b"e" * 16, boot_id="boot"))


def record(seq: int, size: int = 20) -> Record:
    return Record(seq=seq, taken_at_unix_us=1_000_000 * seq, announce=b"a" * (seq % 3), tick=bytes([seq % 256]) * size)


def file_of(records: list[Record]) -> tuple[bytes, list[tuple[int, int]]]:
    """The file, and where each record begins and ends in it."""
    data, places = HEAD, []
    for each in records:
        places.append((len(data), len(data) + len(record_bytes(each))))
        data += record_bytes(each)
    return data, places


WHOLE = [record(0, size=60), *(record(seq) for seq in range(1, 6))]


def test_a_whole_file_is_read_whole() -> None:
    found = scan(file_of(WHOLE)[0])
    assert list(found.records) == WHOLE
    assert (found.is_damaged, found.lost_seq) == (False, 0)


def test_a_byte_that_changed_anywhere_costs_the_record_that_it_is_in_and_no_other() -> None:
    data, places = file_of(WHOLE)
    for position in range(len(HEAD), len(data)):
        for bit in (0, 3, 7):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            found = scan(bytes(damaged))
            (hit,) = [n for n, (first, end) in enumerate(places) if first <= position < end]
            assert [r.seq for r in found.records] == [r.seq for n, r in enumerate(WHOLE) if n != hit], position
            assert found.is_damaged or hit == len(WHOLE) - 1


def test_a_file_that_was_torn_off_anywhere_is_read_up_to_there_and_is_not_called_damaged() -> None:
    data, places = file_of(WHOLE)
    for length in range(len(HEAD), len(data)):
        found = scan(data[:length])
        assert list(found.records) == [r for r, (_, end) in zip(WHOLE, places, strict=True) if end <= length]
        assert (found.is_damaged, found.lost_seq) == (False, 0)


def test_a_damaged_record_at_the_very_end_is_known_by_its_number() -> None:
    damaged = bytearray(file_of(WHOLE)[0])
    damaged[-1] ^= 1
    found = scan(bytes(damaged))
    assert (found.is_damaged, found.lost_seq) == (True, 5)


def test_a_file_whose_beginning_is_gone_goes_on_from_the_number_before_it() -> None:
    records = [record(0, size=60), *(record(seq) for seq in range(801, 806))]
    data, places = file_of(records)
    damaged = bytearray(data)
    for position in range(places[0][0], places[1][1]):  # the announcement and the first batch
        damaged[position] = 0xAA
    assert [r.seq for r in scan(bytes(damaged), after_seq=800).records] == [802, 803, 804, 805]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=30), st.integers(0, 3000))
def test_nothing_is_read_that_was_not_written(changes: list[tuple[int, int]], length: int) -> None:
    records = [record(0, size=60), *(record(seq, size=seq) for seq in range(1, 40))]
    data = bytearray(file_of(records)[0])
    for position, value in changes:
        data[position % len(data)] = value
    found = scan(bytes(data[: max(length, len(HEAD))]))
    assert all(each in records for each in found.records)
    assert [r.seq for r in found.records] == sorted({r.seq for r in found.records})


@given(st.binary(max_size=2000))
def test_nonsense_holds_no_record_and_raises_nothing(nonsense: bytes) -> None:
    assert list(scan(HEAD + nonsense).records) == []
