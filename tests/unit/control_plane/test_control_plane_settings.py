"""Settings: one order of precedence, no unknown key, no secret in sight, nothing open by accident."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane import bootstrap, settings
from control_plane.local_agent import agent_command
from control_plane.model.errors import ConfigurationError
from control_plane.storage.session import sqlalchemy_url

NO_FILE = Path("/nonexistent/.env")
PUBLISHED = {
    "PORT": ("port", "9000", 9000),
    "DATABASE_URL": ("database_url", "postgresql://h/d", "postgresql://h/d"),
    "ENVIRONMENT": ("environment", "production", "production"),
    "METRICS_COLLECTION_INTERVAL": ("sampling_interval_seconds", "10", 10.0),
    "GPU_MONITORING_ENABLED": ("gpu_monitoring_enabled", "false", False),
    "AGENT_ID": ("agent_id", "resource-agent-001", "resource-agent-001"),
    "AGENT_NAME": ("agent_name", "Resource Agent", "Resource Agent"),
    "ORCHESTRATOR_URL": ("orchestrator_url", "http://o:8080", "http://o:8080"),
    "REGISTRATION_ENABLED": ("registration_enabled", "true", True),
    "HEARTBEAT_INTERVAL": ("heartbeat_interval", "15", 15.0),
    "GROQ_API_KEY": ("groq_api_key", "gsk-1", "gsk-1"),
    "GROQ_MODEL": ("groq_model", "m", "m"),
    "LLM_TIMEOUT": ("llm_timeout", "7", 7.0),
    "LLM_MAX_RETRIES": ("llm_max_retries", "3", 3),
}


def load(flags: dict[str, object] | None = None, dotenv: Path = NO_FILE, **environment: str) -> settings.Settings:
    return settings.load(flags or {}, environment, dotenv)


def plain(value: object) -> object:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text("OPTIINFRA_RETENTION_DAYS=3\nOPTIINFRA_GRPC_PORT=7003\nOPTIINFRA_LOG_LEVEL=error\n")
    return path


# -- precedence -----------------------------------------------------------------------------------


def test_defaults_give_way_to_the_file_the_file_to_the_environment_and_all_to_flags(dotenv: Path) -> None:
    found = load({"grpc_port": "7001"}, dotenv, OPTIINFRA_GRPC_PORT="7002", OPTIINFRA_RETENTION_DAYS="4")
    assert (found.grpc_port, found.retention_days, found.log_level) == (7001, 4, "error")
    assert found.environment == "development"


def test_a_flag_that_was_not_given_changes_nothing(dotenv: Path) -> None:
    assert load({"grpc_port": None, "local_agent": None}, dotenv).grpc_port == 7003


def test_a_missing_file_is_an_empty_one() -> None:
    assert load().retention_days == 14


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_is_understood(name: str) -> None:
    field, text, value = PUBLISHED[name]
    assert plain(getattr(load(**{name: text}), field)) == value


def test_every_published_name_is_tested_here() -> None:
    names = settings.environment_names()
    assert {name for name in names if not name.startswith(settings.PREFIX)} == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_our_own_name_wins_over_the_published_one(name: str) -> None:
    field, text, value = PUBLISHED[name]
    other = {"true": "false", "false": "true"}.get(text, "11" if text.isdigit() else "postgresql://x/y")
    own = f"{settings.PREFIX}{field.upper()}"
    assert plain(getattr(load(**{name: other, own: text}), field)) == value
    assert plain(getattr(load(**{own: text, name: other}), field)) == value


def test_a_published_name_in_the_environment_wins_over_our_own_in_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPTIINFRA_PORT=7001\n")
    assert load(None, tmp_path / ".env", PORT="7002").port == 7002


def test_an_empty_value_is_none_at_all() -> None:
    assert load(PORT="", OPTIINFRA_NODE_NAME="", DATABASE_URL="").database_url is None


def test_only_what_is_handed_in_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shells export names such as HOST, and tcsh `host`; a library that looks for itself would believe them."""
    for name in ("host", "HOST", "port", "environment", "PORT", "OPTIINFRA_PORT", "OPTIINFRA_HOST"):
        monkeypatch.setenv(name, "9999")
    (tmp_path / ".env").write_text("OPTIINFRA_RETENTION_DAYS=3\n")
    monkeypatch.chdir(tmp_path)
    found = load()
    assert (found.host, found.port, found.environment, found.retention_days) == ("127.0.0.1", 8003, "development", 14)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["OPTIINFRA_PROT", "OPTIINFRA_port", "OPTIINFRA_"])
