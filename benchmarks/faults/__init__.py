"""What may happen to an agent, to the network and to a control plane: every tick is stored, or reported lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.faults import clocks, disks, engines, hour, kills, networks
from benchmarks.faults.accounting import Row
from benchmarks.figures import Result, Table
from benchmarks.processes import ControlPlane, control_plane

SCENARIOS: tuple[Callable[..., Row], ...] = (
    kills.kill_9, hour.away, disks.full, clocks.jumping, networks.cut, networks.black_hole,
    engines.trickling, engines.endless,
)  # fmt: skip
AT_ONCE = 2  # of them: most wait for time to pass


def measure(*, quick: bool) -> Result:
    """This will do all of it to agents of one control plane, and count."""
    rows = happen(quick=quick)
    return Result(
        name="faults",
        title="Faults",
        explanation=(
            "Real agent processes at 0.5 s over real gRPC to one real control plane and its Postgres, while things go "
            "wrong. Only the hour is virtual time, in a whole agent of this process, and the wall clock that jumps is "
            "shifted in its process alone. Sampled is every tick that an agent wrote down in a ledger of its own, "
            "beside its spool, once that had it. Each is looked for by its time among the stored rows, and by its "
            "number among the ranges that the control plane knows to be lost. Neither is a tick that is in none of "
            "them, both one that is stored twice or stored and reported lost: these two must be 0."
        ),
        figures=[],
        tables=[
            Table(
                head=("fault", "sampled", "committed", "reported lost", "neither", "both"),
                rows=[
                    (
                        row.name,
                        *(f"{n:,}" for n in (found.sampled, found.committed, found.lost, found.neither, found.both)),
                    )
                    for row in rows
                    if (found := row.account) is not None
                ],
            )
        ],
        notes=[f"{row.name}: {row.note}" for row in rows if row.note],
    )


def happen(*, quick: bool) -> list[Row]:
    """This will let it all happen, and give what became of the samples of each."""
    with control_plane("--no-local-agent") as running, ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda scenario: _run(scenario, running, quick=quick), SCENARIOS))


def _run(scenario: Callable[..., Row], running: ControlPlane, *, quick: bool) -> Row:
    started = time.monotonic()
    row = scenario(running, quick=quick)
    print(f"faults: {row.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return row
