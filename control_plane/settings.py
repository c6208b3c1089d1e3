"""The control plane's settings: defaults < .env < environment < flags, parsed once, frozen, unknown keys refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from control_plane.model.errors import ConfigurationError

PREFIX = "OPTIINFRA_"
# Scripts that people already have use one or the other.
DEFAULT_PORT, OTHER_PUBLISHED_PORT = 8003, 8002
# One .env or environment may serve both programs on a host; these are the agent's
# (tests/architecture/test_settings_names.py compares).
AGENT_NAMES = frozenset(
    {
        "ALLOWED_COMMANDS", "ALLOWED_CONFIGURATION", "BUFFER_BYTES", "CONTAINER_LOGS_DIR", "HOST_PROC", "HOST_SYS",
        "JOIN_TOKEN", "JOIN_TOKEN_FILE", "LONGEST_INTERVAL_SECONDS", "POD_RESOURCES_SOCKET", "PROMETHEUS_LISTEN",
        "PUSHED_TARGETS", "SERVER", "SHORTEST_INTERVAL_SECONDS", "SPOOL_AGE_SECONDS", "SPOOL_BYTES",
        "START_SPREAD_SECONDS", "STATE_DIR",
    }
)  # fmt: skip
SECRETS = frozenset({"groq_api_key", "database_url", "api_key", "secret_key"})
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Addresses that mean all of a host's, and where the host itself reaches them.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def default_data_dir() -> Path:
    """This will give where data is kept unless somebody says otherwise: the place the platform's conventions name."""
    if os.geteuid() == 0:
        return Path("/var/lib/optiinfra")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "optiinfra"


def _names(*published: str, own: str) -> AliasChoices:
    return AliasChoices(own.lower(), PREFIX + own, *published)


