"""Who may become an agent, and who is one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A permission to enrol, as it is made: the only time that its text is known."""

    token: str
    expires_at: datetime
    max_uses: int
    node_name: str | None  # None: any node


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """An agent that wants a certificate. Everything but its key is its own word."""

    agent_id: str
    node_name: str
    key_digest: bytes  # SHA-256 of the public key
