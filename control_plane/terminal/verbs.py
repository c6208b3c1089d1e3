"""The verbs of this room: their flags, and what each does. Only here is printed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from control_plane.settings import Settings
from control_plane.terminal import doctor, status
from control_plane.terminal.rest import NoAnswer, Rest

HELP = {
    "status": "show how the control plane and its fleet are; exit code 0 healthy, 3 degraded, 4 unhealthy, 1 no answer",
    "top": "show what every GPU does, again and again",
    "doctor": "look at a set-up and say what to do; exit code 1 when something does not work",
}
SHORTEST_SECONDS = 0.5


def add(verbs: Any, add_settings: Callable[[argparse.ArgumentParser], None]) -> None:
    """This will add the verbs and their flags to a command line."""
    for verb, what in HELP.items():
        parser = verbs.add_parser(verb, help=what, description=what)
        parser.add_argument(
            "--url", help="another control plane than the one that runs here, such as https://host:8003"
        )
        parser.add_argument("--json", action="store_true", help="for programs")
        if verb in ("status", "top"):
            parser.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
            parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="pause between looks (2)")
        add_settings(parser)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """This will run one of the verbs and give its exit code. Raises NoAnswer."""
    rest = Rest(settings, arguments.url)
    if arguments.verb == "doctor":
        found = doctor.examine(settings, rest)
        _say(json.dumps(doctor.as_data(found), indent=2) if arguments.json else doctor.as_text(found))
        return doctor.exit_code(found)
    again = arguments.watch or (arguments.verb == "top" and sys.stdout.isatty() and not arguments.json)
    while True:
        code = _look(rest, arguments, clear=again and sys.stdout.isatty())
        if not again:
            return code
        time.sleep(max(SHORTEST_SECONDS, arguments.every))


def _look(rest: Rest, arguments: argparse.Namespace, *, clear: bool) -> int:
    before = status.CLEAR if clear else ""
    try:
        found = status.load(rest)
    except NoAnswer as error:
        if not clear:
            raise
        _say(f"{before}{error}")  # it may come back
        return 1
    if arguments.json:
        _say(json.dumps(found if arguments.verb == "status" else found["gpus"]))
    elif arguments.verb == "top":
        text = status.gpu_table(found["gpus"]) if found["gpus"] else "no GPU; `optiinfra doctor` says why"
        _say(f"{before}{text}")
    else:
        _say(f"{before}{status.as_text(found, rest.url)}")
    return status.exit_code(found)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is the program's own output