class Settings(BaseSettings):
    """Everything that can be set on the control plane. A field's first environment name is its own."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """This will leave all reading to `load`: a shell's own `host` or `environment` must not be taken for ours."""
        return (init_settings,)

    host: str = Field(
        "127.0.0.1", validation_alias=_names(own="HOST"), description="address that HTTP and gRPC listen on"
    )
    port: int = Field(
        DEFAULT_PORT, ge=1, le=65535, validation_alias=_names("PORT", own="PORT"), description="HTTP port"
    )
    other_port: int | None = Field(
        None, ge=0, le=65535, validation_alias=_names(own="OTHER_PORT"),
        description="a second HTTP port; by default 8002 beside 8003: both are published; 0 for none",
    )  # fmt: skip
    grpc_port: int = Field(8004, ge=1, le=65535, validation_alias=_names(own="GRPC_PORT"), description="agents' port")
    grpc_host: str | None = Field(
        None, validation_alias=_names(own="GRPC_HOST"), description="another address for agents; unset: as `host`"
    )
    grpc_tls: str = Field(
        "auto", pattern="^(auto|on|off)$", validation_alias=_names(own="GRPC_TLS"),
        description="certificates for agents: on, off, or auto (on beyond loopback, unless plain text is allowed)",
    )  # fmt: skip
    enrolment_port: int = Field(
        8005, ge=1, le=65535, validation_alias=_names(own="ENROLMENT_PORT"),
        description="where agents get their first certificate for a join token",
    )  # fmt: skip
    certificate_hours: float = Field(
        24.0, ge=0.1, le=8760, validation_alias=_names(own="CERTIFICATE_HOURS"),
        description="life of an agent's certificate, which renews itself at half of it; off for longer: enrol again",
    )  # fmt: skip
    allow_plaintext: bool = Field(
        False, validation_alias=_names(own="ALLOW_PLAINTEXT"),
        description="allow listening beyond loopback without encryption: that network is trusted",
    )  # fmt: skip
    auth: str = Field(
        "auto", pattern="^(auto|on|off)$", validation_alias=_names(own="AUTH"),
        description="whether REST needs keys: on, off, or auto (on beyond loopback)",
    )  # fmt: skip
    rollout_targets: Path | None = Field(
        None, validation_alias=_names(own="ROLLOUT_TARGETS"),
        description="a TOML file that names what can be rolled out to (docs/rollouts.md); without it nothing can",
    )  # fmt: skip
    oidc_issuer: str | None = Field(
        None, validation_alias=_names(own="OIDC_ISSUER"),
        description="an OpenID Connect provider whose tokens are taken beside keys: its `iss`, an https URL",
    )  # fmt: skip
    oidc_audience: str | None = Field(
        None, validation_alias=_names(own="OIDC_AUDIENCE"), description="the `aud` that its tokens must be for"
    )
    oidc_jwks_url: str | None = Field(
        None, validation_alias=_names(own="OIDC_JWKS_URL"),
        description="where its keys are; unset: where its /.well-known/openid-configuration says",
    )  # fmt: skip
    oidc_scopes_claim: str = Field(
        "scope", validation_alias=_names(own="OIDC_SCOPES_CLAIM"),
        description="the claim that says what a token may do: scope, scp, roles, realm_access.roles …",
    )  # fmt: skip
    oidc_scope_prefix: str = Field(
        "optiinfra:", validation_alias=_names(own="OIDC_SCOPE_PREFIX"),
        description="what stands before read, operate, approve and admin in it",
    )  # fmt: skip
    secret_key: SecretStr | None = Field(
        None, min_length=32, validation_alias=_names(own="SECRET_KEY"),
        description="what webhooks' secrets are sealed with, the same for all replicas; unset: a file in data_dir",
    )  # fmt: skip
    external_url: str | None = Field(
        None, pattern=r"^https?://[^\s@]+$", validation_alias=_names(own="EXTERNAL_URL"),
        description="where people reach this control plane, as notifications of alerts say; unset: its host and port",
    )  # fmt: skip
    allowed_destinations: Annotated[tuple[str, ...], NoDecode] = Field(
        (), validation_alias=_names(own="ALLOWED_DESTINATIONS"),
        description="names, *.domains, addresses and networks beside public ones that users' URLs may lead to",
    )  # fmt: skip
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), validation_alias=_names(own="ALLOWED_HOSTS"),
        description="names beside localhost by which a control plane without keys on loopback may be asked",
    )  # fmt: skip
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), validation_alias=_names(own="CORS_ORIGINS"),
        description="origins whose pages may ask REST in a browser, such as https://grafana.example; needs keys",
    )  # fmt: skip
    tls_cert_file: Path | None = Field(
        None, validation_alias=_names(own="TLS_CERT_FILE"),
        description="certificate (chain) in PEM with which REST speaks HTTPS; read again when it changes",
    )  # fmt: skip
    tls_key_file: Path | None = Field(None, validation_alias=_names(own="TLS_KEY_FILE"), description="its key in PEM")
    read_requests_per_minute: int = Field(
        3000, ge=0, le=1_000_000, validation_alias=_names(own="READ_REQUESTS_PER_MINUTE"),
        description="questions that a key may ask; 0: any number",
    )  # fmt: skip
    heavy_requests_per_minute: int = Field(
        300, ge=0, le=1_000_000, validation_alias=_names(own="HEAVY_REQUESTS_PER_MINUTE"),
        description="of those that make the database read much: histories, reports; 0: any number",
    )  # fmt: skip
    write_requests_per_minute: int = Field(
        300, ge=0, le=1_000_000, validation_alias=_names(own="WRITE_REQUESTS_PER_MINUTE"),
        description="changes that a key may make; 0: any number",
    )  # fmt: skip
    api_key: SecretStr | None = Field(
        None,
        validation_alias=_names(own="API_KEY"),
        description="key that this command line presents to a control plane",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir, validation_alias=_names(own="DATA_DIR"),
        description="folder of the embedded Postgres and the local agent's state",
    )  # fmt: skip
    database_url: SecretStr | None = Field(
        None, validation_alias=_names("DATABASE_URL", own="DATABASE_URL"),
        description="an external Postgres 15 or newer; unset: the embedded one",
    )  # fmt: skip
    database_port: int | None = Field(
        None, ge=1, le=65535, validation_alias=_names(own="DATABASE_PORT"),
        description="loopback TCP port of the embedded Postgres, for Grafana or psql; unset: a Unix socket only",
    )  # fmt: skip
    retention_days: int = Field(
        14, ge=1, le=3650, validation_alias=_names(own="RETENTION_DAYS"), description="days of raw samples kept"
    )
    pack_after_days: int = Field(
        1, ge=1, le=3650, validation_alias=_names(own="PACK_AFTER_DAYS"),
        description="days after which a day's raw samples are packed into arrays, a sixth of their size, behind the "
        "same endpoints; as many as retention_days or more: never",
    )  # fmt: skip
    minute_retention_days: int = Field(
        30, ge=1, le=3650, validation_alias=_names(own="MINUTE_RETENTION_DAYS"),
        description="days that what samples say of each minute is kept",
    )  # fmt: skip
    hour_retention_days: int = Field(
        400, ge=1, le=3650, validation_alias=_names(own="HOUR_RETENTION_DAYS"),
        description="days that what samples say of each hour is kept: a year, and the month to compare it with",
    )  # fmt: skip
    environment: str = Field(
        "development", validation_alias=_names("ENVIRONMENT", own="ENVIRONMENT"), description="a name shown to people"
    )
    log_level: str = Field(
        "info",
        pattern="^(debug|info|warning|error)$",
        validation_alias=_names(own="LOG_LEVEL"),
        description="debug, info, warning or error",
    )

    local_agent: bool = Field(
        True, validation_alias=_names(own="LOCAL_AGENT"), description="run a node agent on this host"
    )
    node_name: str | None = Field(
        None, validation_alias=_names(own="NODE_NAME"), description="the local agent's node name; unset: the host's"
    )
    node_labels: Annotated[tuple[str, ...], NoDecode] = Field(
        (), validation_alias=_names(own="NODE_LABELS"),
        description="the local agent's node labels, key=value separated by commas, such as pool=h200-spot",
    )  # fmt: skip
    sampling_interval_seconds: float = Field(
        5.0, ge=0.5, le=300, validation_alias=_names("METRICS_COLLECTION_INTERVAL", own="SAMPLING_INTERVAL_SECONDS"),
        description="the local agent's cadence",
    )  # fmt: skip
    fleet_sampling_interval_seconds: float | None = Field(
        None, ge=0.5, le=300, validation_alias=_names(own="FLEET_SAMPLING_INTERVAL_SECONDS"),
        description="the cadence that every agent is asked to keep when it connects; unset: each its own",
    )  # fmt: skip
    gpu_monitoring_enabled: bool = Field(
        True, validation_alias=_names("GPU_MONITORING_ENABLED", own="GPU_MONITORING_ENABLED"),
        description="look for GPUs",
    )  # fmt: skip
    scrape_targets: Annotated[tuple[str, ...], NoDecode] = Field(
        (), validation_alias=_names(own="SCRAPE_TARGETS"), description="inference servers by URL, separated by commas"
    )
    discover_engines: bool = Field(
        True, validation_alias=_names(own="DISCOVER_ENGINES"), description="look for inference servers on this host"
    )

    agent_id: str | None = Field(
        None, validation_alias=_names("AGENT_ID", own="AGENT_ID"), description="id with the orchestrator"
    )
    agent_name: str = Field(
        "optiinfra", validation_alias=_names("AGENT_NAME", own="AGENT_NAME"), description="name with the orchestrator"
    )
    orchestrator_url: str = Field(
        "http://localhost:8080",
        validation_alias=_names("ORCHESTRATOR_URL", own="ORCHESTRATOR_URL"),
        description="the fleet's orchestrator",
    )
    registration_enabled: bool = Field(
        False,
        validation_alias=_names("REGISTRATION_ENABLED", own="REGISTRATION_ENABLED"),
        description="register with the orchestrator",
    )
    heartbeat_interval: float = Field(
        30.0,
        gt=0,
        validation_alias=_names("HEARTBEAT_INTERVAL", own="HEARTBEAT_INTERVAL"),
        description="seconds between heartbeats to it",
    )
    groq_api_key: SecretStr | None = Field(
        None,
        validation_alias=_names("GROQ_API_KEY", own="GROQ_API_KEY"),
        description="key of the LLM that words explanations",
    )
    least_replicas: int = Field(
        1, ge=0, le=100_000, validation_alias=_names(own="LEAST_REPLICAS"),
        description="that every service keeps, whatever is recommended",
    )  # fmt: skip
    most_replicas: int = Field(
        1000, ge=0, le=100_000, validation_alias=_names(own="MOST_REPLICAS"), description="that a service may have"
    )
    most_changed_at_once: int | None = Field(
        None, ge=1, validation_alias=_names(own="MOST_CHANGED_AT_ONCE"),
        description="replicas of a service; never more than a quarter of them",
    )  # fmt: skip
    budget_usd_per_month: float | None = Field(
        None, ge=0, allow_inf_nan=False, validation_alias=_names(own="BUDGET_USD_PER_MONTH"),
        description="that all services' GPUs together may cost before more is ordered",
    )  # fmt: skip
    change_windows: str = Field(
        "", max_length=1000, validation_alias=_names(own="CHANGE_WINDOWS"),
        description="when anything but more capacity may begin, UTC: 22:00-04:00, Sat-Sun 08:00-18:00 (any time)",
    )  # fmt: skip
    llm_base_url: str = Field(
        "https://api.groq.com/openai/v1",
        validation_alias=_names(own="LLM_BASE_URL"),
        description="of an OpenAI-compatible API: its chat/completions is asked",
    )
    groq_model: str = Field(
        "openai/gpt-oss-20b", validation_alias=_names("GROQ_MODEL", own="GROQ_MODEL"), description="its model"
    )
    llm_timeout: float = Field(
        30.0, gt=0, validation_alias=_names("LLM_TIMEOUT", own="LLM_TIMEOUT"), description="seconds it may take"
    )
    llm_max_retries: int = Field(
        1,
        ge=0,
        le=10,
        validation_alias=_names("LLM_MAX_RETRIES", own="LLM_MAX_RETRIES"),
        description="tries after a failure",
    )

    @property
    def without_effect(self) -> tuple[str, ...]:
        """This will name what is set and understood, but asks for something that this release does not do."""
        wishes: dict[str, bool] = {}
        return tuple(name for name, wished in wishes.items() if wished)

    @property
    def shown_url(self) -> str:
        """This will give where people reach this control plane, as far as it knows."""
        return self.own_url if self.external_url is None else self.external_url.rstrip("/")

    @property
    def http_ports(self) -> tuple[int, ...]:
        """This will give the HTTP ports: the one asked for, and its published twin when it is a published one."""
        other = self.other_port
        if other is None:
            twins = {DEFAULT_PORT: OTHER_PUBLISHED_PORT, OTHER_PUBLISHED_PORT: DEFAULT_PORT}
            other = twins.get(self.port, 0)
        return (self.port,) if other in (0, self.port) else (self.port, other)

    @property
    def grpc_address(self) -> str:
        """This will give the address that agents' streams are listened for at."""
        return host_port(self.grpc_host or self.host, self.grpc_port)

    @property
    def enrolment_address(self) -> str:
        """This will give the address that enrolments are listened for at."""
        return host_port(self.grpc_host or self.host, self.enrolment_port)

    @property
    def certified(self) -> bool:
        """This will say whether agents need certificates."""
        if self.grpc_tls == "auto":
            return (self.grpc_host or self.host) not in LOOPBACK and not self.allow_plaintext
        return self.grpc_tls == "on"

    @property
    def keys_required(self) -> bool:
        """This will say whether REST needs keys."""
        return self.host not in LOOPBACK if self.auth == "auto" else self.auth == "on"

    @property
    def answering_hosts(self) -> frozenset[str] | None:
        """This will give the names by which REST may be asked where it needs no keys; None: any."""
        if self.keys_required or self.host not in LOOPBACK:
            return None
        return frozenset((*LOOPBACK, *(name.lower() for name in self.allowed_hosts)))

    @property
    def own_url(self) -> str:
        """This will give the URL at which this host reaches its own control plane."""
        return f"{'https' if self.tls_cert_file else 'http'}://{host_port(self.own_host, self.port)}"

    @property
    def own_host(self) -> str:
        """This will give the address at which this host reaches its own control plane."""
        return WILDCARDS.get(self.host, self.host)

    @property
    def own_grpc_host(self) -> str:
        """This will give the address at which this host's agent reaches its own control plane."""
        host = self.grpc_host or self.host
        return WILDCARDS.get(host, host)


