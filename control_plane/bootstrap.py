"""The composition root: the only file that knows every room."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from control_plane import __version__, local_agent
from control_plane.access.gate import Gate
from control_plane.access.provider import Provider
from control_plane.access.rates import Buckets, Rate
from control_plane.access.tokens import ProviderKeys, ProviderTokens
from control_plane.api.app import build_app
from control_plane.api.context import ApiContext, Doors
from control_plane.api.remembered import Remembered
from control_plane.api.resources.health import overall
from control_plane.api.server import TLS_LOOK_SECONDS, RenewedCertificate, Server, check_certificate, make_server
from control_plane.decisions.rails import RailSettings, windows_of
from control_plane.ingest.authority import Authority
from control_plane.ingest.enrolment import EnrolmentService
from control_plane.ingest.listening import start_server, stop_server
from control_plane.ingest.server import PROTOCOL_MAX, PROTOCOL_MIN, LinkService
from control_plane.insights.narrator import Model, Narrator
from control_plane.integrations.orchestrator import CAPABILITIES, Attendance, Introduction
from control_plane.model.errors import ConfigurationError
from control_plane.model.registration import Role
from control_plane.rollouts.targets import read_targets
from control_plane.runtime import redaction
from control_plane.runtime.clock import Clock, SystemClock
from control_plane.runtime.destinations import Policy
from control_plane.runtime.jobs import Job, JobState, Report
from control_plane.runtime.sealing import Sealer, key_of
from control_plane.settings import LOOPBACK, SECRETS, WILDCARDS, Settings, host_port
from control_plane.stages.alerts import AlertJob
from control_plane.stages.analysis import AnalysisJob
from control_plane.stages.bottlenecks import BottleneckJob
from control_plane.stages.delivery import DeliveryJob, over_http
from control_plane.stages.slo import SloJob
from control_plane.stages.slo_history import SloHistoryJob
from control_plane.storage import audit, events, idempotency, migrations, partitions
from control_plane.storage.embedded import EmbeddedPostgres, keep_running
from control_plane.storage.packing.job import PackingJob
from control_plane.storage.readings import Dictionaries
from control_plane.storage.rollouts import RolloutStore
from control_plane.storage.rollups.job import RollupJob
from control_plane.storage.session import Database, redacted_url, storage_errors
from control_plane.storage.trials import TrialStore
from control_plane.trials.desk import TrialDesk
from control_plane.workflows.driving import Driver
from control_plane.workflows.optimise_driver import WorkflowDriver
from control_plane.workflows.optimise_work import OptimiseWork
from control_plane.workflows.rollout_desk import RolloutDesk
from optiinfra.catalogue import TABLES

log = logging.getLogger(__name__)

# An empty embedded database takes about 100 MB; below this it could not even start writing.
LEAST_FREE_BYTES = 512 * 1024 * 1024
PARTITION_CHECK_SECONDS = 3600.0
# Well below a minute: the newest minute is rolled up soon after it has settled.
ROLLUP_SECONDS = 10.0
# A day becomes due once a day; what comes late for it does at any time, and can wait.
PACKING_SECONDS = 60.0
# A slot of five minutes is due once it is a minute old.
ANALYSIS_SECONDS = 15.0
# Who changed what is asked a year later too.
AUDIT_KEPT = timedelta(days=400)
# Samples come every few seconds; a violation is to be seen soon after the one that shows it.
SLO_SECONDS = 2.0
# A new objective is to know its past soon.
SLO_HISTORY_SECONDS = 10.0
# Every sample is judged, and samples come every few seconds.
BOTTLENECK_SECONDS = 3.0
# Who sends a write again does so within minutes, or after a night.
REPEATS_KEPT = timedelta(days=1)
# What a rule finds is to be told within seconds, and the outbox is looked into as often.
ALERT_SECONDS, DELIVERY_SECONDS = 1.0, 0.5
# The local agent enrols in its first second; one that is started late (no memory, say) still can.
OWN_TOKEN_LIFE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseHandle:
    """The database in use, and the embedded server behind it when it is ours."""

    url: str
    embedded: EmbeddedPostgres | None

    @property
    def description(self) -> str:
        """This will say which database it is, without its password."""
        if self.embedded is not None:
            return f"embedded Postgres {self.embedded.version}"
        return redacted_url(self.url)

    def stop(self) -> None:
        """This will stop the embedded server, if there is one."""
        if self.embedded is not None:
            self.embedded.stop()


def check_doors(settings: Settings) -> None:
    """This will refuse to start when a port is taken or a certificate of no use, naming the setting that helps."""
    if settings.tls_cert_file is not None:
        check_certificate(settings.tls_cert_file, settings.tls_key_file)
    host = settings.grpc_host or settings.host
    listeners = [*_http_listeners(settings), _bind(host, settings.grpc_port, "--grpc-port")]
    if settings.certified:
        listeners.append(_bind(host, settings.enrolment_port, "--enrolment-port"))
    for listener in listeners:
        listener.close()


def _http_listeners(settings: Settings) -> list[socket.socket]:
    flags = {port: "--port" if port == settings.port else "--other-port" for port in settings.http_ports}
    return [_bind(settings.host, port, flag) for port, flag in flags.items()]


def _bind(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            hint = " (0 for none)" if flag == "--other-port" else ""
            raise ConfigurationError(f"port {port} on {host} is taken; choose another with {flag}{hint}") from error
        raise ConfigurationError(f"cannot listen on {host_port(host, port)}: {error.strerror}") from error
    return listener


def open_database(settings: Settings) -> DatabaseHandle:
    """This will start the embedded Postgres, or take the external one. Call it on the main thread."""
    if settings.database_url is not None:
        return DatabaseHandle(url=settings.database_url.get_secret_value(), embedded=None)
    data_dir = settings.data_dir.absolute()
    # The folder itself is made by the database, which knows who has to come through.
    existing = next(p for p in (data_dir, *data_dir.parents) if os.path.exists(p))  # noqa: PTH110 - never raises
    free = shutil.disk_usage(existing).free
    if free < LEAST_FREE_BYTES:
        raise ConfigurationError(
            f"{settings.data_dir} has {free // 2**20} MiB free; at least {LEAST_FREE_BYTES // 2**20} MiB are needed "
            "(another folder: --data-dir)"
        )
    embedded = EmbeddedPostgres(settings.data_dir / "postgres", port=settings.database_port)
    embedded.start()
    return DatabaseHandle(url=embedded.url, embedded=embedded)


def shown_settings(settings: Settings) -> Mapping[str, object]:
    """This will give the settings as they may be shown: of secrets only whether they are set."""
    shown: dict[str, object] = {}
    # A setting that is a URL, or a list of them, may carry somebody's name and password.
    for name, value in settings.model_dump(mode="json", exclude=set(SECRETS)).items():
        shown[name] = redaction.value(value)
    for name in SECRETS:
        shown[name] = "set" if getattr(settings, name) is not None else "not set"
    return dict(sorted(shown.items())) | {"http_ports": settings.http_ports}


def capabilities(settings: Settings) -> Mapping[str, object]:
    """This will give what this release can do, and say why of what it cannot."""
    return {
        "engines": ["vllm", "sglang", "tgi"],
        "tables": {name: [field.name for field in spec.fields] for name, spec in TABLES.items()},
        "protocol": {"min": PROTOCOL_MIN, "max": PROTOCOL_MAX},
        "raw_retention_days": settings.retention_days,
        "minute_retention_days": settings.minute_retention_days,
        "hour_retention_days": settings.hour_retention_days,
        "llm_configured": settings.groq_api_key is not None,
        "features": {
            "telemetry": "available",
            "record_and_replay": "available",
            "analysis": "available",
            "bottlenecks": "available",
            "alerts": "available",
            "recommendations": "available",
            "tests": "available",
            "rollouts": "available" if settings.rollout_targets else "no targets are named (--rollout-targets)",
        },
    }


async def serve(
    settings: Settings, handle: DatabaseHandle, stop: asyncio.Event, ready: asyncio.Event, *, own_key: str = ""
) -> None:
    """This will run ingest, the API and the local agent until `stop` is set, then end them in order.

    Who asks REST with `own_key` is this process.
    """
    clock = SystemClock()
    database = Database(handle.url)
    enrolment = _enrolment(settings, database, clock)
    service = LinkService(
        database,
        clock,
        retention_days=settings.retention_days,
        fleet_interval_seconds=settings.fleet_sampling_interval_seconds,
        enrolment=enrolment,
    )
    grpc_server, _ = await start_server(
        service, settings.grpc_address, enrolment=enrolment, enrolment_address=settings.enrolment_address
    )
    if enrolment is not None and settings.local_agent:
        own = await enrolment.create_token(lifetime=OWN_TOKEN_LIFE, max_uses=1, node_name=None)
        local_agent.hand_over(settings, own.token)
    jobs = _jobs(settings, database, clock)
    gate = Gate(database, clock, required=settings.keys_required, tokens=_tokens(settings, clock), own_key=own_key)
    desk = _rollout_desk(settings, database, clock)
    driver = Driver(store=desk.store, clock=clock, runner_for=desk.runner_for)
    tests = _trial_desk(settings, database, clock, desk)
    optimising = _workflows(settings, database, clock)
    context = _api_context(
        settings, handle, database, clock, service, enrolment, gate, [job.state for job in jobs], desk, tests
    )
    attending = _attendances(settings, clock, context)
    server = make_server(
        build_app(context, cors_origins=settings.cors_origins), access_log=settings.log_level == "debug",
        certificate=settings.tls_cert_file, key=settings.tls_key_file,
    )  # fmt: skip
    sockets = _http_listeners(settings)
    try:
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(service.run())
            watching = tasks.create_task(keep_running(handle.embedded, clock)) if handle.embedded else None
            working = [tasks.create_task(job.run()) for job in jobs]
            working += [tasks.create_task(role.run()) for role in attending]
            working += [tasks.create_task(each.run()) for each in (driver, tests, optimising)]
            http = tasks.create_task(server.serve(sockets))
            renewing = tasks.create_task(_renew(settings, server)) if settings.tls_cert_file else None
            agent = tasks.create_task(local_agent.run(settings, clock)) if settings.local_agent else None
            while not server.started and not http.done():  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            _collect_rarely()
            ready.set()
            await stop.wait()
            if agent is not None:
                agent.cancel()  # it sends its last samples while the door is still open
                await asyncio.wait((agent,))
            await stop_server(service, grpc_server)
            server.should_exit = True
            await asyncio.wait((http,))
            for task in (*working, writing, watching, renewing):
                if task is not None:
                    task.cancel()
    finally:
        for job in jobs:
            job.close()
        service.close()
        await optimising.close()
        await database.close()
        for listener in sockets:
            listener.close()


def _api_context(
    settings: Settings,
    handle: DatabaseHandle,
    database: Database,
    clock: Clock,
    service: LinkService,
    enrolment: EnrolmentService | None,
    gate: Gate,
    jobs: Sequence[JobState],
    rollouts: RolloutDesk,
    trials: TrialDesk,
) -> ApiContext:
    """This will give the API what it may reach."""
    return ApiContext(
        gate=gate,
        doors=doors(settings, clock),
        database=database,
        dictionaries=Dictionaries(database.engine),
        database_description=handle.description,
        clock=clock,
        started_at=clock.now(),
        ingest=service,
        enrolment=enrolment,
        data_dir=settings.data_dir if handle.embedded else Path(),
        environment=settings.environment,
        settings=shown_settings(settings),
        capabilities=capabilities(settings),
        jobs=jobs,
        registrations=[],
        rollouts=rollouts,
        trials=trials,
        remembered=Remembered(clock),
        narrator=_narrator(settings, clock),
        sealer=sealer(settings),
        webhooks=webhook_policy(settings),
    )


def _workflows(settings: Settings, database: Database, clock: Clock) -> WorkflowDriver:
    """This will build what drives workflows. Raises ConfigurationError."""
    work = OptimiseWork(database, Dictionaries(database.engine), clock, _rails(settings))
    return WorkflowDriver(database, clock, work)


def _rails(settings: Settings) -> RailSettings:
    """This will give the limits that the operator adds to those that always hold. Raises ConfigurationError."""
    try:
        windows = windows_of(settings.change_windows)
    except ValueError as error:
        raise ConfigurationError(f"change_windows: {error}") from error
    if settings.least_replicas > settings.most_replicas:
        raise ConfigurationError("least_replicas is more than most_replicas; nothing satisfies that")
    return RailSettings(
        least_replicas=settings.least_replicas, most_replicas=settings.most_replicas,
        most_at_once=settings.most_changed_at_once, windows=windows, budget_usd_per_month=settings.budget_usd_per_month,
    )  # fmt: skip


def _narrator(settings: Settings, clock: Clock) -> Narrator:
    """This will build what words explanations; without a key, by rule."""
    if settings.groq_api_key is None:
        return Narrator(None, clock)
    model = Model(
        base_url=settings.llm_base_url, name=settings.groq_model, key=settings.groq_api_key.get_secret_value(),
        seconds=settings.llm_timeout, tries=settings.llm_max_retries,
    )  # fmt: skip
    return Narrator(model, clock)


def _attendances(settings: Settings, clock: Clock, context: ApiContext) -> list[Attendance]:
    """This will build what registers both roles with the orchestrator; none where it is not to be told of us."""
    if not settings.registration_enabled:
        return []
    is_named = settings.host not in (*LOOPBACK, *WILDCARDS)
    host = settings.host if is_named else socket.gethostname()
    ports = {Role.RESOURCE: settings.port, Role.PERFORMANCE: settings.http_ports[-1]}  # 8002 beside 8003
    about = {"environment": settings.environment} | ({"agent_id": settings.agent_id} if settings.agent_id else {})
    attending = [
        Attendance(
            Introduction(
                role=role, name=settings.agent_name, host=host, port=ports[role], capabilities=CAPABILITIES[role],
                version=__version__, metadata=about,
            ),
            url=settings.orchestrator_url, interval_seconds=settings.heartbeat_interval,
            health=partial(overall, context), clock=clock,
        )
        for role in Role
    ]  # fmt: skip
    context.registrations.extend(one.state for one in attending)
    return attending


def _rollout_desk(settings: Settings, database: Database, clock: Clock) -> RolloutDesk:
    """This will build where rollouts are asked for. Raises ConfigurationError for a file that is wrong."""
    targets = {} if settings.rollout_targets is None else read_targets(settings.rollout_targets)
    return RolloutDesk(RolloutStore(database.engine), targets, clock)


def _trial_desk(settings: Settings, database: Database, clock: Clock, rollouts: RolloutDesk) -> TrialDesk:
    """This will build where test runs are asked for and run. Servers of rollout targets are the operator's words."""
    return TrialDesk(
        TrialStore(database.engine), clock, policy=webhook_policy(settings), sealer=sealer(settings),
        named_urls=rollouts.servers,
    )  # fmt: skip


