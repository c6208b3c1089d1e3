"""Connections that are cut in the middle of a batch, and one that goes dead without a word."""

from __future__ import annotations

import random
import time

from benchmarks.faults.accounting import Node, Row
from benchmarks.faults.bad_network import BadNetwork
from benchmarks.processes import ControlPlane, folder, until

# An agent waits twice as long after each cut; a new one begins anew.
AGENTS, CUTS, QUICK_CUTS = 6, 5, 4
SEED = 7
# A connection begins with some 4 KB; a batch of a host without GPUs has about 1 KB.
MOST_BYTES = 9_000


def cut(running: ControlPlane, *, quick: bool) -> Row:
    """This will reset the connection after a random number of bytes, again and again."""
    chance, agents, cuts = random.Random(SEED), *((1, QUICK_CUTS) if quick else (AGENTS, CUTS))
    with folder() as path, BadNetwork(running.grpc_port) as network:
        node = Node(running, "cut", path / "state", ledger=path / "ledger", port=network.port)
        for _ in range(agents):
            agent = node.start()
            for _ in range(cuts):
                before = network.cuts
                network.cut_after(chance.randrange(1, MOST_BYTES))
                until(lambda before=before: network.cuts > before, "the next cut")  # type: ignore[misc]
            agent.stop()
        return Row(
            name=f"network cut in the middle of a batch, {network.cuts} times",
            account=node.account(),
            note=f"seed {SEED}; {network.accepted} connections, each reset after 1 to {MOST_BYTES:,} bytes.",
        )


def black_hole(running: ControlPlane, *, quick: bool) -> Row:
    """This will stop forwarding and keep the connection open, and see when the agent opens another."""
    del quick  # it takes as long as the agent's patience
    with folder() as path, BadNetwork(running.grpc_port) as network:
        node = Node(running, "black-hole", path / "state", ledger=path / "ledger", port=network.port)
        agent = node.start()
        until(lambda: network.accepted, "the connection")
        time.sleep(3.0)
        network.swallow()
        began = time.monotonic()
        until(lambda: network.accepted > 1, "another connection")
        noticed = time.monotonic() - began
        time.sleep(3.0)
        agent.stop()
        return Row(
            name="black hole: open, and nothing arrives",
            account=node.account(),
            note=f"noticed after {noticed:.0f} s, another was opened.",
        )
