"""What a status says about the next attempt, and the wait that may come with it."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from node_agent.uplink.backoff import Ending, Kind
from node_agent.uplink.channel import Disconnected, Renewing, Unrecognised
from node_agent.uplink.endings import ending_of, retry_info_seconds

DETAILS = "grpc-status-details-bin"
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def _messages() -> tuple[type[Message], type[Message]]:
    """google.rpc.Status and RetryInfo as their .proto files have them, in a pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    for used in (any_pb2, duration_pb2):
        pool.AddSerializedFile(used.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="google.rpc", syntax="proto3")
    file.dependency.extend(["google/protobuf/any.proto", "google/protobuf/duration.proto"])
    status, retry = file.message_type.add(name="Status"), file.message_type.add(name="RetryInfo")
    status.field.add(name="code", number=1, type=5, label=1)
    status.field.add(name="message", number=2, type=9, label=1)
    status.field.add(name="details", number=3, type=11, type_name=".google.protobuf.Any", label=3)
    retry.field.add(name="retry_delay", number=1, type=11, type_name=".google.protobuf.Duration", label=1)
    pool.Add(file)
    names = ("google.rpc.Status", "google.rpc.RetryInfo")
    made = [message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names]
    return made[0], made[1]


STATUS, RETRY = _messages()


def details(*found: tuple[str, bytes]) -> bytes:
    status = STATUS(code=8, message="too many")  # type: ignore[call-arg]
    for type_url, value in found:
        status.details.add(type_url=type_url, value=value)  # type: ignore[attr-defined]
    return status.SerializeToString()


def retry_info(seconds: int, nanos: int = 0) -> bytes:
    return RETRY(retry_delay={"seconds": seconds, "nanos": nanos}).SerializeToString()  # type: ignore[call-arg]


def error(code: grpc.StatusCode, trailing: tuple[tuple[str, bytes], ...] = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Kind.AWAY),
        (grpc.StatusCode.CANCELLED, Kind.AWAY),
        (grpc.StatusCode.INTERNAL, Kind.AWAY),
        (grpc.StatusCode.UNAUTHENTICATED, Kind.UNRECOGNISED),
        (grpc.StatusCode.PERMISSION_DENIED, Kind.UNRECOGNISED),
        (grpc.StatusCode.UNIMPLEMENTED, Kind.FOREIGN),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Kind.BUSY),
    ],
)
def test_a_status_says_why_there_is_no_stream(code: grpc.StatusCode, kind: Kind) -> None:
    assert ending_of(error(code)) == Ending(kind=kind)


def test_a_status_that_grpc_lost_is_no_status() -> None:
    """What grpc.aio says when a stream had ended before it was written to."""
    lost = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details="Internal error from Core"
    )
    assert ending_of(lost) == Ending(kind=Kind.UNSAID)


def test_what_the_control_plane_itself_says_is_heard() -> None:
    assert ending_of(Disconnected("x", retry_after_seconds=5.0)) == Ending(asked_seconds=5.0)
    assert ending_of(Unrecognised("x", retry_after_seconds=60.0)) == Ending(kind=Kind.UNRECOGNISED, asked_seconds=60.0)
    assert ending_of(Renewing()).kind is Kind.RENEWING
    assert ending_of(TimeoutError()) == Ending()


def test_retry_info_is_heard_whatever_stands_before_it() -> None:
    found = details(
        ("type.googleapis.com/google.rpc.ErrorInfo", b"\x0a\x03abc"), (RETRY_INFO, retry_info(7, 500_000_000))
    )
    status = error(grpc.StatusCode.RESOURCE_EXHAUSTED, ((DETAILS, found),))
    assert ending_of(status) == Ending(kind=Kind.BUSY, asked_seconds=7.5)


@given(st.integers(0, 10**8), st.integers(0, 999_999_999))
def test_every_delay_is_read_as_protobuf_wrote_it(seconds: int, nanos: int) -> None:
    found = retry_info_seconds([("other", "text"), (DETAILS, details((RETRY_INFO, retry_info(seconds, nanos))))])
    assert found == pytest.approx(seconds + nanos / 1e9)


def test_a_delay_that_is_none_asks_for_nothing() -> None:
    assert retry_info_seconds([(DETAILS, details((RETRY_INFO, retry_info(-5))))]) is None
    assert retry_info_seconds([(DETAILS, details((RETRY_INFO, b"")))]) == 0.0
    assert retry_info_seconds([(DETAILS, details())]) is None
    assert retry_info_seconds([]) is None


@given(st.binary(max_size=200))
def test_details_that_are_nonsense_ask_for_nothing_and_raise_nothing(data: bytes) -> None:
    found = retry_info_seconds([(DETAILS, data)])
    assert found is None or found >= 0


@given(st.data())
def test_details_that_are_cut_or_damaged_raise_nothing(data: st.DataObject) -> None:
    whole = bytearray(details((RETRY_INFO, retry_info(7, 1))))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    found = retry_info_seconds([(DETAILS, cut)])
    assert found is None or found >= 0