def _tokens(settings: Settings, clock: Clock) -> ProviderTokens | None:
    """This will build what knows an identity provider's tokens; None where none is named."""
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    provider = Provider(issuer=settings.oidc_issuer, jwks_url=settings.oidc_jwks_url)
    return ProviderTokens(
        ProviderKeys(provider.fetch_keys, clock), clock, issuer=settings.oidc_issuer, audience=settings.oidc_audience,
        scopes_claim=settings.oidc_scopes_claim, scope_prefix=settings.oidc_scope_prefix,
    )  # fmt: skip


def doors(settings: Settings, clock: Clock) -> Doors:
    """This will give what a request to REST must pass beside the gate."""
    minutely = {
        "read": settings.read_requests_per_minute,
        "heavy": settings.heavy_requests_per_minute,
        "write": settings.write_requests_per_minute,
    }
    rates = {name: Rate(per_second=most / 60, at_once=most) for name, most in minutely.items() if most}
    return Doors(buckets=Buckets(clock), rates=rates, hosts=settings.answering_hosts)


async def _renew(settings: Settings, server: Server) -> None:
    """This will take a renewed certificate of REST when its files change."""
    assert settings.tls_cert_file is not None
    pair = RenewedCertificate(server, settings.tls_cert_file, settings.tls_key_file)
    while True:
        await asyncio.sleep(TLS_LOOK_SECONDS)
        try:
            if pair.look():
                log.info("REST has a new certificate")
        except ConfigurationError as error:
            log.warning("%s; the one before stays in use", error)


