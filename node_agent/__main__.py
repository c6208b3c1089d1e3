"""`optiinfra-agent`: run, record, replay, read, healthy."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from node_agent import __version__
from node_agent.clock import SystemClock
from node_agent.model import EntityKind, Tick
from node_agent.settings import Settings, SettingsError, add_flags, load

# A loop that has not turned for three of its intervals, and for a minute, does not turn.
UNHEALTHY_AFTER_SECONDS = 60.0
UNHEALTHY_AFTER_INTERVALS = 3
USAGE_ERROR = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="optiinfra-agent", description="OptiInfra's node agent.")
    parser.add_argument("--version", action="version", version=f"optiinfra-agent {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="sample this host and send to the control plane")
    add_flags(run)
    record = verbs.add_parser("record", help="write what the agent sees to a file")
    record.add_argument("file", type=Path)
    record.add_argument("--seconds", type=float, default=None, help="stop after this long; default: until Ctrl-C")
    add_flags(record)
    replay = verbs.add_parser("replay", help="play a recording through the real door")
    replay.add_argument("file", type=Path)
    replay.add_argument("--speed", type=float, default=1.0, help="2 plays in half the time, 0 as fast as it goes")
    replay.add_argument("--keep-times", action="store_true", help="keep the recorded times instead of shifting to now")
    replay.add_argument("--as-node", default=None, metavar="NAME", help="the node's name; default: as recorded")
    add_flags(replay)
    read = verbs.add_parser("read", help="print what the agent makes of a saved answer of an engine's /metrics")
    read.add_argument("file", type=Path)
    add_flags(read)
    healthy = verbs.add_parser("healthy", help="exit 0 when the agent on this host is alive (for probes)")
    add_flags(healthy)
    return parser


def _progress(text: str) -> None:
    """This will show how far it is, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


def _record(settings: Settings, path: Path, seconds: float | None) -> int:
    from node_agent import recordings

    if seconds is not None and not seconds > 0:
        raise SettingsError(f"--seconds is {seconds:g}; more than 0 is accepted")

    def progress(count: int, tick: Tick) -> None:
        gpus = sum(1 for e in tick.entities if e.kind is EntityKind.GPU)
        servers = sum(1 for e in tick.entities if e.kind is EntityKind.INFERENCE_SERVER)
        _progress(f"{count} ticks, {gpus} GPUs, {servers} inference servers")

    count = asyncio.run(recordings.record(settings, path, seconds=seconds, progress=progress))
    _progress("\n")
    print(f"{path}: {count} ticks, {path.stat().st_size} bytes", file=sys.stderr)
    return 0


def _replay(settings: Settings, arguments: argparse.Namespace) -> int:
    from node_agent import recordings
    from node_agent.uplink import recording

    if not 0 <= arguments.speed < math.inf:
        raise SettingsError(f"--speed is {arguments.speed:g}; 0 (as fast as it goes) and more are accepted")
    try:
        loaded = recording.load(arguments.file)
    except recording.RecordingError as error:
        raise SettingsError(str(error)) from error
    name = arguments.as_node or loaded.hello.node_name
    print(f"playing {len(loaded.ticks)} ticks ({loaded.seconds:.0f} s) as node {name}", file=sys.stderr)
    count = asyncio.run(
        recordings.replay(
            loaded,
            settings.server,
            speed=arguments.speed,
            keep_times=arguments.keep_times,
            node_name=arguments.as_node,
            progress=lambda done: _progress(f"{done}/{len(loaded.ticks)}"),
        )
    )
    _progress("\n")
    print(f"{count} ticks acknowledged", file=sys.stderr)
    return 0


def read_exposition(path: Path) -> dict[str, object] | None:
    """This will read a saved answer of an engine's /metrics, also .gz; None when it is no inference server's."""
    import gzip

    from node_agent.collectors.snapshots import MOST_BYTES, as_plain, read_snapshot

    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        body = file.read(MOST_BYTES + 1)
    snapshot = None if len(body) > MOST_BYTES else read_snapshot(body)
    return None if snapshot is None else as_plain(snapshot)


def _read(path: Path) -> int:
    found = read_exposition(path)
    if found is None:
        raise SettingsError(f"{path} holds the metrics of no inference server that is known (vLLM, SGLang, TGI)")
    print(json.dumps(found))
    return 0


def _healthy(settings: Settings) -> int:
    from node_agent.host.liveness import HEARTBEAT_FILE

    path = settings.state_dir / HEARTBEAT_FILE
    if not path.exists():
        print(f"{path} does not exist: the agent has not sampled yet", file=sys.stderr)
        return 1
    try:
        interval_seconds = float(path.read_text())  # as it is now: the control plane may have changed it
    except ValueError:
        interval_seconds = settings.sampling_interval_seconds  # read in the middle of a write
    age = SystemClock().now().wall.timestamp() - path.stat().st_mtime
    if age > max(UNHEALTHY_AFTER_SECONDS, UNHEALTHY_AFTER_INTERVALS * interval_seconds):
        print(f"the last sample is {age:.0f} s old", file=sys.stderr)
        return 1
    return 0


def _dispatch(arguments: argparse.Namespace) -> int:
    settings = load(arguments, os.environ)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s agent: %(message)s")
    match arguments.verb:
        case "run":
            from node_agent import agent

            logging.getLogger(__name__).info("%s", ", ".join(f"{k} {v}" for k, v in agent.described(settings).items()))
            return asyncio.run(agent.run(settings))
        case "record":
            return _record(settings, arguments.file, arguments.seconds)
        case "replay":
            return _replay(settings, arguments)
        case "read":
            return _read(arguments.file)
        case _:
            return _healthy(settings)


def main(argv: Sequence[str] | None = None) -> int:
    """This will run one verb and give its exit code: 0 done, 1 not healthy, 2 wrong usage, 75 start me again."""
    arguments = _parser().parse_args(argv)
    try:
        return _dispatch(arguments)
    except SettingsError as error:
        print(f"optiinfra-agent: {error}", file=sys.stderr)
    except FileExistsError as error:
        print(f"optiinfra-agent: {error.filename} exists already; choose another name", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"optiinfra-agent: {where}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
