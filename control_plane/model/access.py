"""Who asks, and what they may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Scope(StrEnum):
    """What a caller may do. None includes another: a key opens exactly the routes that name one of its scopes."""

    READ = "read"
    OPERATE = "operate"  # collect, test, acknowledge
    APPROVE = "approve"  # approve, execute, promote, roll back
    ADMIN = "admin"  # nodes, keys, prices, tokens


class CallerKind(StrEnum):
    """How a caller showed who it is."""

    ANYONE = "anyone"  # keys are off
    OWN = "own"  # this process itself
    API_KEY = "api_key"
    OIDC = "oidc"
    COMMAND_LINE = "command_line"  # somebody who can read the database's password


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    kind: CallerKind
    subject: str  # a key's id, or what an identity provider calls somebody
    name: str
    scopes: frozenset[Scope]


ANYONE = Caller(kind=CallerKind.ANYONE, subject="anyone", name="anyone", scopes=frozenset(Scope))


class KeyState(StrEnum):
    """Whether a key opens anything."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is stored: its digest only."""

    key_id: str
    name: str
    digest: bytes  # SHA-256 of the whole key
    scopes: frozenset[Scope]
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None  # to the minute; None: never

    def state(self, now: datetime) -> KeyState:
        """This will say whether it opens anything."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        return KeyState.EXPIRED if self.expires_at <= now else KeyState.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A key as it is made: the only time that its text is known."""

    key: ApiKey
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One write: who asked for what, what was before, what is after, and how it ended."""

    audit_id: int
    at: datetime
    caller_kind: CallerKind
    caller: str  # its subject
    caller_name: str
    address: str | None  # where it came from; None: not over the network
    operation: str
    target: str  # the path that was asked
    asked: Mapping[str, Any]  # query and body, secrets replaced
    before: Mapping[str, Any] | None  # None: there was none, or the operation changes nothing that is kept
    after: Mapping[str, Any] | None
    status: int | None  # None: it has not ended, or the process died before it did
    ended_at: datetime | None
