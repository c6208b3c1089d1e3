"""The whole API as schemathesis sees it: every answer as declared, whatever is sent. `make test-api` runs it."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.up import Up, clean_environment, eventually, folder_for_postgres, optiinfra

PROGRAM = os.environ.get("OPTIINFRA_TEST_SCHEMATHESIS")
EXAMPLES = os.environ.get("OPTIINFRA_TEST_SCHEMATHESIS_EXAMPLES", "100")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not PROGRAM, reason="NEEDS SCHEMATHESIS: make test-api"),
]
# What is not checked, and why.
UNCHECKED = {
    # Names, cursors and fields have to exist, and a schema cannot say which do: they are refused with 404 or 422.
    "positive_data_acceptance",
}
# It would end what the others need, the key that is used; and what has no end.
LEFT_OUT = ("/api-keys/{key_id}", "/events")


def test_whatever_is_sent_gets_an_answer_that_is_declared() -> None:
    assert PROGRAM
    unlimited = [f"--{rate}-requests-per-minute=1000000" for rate in ("read", "heavy", "write")]
    with ExitStack() as stack:
        folder = stack.enter_context(folder_for_postgres())
        up = Up(folder, "--auth=on", *unlimited).start()
        stack.callback(up.stop)
        eventually(up.is_ready, within_seconds=60, what=f"readiness\n{up.output}")
        for name in ("h200-loads.rec", "h200-vllm.rec"):
            played = optiinfra(
                "replay", str(RECORDINGS / name), "--speed=0", f"--server=127.0.0.1:{up.grpc_port}", cwd=folder
            )
            assert played.returncode == 0, played.stderr
        made = optiinfra("keys", "create", "--name=all", "--scopes=all", f"--data-dir={up.data_dir}", cwd=folder)
        done = subprocess.run(
            [
                PROGRAM, f"--config-file={CONFIGURATION}", "run", f"http://127.0.0.1:{up.port}/openapi.json",
                "--checks=all", "--workers=2",
                f"--exclude-checks={','.join(UNCHECKED)}", f"--max-examples={EXAMPLES}", "--continue-on-failure",
                *(f"--exclude-path={path}" for path in LEFT_OUT),
                "--header", f"Authorization: Bearer {made.stdout.strip()}",
            ],
            cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert up.status("/health") == 200, up.output[-3000:]
    said = done.stdout[-20_000:]
    assert done.returncode == 0, said
    tried = re.search(r"(\d+) generated", said.replace(",", ""))
    assert tried, said
    assert int(tried[1]) > 1000
