"""`optiinfra`: one command line for everything.

Only what a verb needs is imported when it runs: `optiinfra record` works on a host that has
nothing but the agent's packages.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from control_plane.bootstrap import DatabaseHandle
    from control_plane.model.errors import OptiInfraError
    from control_plane.settings import Settings

OK, FAILED, USAGE_ERROR, INCONCLUSIVE = 0, 1, 2, 3
# How long an end may take: of a start that is interrupted, and of one that serves (a pod is given a minute).
START_END_SECONDS, END_SECONDS = 15.0, 50.0
# The agent's own verbs: it parses their flags itself.
AGENT_VERBS = {
    "agent": "run the node agent alone",
    "record": "write what the agent on this host sees to a file",
    "replay": "play a recording through the real gRPC door",
}


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    from control_plane import __version__
    from control_plane.terminal import verbs as terminal

    parser = argparse.ArgumentParser(
        prog="optiinfra",
        description="Watches GPU hosts and inference servers.",
        epilog="agent verbs: " + "; ".join(f"{verb}: {what}" for verb, what in AGENT_VERBS.items()),
    )
    parser.add_argument("--version", action="version", version=f"optiinfra {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, what in (
        ("up", "run everything on this host: database, control plane, node agent"),
        ("migrate", "bring the database's schema to this release"),
        ("settings", "list every setting, its names, its value and its meaning"),
    ):
        _add_settings(verbs.add_parser(verb, help=what), shown=True)
    token = verbs.add_parser("join-token", help="make a token with which nodes enrol at the running control plane")
    _add_settings(token)
    token.add_argument("--hours", help="hours until it expires (1)")
    token.add_argument("--max-uses", help="nodes that may enrol with it (1)")
    token.add_argument("--for-node", help="the one node that may use it; default: any")
    _add_keys(verbs.add_parser("keys", help="make, list and revoke the keys of REST (on the database's own host)"))
    terminal.add(verbs, _add_settings)
    history = verbs.add_parser(
        "storage", help="plan the disk of history, move it to another Postgres, reach it by psql"
    )
    if "storage" in given:
        from control_plane.terminal import storage

        storage.add(history, _add_settings)
    shell = verbs.add_parser(
        "completion", help="print what a shell completes with: source <(optiinfra completion bash)"
    )
    shell.add_argument("shell", choices=("bash", "zsh", "fish"))
    diagnosis = verbs.add_parser(
        "diagnose", help="say what binds inference servers: now, or in saved answers of /metrics (--recording)"
    )
    diagnosis.add_argument("--recording", metavar="DIR", help="0000.prom, 0005.prom, … and gpu.jsonl")
    diagnosis.add_argument("--url", help="another control plane than the one that runs here")
    diagnosis.add_argument("--json", action="store_true", help="for programs")
    _add_settings(diagnosis)
    _add_advice(verbs)
    prediction = verbs.add_parser("predict", help="say how fast configurations of inference servers would be")
    prediction.add_argument("--file", required=True, metavar="ROWS.csv", help="columns: model, system, isl, osl, …")
    prediction.add_argument("--output", metavar="FILE.csv", help="where the predictions go (default: standard output)")
    prediction.add_argument(
        "--measured", metavar="ROWS.csv", help="configurations that were measured (column measured_tpot_ms)"
    )
    prediction.add_argument("--models", metavar="DIR", help="a folder of MODEL/config.json, for models of your own")
    if "load" in given:  # its flags are those of a room that takes time to load
        from control_plane.trials import command

        command.add_arguments(verbs.add_parser("load", help="put load on an inference server and say what came of it"))
    else:
        verbs.add_parser("load", help="put load on an inference server and say what came of it")
    return parser


def _add_advice(verbs: Any) -> None:
    tuning = verbs.add_parser(
        "recommend", help="say what to change: of all that a control plane sees, or of a recording"
    )
    tuning.add_argument("--recording", metavar="DIR", help="as for diagnose, without a control plane: which flags help")
    tuning.add_argument("--kind", action="append", help="batch, kv-cache, quantize, …; may be repeated (all)")
    explanation = verbs.add_parser("explain", help="say in sentences what is recommended, and what that stands on")
    explanation.add_argument("recommendation_id", nargs="?", type=int, help="one of them (all that are open)")
    for parser in (tuning, explanation):
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.add_argument("--url", help="another control plane than the one that runs here")
        _add_settings(parser)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
    create = actions.add_parser("create", help="make a key and print it; it is shown this once")
    create.add_argument("--name", required=True, help="who or what uses it")
    create.add_argument("--scopes", default="read", help="read, operate, approve, admin, separated by commas, or all")
    create.add_argument("--days", type=float, default=90.0, help="days until it expires (90)")
    revoke = actions.add_parser("revoke", help="take a key away for ever")
    for action in (create, actions.add_parser("list", help="every key, with its state"), revoke):
        action.add_argument("--json", action="store_true", help="for programs")
        _add_settings(action)
    revoke.add_argument("key_id", help="its id, as `keys list` shows it")


def _add_settings(parser: argparse.ArgumentParser, *, shown: bool = False) -> None:
    """Verbs that only ask take every setting too (they find the control plane by it), but do not list them."""
    from control_plane.settings import SECRETS, Settings

    if not shown:
        parser.epilog = "It also takes every setting of the control plane as a flag: see `optiinfra settings`."

    for name, field in Settings.model_fields.items():
        if name in SECRETS:
            continue  # a secret on a command line is seen by everybody on the host
        flag, description = f"--{name.replace('_', '-')}", (field.description or "").replace("%", "%%")
        description = description if shown else argparse.SUPPRESS
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=description)
        else:
            parser.add_argument(flag, default=None, help=description)


def _settings(arguments: argparse.Namespace) -> Settings:
    from control_plane import settings

    flags = {name: value for name, value in vars(arguments).items() if name in settings.Settings.model_fields}
    return settings.load(flags, os.environ)


def _show_settings(settings: Settings) -> int:
    from control_plane.bootstrap import shown_settings
    from control_plane.settings import Settings, environment_names

    names: dict[str, list[str]] = {}
    for environment_name, field in environment_names().items():
        names.setdefault(field, []).append(environment_name)
    shown = shown_settings(settings)
    for name, field_info in Settings.model_fields.items():
        print(f"{name} = {shown.get(name)}\n    {field_info.description}\n    {', '.join(names[name])}")
    return OK


def _migrate(settings: Settings) -> int:
    from control_plane import bootstrap

    handle = bootstrap.open_database(settings)
    try:
        before, after = bootstrap.migrate(handle)
        print(f"{handle.description}: {before or 'empty'} → {after}")
    finally:
        handle.stop()
    return OK


def _join_token(settings: Settings, arguments: argparse.Namespace) -> int:
    """This will ask the control plane that runs here for a token, and print nothing else: scripts read it."""
    from control_plane.terminal.rest import Rest

    asked = {"hours": arguments.hours, "max_uses": arguments.max_uses, "node_name": arguments.for_node}
    print(Rest(settings).ask("/nodes/join-tokens", method="POST", **asked)["token"])
    return OK


def _keys(settings: Settings, arguments: argparse.Namespace) -> int:
    from control_plane.runtime.clock import SystemClock
    from control_plane.storage.embedded import running_url
    from control_plane.terminal import api_keys

    given, clock, as_json = settings.database_url, SystemClock(), arguments.json
    url = running_url(settings.data_dir.absolute() / "postgres") if given is None else given.get_secret_value()
    match arguments.action:
        case "create":
            made = {"name": arguments.name, "scopes": arguments.scopes, "days": arguments.days}
            print(api_keys.create(url, clock, as_json=as_json, **made))
        case "list":
            print(api_keys.every(url, clock, as_json=as_json))
        case _:
            print(api_keys.revoke(url, clock, arguments.key_id, as_json=as_json))
    return OK


def _completion(shell: str) -> int:
    from control_plane.terminal import completion

    print(completion.script(_parser([]), shell, list(AGENT_VERBS)))
    return OK


def _diagnose(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from control_plane import diagnose
    from control_plane.terminal import bottlenecks
    from control_plane.terminal.rest import Rest
    from node_agent.__main__ import read_exposition

    if arguments.recording is None:
        items = bottlenecks.load(Rest(_settings(arguments), arguments.url))
        print(json.dumps(items, indent=1) if arguments.json else bottlenecks.as_text(items))
        return OK
    found = diagnose.load(Path(arguments.recording), read_exposition)
    print(diagnose.as_json(found) if arguments.json else diagnose.as_text(found))
    return OK


def _load(arguments: argparse.Namespace) -> int:
    from control_plane.model.errors import InvalidRequest
    from control_plane.statistics.sequences import Verdict
    from control_plane.trials import command

    try:
        verdict = command.run(arguments, os.environ, say=print, progress=lambda line: print(line, file=sys.stderr))
    except InvalidRequest as error:  # 1 says that the objective was not kept: this one could not be tried
        print(f"optiinfra: {error}", file=sys.stderr)
        return USAGE_ERROR
    return {Verdict.PASS: OK, Verdict.FAIL: FAILED, Verdict.INCONCLUSIVE: INCONCLUSIVE}[verdict]


def _recommend(folder: str, *, as_json: bool) -> int:
    from pathlib import Path

    from control_plane import recommend
    from node_agent.__main__ import read_exposition

    facts, found = recommend.recommended(Path(folder), read_exposition)
    print(recommend.as_json(facts, found) if as_json else recommend.as_text(facts, found))
    return OK


def _predict(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from control_plane import predict

    rows = predict.read_rows(Path(arguments.file))
    models = predict.read_models(Path(arguments.models) if arguments.models else None)
    measured = predict.read_rows(Path(arguments.measured)) if arguments.measured else []
    text = predict.write(rows, predict.predict(rows, models, measured=measured))
    if arguments.output is None:
        print(text, end="")
    else:
        try:
            Path(arguments.output).write_text(text, encoding="utf-8")
        except OSError as error:
            print(f"optiinfra: {arguments.output} cannot be written: {error}", file=sys.stderr)
            return FAILED
    return OK


MOST_FILES = 1_048_576  # where a host sets no limit; systemd gives services half of it


def allow_connections() -> None:
    """This will allow as many connections as the host does: each is a file, and many services may have 1,024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MOST_FILES)), hard))


