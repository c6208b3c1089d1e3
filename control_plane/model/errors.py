"""The one tree of errors. Foreign errors are wrapped where the foreign thing is used."""

from __future__ import annotations


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


class Conflict(OptiInfraError):
    """What was asked cannot be done in the present state; the text says what to wait for or change."""


class LeaseLost(OptiInfraError):
    """Another replica does this work now: what was begun here is dropped."""
