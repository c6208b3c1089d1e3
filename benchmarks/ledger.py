"""An agent that writes each tick down beside its spool: `python -m benchmarks.ledger LEDGER SHIFT run …`.

Before a tick is kept, a line with its monotonic time, and after, one with its number too. SHIFT is a file with the
seconds that the wall clock is ahead, or nothing: the machine's own clock is everybody's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from node_agent import agent, assembly, clock
from node_agent.__main__ import main
from node_agent.spool import Spool
from node_agent.uplink.client import Outgoing
from node_agent.uplink.frames import Packed

KEPT, BEGUN = "kept", "begun"
Number = tuple[bytes, int]  # a batch: its epoch, and its number within that


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One tick, as the agent itself wrote it down outside of its spool."""

    at: float  # true wall time, seconds since 1970
    number: Number | None  # None: it was killed before the tick was in its spool, and nobody need know of it


def read(ledger: Path) -> Sequence[Taken]:
    """This will read what was written down. What the machine's monotonic clock said becomes what its wall clock did."""
    wall = time.time() - time.monotonic()
    found: dict[str, Taken] = {}
    for line in ledger.read_text(encoding="ascii").splitlines():
        what, at, *number = line.split()
        if what == BEGUN:
            found[at] = Taken(at=float(at) + wall, number=None)
        elif len(number) == 2:
            found[at] = Taken(at=float(at) + wall, number=(bytes.fromhex(number[0]), int(number[1])))
    return list(found.values())


def witnessed(ledger: int, spool: Spool[Packed], outgoing: Outgoing) -> None:
    """This will keep a tick as the agent does, and write down that it did."""
    at = f"{outgoing.tick.taken_at_monotonic_us / 1e6:.6f}"
    os.write(ledger, f"{BEGUN} {at}\n".encode())
    assembly.append(spool, outgoing)
    os.write(ledger, f"{KEPT} {at} {spool.epoch.hex()} {spool.last_seq}\n".encode())


def open_ledger(path: Path) -> int:
    """This will open a ledger for writing, behind what is in it."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


class _Shifted:
    def __init__(self, shift: Path) -> None:
        self._shift = shift
        self._machine = clock.SystemClock()

    def now(self) -> clock.Instant:
        now = self._machine.now()
        ahead = timedelta(seconds=float(self._shift.read_text()))
        return clock.Instant(wall=now.wall + ahead, monotonic_seconds=now.monotonic_seconds)


def _run(ledger: Path, shift: str, arguments: Sequence[str]) -> int:
    file = open_ledger(ledger)
    agent.append = lambda spool, outgoing: witnessed(file, spool, outgoing)  # type: ignore[attr-defined]
    if shift:
        shifted = lambda: _Shifted(Path(shift))  # noqa: E731
        agent.SystemClock = assembly.SystemClock = shifted  # type: ignore[assignment,attr-defined]
    return main(list(arguments))


if __name__ == "__main__":
    sys.exit(_run(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
