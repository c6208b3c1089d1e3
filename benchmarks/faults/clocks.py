"""A wall clock that jumps both ways, with and without a link, and over a kill."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.faults.accounting import Node, Row
from benchmarks.faults.bad_network import BadNetwork
from benchmarks.processes import ControlPlane, folder

DAY_SECONDS = 86_400
JUMPS_SECONDS = (DAY_SECONDS, -DAY_SECONDS, 0, 30 * DAY_SECONDS, -30 * DAY_SECONDS, 3_600, -7, 0)
STEP_SECONDS = 2.5


def jumping(running: ControlPlane, *, quick: bool) -> Row:
    """This will set the clock forth and back while the agent samples, sends, waits and is killed."""
    jumps = JUMPS_SECONDS[:3] if quick else JUMPS_SECONDS
    with folder() as path, BadNetwork(running.grpc_port) as network:
        shift = path / "shift"
        shift.write_text("0")
        node = Node(running, "jumping", path / "state", ledger=path / "ledger", port=network.port)
        agent = node.start(shift=shift)
        for number, seconds in enumerate(jumps):
            time.sleep(STEP_SECONDS)
            _set(shift, seconds)
            match number % 4:
                case 1:
                    network.refuse()
                case 2:
                    agent.kill()
                    agent = node.start(shift=shift)
                case 3:
                    network.allow()
                case _:
                    pass
        _set(shift, 0)
        network.allow()
        time.sleep(STEP_SECONDS)
        agent.stop()
        return Row(
            name="wall clock jumping both ways, with and without a link, over kills",
            account=node.account(),
            note=f"{len(jumps)} jumps of 7 s to 30 days.",
        )


def _set(path: Path, seconds: int) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(str(seconds))
    unfinished.replace(path)
