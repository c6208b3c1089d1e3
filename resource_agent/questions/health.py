"""Questions about health. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from resource_agent.answers import Answer
from resource_agent.transport import Question, question


def root() -> Question[Answer]:
    """What this is, and where to look: GET /."""
    return question("GET", "/")


def health() -> Question[Answer]:
    """Up, and since when: GET /health."""
    return question("GET", "/health")


def health_detailed() -> Question[Answer]:
    """Every part, its state and last error: GET /health/detailed."""
    return question("GET", "/health/detailed")


def health_live() -> Question[Answer]:
    """The process's loop answers: GET /health/live."""
    return question("GET", "/health/live")


def health_ready() -> Question[Answer]:
    """Ready to serve: GET /health/ready."""
    return question("GET", "/health/ready")
