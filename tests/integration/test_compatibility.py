"""Releases next to each other work together: older and newer agents with this control plane, and the reverse."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from control_plane.model.entity import EntityKind
from control_plane.storage import readings
from control_plane.storage.schema import SAMPLE_TABLES
from control_plane.storage.session import Database
from optiinfra.catalogue import TABLES
from optiinfra.telemetry.v1 import command_pb2, link_pb2, telemetry_pb2
from tests.fakes.clock import START, FakeClock
from tests.support.ingest import Agent, ControlPlane, RawAgent, Store, until
from tests.support.streams import F32, F64, KIND_OF_TABLE, gpu_records, raw_entity, raw_schema

RECORDINGS = sorted((Path(__file__).parents[1] / "data" / "wire").glob("agent-*.bin"))
METHOD = "/optiinfra.telemetry.v1.Link/Connect"


def field_of_a_later_release(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field that today's schema does not have."""
    tag = number << 3 | 2
    return bytes([tag & 0x7F | 0x80, tag >> 7, len(payload)]) + payload


# -- older agents -------------------------------------------------------------------------------


def messages_in(recording: Path) -> Iterator[bytes]:
    data = recording.read_bytes()
    while data:
        (length,) = struct.unpack_from("<I", data)
        yield data[4 : 4 + length]
        data = data[4 + length :]


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
async def test_the_stream_of_every_released_agent_is_stored_as_it_meant(
    recording: Path, plane: ControlPlane, clock: FakeClock, database: Database, store: Store
) -> None:
    said = json.loads(recording.with_suffix(".json").read_text())
    async with grpc.aio.insecure_channel(plane.address) as channel:
        call: Any = channel.stream_stream(METHOD)()
        first, *rest = messages_in(recording)
        await call.write(first)
        assert link_pb2.ServerMessage.FromString(await call.read()).WhichOneof("body") == "welcome"
        for data in rest:
            await call.write(data)
            batch = link_pb2.AgentMessage.FromString(data).batch
            ack = link_pb2.Ack()
            while ack.committed_seq < batch.seq:
                ack = link_pb2.ServerMessage.FromString(await call.read()).ack
            assert not ack.refused
            clock.advance(5 if batch.seq else 0)
    assert store.rows("SELECT * FROM ingest_refusal") == []
    cache = readings.Dictionaries(database.engine)
    for number, rows in enumerate(said):
        for row in rows:
            await assert_stored(database, cache, row, tick=number)


def _known(number: int | None) -> set[int]:
    return set() if number is None else {number}


async def assert_stored(database: Database, cache: readings.Dictionaries, row: dict[str, Any], *, tick: int) -> None:
    table = row["table"]
    source = SAMPLE_TABLES[table]
    kind = EntityKind(KIND_OF_TABLE[table].value)
    (entity,) = await readings.select_entities(
        database.engine, readings.Selection(kind=kind, keys=[row["key"]]), limit=2
    )
    async with database.engine.connect() as connection:
        query = source.select().where(source.c.entity_id == entity.entity_id).order_by(source.c.taken_at)
        stored = (await connection.execute(query)).all()
    (found,) = [r for r in stored if round((r.taken_at - START).total_seconds() / 5) == tick]
    await cache.load(_known(found.unknown_set_id), _known(getattr(found, "layout_id", None)))
    reading = readings.ReadingMaker([found], TABLES[table], cache).reading(found)
    for name, value in row["values"].items():
        if isinstance(value, dict) and "unknown" in value:
            assert reading.unknown[name] == value["unknown"], name
            assert reading.values.get(name) is None
            assert name not in reading.distributions
        elif isinstance(value, dict):
            distribution = reading.distributions[name]
            assert [list(distribution.bounds), list(distribution.counts), distribution.sum] == [
                value["bounds"], value["counts"], value["sum"],
            ]  # fmt: skip
        else:
            assert reading.values[name] == pytest.approx(value, rel=1e-6), name


