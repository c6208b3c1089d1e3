"""Settings: defaults < .env < environment < flags; what is wrong is refused in a sentence."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from node_agent.configuration.policy import LocalPolicy
from node_agent.settings import Settings, SettingsError, add_flags, load, read_dotenv


def loaded(
    flags: Sequence[str] = (), environment: Mapping[str, str] | None = None, dotenv: Path = Path("/nonexistent")
) -> Settings:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return load(parser.parse_args(flags), environment or {}, dotenv)


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text("# ours\nOPTIINFRA_NODE_NAME='from-dotenv'\nexport METRICS_COLLECTION_INTERVAL=2\n\n")
    return path


def test_without_any_setting_the_agent_reports_to_this_host_every_five_seconds() -> None:
    settings = loaded()
    assert (settings.server, settings.sampling_interval_seconds) == ("127.0.0.1:8004", 5.0)
    assert settings.node_name == socket.gethostname()
    assert settings.gpu_monitoring_enabled


def test_each_source_overrides_the_one_before(dotenv: Path) -> None:
    assert loaded(dotenv=dotenv).node_name == "from-dotenv"
    environment = {"OPTIINFRA_NODE_NAME": "from-environment"}
    assert loaded(environment=environment, dotenv=dotenv).node_name == "from-environment"
    flags = ["--node-name", "from-flags"]
    assert loaded(flags, environment, dotenv).node_name == "from-flags"
    assert loaded(flags, environment, dotenv).sampling_interval_seconds == 2.0, "the rest stays as it was"


def test_published_names_are_understood_and_our_own_wins_beside_them() -> None:
    published = {"METRICS_COLLECTION_INTERVAL": "7.5", "GPU_MONITORING_ENABLED": "false"}
    assert loaded(environment=published).sampling_interval_seconds == 7.5
    assert not loaded(environment=published).gpu_monitoring_enabled
    both = published | {"OPTIINFRA_SAMPLING_INTERVAL_SECONDS": "9"}
    assert loaded(environment=both).sampling_interval_seconds == 9.0
    assert loaded(["--gpu-monitoring-enabled"], published).gpu_monitoring_enabled


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("ON", True), ("no", False), ("0", False)])
def test_switches_may_be_spelled_in_the_usual_ways(text: str, value: bool) -> None:
    assert loaded(environment={"OPTIINFRA_DISCOVER_ENGINES": text}).discover_engines is value


def test_lists_are_separated_by_commas() -> None:
    settings = loaded(["--scrape-targets", "http://127.0.0.1:8000, http://127.0.0.1:8001,"])
    assert settings.scrape_targets == ("http://127.0.0.1:8000", "http://127.0.0.1:8001")


def test_an_unknown_name_of_ours_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(SettingsError, match=r"OPTIINFRA_INTERVAL is no setting.*OPTIINFRA_SAMPLING_INTERVAL_SECONDS"):
        loaded(environment={"OPTIINFRA_INTERVAL": "5"})


def test_names_that_are_not_ours_are_left_alone() -> None:
    assert loaded(environment={"PATH": "/bin", "optiinfra_server": "x", "INTERVAL": "y"}) == loaded()


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"OPTIINFRA_SAMPLING_INTERVAL_SECONDS": "fast"}, "'fast'; a number is accepted"),
        ({"METRICS_COLLECTION_INTERVAL": ""}, "METRICS_COLLECTION_INTERVAL is ''; a number is accepted"),
        ({"OPTIINFRA_SAMPLING_INTERVAL_SECONDS": "0.1"}, "is 0.1; 0.5 to 300 are accepted"),
        ({"OPTIINFRA_SAMPLING_INTERVAL_SECONDS": "nan"}, "is nan; 0.5 to 300 are accepted"),
        ({"OPTIINFRA_SAMPLING_INTERVAL_SECONDS": "inf"}, "is inf; 0.5 to 300 are accepted"),
        ({"GPU_MONITORING_ENABLED": "maybe"}, "'maybe'; true or false is accepted"),
        ({"OPTIINFRA_BUFFER_BYTES": "32M"}, "'32M'; a whole number is accepted"),
        ({"OPTIINFRA_BUFFER_BYTES": "10"}, "one MiB is the least"),
        ({"OPTIINFRA_SERVER": "127.0.0.1"}, "write host:port"),
        ({"OPTIINFRA_SERVER": "127.0.0.1:99999"}, "write host:port"),
        ({"OPTIINFRA_SERVER": ":8004"}, "write host:port"),
        ({"OPTIINFRA_LOG_LEVEL": "chatty"}, "debug, info, warning and error are accepted"),
        ({"OPTIINFRA_SHORTEST_INTERVAL_SECONDS": "0.1"}, "shortest_interval_seconds is 0.1; 0.5 to 300 are accepted"),
        ({"OPTIINFRA_LONGEST_INTERVAL_SECONDS": "nan"}, "longest_interval_seconds is nan; 0.5 to 300 are accepted"),
        (
            {"OPTIINFRA_SHORTEST_INTERVAL_SECONDS": "9", "OPTIINFRA_LONGEST_INTERVAL_SECONDS": "8"},
            "shortest_interval_seconds is 9, longest_interval_seconds 8; no interval is between them",
        ),
        ({"OPTIINFRA_ALLOWED_COMMANDS": "reboot"}, "allowed_commands names 'reboot'; collect_now and release_gpus"),
        ({"OPTIINFRA_ALLOWED_CONFIGURATION": "shell"}, "allowed_configuration names 'shell'; sampling_interval"),
        ({"OPTIINFRA_PUSHED_TARGETS": "http://engine-7"}, "write host or host:port, for example engine-7:8000"),
        ({"OPTIINFRA_SCRAPE_TARGETS": "localhost:8000"}, "write for example http://127.0.0.1:8000"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_accepted(environment: Mapping[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        loaded(environment=environment)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_control_plane_may_configure_what_the_host_allows_and_no_more() -> None:
    environment = {
        "OPTIINFRA_ALLOWED_CONFIGURATION": "sampling_interval_seconds",
        "OPTIINFRA_SHORTEST_INTERVAL_SECONDS": "2",
        "OPTIINFRA_LONGEST_INTERVAL_SECONDS": "30",
        "OPTIINFRA_PUSHED_TARGETS": "engine-7:8000, [fd00::1]:8000",
        "OPTIINFRA_DISCOVER_ENGINES": "false",
    }
    assert loaded(environment=environment).policy == LocalPolicy(
        shortest_interval_seconds=2.0,
        longest_interval_seconds=30.0,
        allowed=frozenset({"sampling_interval_seconds"}),
        pushed_targets=("engine-7:8000", "[fd00::1]:8000"),
        gpu_monitoring_enabled=True,
        discover_engines=False,
    )
    assert loaded(environment={"OPTIINFRA_ALLOWED_CONFIGURATION": ""}).policy.allowed == frozenset()


def test_an_unencrypted_link_leaves_this_host_only_when_that_was_asked_for() -> None:
    for server in ("127.0.0.1:8004", "localhost:8004", "[::1]:8004"):
        assert loaded(["--server", server]).server == server
    with pytest.raises(SettingsError, match="would be unencrypted; set OPTIINFRA_ALLOW_PLAINTEXT=true"):
        loaded(["--server", "control-plane.example:8004"])
    assert loaded(["--server", "control-plane.example:8004", "--allow-plaintext"]).allow_plaintext


def test_a_line_of_dotenv_that_is_none_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\nnonsense\n")
    with pytest.raises(SettingsError, match=r"\.env, line 2: write KEY=VALUE"):
        read_dotenv(path)


def test_a_dotenv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(SettingsError, match="not text"):
        read_dotenv(path)


def test_labels_are_pairs_and_of_two_with_one_key_the_later_wins() -> None:
    settings = loaded(environment={"OPTIINFRA_NODE_LABELS": "pool=a, team=search,pool=h200-spot,example.com/x=y.z"})
    assert settings.labels == {"pool": "h200-spot", "team": "search", "example.com/x": "y.z"}


@pytest.mark.parametrize("label", ["pool", "pool=", "=a", "pool=a b", "pool=a=b", "p" * 129 + "=a", "pool=" + "a" * 64])
def test_what_is_no_label_is_refused_in_a_sentence(label: str) -> None:
    with pytest.raises(SettingsError, match="write key=value"):
        loaded(["--node-labels", label])
    with pytest.raises(SettingsError, match="at most 32"):
        loaded(["--node-labels", ",".join(f"k{n}=v" for n in range(33))])