def host_port(host: str, port: int) -> str:
    """This will join a host and a port, with brackets where the host is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split_lists(values: dict[str, Any]) -> None:
    for name in ("scrape_targets", "node_labels", "allowed_hosts", "allowed_destinations", "cors_origins"):
        entries = values.get(name)
        if isinstance(entries, str):
            values[name] = tuple(entry.strip() for entry in entries.split(",") if entry.strip())


def environment_names() -> dict[str, str]:
    """This will give every environment name that is understood, and the field that it sets."""
    out = {}
    for name, field in Settings.model_fields.items():
        assert isinstance(field.validation_alias, AliasChoices)
        for choice in field.validation_alias.choices:
            if isinstance(choice, str) and choice.isupper():
                out[choice] = name
    return out


def _from_environment(environment: Mapping[str, str | None], where: str) -> dict[str, Any]:
    """This will pick what is meant for us: our own names win over the published ones."""
    known = environment_names()
    for key in environment:
        if key.startswith(PREFIX) and key not in known and key.removeprefix(PREFIX) not in AGENT_NAMES:
            raise ConfigurationError(f"{key} in {where} is no setting; `optiinfra settings` lists those that are")
    found: dict[str, Any] = {}
    for key, name in sorted(known.items(), key=lambda item: item[0].startswith(PREFIX)):
        value = environment.get(key)
        if value:
            found[name] = value
    return found


def _read_dotenv(path: Path) -> Mapping[str, str | None]:
    try:
        return dotenv_values(path) if path.is_file() else {}
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not text in UTF-8") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def load(flags: Mapping[str, Any], environment: Mapping[str, str], dotenv: Path = Path(".env")) -> Settings:
    """This will merge defaults, .env, environment and flags. Raises ConfigurationError."""
    values = _from_environment(_read_dotenv(dotenv), str(dotenv))
    values |= _from_environment(environment, "the environment")
    values |= {name: value for name, value in flags.items() if value is not None}
    _split_lists(values)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]  # an input may be a secret
        raise ConfigurationError(f"setting {first['loc'][0]}: {first['msg']}") from None
    if settings.grpc_port in settings.http_ports:
        raise ConfigurationError(
            f"port {settings.grpc_port} is meant for both HTTP and agents; "
            "move one with --port, --other-port or --grpc-port"
        )
    _check_doors(settings)
    if (
        (settings.grpc_host or settings.host) not in LOOPBACK
        and not settings.certified
        and not settings.allow_plaintext
    ):
        raise ConfigurationError(
            f"agents' links to {settings.grpc_host} would be unencrypted; "
            f"set {PREFIX}ALLOW_PLAINTEXT=true if that network is trusted, or leave {PREFIX}GRPC_TLS on"
        )
    if settings.certified and settings.enrolment_port in (settings.grpc_port, *settings.http_ports):
        raise ConfigurationError(f"port {settings.enrolment_port} is taken by ourselves; move --enrolment-port")
    return settings


def _check_doors(settings: Settings) -> None:
    """This will refuse what would leave REST open to those it is not meant for. Raises ConfigurationError."""
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        raise ConfigurationError("tls_cert_file and tls_key_file go together")
    beyond = settings.host not in LOOPBACK
    if beyond and settings.tls_cert_file is None and not settings.allow_plaintext:
        raise ConfigurationError(
            f"listening on {settings.host} would be open to its network without encryption: keys and answers could be "
            f"read on the way; set {PREFIX}TLS_CERT_FILE and {PREFIX}TLS_KEY_FILE, or {PREFIX}ALLOW_PLAINTEXT=true if "
            f"that network is trusted (agents alone need only {PREFIX}GRPC_HOST, and get certificates)"
        )
    if beyond and settings.auth == "off" and not settings.allow_plaintext:
        raise ConfigurationError(
            f"listening on {settings.host} without keys would let everybody there change everything; leave "
            f"{PREFIX}AUTH on, or set {PREFIX}ALLOW_PLAINTEXT=true if that network is trusted"
        )
    for origin in settings.cors_origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query or "*" in origin:
            raise ConfigurationError(f"cors_origins: {origin!r} is no origin; write https://host or https://host:port")
    if (settings.oidc_issuer is None) != (settings.oidc_audience is None):
        raise ConfigurationError("oidc_issuer and oidc_audience go together: a token for anybody is a token for nobody")
    for name in ("oidc_issuer", "oidc_jwks_url"):
        url = urlsplit(getattr(settings, name) or "https://x")
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in LOOPBACK):
            raise ConfigurationError(f"{name} must be an https URL: whoever stands between could make tokens")
    if settings.cors_origins and not settings.keys_required:
        raise ConfigurationError(
            f"cors_origins would let pages ask a control plane that needs no keys; set {PREFIX}AUTH=on"
        )
