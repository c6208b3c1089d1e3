"""`scripts/setup.sh`, the first thing a newcomer runs: what it lacks it names in one sentence, and leaves no rubble."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LOCKS = [f"requirements/{name}.lock" for name in ("server", "dev")]

OLD_PYTHON = """#!/bin/sh
case "$1" in
    --version) echo "Python 3.9.2" ;;
    *) exit 1 ;;
esac
"""
# Debian without python3-venv: the module is there, says at length what is missing, and leaves half an environment.
PYTHON_WITHOUT_VENV = f"""#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p .venv/bin
    echo "The virtual environment was not created successfully because ensurepip is not available."
    exit 1
fi
exec {sys.executable} "$@"
"""
# Makes an environment whose pip finds no network.
PYTHON_WITHOUT_NETWORK = f"""#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p .venv/bin
    printf '#!/bin/sh\\necho "ERROR: No matching distribution found" >&2\\nexit 1\\n' > .venv/bin/python
    chmod +x .venv/bin/python
    exit 0
fi
exec {sys.executable} "$@"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the script reads of the repository, without an environment."""
    for name in ("scripts/setup.sh", "pyproject.toml", *LOCKS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "scripts" / "vendor.py").write_text("")  # the dashboard's libraries are there
    return tmp_path


def program(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def set_up(
    checkout: Path, python: str, which: str = "server", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "scripts" / "setup.sh"), which],
        cwd=cwd or checkout, env=os.environ | {"PYTHON": python},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def refusal(answer: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a refusal."""
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("optiinfra: ")
    return line


def test_a_python_that_is_too_old_is_refused_with_its_version_and_the_way_out(checkout: Path, tmp_path: Path) -> None:
    sentence = refusal(set_up(checkout, program(tmp_path / "python3.9", OLD_PYTHON)))
    assert "Python 3.9.2 is too old; Python 3.11 or newer is needed" in sentence
    assert "PYTHON=" in sentence
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_missing_is_named(checkout: Path) -> None:
    sentence = refusal(set_up(checkout, "python-that-is-not-there"))
    assert "python-that-is-not-there was not found; install Python 3.11" in sentence


def test_a_python_without_venv_is_refused_with_the_package_to_install_and_leaves_no_half_environment(
    checkout: Path, tmp_path: Path
) -> None:
    answer = set_up(checkout, program(tmp_path / "python", PYTHON_WITHOUT_VENV))
    sentence = refusal(answer)
    assert "cannot make a virtual environment (Debian: apt install python3-venv)" in sentence
    assert answer.stdout == "optiinfra: making .venv\n"
    assert not (checkout / ".venv").exists()


def test_packages_that_cannot_be_had_are_named_and_not_taken_for_installed(checkout: Path, tmp_path: Path) -> None:
    answer = set_up(checkout, program(tmp_path / "python", PYTHON_WITHOUT_NETWORK))
    assert answer.returncode == 2
    reason, sentence = answer.stderr.splitlines()
    assert "No matching distribution" in reason
    assert "requirements/server.lock could not be installed" in sentence
    assert not list((checkout / ".venv").glob(".installed-*"))


@pytest.mark.parametrize("where", ["repository", "elsewhere"])
def test_what_is_installed_already_needs_nothing(where: str, checkout: Path, tmp_path: Path) -> None:
    lock = (checkout / "requirements" / "server.lock").read_bytes() + (checkout / "pyproject.toml").read_bytes()
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (checkout / ".venv" / ".installed-server").write_text(f"server {hashlib.sha256(lock).hexdigest()}\n")
    answer = set_up(checkout, sys.executable, cwd=tmp_path if where == "elsewhere" else checkout)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_a_dashboard_that_cannot_be_had_stops_nothing(checkout: Path) -> None:
    lock = (checkout / "requirements" / "server.lock").read_bytes() + (checkout / "pyproject.toml").read_bytes()
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (checkout / ".venv" / ".installed-server").write_text(f"server {hashlib.sha256(lock).hexdigest()}\n")
    (checkout / "scripts" / "vendor.py").write_text("raise SystemExit('preact.mjs is missing')")
    answer = set_up(checkout, sys.executable)
    assert answer.returncode == 0
    assert "make vendor tries again" in answer.stderr


def test_an_environment_whose_python_is_gone_is_made_again(checkout: Path, tmp_path: Path) -> None:
    lock = (checkout / "requirements" / "server.lock").read_bytes() + (checkout / "pyproject.toml").read_bytes()
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(tmp_path / "removed-by-an-upgrade")
    (checkout / ".venv" / ".installed-server").write_text(f"server {hashlib.sha256(lock).hexdigest()}\n")
    answer = set_up(checkout, program(tmp_path / "python", PYTHON_WITHOUT_VENV))
    assert answer.stdout == "optiinfra: making .venv\n"


def test_the_lock_has_to_be_named(checkout: Path) -> None:
    answer = subprocess.run(
        [str(checkout / "scripts" / "setup.sh")], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 2
    assert "usage: setup.sh server|dev" in answer.stderr