def _collect_rarely() -> None:
    """This will keep the garbage collector from walking what is no garbage."""
    # What is loaded now stays for ever: walking it at every full collection would stop all for 0.1 s.
    gc.freeze()
    # Ingest makes and drops a hundred objects for each tick; looking for cycles after every 700 finds none.
    gc.set_threshold(50_000, 20, 50)


def _enrolment(settings: Settings, database: Database, clock: Clock) -> EnrolmentService | None:
    """This will build what gives agents their certificates; None where they need none."""
    if not settings.certified:
        return None
    signer = Authority.open(settings.data_dir / "authority", clock.now())
    life = timedelta(hours=settings.certificate_hours)
    return EnrolmentService(database, clock, signer, life=life)


def sealer(settings: Settings) -> Sealer:
    """This will give what seals stored secrets: with the key that is set, else with one that lies beside the data."""
    given = settings.secret_key
    if given is not None:
        return Sealer(lambda: given.get_secret_value().encode())
    return Sealer(lambda: key_of(settings.data_dir / "secrets.key"))


def webhook_policy(settings: Settings) -> Policy:
    """This will say where webhooks may lead: to public addresses, and to what the operator named.

    Loopback too where only this host's people can ask: they reach it anyway. Keys, or names by which REST is asked
    through a proxy, say that others ask as well, and a webhook of theirs must not reach what listens beside us.
    """
    alone = settings.host in LOOPBACK and not settings.keys_required and not settings.allowed_hosts
    return Policy((*settings.allowed_destinations, *(LOOPBACK if alone else ())))


