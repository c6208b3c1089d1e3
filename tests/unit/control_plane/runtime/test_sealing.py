"""Sealed secrets: opened with the same key for the same purpose, and by nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from control_plane.model.errors import ConfigurationError
from control_plane.runtime.sealing import SealBroken, Sealer, key_of

SECRET = "https://hooks.example/services/T0/B0/abcdef"


def test_what_was_sealed_is_opened_for_its_purpose_only() -> None:
    sealer = Sealer(lambda: b"k" * 32)
    sealed = sealer.seal(SECRET, "ops/webhook_url")
    assert "hooks" not in sealed
    assert sealer.seal(SECRET, "ops/webhook_url") != sealed, "two that are alike do not look alike"
    assert sealer.open(sealed, "ops/webhook_url") == SECRET
    with pytest.raises(SealBroken, match="damaged"):
        sealer.open(sealed, "other/webhook_url")


@pytest.mark.parametrize("sealed", ["", "s1", "s1.00000000.AAAA", "s2.x.y", "nonsense"])
def test_what_was_not_sealed_here_is_refused_in_words(sealed: str) -> None:
    with pytest.raises(SealBroken, match="another key"):
        Sealer(lambda: b"k" * 32).open(sealed, "p")


def test_another_key_opens_nothing() -> None:
    sealed = Sealer(lambda: b"k" * 32).seal(SECRET, "p")
    with pytest.raises(SealBroken, match="OPTIINFRA_SECRET_KEY"):
        Sealer(lambda: b"l" * 32).open(sealed, "p")


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secrets.key"
    key = key_of(path)
    assert len(key) == 32
    assert key_of(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_that_cannot_be_had_is_said_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    path.write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="cut short"):
        key_of(path)
    sealer = Sealer(lambda: key_of(path))
    with pytest.raises(SealBroken, match="set OPTIINFRA_SECRET_KEY"):
        sealer.seal(SECRET, "p")
