"""From the start of `optiinfra up` to the first committed sample that the API shows."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Figure, Result
from benchmarks.processes import ControlPlane, folder, until
from control_plane.storage.embedded import EmbeddedPostgres

RUNS = 5
# What `up` and its agent load before they can do anything.
SERVER_IMPORTS = "import asyncio, uvloop; import control_plane.bootstrap, control_plane.first_look"
AGENT_IMPORTS = "import node_agent.agent"


def _first_sample(path: Path) -> tuple[float, float]:
    """This will start everything on `path`, and give the seconds until it was ready and until a sample was shown."""
    running = ControlPlane(path)
    before, started = datetime.now(UTC), time.perf_counter()
    running.start()

    def is_sampled() -> bool:
        if running.status("/health/live") != 200:
            return False
        seen = [node["last_sample_at"] for node in running.get("/nodes")["items"]]
        return any(at is not None and datetime.fromisoformat(at) > before for at in seen)

    try:
        until(lambda: running.status("/health/ready") == 200, "readiness")
        ready = time.perf_counter() - started
        until(is_sampled, "a sample")
        return ready, time.perf_counter() - started
    finally:
        running.stop()


def _bare_postgres(path: Path) -> float:
    postgres = EmbeddedPostgres(path)
    started = time.perf_counter()
    postgres.start()
    seconds = time.perf_counter() - started
    postgres.stop()
    return seconds


def _bare_imports(imports: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", imports], check=True)
    return time.perf_counter() - started


def measure(*, quick: bool) -> Result:
    """This will measure starts on an empty folder and on one with data."""
    figures: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        figures.setdefault(name, []).append(seconds)

    _bare_imports(f"{SERVER_IMPORTS}; {AGENT_IMPORTS}")  # compiles what was never imported
    for _ in range(1 if quick else RUNS):
        with folder() as path:
            server, agent = _bare_imports(SERVER_IMPORTS), _bare_imports(AGENT_IMPORTS)
            for kind in ("cold", "warm"):
                postgres = _bare_postgres(path / "bare")
                note(f"floor, {kind}: Postgres, then imports", postgres + server + agent)
                note(f"of that, Postgres, {kind}", postgres)
                ready, sampled = _first_sample(path / "up")
                note(f"ready, {kind}", ready)
                note(f"first sample shown, {kind}", sampled)
            note("of that, imports of the server", server)
            note("of that, imports of the agent", agent)
    floors = {name: f"floor, {name.rsplit(', ')[1]}: Postgres, then imports" for name in figures if "shown" in name}
    return Result(
        name="startup",
        title="Start",
        explanation=(
            "Seconds from starting `optiinfra up` to the first sample of this host that `/nodes` shows as committed. "
            "Cold is an empty folder: initdb and migrations are in it. Warm is a second start on the same folder. "
            "The floor is what cannot be avoided when one does the steps one after the other: starting a bare "
            "embedded Postgres on the same disk (cold: with initdb), a Python that imports what the control plane "
            "imports, and one that imports what the agent imports."
        ),
        figures=[Figure(name=name, unit="s", values=figures[name], floor=floors.get(name)) for name in sorted(figures)],
        notes=["Python's bytecode is compiled already, and the programs are in the page cache."],
    )