async def test_the_fields_that_an_older_agent_lacks_are_unknown_and_say_so(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        welcome = await agent.welcome(attributes_json=b"", agent_version="")
        assert welcome.protocol == 1
        await agent.send(
            announce=link_pb2.Announce(
                schemas=[raw_schema(0, "gpu", [("power_draw_watts", F32, 1)])],
                entities=[telemetry_pb2.Entity(id=0, kind=telemetry_pb2.ENTITY_KIND_GPU, key="GPU-0")],
            )
        )
        await agent.send_watts(300.0)
        await agent.acked()
    ((reasons,),) = store.rows("SELECT reasons FROM gpu_sample JOIN unknown_set USING (unknown_set_id)")
    assert reasons == {f.name: "not_sent" for f in TABLES["gpu"].fields if f.name != "power_draw_watts"}


async def test_what_an_older_agent_sends_in_the_table_that_it_had_is_stored_where_it_belongs_now(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    fields = [("power_draw_watts", F32, 1), ("pcie_replays_total", F64, 1), ("recovery_action_code", F32, 1)]
    async with RawAgent(plane, clock) as agent:
        await agent.welcome()
        await agent.send(
            announce=link_pb2.Announce(
                schemas=[raw_schema(0, "gpu", fields)],
                entities=[telemetry_pb2.Entity(id=0, kind=telemetry_pb2.ENTITY_KIND_GPU, key="GPU-0")],
            )
        )
        await agent.send(batch=agent.stream.batch([(0, struct.pack("<Ifdf", 0, 250.0, 7.0, math.nan))]))
        await agent.acked()
        assert agent.refused == {}
    assert store.watts() == [250.0]
    assert store.rows("SELECT pcie_replays_total, recovery_action_code FROM gpu_health_latest") == [(7, None)]
    query = "SELECT reasons FROM gpu_health_sample JOIN unknown_set USING (unknown_set_id)"
    ((reasons,),) = store.rows(query)
    assert (reasons["recovery_action_code"], reasons["persistence_mode_flag"]) == ("not_a_number", "not_sent")


# -- newer agents -------------------------------------------------------------------------------


async def test_a_newer_agent_is_stored_as_far_as_this_release_understands_it(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        assert (await agent.welcome(protocol_min=1, protocol_max=2)).protocol == 1
        announced = link_pb2.Announce(
            schemas=[
                raw_schema(0, "gpu", [("novel_ratio", F32, 2), ("power_draw_watts", F32, 1), ("novel_watts", F32, 1)]),
                raw_schema(1, "dpu", [("power_draw_watts", F32, 1)]),
                raw_schema(2, "gpu", [("power_draw_watts", 42, 1)]),
            ],
            entities=[
                raw_entity(0, telemetry_pb2.ENTITY_KIND_GPU, "GPU-0"),
                raw_entity(1, 42, "a kind of thing that does not exist yet"),
            ],
        )
        await agent.send(announce=announced)
        record = struct.pack("<I2fff", 0, 0.5, 0.5, 250.0, 9.0)
        await agent.send(batch=agent.stream.batch([(1, gpu_records(1.0, entity=1)), (0, record), (2, b"any bytes")]))
        await agent.acked()
        assert agent.refused == {}
    assert store.watts() == [250.0]
    assert store.rows("SELECT cause, count FROM ingest_refusal ORDER BY cause") == [
        ("bad_entity", 1), ("newer_schema", 2),
    ]  # fmt: skip


async def test_messages_and_fields_of_a_newer_agent_are_passed_over(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    extra = field_of_a_later_release(99, b"something new")
    async with RawAgent(plane, clock) as known, grpc.aio.insecure_channel(plane.address) as channel:
        call: Any = channel.stream_stream(METHOD)()

        async def send(message: link_pb2.AgentMessage) -> None:
            await call.write(message.SerializeToString() + extra)

        hello = link_pb2.Hello.FromString(known.hello().SerializeToString() + extra)
        await send(link_pb2.AgentMessage(hello=hello))
        assert link_pb2.ServerMessage.FromString(await call.read()).HasField("welcome")
        await call.write(extra)  # a message of a kind that does not exist yet
        announce = link_pb2.Announce(
            schemas=[raw_schema(0, "gpu", [("power_draw_watts", F32, 1)])],
            entities=[raw_entity(0, telemetry_pb2.ENTITY_KIND_GPU, "GPU-0")],
        )
        await send(link_pb2.AgentMessage(announce=announce))
        batch = known.stream.batch([(0, gpu_records(100.0))])
        batch.ticks[0].MergeFromString(extra)
        batch.MergeFromString(extra)
        await send(link_pb2.AgentMessage(batch=batch))
        ack = link_pb2.ServerMessage.FromString(await call.read()).ack
        assert (ack.committed_seq, len(ack.refused)) == (1, 0)
    assert store.watts() == [100.0]
    assert store.rows("SELECT * FROM ingest_refusal") == []


# -- other control planes, with this agent ------------------------------------------------------


class OtherControlPlane:
    """The least that a control plane must do by the protocol, and what a test adds to it."""

    def __init__(self, *, before_acks: bytes = b"", welcome: link_pb2.Welcome | None = None) -> None:
        self.address = ""
        self.bodies: list[str] = []
        self.messages: list[link_pb2.AgentMessage] = []
        self._before_acks = before_acks
        self._welcome = welcome or link_pb2.Welcome(protocol=1, window_batches=2)

    def watts(self) -> list[float]:
        """This will give the power draw of each batch: the schema's offset is read as an agent announces it."""
        (schema,) = {s.id: s for m in self.messages for s in m.announce.schemas}.values()
        offset = 4
        for field in schema.fields:
            if field.name == "power_draw_watts":
                break
            offset += field.count * (4 if field.type == F32 else 8)
        records = [m.batch.ticks[0].rows[0].records for m in self.messages if m.HasField("batch")]
        return [struct.unpack_from("<f", record, offset)[0] for record in records]

    async def connect(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for data in messages:
            message = link_pb2.AgentMessage.FromString(data)
            body = message.WhichOneof("body") or ""
            self.bodies.append(body)
            self.messages.append(message)
            if body == "hello":
                yield link_pb2.ServerMessage(welcome=self._welcome).SerializeToString()
            if body == "batch":
                if self._before_acks:
                    yield self._before_acks
                ack = link_pb2.Ack(committed_seq=message.batch.seq, window_batches=2)
                yield link_pb2.ServerMessage(ack=ack).SerializeToString()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = grpc.aio.server()
        handlers: Any = {"Connect": grpc.stream_stream_rpc_method_handler(self.connect)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("optiinfra.telemetry.v1.Link", handlers),)
        )
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield
        finally:
            await server.stop(grace=None)


async def test_this_agent_works_with_a_control_plane_that_says_no_more_than_it_must(clock: FakeClock) -> None:
    other = OtherControlPlane()
    async with other.listening():
        agent = Agent(other, clock)
        for watts in (1.0, 2.0, 3.0, 4.0, 5.0):
            agent.sample({"power_draw_watts": watts})
            clock.advance(5)
        async with agent:
            await agent.drained()
    assert other.bodies[:2] == ["hello", "announce"]
    hello = other.messages[0].hello
    assert (hello.protocol_min, len(hello.epoch)) == (1, 16)
    assert other.watts() == [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_this_agent_passes_over_what_a_newer_control_plane_says(clock: FakeClock) -> None:
    other = OtherControlPlane(before_acks=field_of_a_later_release(99, b"news"))
    async with other.listening():
        agent = Agent(other, clock)
        async with agent:
            for watts in (1.0, 2.0, 3.0):
                agent.sample({"power_draw_watts": watts})
                await agent.drained()
    assert other.bodies.count("hello") == 1
    assert other.watts() == [1.0, 2.0, 3.0]


async def test_this_agent_refuses_a_command_that_it_does_not_know_and_goes_on(clock: FakeClock) -> None:
    command = link_pb2.ServerMessage(command=command_pb2.Command(id="c-1", valid_for_seconds=30))
    command.command.MergeFromString(field_of_a_later_release(99, b"a new verb"))
    other = OtherControlPlane(before_acks=command.SerializeToString())
    async with other.listening(), Agent(other, clock) as agent:
        agent.sample({"power_draw_watts": 1.0})
        await agent.drained()
        await until(lambda: "command_result" in other.bodies, "the agent answers")
    (result,) = [m.command_result for m in other.messages if m.HasField("command_result")]
    assert (result.id, result.outcome) == ("c-1", command_pb2.COMMAND_OUTCOME_REFUSED)
