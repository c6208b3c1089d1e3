"""SIGKILL at random moments, from before the first sample to well into sending."""

from __future__ import annotations

import random
import time

from benchmarks.faults.accounting import Node, Row
from benchmarks.processes import ControlPlane, folder, free_ports

KILLS, QUICK_KILLS = 100, 5
SEED = 5
# An agent needs some 0.3 s to load.
LONGEST_LIFE_SECONDS = 2.5
# So many lives see no control plane at all: what they sample is a backlog for the next ones.
AWAY_SHARE = 0.4


def kill_9(running: ControlPlane, *, quick: bool) -> Row:
    """This will kill an agent again and again, and let the last one finish."""
    chance, kills = random.Random(SEED), QUICK_KILLS if quick else KILLS
    (nobody,) = free_ports(1)
    with folder() as path:
        node = Node(running, "killed", path / "state", ledger=path / "ledger")
        for _ in range(kills):
            agent = node.start(port=nobody if chance.random() < AWAY_SHARE else None)
            time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))
            agent.kill()
        node.start().stop()
        share = f"{AWAY_SHARE:.0%} of the lives saw no control plane"
        return Row(name=f"kill -9, {kills} times", account=node.account(), note=f"seed {SEED}; {share}.")