class _Interrupts:
    """Ctrl-C and SIGTERM while the process starts: an exception, wherever it is just then.

    Python swallows that exception where it falls into one of its own hooks, as those around a fork are. So whoever has
    come to the end of a step asks whether there was one.
    """

    def __init__(self) -> None:
        import signal

        self._came = False
        sys.unraisablehook = self._swallowed
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it for what runs in the background
                signal.signal(number, self._interrupted)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        import signal

        self._came = True
        _end_within(START_END_SECONDS)
        signal.default_int_handler(number, frame)

    def _swallowed(self, what: sys.UnraisableHookArgs) -> None:
        if what.exc_type is not KeyboardInterrupt:  # that one is asked for
            sys.__unraisablehook__(what)

    def check(self) -> None:
        """This will raise KeyboardInterrupt if one came and was swallowed."""
        if self._came:
            raise KeyboardInterrupt


def _end_within(seconds: float) -> None:
    """This will end the process by force, saying where it stands, if it has not ended by itself until then.

    An interrupt may fall between the taking of a lock and what would give it back; whoever needs that then waits for
    ever. Nothing is lost: what was not committed was not acknowledged, and Postgres ends in order after its owner.
    """
    import faulthandler

    faulthandler.dump_traceback_later(seconds, exit=True)


