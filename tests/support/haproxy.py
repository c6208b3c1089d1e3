"""A real HAProxy before two sets of servers, with the configuration that docs/rollouts.md gives."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.up import eventually, free_ports

DOCUMENT = Path(__file__).parents[2] / "docs" / "rollouts.md"
PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
NEEDED = pytest.mark.skipif(PROGRAM is None, reason="NEEDS HAPROXY: apt install haproxy")


@dataclass(slots=True)
class RunningHaproxy:
    """HAProxy until it is stopped."""

    folder: Path
    blue: Sequence[int]  # ports of servers
    green: Sequence[int]
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "admin.sock"

    @property
    def map_file(self) -> Path:
        return self.folder / "share.map"

    def configuration(self) -> str:
        """The document's, with this machine's places and ports."""
        (text,) = re.findall(r"```haproxy\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
        text = text.replace("/run/haproxy/admin.sock", str(self.socket)).replace(
            "/etc/haproxy/share.map", str(self.map_file)
        )
        text = text.replace("bind :8000", f"bind 127.0.0.1:{self.port}")
        for name, ports in (("blue", self.blue), ("green", self.green)):
            lines = [f"    server {name}{i} 127.0.0.1:{port} check inter 500ms" for i, port in enumerate(ports)]
            text = re.sub(rf"(?m)^ +server {name}\d.*\n", "", text)
            text = re.sub(rf"(?m)^backend {name}\n", f"backend {name}\n" + "\n".join(lines) + "\n", text)
        return text

    def start(self) -> None:
        """This will start it, with whatever share its map's file says."""
        if not self.map_file.exists():
            self.map_file.write_text("tiny 0\nother 4000\n")
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(self.configuration())
        assert PROGRAM is not None
        with (self.folder / "haproxy.log").open("wb") as said:
            self.process = subprocess.Popen([PROGRAM, "-db", "-f", str(configuration)], stdout=said, stderr=said)
        eventually(self._listens, what="HAProxy")

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "haproxy.log").read_text()
        return self.socket.exists()

    def stop(self) -> None:
        """This will stop it at once, as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)
