"""What a process really loads, whatever its source says: import-linter reads the text, this asks the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEVER_IN_THE_AGENT = (
    "alembic", "dotenv", "fastapi", "groq", "langgraph", "numpy", "prometheus_client", "psycopg", "pydantic",
    "pydantic_settings", "requests", "sqlalchemy", "starlette", "uvicorn", "yaml", "control_plane",
)  # fmt: skip
NEVER_BEFORE_A_VERB = ("fastapi", "sqlalchemy", "psycopg", "alembic", "uvicorn", "numpy", "grpc", "node_agent.agent")


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter holds after `statement`."""
    program = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto' / 'gen'}"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True, timeout=60
    )
    return set(done.stdout.splitlines())


def test_the_agent_loads_nothing_heavy() -> None:
    loaded = loaded_by("import node_agent.agent, node_agent.__main__, node_agent.recordings")
    assert "node_agent.uplink.client" in loaded, "the measurement measures"
    assert not loaded.intersection(NEVER_IN_THE_AGENT)


@pytest.mark.parametrize("module", ["node_agent.__main__", "control_plane.__main__"])
def test_a_command_line_loads_nothing_heavy_before_it_knows_its_verb(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert not loaded.intersection(NEVER_BEFORE_A_VERB)
