"""Questions about configuration. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from resource_agent.answers import Answer
from resource_agent.transport import Question, question


def capabilities() -> Question[Answer]:
    """What this control plane can do: GET /capabilities."""
    return question("GET", "/capabilities")


def config() -> Question[Answer]:
    """The settings in force: GET /config."""
    return question("GET", "/config")
