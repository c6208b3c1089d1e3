"""What is put together byte by byte is what protobuf would have written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node_agent.uplink.client import Outgoing
from node_agent.uplink.frames import announce_frame, batch_frame
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2


@given(st.integers(1, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40_000))
def test_a_batch_frame_is_the_message_with_that_batch(seq: int, taken_at: int, records: bytes) -> None:
    tick = telemetry_pb2.Tick(taken_at_unix_us=taken_at, rows=[telemetry_pb2.Rows(schema_id=7, records=records)])
    wanted = link_pb2.AgentMessage(batch=telemetry_pb2.Batch(seq=seq, ticks=[tick]))
    frame = batch_frame(seq, tick.SerializeToString())
    assert link_pb2.AgentMessage.FromString(frame) == wanted
    assert frame == wanted.SerializeToString(deterministic=True)


@given(st.lists(st.text(max_size=300), max_size=20))
def test_an_announce_frame_is_the_message_with_that_announcement(keys: list[str]) -> None:
    announce = link_pb2.Announce(entities=[telemetry_pb2.Entity(id=n, key=key) for n, key in enumerate(keys)])
    frame = announce_frame(announce.SerializeToString())
    assert link_pb2.AgentMessage.FromString(frame) == link_pb2.AgentMessage(announce=announce)


def test_what_is_packed_says_how_large_it_is() -> None:
    announce = link_pb2.Announce(entities=[telemetry_pb2.Entity(id=1, key="sda")])
    tick = telemetry_pb2.Tick(taken_at_unix_us=5)
    packed = Outgoing(announce=announce, tick=tick).packed()
    assert packed.size_bytes == announce.ByteSize() + tick.ByteSize()
    assert Outgoing(announce=None, tick=tick).packed().announce == b""
