"""`optiinfra recommend` and `explain` say what the control plane says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control_plane.__main__ import main
from control_plane.terminal import advice, rest

KEPT = {
    "recommendation_id": 7, "state": "open", "saved_usd_per_month": 1200.0,
    "explanation": "Set --max-num-seqs 128. So.",
    "recommendation": {"kind": "batch"},
}  # fmt: skip
ITEM = {"outcome": "recommendation", "subject": "http://a:8000", "recommendation": KEPT}
NONE = {"outcome": "no_action", "subject": "http://b:8000", "no_action": {"because": "nothing_binds"}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the control plane."""
    found: list[str] = []

    def ask(self: Any, path: str, **_: Any) -> Any:
        found.append(path)
        if path == "/optimize/recommendations/7":
            return KEPT
        return {"items": [KEPT] if path == "/optimize/recommendations" else [ITEM, NONE]}

    monkeypatch.setattr(rest.Rest, "ask", ask)
    return found


def test_every_policy_is_asked_and_says_what_it_found(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend"]) == 0
    assert asked == [f"/optimize/{kind}" for kind in advice.KINDS]
    said = capsys.readouterr().out
    assert "7 batch http://a:8000, saves 1,200 $ a month" in said
    assert "Set --max-num-seqs 128." in said
    assert "http://b:8000: nothing_binds" in said
    assert main(["recommend", "--kind", "batch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"batch": {"items": [ITEM, NONE]}}


def test_one_or_all_are_explained(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "7"]) == main(["explain"]) == 0
    assert asked == ["/optimize/recommendations/7", "/optimize/recommendations"]
    assert capsys.readouterr().out.count("7 batch (open)\nSet --max-num-seqs 128. So.") == 2
    assert advice.explained([]).startswith("nothing is recommended")
