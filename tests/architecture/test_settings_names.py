"""The two programs share a prefix: each must know the other's names, or it would refuse them."""

from __future__ import annotations

from dataclasses import fields

from control_plane import settings as control_plane
from node_agent import settings as agent
from scripts import write_configuration


def _agents_own() -> set[str]:
    return {field.name.upper() for field in fields(agent.Settings)}


def _control_planes_own() -> set[str]:
    names = control_plane.environment_names()
    return {n.removeprefix(control_plane.PREFIX) for n in names if n.startswith(control_plane.PREFIX)}


def test_the_agent_ignores_exactly_what_only_the_control_plane_knows() -> None:
    assert _control_planes_own() - _agents_own() == agent.CONTROL_PLANE_NAMES


def test_the_control_plane_ignores_exactly_what_only_the_agent_knows() -> None:
    assert _agents_own() - _control_planes_own() == control_plane.AGENT_NAMES


def test_the_configuration_page_lists_the_settings_as_they_are() -> None:
    assert write_configuration.TARGET.read_text() == write_configuration.render(), "run `make configuration`"