def _jobs(settings: Settings, database: Database, clock: Clock) -> list[Job]:
    """This will build the work that comes back by itself."""
    replica = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    rollups = RollupJob(database, holder=replica, now=clock.now)
    packing = PackingJob(database, holder=replica, now=clock.now, after=timedelta(days=settings.pack_after_days))
    hours_kept = timedelta(days=settings.hour_retention_days)
    slo = SloJob(database, holder=replica, now=clock.now)
    history = SloHistoryJob(database, holder=replica, now=clock.now)
    bottlenecks = BottleneckJob(database, holder=replica, now=clock.now)
    alerts = AlertJob(database, holder=replica, now=clock.now, url=settings.shown_url)
    send = over_http(webhook_policy(settings))
    delivery = DeliveryJob(database, holder=replica, now=clock.now, sealer=sealer(settings), send=send)
    analysis = AnalysisJob(database, holder=replica, now=clock.now, hours_kept=hours_kept)
    return [
        Job("rollups", rollups.work, end=rollups.close, every_seconds=ROLLUP_SECONDS, clock=clock),
        Job("slo", slo.work, end=slo.close, every_seconds=SLO_SECONDS, clock=clock),
        Job("slo history", history.work, end=history.close, every_seconds=SLO_HISTORY_SECONDS, clock=clock),
        Job(
            "bottlenecks", bottlenecks.work, end=bottlenecks.close, every_seconds=BOTTLENECK_SECONDS, clock=clock
        ),
        Job("alerts", alerts.work, end=alerts.close, every_seconds=ALERT_SECONDS, clock=clock),
        Job("alert delivery", delivery.work, end=delivery.close, every_seconds=DELIVERY_SECONDS, clock=clock),
        Job("analysis", analysis.work, end=analysis.close, every_seconds=ANALYSIS_SECONDS, clock=clock),
        Job("packing", packing.work, end=packing.close, every_seconds=PACKING_SECONDS, clock=clock),
        Job(
            "partitions", lambda: _make_and_drop(settings, database, clock),
            every_seconds=PARTITION_CHECK_SECONDS, clock=clock,
        ),
    ]  # fmt: skip


