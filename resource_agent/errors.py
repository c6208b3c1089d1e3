"""What can go wrong with a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ResourceAgentError(Exception):
    """The root of every error of this package."""


class NoAnswer(ResourceAgentError):
    """Nobody answered, however often it was tried."""


class Refused(ResourceAgentError):
    """The control plane answered with a problem (RFC 9457); `detail` says what to do next."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        """`problem` is the answer's body."""
        self.status = status
        self.type = str(problem.get("type", ""))
        self.detail = str(problem.get("detail", f"HTTP {status}"))
        self.errors: Sequence[Mapping[str, str]] = problem.get("errors", ())
        super().__init__(f"{status}: {self.detail}")