def test_an_unknown_key_of_ours_is_refused_and_said_where(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{key} in the environment is no setting"):
        load(**{key: "1"})
    (tmp_path / ".env").write_text(f"{key}=1\n")
    with pytest.raises(ConfigurationError, match=rf"{key} in {tmp_path}/\.env is no setting"):
        load(None, tmp_path / ".env")


def test_what_belongs_to_others_is_left_alone() -> None:
    assert load(HOME="/root", VLLM_PORT="1", SOMETHING_ELSE="x") == load()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("OPTIINFRA_RETENTION_DAYS", "0"),
        ("METRICS_COLLECTION_INTERVAL", "0.1"),
        ("METRICS_COLLECTION_INTERVAL", "nan"),
        ("METRICS_COLLECTION_INTERVAL", "inf"),
        ("OPTIINFRA_LOG_LEVEL", "loud"),
        ("GPU_MONITORING_ENABLED", "perhaps"),
        ("LLM_TIMEOUT", "0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_settings_name(key: str, value: str) -> None:
    field = settings.environment_names()[key]
    with pytest.raises(ConfigurationError, match=f"^setting {field}: "):
        load(**{key: value})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00PORT")
    with pytest.raises(ConfigurationError, match="is not text in UTF-8"):
        load(None, tmp_path / ".env")


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1  # type: ignore[misc]


# -- secrets --------------------------------------------------------------------------------------


@given(secret=st.text(st.characters(min_codepoint=48, max_codepoint=122), min_size=8))
def test_a_secret_is_in_nothing_that_is_shown(secret: str) -> None:
    secret = f"s3cret{secret}"
    found = load(DATABASE_URL=f"postgresql://u:{secret}@h/d", GROQ_API_KEY=secret)
    for shown in (repr(found), str(found), found.model_dump_json(), str(bootstrap.shown_settings(found))):
        assert secret not in shown


def test_of_a_secret_only_is_shown_whether_it_is_set() -> None:
    assert bootstrap.shown_settings(load())["groq_api_key"] == "not set"
    assert bootstrap.shown_settings(load(GROQ_API_KEY="x"))["groq_api_key"] == "set"


def test_every_setting_is_shown() -> None:
    assert settings.Settings.model_fields.keys() <= bootstrap.shown_settings(load()).keys()


def test_a_refused_secret_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"database_url": ["s3cret"]})
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


# -- ports ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "other", "expected"),
    [
        (None, None, (8003, 8002)),
        ("8003", None, (8003, 8002)),
        ("8002", None, (8002, 8003)),
        ("9000", None, (9000,)),
        ("9000", "8002", (9000, 8002)),
        ("8003", "0", (8003,)),
        ("9000", "9000", (9000,)),
    ],
)
def test_both_published_ports_are_served_unless_somebody_says_otherwise(
    port: str | None, other: str | None, expected: tuple[int, ...]
) -> None:
    assert load({"port": port, "other_port": other}).http_ports == expected


@pytest.mark.parametrize("flags", [{"port": "8004"}, {"other_port": "8004"}, {"grpc_port": "8002"}])
def test_one_port_for_two_protocols_is_refused(flags: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="is meant for both HTTP and agents"):
        load(flags)


# -- who may connect ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "gpu-host", "127.0.0.2"])
def test_listening_beyond_loopback_without_encryption_has_to_be_asked_for(host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"listening on {host}.* OPTIINFRA_ALLOW_PLAINTEXT=true"):
        load(OPTIINFRA_HOST=host)
    assert load(OPTIINFRA_HOST=host, OPTIINFRA_ALLOW_PLAINTEXT="true").host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "gpu-host"])
def test_beyond_loopback_rest_needs_keys_unless_both_words_are_said(host: str) -> None:
    https = {"OPTIINFRA_TLS_CERT_FILE": "c.pem", "OPTIINFRA_TLS_KEY_FILE": "k.pem"}
    found = load(OPTIINFRA_HOST=host, **https)
    assert found.keys_required
    assert found.answering_hosts is None
    with pytest.raises(ConfigurationError, match="without keys"):
        load(OPTIINFRA_HOST=host, OPTIINFRA_AUTH="off", **https)
    assert not load(OPTIINFRA_HOST=host, OPTIINFRA_AUTH="off", OPTIINFRA_ALLOW_PLAINTEXT="true").keys_required


@pytest.mark.parametrize("host", settings.LOOPBACK)
def test_on_loopback_rest_needs_keys_only_when_asked_to_and_answers_to_localhost(host: str) -> None:
    found = load(OPTIINFRA_HOST=host, OPTIINFRA_ALLOWED_HOSTS="Lab.example, x")
    assert not found.keys_required
    assert found.answering_hosts == {"127.0.0.1", "localhost", "::1", "lab.example", "x"}
    assert load(OPTIINFRA_HOST=host, OPTIINFRA_AUTH="on").keys_required