def _make_and_drop(settings: Settings, database: Database, clock: Clock) -> Report:
    """This will make tomorrow's partitions and drop what is past retention. Safe beside replicas that do the same."""
    now = clock.now()
    today, kept = now.date(), timedelta(days=settings.retention_days + 1)
    with storage_errors(), database.connect(autocommit=True) as connection:
        partitions.ensure_days(connection, partitions.days_ahead(today))
        # One day of grace: a sample admitted just inside retention must still find its partition.
        dropped = partitions.drop_before(connection, today - kept)
        dropped += partitions.drop_rollups_before(
            connection,
            minutes=today - timedelta(days=settings.minute_retention_days),
            hours=today - timedelta(days=settings.hour_retention_days),
        )
        partitions.purge_processes(connection, now - kept)
        events.drop_before(connection, now - timedelta(days=settings.retention_days))
        audit.drop_before(connection, now - AUDIT_KEPT)
        idempotency.drop_before(connection, now - REPEATS_KEPT)
    if dropped:
        log.info("retention dropped %s", ", ".join(dropped))
    return Report(leading=True, more=False, figures={"dropped": float(len(dropped))})


def migrate(handle: DatabaseHandle) -> tuple[str | None, str]:
    """This will bring the schema to this release and give the revisions before and after."""
    return migrations.upgrade(handle.url)
