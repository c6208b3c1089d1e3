"""What the control plane asks for over the stream, handed to whoever may do it, and the answer as it goes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from optiinfra.telemetry.v1 import command_pb2, link_pb2


async def _no_gpus(_seconds: float) -> str | None:
    return "this agent holds no GPU that it could release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What the control plane may cause: a closed list. Each gives why this host refuses, or None when it complies."""

    collect_now: Callable[[str, float], str | None]  # the command's id, seconds it stays valid
    set_interval: Callable[[float], str | None]  # seconds
    release_gpus: Callable[[float], Awaitable[str | None]] = _no_gpus
    allowed_commands: frozenset[str] = frozenset({"collect_now"})  # by the host's owner, each by its name


def refusing(why: str) -> Handlers:
    """This will give handlers that comply with nothing."""

    async def release_gpus(_seconds: float) -> str | None:
        return why

    return Handlers(
        collect_now=lambda _id, _valid_for_seconds: why, set_interval=lambda _seconds: why, release_gpus=release_gpus
    )


async def answer_command(command: command_pb2.Command, handlers: Handlers) -> command_pb2.CommandResult | None:
    """This will obey a command or say why not. None: what comes of it is the answer."""
    verb = command.WhichOneof("verb")
    if verb is None:
        return _refused(command, "this agent does not know the command")
    if verb not in handlers.allowed_commands:
        return _refused(command, f"{verb} is not among this host's allowed_commands")
    if command.valid_for_seconds == 0:
        return _refused(command, "the command was not valid when it arrived")
    match verb:
        case "collect_now":
            refused = handlers.collect_now(command.id, float(command.valid_for_seconds))
            return None if refused is None else _refused(command, refused)
        case "release_gpus":
            refused = await handlers.release_gpus(float(command.release_gpus.seconds))
            if refused is not None:
                return _refused(command, refused)
            return command_pb2.CommandResult(id=command.id, outcome=command_pb2.COMMAND_OUTCOME_DONE)


def _refused(command: command_pb2.Command, why: str) -> command_pb2.CommandResult:
    return command_pb2.CommandResult(id=command.id, outcome=command_pb2.COMMAND_OUTCOME_REFUSED, detail=why)


def answer_configure(configure: link_pb2.Configure, handlers: Handlers) -> link_pb2.ConfigStatus:
    """This will apply a configuration as a whole or not at all, and say which."""
    refused: str | None = None
    if configure.scrape_targets:
        refused = "which addresses this host's agent connects to is set on the host"
    elif configure.sampling_interval_ms:
        refused = handlers.set_interval(configure.sampling_interval_ms / 1000)
    return link_pb2.ConfigStatus(revision=configure.revision, applied=refused is None, detail=refused or "")
