from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.model.errors import ConfigurationError
from control_plane.rollouts.targets import read_targets

GOOD = """
[chat]
actuator = "haproxy"
model = "llama-8b"
socket = "/run/haproxy/admin.sock"
map_file = "/etc/haproxy/share.map"
blue = {backend = "blue", servers = ["http://10.0.0.1:8000/"]}
green = {backend = "green", servers = ["http://10.0.0.2:8000"]}
ttft_limit_seconds = 0.5
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "targets.toml"
    file.write_text(text)
    return file


def test_a_file_of_targets_is_read(tmp_path: Path) -> None:
    (target,) = read_targets(written(tmp_path, GOOD)).values()
    assert (target.name, target.model, target.haproxy.key) == ("chat", "llama-8b", "llama-8b")
    assert target.blue.servers == ("http://10.0.0.1:8000",)
    assert target.ttft_limit_seconds == 0.5


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('actuator = "haproxy"', 'actuator = "shell"', "haproxy"),
        ('model = "llama-8b"\n', "", "model"),
        ('model = "llama-8b"', 'model = "a b;c"', "no name"),
        ('"http://10.0.0.1:8000/"', '"file:///etc/passwd"', "addresses"),
        ('"http://10.0.0.1:8000/"', '"http://me:secret@host"', "addresses"),
        ("ttft_limit_seconds = 0.5", "ttft_limit_seconds = 0", "ttft_limit_seconds"),
        ("ttft_limit_seconds = 0.5", 'command = "rm"', "takes"),
        ('green = {backend = "green", ', "green = {", "green"),
        ("ttft_limit_seconds = 0.5", 'freeze = "Fri 16:00 - Mon 07:00"', "list of windows"),
        ("ttft_limit_seconds = 0.5", 'freeze = ["weekends"]', "no freeze window"),
        ("[chat]", "[chat", "no TOML"),
        (GOOD, "", "no rollout target"),
    ],
)
def test_what_is_wrong_in_it_is_said_before_anything_starts(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in GOOD
    with pytest.raises(ConfigurationError) as refused:
        read_targets(written(tmp_path, GOOD.replace(before, after)))
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_targets(tmp_path / "none.toml")
