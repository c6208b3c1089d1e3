"""What the control plane asks for over the stream, handed to whoever may do it, and the answer as it goes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from google.protobuf.unknown_fields import UnknownFieldSet

from node_agent.model import NodeConfiguration, Standing
from optiinfra.telemetry.v1 import command_pb2, link_pb2


async def _no_gpus(_seconds: float) -> str | None:
    return "this agent holds no GPU that it could release"


async def _not_configurable(_asked: NodeConfiguration) -> str | None:
    return "this agent takes no configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What the control plane may cause: a closed list. Each gives why this host refuses, or None when it complies."""

    collect_now: Callable[[str, float], str | None]  # the command's id, seconds it stays valid
    set_interval: Callable[[float], str | None]  # seconds; what a control plane of an older release asks for
    configure: Callable[[NodeConfiguration], Awaitable[str | None]] = _not_configurable
    standing: Callable[[], Standing | None] = lambda: None  # what holds after either; None: it cannot be said
    release_gpus: Callable[[float], Awaitable[str | None]] = _no_gpus
    allowed_commands: frozenset[str] = frozenset({"collect_now"})  # by the host's owner, each by its name


def refusing(why: str) -> Handlers:
    """This will give handlers that comply with nothing."""

    async def release_gpus(_seconds: float) -> str | None:
        return why

    async def configure(_asked: NodeConfiguration) -> str | None:
        return why

    return Handlers(
        collect_now=lambda _id, _valid_for_seconds: why,
        set_interval=lambda _seconds: why,
        configure=configure,
        release_gpus=release_gpus,
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


async def answer_configure(configure: link_pb2.Configure, handlers: Handlers) -> link_pb2.ConfigStatus:
    """This will apply a configuration as a whole or not at all, and say which, and what holds now."""
    refused = await _configured(configure, handlers)
    standing = handlers.standing()
    return link_pb2.ConfigStatus(
        revision=configure.revision,
        applied=refused is None,
        detail=refused or "",
        sampling_interval_ms=0 if standing is None else round(standing.sampling_interval_seconds * 1000),
        in_force_revision=0 if standing is None else standing.revision,
    )


async def _configured(configure: link_pb2.Configure, handlers: Handlers) -> str | None:
    if len(UnknownFieldSet(configure)):
        return "it asks for something that this release of the agent does not know"
    if configure.whole_state:
        return await handlers.configure(_read(configure))
    if _read(configure).names not in ((), ("sampling_interval_seconds",)):
        return "only a whole configuration may say more than the cadence"
    return handlers.set_interval(configure.sampling_interval_ms / 1000) if configure.sampling_interval_ms else None


def _read(configure: link_pb2.Configure) -> NodeConfiguration:
    gpus = configure.gpu_monitoring_enabled if configure.HasField("gpu_monitoring_enabled") else None
    discover = configure.discover_engines if configure.HasField("discover_engines") else None
    return NodeConfiguration(
        revision=configure.revision,
        sampling_interval_seconds=configure.sampling_interval_ms / 1000 if configure.sampling_interval_ms else None,
        scrape_targets=tuple(configure.scrape_targets),
        gpu_monitoring_enabled=gpus,
        discover_engines=discover,
    )