@pytest.mark.parametrize("origin", ["*", "https://*.x", "grafana.example", "https://x/path", "ftp://x", "https://"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="is no origin"):
        load(OPTIINFRA_AUTH="on", OPTIINFRA_CORS_ORIGINS=origin)


def test_other_origins_are_let_in_only_where_there_are_keys() -> None:
    with pytest.raises(ConfigurationError, match="needs no keys"):
        load(OPTIINFRA_CORS_ORIGINS="https://x")
    assert load(OPTIINFRA_CORS_ORIGINS="https://x", OPTIINFRA_AUTH="on").cors_origins == ("https://x",)


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="go together"):
        load(OPTIINFRA_TLS_CERT_FILE="c.pem")


@pytest.mark.parametrize("host", settings.LOOPBACK)
def test_loopback_needs_no_permission(host: str) -> None:
    assert load(OPTIINFRA_HOST=host).host == host


@pytest.mark.parametrize(
    ("host", "listened", "dialled"),
    [
        ("127.0.0.1", "127.0.0.1:8004", "127.0.0.1:8004"),
        ("localhost", "localhost:8004", "localhost:8004"),
        ("::1", "[::1]:8004", "[::1]:8004"),
        ("0.0.0.0", "0.0.0.0:8004", "127.0.0.1:8004"),
        ("::", "[::]:8004", "[::1]:8004"),
        ("10.0.0.5", "10.0.0.5:8004", "10.0.0.5:8004"),
    ],
)
def test_the_local_agent_dials_where_the_control_plane_listens(host: str, listened: str, dialled: str) -> None:
    found = load(OPTIINFRA_HOST=host, OPTIINFRA_ALLOW_PLAINTEXT="true")
    command = agent_command(found)
    assert found.grpc_address == listened
    assert f"--server={dialled}" in command
    assert ("--allow-plaintext" in command) == (host == "10.0.0.5")


def test_the_local_agent_is_given_its_settings_and_no_secret(tmp_path: Path) -> None:
    found = load(
        OPTIINFRA_NODE_NAME="n", OPTIINFRA_SCRAPE_TARGETS=" http://a:1 , ,http://b:2",
        METRICS_COLLECTION_INTERVAL="2.5", GPU_MONITORING_ENABLED="false",
        OPTIINFRA_DATA_DIR=str(tmp_path), DATABASE_URL="postgresql://u:s3cret@h/d",
    )  # fmt: skip
    assert found.scrape_targets == ("http://a:1", "http://b:2")
    command = " ".join(agent_command(found))
    for flag in (
        "--node-name=n", "--scrape-targets=http://a:1,http://b:2", "--sampling-interval-seconds=2.5",
        "--no-gpu-monitoring-enabled", "--discover-engines", f"--state-dir={tmp_path}/agent",
    ):  # fmt: skip
        assert flag in command
    assert "s3cret" not in command


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("not a url", "is not a URL"),
        ("postgresql://u:hunter2@host:many/db", "is not a URL"),
        ("mysql://u:hunter2@host/db", "names mysql"),
        ("postgresql://u:hunter2@host/db?foo=1", "foo"),
    ],
)
def test_a_database_url_that_cannot_be_used_is_one_sentence_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        sqlalchemy_url(url)
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_wish_that_this_release_does_not_grant_is_named_and_not_swallowed() -> None:
    assert settings.load({}, {}).without_effect == ()
    asked = settings.load({}, {"GROQ_API_KEY": "gsk_ours", "REGISTRATION_ENABLED": "true"})
    assert asked.without_effect == ()


# -- where webhooks may lead ----------------------------------------------------------------------


LOCAL_HOOK = ip_address("127.0.0.1")


def test_webhooks_lead_to_loopback_only_where_nobody_from_elsewhere_can_ask() -> None:
    assert bootstrap.webhook_policy(load()).allows(LOCAL_HOOK, named=False)
    beyond = {"OPTIINFRA_HOST": "0.0.0.0", "OPTIINFRA_ALLOW_PLAINTEXT": "true"}
    for others_ask in ({"OPTIINFRA_AUTH": "on"}, {"OPTIINFRA_ALLOWED_HOSTS": "ops.example"}, beyond):
        assert not bootstrap.webhook_policy(load(**others_ask)).allows(LOCAL_HOOK, named=False)
        named = load(**others_ask, OPTIINFRA_ALLOWED_DESTINATIONS="127.0.0.1")
        assert bootstrap.webhook_policy(named).allows(LOCAL_HOOK, named=False)


def test_webhooks_never_lead_to_a_metadata_service_unless_its_address_is_named() -> None:
    metadata = ip_address("169.254.169.254")
    for given_destinations in ("", "169.254.0.0/16", "*.example"):
        policy = bootstrap.webhook_policy(load(OPTIINFRA_ALLOWED_DESTINATIONS=given_destinations))
        assert not policy.allows(metadata, named=True)
