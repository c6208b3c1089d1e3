"""Brings the dashboard's libraries into control_plane/web/vendor, unmodified, as vendor.toml
there pins them. Set-up runs it.

    scripts/vendor.py             fetch what is missing or is not what was pinned; nothing to do, no network
    scripts/vendor.py --check     only say what is missing

It asks whatever registry npm is set up for. Where there is no npm, it takes Node from the Python index for that moment
(requirements/npm.lock). To take another version: change `version` and `integrity` (npm view NAME@VERSION
dist.integrity), run it, and look at the dashboard.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parents[1] / "control_plane" / "web" / "vendor"
PINS = VENDOR / "vendor.toml"
NPM_LOCK = Path(__file__).parents[1] / "requirements" / "npm.lock"


def pins() -> list[dict[str, Any]]:
    """This will read what is pinned: for each library its name, version, integrity and files with their hashes."""
    libraries: list[dict[str, Any]] = tomllib.loads(PINS.read_text())["library"]
    return libraries


def wrong() -> list[str]:
    """This will name every file that is missing, differs from what was pinned, or was not pinned at all."""
    found = []
    expected = {PINS.name: None}
    for library in pins():
        for file in library["file"]:
            expected[file["name"]] = file["sha256"]
    for name, digest in expected.items():
        path = VENDOR / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif digest is not None and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            found.append(f"{name} is not what was pinned")
    return found + [f"{path.name} is not pinned" for path in VENDOR.iterdir() if path.name not in expected]


def npm(folder: Path) -> str:
    """This will give the path of npm: the host's, or one that is installed below `folder`."""
    found = shutil.which("npm")
    if found is None:
        venv.create(folder / "npm", with_pip=True)
        pip = [folder / "npm" / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", NPM_LOCK], check=True)
        found = str(folder / "npm" / "bin" / "npm")
    return found


def fetch(library: dict[str, Any], folder: Path, program: str) -> None:
    """This will have npm fetch one library, check it against its integrity, and write its files."""
    named = f"{library['name']}@{library['version']}"
    subprocess.run([program, "pack", "--silent", named], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob("*.tgz")
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != library["integrity"]:
        raise SystemExit(f"{named} is {digest}, pinned is {library['integrity']}: nothing of it was written")
    with tarfile.open(archive) as packed:
        for file in library["file"]:
            member = packed.extractfile(f"package/{file['path']}")
            if member is None:
                raise SystemExit(f"{named} has no file {file['path']}")
            (VENDOR / file["name"]).write_bytes(member.read())
    archive.unlink()


def main() -> int:
    """This will fetch what is missing, unless only to check, and say what is wrong then."""
    if sys.argv[1:] != ["--check"] and wrong():
        with tempfile.TemporaryDirectory() as folder:
            try:
                program = npm(Path(folder))
                for library in pins():
                    fetch(library, Path(folder), program)
            except (OSError, subprocess.CalledProcessError) as error:
                said = getattr(error, "stderr", None) or b""
                sys.stderr.write(f"{error}\n{said.decode(errors='replace')}\n")
    problems = wrong()
    sys.stderr.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
