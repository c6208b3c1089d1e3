"""One file of the disk spool: who wrote it, and numbered records that each prove themselves.

A file begins with its epoch and boot, and its first record announces all that the others name, so
each can be read alone. What a kill tore off at the end is not there; a record that fails its
checksum in the midst is passed over, and its missing number tells the control plane.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"OISPOOL1"
# Magic, epoch, boot id (a UUID's 36 characters), checksum of all these.
_HEADER = struct.Struct("<8s16s36s")
_CRC = struct.Struct("<I")
# Bytes after the checksum, number, when it was taken (µs since 1970), how many of the bytes are the announcement.
_RECORD = struct.Struct("<IQqI")
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


def records(data: bytes) -> Iterator[Record]:
    """This will give the whole records of a file."""
    position = _HEADER.size + _CRC.size
    while position + _RECORD.size + _CRC.size <= len(data):
        length, seq, taken_at, announced = _RECORD.unpack_from(data, position)
        start = position + _RECORD.size + _CRC.size
        if length > LARGEST_RECORD or announced > length or start + length > len(data):
            return
        payload = data[start : start + length]
        checksum = zlib.crc32(payload, zlib.crc32(data[position : position + _RECORD.size]))
        if checksum == _CRC.unpack_from(data, position + _RECORD.size)[0]:
            yield Record(seq=seq, taken_at_unix_us=taken_at, announce=payload[:announced], tick=payload[announced:])
        position = start + length
