"""Why a stream ended: what gRPC, the control plane or a proxy between said, in the words of the backoff."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import grpc

from node_agent.uplink.backoff import Ending, Kind
from node_agent.uplink.channel import Disconnected, Renewing, Unrecognised

_KINDS: Mapping[grpc.StatusCode, Kind] = {
    grpc.StatusCode.UNAUTHENTICATED: Kind.UNRECOGNISED,
    grpc.StatusCode.PERMISSION_DENIED: Kind.UNRECOGNISED,
    grpc.StatusCode.UNIMPLEMENTED: Kind.FOREIGN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Kind.BUSY,
}
# What a person can do about it, in the log line that says it.
HINTS: Mapping[Kind, str] = {
    Kind.UNRECOGNISED: "; make a join token there and set OPTIINFRA_JOIN_TOKEN",
    Kind.FOREIGN: "; what answers there is no control plane, or of a release before this protocol: check --server",
}
# What grpc.aio says of a stream that had ended when we wrote to it, in place of the status that it ended with.
_STATUS_LOST = "Internal error from Core"
# google/rpc/status.proto and error_details.proto: the field numbers that lead to RetryInfo.retry_delay.
_DETAILS_KEY = "grpc-status-details-bin"
_STATUS_DETAILS = 3
_ANY_TYPE, _ANY_VALUE = 1, 2
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
_RETRY_DELAY = 1
_DURATION_SECONDS, _DURATION_NANOS = 1, 2
_VARINT, _FIXED_64, _LENGTH_DELIMITED, _FIXED_32 = 0, 1, 2, 5
_MOST_SECONDS = 1e9  # a number beyond this is no wait


def ending_of(error: BaseException) -> Ending:
    """This will say what an error means for the next attempt."""
    match error:
        case Renewing():
            return Ending(kind=Kind.RENEWING)
        case Unrecognised():
            return Ending(kind=Kind.UNRECOGNISED, asked_seconds=error.retry_after_seconds)
        case Disconnected():
            return Ending(asked_seconds=error.retry_after_seconds)
        case grpc.aio.AioRpcError() if error.code() is grpc.StatusCode.INTERNAL and error.details() == _STATUS_LOST:
            return Ending(kind=Kind.UNSAID)
        case grpc.aio.AioRpcError():
            asked = retry_info_seconds(error.trailing_metadata() or ())
            return Ending(kind=_KINDS.get(error.code(), Kind.AWAY), asked_seconds=asked)
        case _:
            return Ending()


def retry_info_seconds(metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
    """This will give google.rpc.RetryInfo's delay from the trailing metadata of a call; None when there is none.

    Read here field by field: the package that holds these messages would be loaded for one number.
    """
    details = next((value for key, value in metadata if key == _DETAILS_KEY and isinstance(value, bytes)), b"")
    try:
        for detail in _fields(details, _STATUS_DETAILS):
            if _RETRY_INFO in _fields(detail, _ANY_TYPE):
                return _delay(next(iter(_fields(detail, _ANY_VALUE)), b""))
    except (ValueError, IndexError):  # whoever sent it is not bound to send what it should
        return None
    return None


def _delay(retry_info: bytes) -> float | None:
    duration = next(iter(_fields(retry_info, _RETRY_DELAY)), b"")
    numbers = dict(_numbers(duration))
    seconds = numbers.get(_DURATION_SECONDS, 0) + numbers.get(_DURATION_NANOS, 0) / 1e9
    return seconds if 0 <= seconds < _MOST_SECONDS else None


def _fields(message: bytes, number: int) -> list[bytes]:
    """This will give what the length-delimited fields of one number hold."""
    return [value for found, value in _read(message) if found == number and isinstance(value, bytes)]


def _numbers(message: bytes) -> Iterator[tuple[int, int]]:
    for number, value in _read(message):
        if isinstance(value, int):
            yield number, value


def _read(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """This will take a serialised message apart (protobuf.dev/programming-guides/encoding). Raises ValueError."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == _LENGTH_DELIMITED:
            length, position = _varint(message, position)
        elif wire_type in (_FIXED_64, _FIXED_32):
            length = 8 if wire_type == _FIXED_64 else 4
        else:
            raise ValueError("no such wire type")
        if position + length > len(message):
            raise ValueError("cut off")
        yield number, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]  # IndexError: cut off
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise ValueError("a varint without an end")
