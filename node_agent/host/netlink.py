"""Lists that the kernel gives over netlink (netlink(7), include/uapi/linux/netlink.h)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator, Iterator

_REQUEST_AND_DUMP = 0x001 | 0x300
_MESSAGE_ERROR, _MESSAGE_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_READ_BYTES = 65_536  # twice what the kernel puts into one answer
_TIMEOUT_SECONDS = 1.0  # the kernel answers before the call returns; nothing may wait for ever all the same


class NetlinkUnavailable(Exception):
    """This kernel does not answer such questions, or not to us."""


def dump(*, protocol: int, kind: int, request: bytes, answer_kind: int) -> Iterator[bytes]:
    """This will ask for a whole list and give the payload of each of its messages of `answer_kind`.

    Only what our own network namespace holds. Raises NetlinkUnavailable.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as asked:
            asked.settimeout(_TIMEOUT_SECONDS)
            asked.send(_HEADER.pack(_HEADER.size + len(request), kind, _REQUEST_AND_DUMP, 1, 0) + request)
            while not (yield from payloads(asked.recv(_READ_BYTES), answer_kind)):
                pass
    except OSError as error:
        raise NetlinkUnavailable(str(error)) from error


def payloads(data: bytes, answer_kind: int) -> Generator[bytes, None, bool]:
    """This will read one answer, and say (as the generator's value) whether it is the last one.

    Raises NetlinkUnavailable where the kernel refuses or the answer is none.
    """
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, position)
        if kind == _MESSAGE_DONE:
            return True
        if kind == _MESSAGE_ERROR or length < _HEADER.size:
            raise NetlinkUnavailable("the kernel refuses to list them")
        if kind == answer_kind:
            yield data[position + _HEADER.size : position + length]
        position += length + 3 & ~3
    if not position:
        raise NetlinkUnavailable("the kernel's answer is empty")
    return False
