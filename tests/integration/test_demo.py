"""`make demo` runs, shows recordings as what they are, and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.up import REPOSITORY, alive, clean_environment, descendants, eventually, free_ports

pytestmark = pytest.mark.slow


def test_the_demonstration_shows_replayed_nodes_and_ends_whole(tmp_path: Path) -> None:
    port, agents = free_ports(2)
    output = tmp_path / "output.txt"
    with output.open("wb") as file:
        demo = subprocess.Popen(
            [sys.executable, "scripts/demo.py", "600", str(port), str(agents)], cwd=REPOSITORY, stdout=file,
            stderr=file, env=clean_environment(TMPDIR="/tmp"), start_new_session=True,
        )  # fmt: skip

    def nodes() -> list[dict[str, object]]:
        assert demo.poll() is None, output.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/nodes", timeout=20) as answer:
                found: list[dict[str, object]] = json.load(answer)["items"]
                return found
        except OSError:
            return []

    eventually(lambda: len(nodes()) == 3, within_seconds=90, what="three nodes")
    assert all(node["replayed"] for node in nodes())
    pids = descendants(demo.pid)
    demo.terminate()
    assert demo.wait(60) == 0, output.read_text()
    assert f"http://localhost:{port}/dashboard" in output.read_text()
    eventually(lambda: not alive(pids), what="everybody's end")
