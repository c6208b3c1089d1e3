"""One file of the disk spool: who wrote it, and numbered records that each prove themselves.

A file begins with its epoch and boot, and its first record announces all that the others name, so
each can be read alone. What a kill tore off at the end is not there; a record that fails its
checksum in the midst is passed over, whatever is wrong with it, and its missing number tells the control plane.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAGIC = b"OISPOOL1"
# Magic, epoch, boot id (a UUID's 36 characters), checksum of all these.
_HEADER = struct.Struct("<8s16s36s")
_CRC = struct.Struct("<I")
# Bytes after the checksum, number, when it was taken (µs since 1970), how many of the bytes are the announcement.
_RECORD = struct.Struct("<IQqI")
_HEAD_BYTES = _RECORD.size + _CRC.size
_SEQ = struct.Struct("<Q")
_SEQ_OFFSET = 4  # behind the length
# Records in a row that may be unreadable; behind more of them the rest of a file is given up.
_NUMBERS_AHEAD = 256
# The same bound as the control plane's largest message; a longer one is a damaged length.
LARGEST_RECORD = 4 * 1024 * 1024


class SegmentDamaged(Exception):
    """A file is no segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Who wrote a segment."""

    epoch: bytes
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One kept batch, still serialised; `seq` 0 is an announcement alone."""

    seq: int
    taken_at_unix_us: int
    announce: bytes
    tick: bytes


def header_bytes(header: Header) -> bytes:
    """This will give the beginning of a file."""
    head = _HEADER.pack(MAGIC, header.epoch, header.boot_id.encode()[:36])
    return head + _CRC.pack(zlib.crc32(head))


def record_bytes(record: Record) -> bytes:
    """This will give a record as it is appended."""
    payload = record.announce + record.tick
    head = _RECORD.pack(len(payload), record.seq, record.taken_at_unix_us, len(record.announce))
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


def read_header(data: bytes) -> Header:
    """This will read the beginning of a file. Raises SegmentDamaged."""
    size = _HEADER.size + _CRC.size
    if len(data) < size or not data.startswith(MAGIC):
        raise SegmentDamaged("it does not begin like a segment")
    if _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
        raise SegmentDamaged("its header is damaged")
    _, epoch, boot_id = _HEADER.unpack_from(data)
    return Header(epoch=epoch, boot_id=boot_id.rstrip(b"\0").decode("ascii", "replace"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What is in a file."""

    records: Sequence[Record]
    is_damaged: bool  # something that was whole once is not: announcements may be missing
    lost_seq: int  # the number of a last record that is there in its length and fails its checksum; 0: there is none


def records(data: bytes) -> Iterator[Record]:
    """This will give the whole records of a file."""
    yield from scan(data).records


def scan(data: bytes, *, after_seq: int = 0) -> Scan:
    """This will find the whole records of a file, over anything in it that is damaged.

    `after_seq` is the last number of the epoch's file before, for one whose own beginning is damaged.
    """
    found: list[Record] = []
    position, last, is_damaged, lost_seq = _HEADER.size + _CRC.size, after_seq, False, 0
    while position + _HEAD_BYTES <= len(data):
        record, end = _record_at(data, position)
        if record is not None:
            found.append(record)
            last, lost_seq = max(last, record.seq), 0
            position = end
            continue
        if end <= len(data):  # its length may be right, and the next one stand behind it
            is_damaged = True
            seq = _RECORD.unpack_from(data, position)[1]
            lost_seq = seq if seq == last + 1 else 0
            if end == len(data) or _record_at(data, end)[0] is not None:
                position = end
                continue
        behind = _next_whole(data, position + 1 if found else 0, last)  # its beginning may have been cut off
        if behind is None:
            break  # torn off by a kill, or nothing whole is left
        position, is_damaged = behind, True
    return Scan(records=found, is_damaged=is_damaged, lost_seq=lost_seq)


def _record_at(data: bytes, position: int) -> tuple[Record | None, int]:
    """This will give the record at a place, None when there is no whole one, and where it would end."""
    if position + _HEAD_BYTES > len(data):
        return None, len(data) + 1
    length, seq, taken_at, announced = _RECORD.unpack_from(data, position)
    start = position + _HEAD_BYTES
    if length > LARGEST_RECORD or announced > length or start + length > len(data):
        return None, len(data) + 1
    payload = data[start : start + length]
    checksum = zlib.crc32(payload, zlib.crc32(data[position : position + _RECORD.size]))
    if checksum != _CRC.unpack_from(data, position + _RECORD.size)[0]:
        return None, start + length
    whole = Record(seq=seq, taken_at_unix_us=taken_at, announce=payload[:announced], tick=payload[announced:])
    return whole, start + length


def _next_whole(data: bytes, position: int, last: int) -> int | None:
    """This will find the next whole record by its number, which is one of the few that can come."""
    for seq in range(last + 1, last + 1 + _NUMBERS_AHEAD):  # numbers grow along a file: the lowest comes first
        wanted, place = _SEQ.pack(seq), position + _SEQ_OFFSET
        while (place := data.find(wanted, place)) >= 0:
            if _record_at(data, place - _SEQ_OFFSET)[0] is not None:
                return place - _SEQ_OFFSET
            place += 1
    return None
