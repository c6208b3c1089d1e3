"""The agent's settings: defaults < .env < environment < flags, parsed once, frozen, unknown keys refused."""

from __future__ import annotations

import argparse
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from node_agent.configuration.policy import LocalPolicy, named_place
from node_agent.model import CONFIGURABLE

PREFIX = "OPTIINFRA_"
# A fleet's configuration may ask for anything; the host's owner sets the floor.
SHORTEST_INTERVAL_SECONDS = 0.5
LONGEST_INTERVAL_SECONDS = 300.0
# Everything that a control plane may ask for; the host's owner says which of it is done here.
COMMANDS = ("collect_now", "release_gpus")
# As in Kubernetes: a name, perhaps behind a domain, and a short value; none of them a comma.
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}=[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
MOST_LABELS = 32
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class SettingsError(Exception):
    """A setting is wrong; the text says which and what is accepted."""


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(colon and host) and port.isdecimal() and 0 < int(port) < 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set on the agent."""

    server: str = "127.0.0.1:8004"
    node_name: str = ""  # empty: the host's name
    node_labels: tuple[str, ...] = ()  # key=value, such as pool=h200-spot: what time and money is shown by
    state_dir: Path = Path("/var/lib/optiinfra-agent")
    host_proc: Path = Path("/proc")
    host_sys: Path = Path("/sys")
    # A kubelet with another root folder (MicroK8s, k0s) has its socket elsewhere.
    pod_resources_socket: Path = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
    container_logs_dir: Path = Path("/var/log/containers")  # only names are read: they tie container ids to pods
    sampling_interval_seconds: float = 5.0
    gpu_monitoring_enabled: bool = True
    scrape_targets: tuple[str, ...] = ()
    discover_engines: bool = True
    allowed_commands: tuple[str, ...] = ("collect_now",)
    allowed_configuration: tuple[str, ...] = CONFIGURABLE  # what of it may be pushed at all
    shortest_interval_seconds: float = SHORTEST_INTERVAL_SECONDS
    longest_interval_seconds: float = LONGEST_INTERVAL_SECONDS
    pushed_targets: tuple[str, ...] = ()  # host or host:port, beside this host's own, that may be pushed
    allow_plaintext: bool = False
    join_token: str = field(default="", repr=False)
    join_token_file: str = ""
    buffer_bytes: int = 32 * 1024 * 1024
    spool_bytes: int = 256 * 1024 * 1024
    spool_age_seconds: float = 86_400.0
    start_spread_seconds: float = 5.0  # a fleet may be restarted all at once; not waited for on loopback
    log_level: str = "info"
    prometheus_listen: str = ""  # host:port of a page for Prometheus; empty: none

    def __post_init__(self) -> None:
        host = self.server.rpartition(":")[0]
        if not _is_address(self.server):
            raise SettingsError(f"server is {self.server!r}; write host:port, for example 127.0.0.1:8004")
        if host not in LOOPBACK and not self.allow_plaintext and not self.encrypted:
            raise SettingsError(
                f"the link to {host} would be unencrypted; set {PREFIX}ALLOW_PLAINTEXT=true if its network is trusted, "
                f"or {PREFIX}JOIN_TOKEN to what `optiinfra join-token` gives there"
            )
        if not SHORTEST_INTERVAL_SECONDS <= self.sampling_interval_seconds <= LONGEST_INTERVAL_SECONDS:
            raise SettingsError(
                f"sampling_interval_seconds is {self.sampling_interval_seconds:g}; "
                f"{SHORTEST_INTERVAL_SECONDS:g} to {LONGEST_INTERVAL_SECONDS:g} are accepted"
            )
        self._check_policy()
        if len(self.node_labels) > MOST_LABELS:
            raise SettingsError(f"node_labels has {len(self.node_labels)}; at most {MOST_LABELS} are accepted")
        for label in self.node_labels:
            if not _LABEL.fullmatch(label):
                raise SettingsError(f"node_labels has {label!r}; write key=value, for example pool=h200-spot")
        for target in self.scrape_targets:
            if not target.startswith(("http://", "https://")):
                raise SettingsError(f"scrape target {target!r} is no URL; write for example http://127.0.0.1:8000")
            if "@" in target:  # it names the server in the database and in every answer
                raise SettingsError("a scrape target holds a name or password; /metrics of engines needs none")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise SettingsError(f"log_level is {self.log_level!r}; debug, info, warning and error are accepted")
        if self.prometheus_listen and not _is_address(self.prometheus_listen):
            raise SettingsError(
                f"prometheus_listen is {self.prometheus_listen!r}; write host:port, for example 127.0.0.1:9835"
            )
        if self.buffer_bytes < 1024 * 1024:
            raise SettingsError("buffer_bytes is too small; one MiB is the least")
        if self.spool_bytes and self.spool_bytes < 1024 * 1024:
            raise SettingsError("spool_bytes is too small; one MiB is the least, and 0 keeps samples in memory only")
        if not 0 <= self.start_spread_seconds <= 600:
            raise SettingsError(f"start_spread_seconds is {self.start_spread_seconds:g}; 0 to 600 are accepted")
        if not self.spool_age_seconds >= 60:
            raise SettingsError(f"spool_age_seconds is {self.spool_age_seconds:g}; 60 is the least")

    def _check_policy(self) -> None:
        """What a control plane may do here must be clear, or nothing is."""
        for name in ("shortest_interval_seconds", "longest_interval_seconds"):
            if not SHORTEST_INTERVAL_SECONDS <= getattr(self, name) <= LONGEST_INTERVAL_SECONDS:
                raise SettingsError(
                    f"{name} is {getattr(self, name):g}; "
                    f"{SHORTEST_INTERVAL_SECONDS:g} to {LONGEST_INTERVAL_SECONDS:g} are accepted"
                )
        if self.shortest_interval_seconds > self.longest_interval_seconds:
            raise SettingsError(
                f"shortest_interval_seconds is {self.shortest_interval_seconds:g}, "
                f"longest_interval_seconds {self.longest_interval_seconds:g}; no interval is between them"
            )
        for name, known in (("allowed_commands", COMMANDS), ("allowed_configuration", CONFIGURABLE)):
            if unknown := set(getattr(self, name)) - set(known):
                raise SettingsError(f"{name} names {min(unknown)!r}; {' and '.join(known)} are accepted")
        for target in self.pushed_targets:
            try:
                named_place(target)
            except ValueError as error:
                raise SettingsError(
                    f"pushed_targets names {target!r}; write host or host:port, for example engine-7:8000"
                ) from error

    @property
    def labels(self) -> dict[str, str]:
        """This will give the node's labels; of two with one key the later one wins."""
        return dict(label.split("=", 1) for label in self.node_labels)

    @property
    def policy(self) -> LocalPolicy:
        """This will give what a control plane has to stay within."""
        return LocalPolicy(
            shortest_interval_seconds=self.shortest_interval_seconds,
            longest_interval_seconds=self.longest_interval_seconds,
            allowed=frozenset(self.allowed_configuration),
            pushed_targets=self.pushed_targets,
            gpu_monitoring_enabled=self.gpu_monitoring_enabled,
            discover_engines=self.discover_engines,
        )

    @property
    def first_wait_seconds(self) -> float:
        """This will give from how long a time the first connection's moment is drawn; there is no fleet on loopback."""
        return 0.0 if self.server.rpartition(":")[0] in LOOPBACK else self.start_spread_seconds

    @property
    def ring_bytes(self) -> int:
        """This will give what is kept in memory: on disk that much is live, so it has to fit into half of the spool."""
        return min(self.buffer_bytes, self.spool_bytes // 2) if self.spool_bytes else self.buffer_bytes

    @property
    def tls_dir(self) -> Path:
        """This will give where the agent's key and certificate are kept."""
        return self.state_dir / "tls"

    @property
    def encrypted(self) -> bool:
        """This will say whether the link is to use certificates: never less than before, unless that is asked for."""
        if self.join_token or self.join_token_file:
            return True
        return not self.allow_plaintext and (self.tls_dir / "issued.json").is_file()

    def read_join_token(self) -> str:
        """This will give the join token as it is now, empty for none: a file may be replaced while we run."""
        if self.join_token or not self.join_token_file:
            return self.join_token
        try:
            return Path(self.join_token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""


# Read from the environment or a file only: a command line is seen by everybody on the host.
SECRETS = frozenset({"join_token"})
# Names that people have in their scripts already, and what they are called here.
PUBLISHED_NAMES = {
    "METRICS_COLLECTION_INTERVAL": "sampling_interval_seconds",
    "GPU_MONITORING_ENABLED": "gpu_monitoring_enabled",
}
# One .env or environment may serve both programs on a host; these are the other one's
# (tests/architecture/test_settings_names.py compares).
CONTROL_PLANE_NAMES = frozenset(
    {
        "AGENT_ID", "AGENT_NAME", "ALLOWED_DESTINATIONS", "ALLOWED_HOSTS", "API_KEY", "AUTH",
        "CERTIFICATE_HOURS", "CORS_ORIGINS",
        "DATABASE_PORT", "DATABASE_URL", "DATA_DIR", "ENROLMENT_PORT",
        "ENVIRONMENT", "EXTERNAL_URL", "FLEET_SAMPLING_INTERVAL_SECONDS", "GROQ_API_KEY", "GROQ_MODEL", "LLM_BASE_URL",
        "LEAST_REPLICAS", "MOST_REPLICAS", "MOST_CHANGED_AT_ONCE", "BUDGET_USD_PER_MONTH", "CHANGE_WINDOWS",
        "GRPC_HOST", "GRPC_PORT",
        "GRPC_TLS", "HEARTBEAT_INTERVAL", "HEAVY_REQUESTS_PER_MINUTE", "HOST", "HOUR_RETENTION_DAYS",
        "LLM_MAX_RETRIES", "LLM_TIMEOUT", "LOCAL_AGENT", "MINUTE_RETENTION_DAYS", "PACK_AFTER_DAYS",
        "OIDC_AUDIENCE", "OIDC_ISSUER", "OIDC_JWKS_URL", "OIDC_SCOPES_CLAIM", "OIDC_SCOPE_PREFIX", "ROLLOUT_TARGETS",
        "ORCHESTRATOR_URL", "OTHER_PORT", "PORT", "READ_REQUESTS_PER_MINUTE", "REGISTRATION_ENABLED", "RETENTION_DAYS",
        "SECRET_KEY", "TLS_CERT_FILE", "TLS_KEY_FILE", "WRITE_REQUESTS_PER_MINUTE",
    }
)  # fmt: skip
_KINDS: Mapping[str, type[object]] = {field.name: type(field.default) for field in fields(Settings)}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _parse(name: str, text: str, where: str) -> object:
    kind = _KINDS[name]
    try:
        return _read(kind, text)
    except ValueError as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "another form")
        raise SettingsError(f"{where} is {text!r}; {wanted} is accepted") from error


def _read(kind: type[object], text: str) -> object:
    if kind is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise ValueError(text)
        return text.lower() in _TRUE
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is int or kind is float:
        return int(text) if kind is int else float(text)
    return Path(text) if issubclass(kind, Path) else text


def read_dotenv(path: Path) -> dict[str, str]:
    """This will read KEY=VALUE lines; a missing file is an empty one."""
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not text in UTF-8") from error
    out = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.removeprefix("export ").partition("=")
        if not equals:
            raise SettingsError(f"{path}, line {number}: write KEY=VALUE")
        out[key.strip()] = value.strip().strip("'\"")
    return out


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for published, name in PUBLISHED_NAMES.items():
        if published in environment:
            values[name] = _parse(name, environment[published], published)
    for key, text in environment.items():
        if not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX).lower()
        if name.upper() in CONTROL_PLANE_NAMES:
            continue
        if name not in _KINDS:
            known = ", ".join(sorted(PREFIX + n.upper() for n in _KINDS))
            raise SettingsError(f"{key} is no setting of the agent; known are {known}")
        values[name] = _parse(name, text, key)
    return values


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This will add a flag for each setting."""
    for name, kind in _KINDS.items():
        if name in SECRETS:
            continue
        flag = f"--{name.replace('_', '-')}"
        if kind is bool:
            parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(flag, dest=name, default=None, metavar=name.upper())


def load(flags: argparse.Namespace, environment: Mapping[str, str], dotenv: Path = Path(".env")) -> Settings:
    """This will merge defaults, .env, environment and flags. Raises SettingsError."""
    merged = _from_environment(read_dotenv(dotenv)) | _from_environment(environment)
    for name in _KINDS:
        given = getattr(flags, name, None)
        if given is not None:
            merged[name] = given if isinstance(given, bool) else _parse(name, given, f"--{name.replace('_', '-')}")
    merged["node_name"] = merged.get("node_name") or socket.gethostname()
    return Settings(**merged)  # type: ignore[arg-type]  # each value was parsed to its field's own type
