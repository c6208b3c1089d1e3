"""Acknowledgements are written by hand, and have to be what protobuf writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control_plane.ingest import wire
from optiinfra.telemetry.v1 import link_pb2

NUMBERS = st.one_of(st.integers(0, 1 << 14), st.integers(0, wire.HIGHEST_SEQ))


@given(NUMBERS, st.integers(0, (1 << 32) - 1), st.dictionaries(NUMBERS, st.text(max_size=5), max_size=2))
def test_an_acknowledgement_is_what_protobuf_writes(seq: int, window: int, refused: dict[int, str]) -> None:
    expected = link_pb2.Ack(
        committed_seq=seq,
        window_batches=window,
        refused=[link_pb2.RefusedBatch(seq=s, reason=r) for s, r in sorted(refused.items())],
    )
    written = wire.serialized(wire.ack(seq, window, refused))
    assert written == link_pb2.ServerMessage(ack=expected).SerializeToString()
