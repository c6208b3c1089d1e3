"""Both programs keep their own enums, since neither may import the other; the protocol holds them together."""

from __future__ import annotations

from enum import Enum

import pytest

from control_plane.model import entity, event, reason
from node_agent import model
from optiinfra.telemetry.v1 import telemetry_pb2


def _numbers(kind: type[Enum]) -> dict[str, int]:
    return {member.name: member.value for member in kind}


@pytest.mark.parametrize("kind", [model.Reason, reason.Reason])
def test_reasons_have_the_protocols_numbers(kind: type[Enum]) -> None:
    wire = {name.removeprefix("UNKNOWN_REASON_"): number for name, number in telemetry_pb2.UnknownReason.items()}
    assert _numbers(kind) == wire


@pytest.mark.parametrize("kind", [model.EntityKind, entity.EntityKind])
def test_kinds_of_entities_have_the_protocols_numbers(kind: type[Enum]) -> None:
    wire = {name.removeprefix("ENTITY_KIND_"): number for name, number in telemetry_pb2.EntityKind.items()}
    del wire["UNSPECIFIED"]
    assert _numbers(kind) == wire


@pytest.mark.parametrize("kind", [model.Severity, event.Severity])
def test_severities_have_the_protocols_numbers(kind: type[Enum]) -> None:
    wire = {name.removeprefix("EVENT_SEVERITY_"): number for name, number in telemetry_pb2.EventSeverity.items()}
    del wire["UNSPECIFIED"]
    assert _numbers(kind) == wire