def _up(settings: Settings) -> int:
    # We start the local agent beside gRPC's threads and exec at once; its fork handlers would only warn of that.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    import asyncio

    import uvloop

    from control_plane import bootstrap, local_agent

    allow_connections()
    interrupts = _Interrupts()  # until `_serve` takes over

    print(_starting(settings), flush=True)
    bootstrap.check_doors(settings)
    handle = bootstrap.open_database(settings)  # on the main thread: the server ends with the thread that started it
    try:
        interrupts.check()
        if settings.local_agent:
            local_agent.prepare(settings)
        before, after = bootstrap.migrate(handle)
        interrupts.check()
        if before != after:
            print(f"  schema       {before or 'empty'} → {after}", flush=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, handle))
    except BaseExceptionGroup as group:
        expected = _expected(group)
        if expected is None:
            raise
        raise expected from group
    finally:
        handle.stop()
        print("stopped; the history stays where it is", flush=True)
    return OK


def _expected(error: BaseException) -> OptiInfraError | None:
    """This will find, in what a group of tasks failed of, the error that is a sentence for people."""
    from control_plane.model.errors import OptiInfraError

    if isinstance(error, BaseExceptionGroup):
        return next((found for e in error.exceptions if (found := _expected(e)) is not None), None)
    return error if isinstance(error, OptiInfraError) else None


