"""What the command line says, of answers that are given to it."""

from __future__ import annotations

import argparse
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from control_plane import __main__ as command_line
from control_plane import settings
from control_plane.__main__ import AGENT_VERBS, _parser
from control_plane.terminal import completion, doctor, status
from control_plane.terminal.doctor import Level
from control_plane.terminal.rest import NoAnswer, Rest
from control_plane.terminal.tables import plain, table

WELL: dict[str, Any] = {
    "health": {"status": "healthy", "version": "1", "parts": {"database": {"state": "ok", "description": "Postgres"}}},
    "nodes": [
        {
            "node_id": 1, "name": "a", "state": "connected", "age_seconds": 1.0, "lag_seconds": 0.1, "replayed": False,
            "clock_offset_seconds": 0.0, "agent_version": "1",
            "collectors": [{"collector": "gpu", "outcome": "ok", "detail": ""}],
        }
    ],
    "gpus": [], "servers": [],
}  # fmt: skip


class Answers:
    """A control plane that says what it was given to say."""

    url = "http://x"

    def __init__(self, found: Mapping[str, Any] | NoAnswer) -> None:
        self.found = found

    def ask(self, path: str, **_: Any) -> Any:
        if isinstance(self.found, NoAnswer):
            raise self.found
        return self.found["health"] if "health" in path else {"items": self.found["nodes"]}


def examined(found: Mapping[str, Any] | NoAnswer, folder: Path, **flags: Any) -> list[doctor.Finding]:
    configured = settings.load({"data_dir": folder, "port": 1} | flags, {}, folder / "none")
    return doctor.examine(configured, cast(Rest, Answers(found)))


def with_node(**said: Any) -> dict[str, Any]:
    return WELL | {"nodes": [WELL["nodes"][0] | said]}


def test_a_set_up_that_is_well_is_well(tmp_path: Path) -> None:
    found = examined(WELL, tmp_path)
    assert doctor.exit_code(found) == 0
    assert doctor.as_text(found).endswith("all is well")


@pytest.mark.parametrize(
    ("said", "level", "words"),
    [
        ({"state": "gone", "age_seconds": 7200.0}, Level.FAIL, "is gone, seen 120 min ago"),
        ({"clock_offset_seconds": -9.0}, Level.HINT, "-9.0 s off"),
        ({"lag_seconds": 90.0}, Level.HINT, "90 s late"),
        ({"collectors": [{"collector": "gpu", "outcome": "absent", "detail": "no driver"}]}, Level.HINT, "no driver"),
        ({"collectors": [{"collector": "gpu", "outcome": "timed_out", "detail": "x"}]}, Level.FAIL, "timed_out"),
    ],
)
def test_what_is_wrong_with_a_node_comes_with_what_to_do(
    tmp_path: Path, said: dict[str, Any], level: Level, words: str
) -> None:
    found = examined(with_node(**said), tmp_path)
    (finding,) = [f for f in found if f.about == "node a"]
    assert (finding.level, words in finding.what, bool(finding.do)) == (level, True, True)
    assert doctor.exit_code(found) == (level is Level.FAIL)


def test_a_recording_that_is_over_is_no_fault(tmp_path: Path) -> None:
    assert doctor.exit_code(examined(with_node(state="gone", replayed=True), tmp_path)) == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoAnswer("no control plane answers at x"), "optiinfra up"),
        (NoAnswer("send a key", status=401), "OPTIINFRA_API_KEY"),
    ],
)
def test_no_answer_says_how_to_get_one(tmp_path: Path, error: NoAnswer, words: str) -> None:
    found = examined(error, tmp_path)
    assert doctor.exit_code(found) == 1
    assert words in doctor.as_text(found)


def test_doors_that_stand_open_are_named(tmp_path: Path) -> None:
    found = examined(WELL, tmp_path, host="0.0.0.0", auth="off", allow_plaintext=True)
    levels = {finding.about: finding.level for finding in found}
    assert levels["keys"] is Level.FAIL
    assert levels["HTTPS"] is Level.HINT


@pytest.mark.parametrize(("state", "code"), [("healthy", 0), ("degraded", 3), ("unhealthy", 4), ("odd", 4)])
def test_a_script_can_tell_health_from_the_exit_code(state: str, code: int) -> None:
    assert status.exit_code(WELL | {"health": WELL["health"] | {"status": state}}) == code


def test_what_nodes_say_cannot_move_the_cursor() -> None:
    found = with_node(name="\x1b[2Jevil\r\n", collectors=[{"collector": "x", "outcome": "failed", "detail": "\x07"}])
    gpu = dict.fromkeys(status.GPU_FIELDS) | {"node": "\x1b[31m", "index": 0, "name": "N\n", "age_seconds": None}
    text = status.as_text(found | {"gpus": [gpu]}, "http://x")
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "?" in text


def test_numbers_stand_to_the_right_and_long_texts_are_cut() -> None:
    shown = table(["N", "X"], [["a", 1.25], ["b" * 99, None]])
    assert shown.splitlines()[1].endswith("  1.2")
    assert len(plain("b" * 99)) == 40


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_verb_and_flag_can_be_completed(shell: str) -> None:
    text = completion.script(_parser([]), shell, list(AGENT_VERBS))
    for word in ("status", "doctor", "keys", "create", "record", "scopes", "data-dir"):
        assert word in text


def test_a_parser_says_what_may_follow() -> None:
    known = completion.words(_parser([]))
    assert {"up", "status", "top", "doctor", "keys"} <= set(known[""])
    assert {"create", "list", "revoke"} <= set(known["keys"])
    assert "--scopes" in known["keys create"]
    assert isinstance(_parser([]), argparse.ArgumentParser)


def test_a_control_plane_allows_itself_as_many_connections_as_the_host_does() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        command_line.allow_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, command_line.MOST_FILES), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
