"""The one tree of errors. Foreign errors are wrapped where the foreign thing is used."""

from __future__ import annotations

from collections.abc import Sequence


class OptiInfraError(Exception):
    """The root of every error that OptiInfra raises on purpose; its text is one clear sentence."""


class ConfigurationError(OptiInfraError):
    """A setting is wrong: refuse to start, and say which and what to do."""


class StorageUnavailable(OptiInfraError):
    """Postgres does not answer at the moment; what was not committed must be kept and tried again."""


class StorageRefused(OptiInfraError):
    """Postgres answered that this data cannot be stored; trying again would not help."""


class UnknownResource(OptiInfraError):
    """Somebody asked for a node, GPU or server that is not known."""


class InvalidRequest(OptiInfraError):
    """A question cannot be answered as it was put; the text says what is accepted."""

    def __init__(self, text: str, errors: Sequence[tuple[str, str]] = ()) -> None:
        """`errors` are the places of a body that are wrong: JSON pointers, each with what is."""
        super().__init__(text)
        self.errors = tuple(errors)


class Conflict(OptiInfraError):
    """What was asked cannot be done in the present state; the text says what to wait for or change."""


class LeaseLost(OptiInfraError):
    """Another replica does this work now: what was begun here is dropped."""


class Unauthenticated(OptiInfraError):
    """Nobody can be told from what was presented; the text never says which part of it was wrong."""


class Forbidden(OptiInfraError):
    """It is known who asks, and they may not; the text says which scope it takes."""


class PreconditionFailed(OptiInfraError):
    """What was to be changed is not as the caller believes; read it again."""


class TooManyRequests(OptiInfraError):
    """A caller asks more often than it may."""

    def __init__(self, text: str, *, retry_after_seconds: float) -> None:
        """`retry_after_seconds` is when the next question will be answered."""
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


class TookTooLong(OptiInfraError):
    """An answer was not there when its time was up; what was begun for it has been given up."""


class ProviderUnavailable(OptiInfraError):
    """The identity provider does not answer, and what it said last is too old; nobody with its tokens can be known."""