def _starting(settings: Settings) -> str:
    from control_plane.settings import host_port

    if settings.database_url is None:
        where = f"embedded Postgres in {settings.data_dir}"
        where += (
            f", also on 127.0.0.1:{settings.database_port}" if settings.database_port else ", on a Unix socket only"
        )
    else:
        from control_plane.storage.session import redacted_url

        where = redacted_url(settings.database_url.get_secret_value())
    ports = " and ".join(host_port(settings.host, port) for port in settings.http_ports)
    if settings.tls_cert_file is not None:
        ports += " (HTTPS)"
    keys = "needed; `optiinfra keys create` makes one" if settings.keys_required else _without_keys(settings)
    lines = [
        "OptiInfra starts",
        f"  database     {where}",
        f"  HTTP         {ports}",
        f"  keys         {keys}",
        f"  agents       {settings.grpc_address} (gRPC{', certificates only' if settings.certified else ''})",
    ]
    if idle := settings.without_effect:
        lines.append(f"  not yet      {' and '.join(idle)} is set, and has no effect in this release")
    return "\n".join(lines)


def _without_keys(settings: Settings) -> str:
    from control_plane.settings import LOOPBACK

    if settings.host in LOOPBACK:
        return "none: everybody on this host may do everything (--auth on asks for keys)"
    return f"NONE: everybody who reaches {settings.host} may do everything"


async def _serve(settings: Settings, handle: DatabaseHandle) -> None:
    import asyncio
    import secrets
    import signal

    from control_plane import bootstrap, first_look

    own_key = secrets.token_urlsafe(32)
    stop, ready = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        _end_within(END_SECONDS)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(bootstrap.serve(settings, handle, stop, ready, own_key=own_key))
        greeting = tasks.create_task(first_look.greet(settings, ready, own_key))
        await serving
        greeting.cancel()


def _exec_agent(verb: str, arguments: Sequence[str]) -> int:
    from node_agent.__main__ import main as agent_main

    return agent_main(["run" if verb == "agent" else verb, *arguments])


def main(argv: Sequence[str] | None = None) -> int:
    """This will run one verb and give its exit code: 0 done, 1 failed, 2 wrong usage or settings."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in AGENT_VERBS:
        return _exec_agent(given[0], given[1:])
    import logging

    from control_plane.model.errors import ConfigurationError, OptiInfraError
    from control_plane.runtime import redaction
    from control_plane.terminal import verbs as terminal

    arguments = _parser(given).parse_args(given)
    verbs: dict[str, Callable[[Any], int]] = {"up": _up, "migrate": _migrate, "settings": _show_settings}
    try:
        if arguments.verb == "load":
            return _load(arguments)
        if arguments.verb == "completion":
            return _completion(arguments.shell)
        if arguments.verb == "diagnose":
            return _diagnose(arguments)
        if arguments.verb == "recommend" and arguments.recording is not None:
            return _recommend(arguments.recording, as_json=arguments.json)
        if arguments.verb == "predict":
            return _predict(arguments)
        settings = _settings(arguments)
        logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        for handler in logging.getLogger().handlers:
            handler.addFilter(redaction.LogFilter())
        for noisy in ("uvicorn.error", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if arguments.verb in terminal.HELP:
            return terminal.run(settings, arguments)
        if arguments.verb in ("recommend", "explain"):
            from control_plane.terminal import advice

            return advice.run(settings, arguments, print)
        if arguments.verb == "storage":
            from control_plane.terminal import storage

            return storage.run(settings, arguments)
        if arguments.verb in ("join-token", "keys"):
            return (_join_token if arguments.verb == "join-token" else _keys)(settings, arguments)
        return verbs[arguments.verb](settings)
    except ConfigurationError as error:
        print(f"optiinfra: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OptiInfraError as error:
        print(f"optiinfra: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
