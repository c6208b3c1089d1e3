"""Health, configuration, and the control plane's own figures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from control_plane.ingest.server import LinkService
from control_plane.model.registration import Registration, Role
from control_plane.runtime.jobs import JobState, Standing
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.support.rest import Api, client_of, context_of, problem_of

AWAY = "postgresql://optiinfra:a-password-of-ours@127.0.0.1:1/optiinfra"


@pytest.fixture
async def cut_off(clock: FakeClock) -> AsyncIterator[Api]:
    """The API whose database does not answer."""
    database = Database(AWAY)
    service = LinkService(database, clock, retention_days=14)
    async with client_of(context_of(database, clock, service)) as client:
        yield client
    service.close()
    await database.close()


async def test_a_healthy_process_says_so_on_every_level(api: Api, clock: FakeClock) -> None:
    clock.advance(7)
    assert (await api.get("/health/live")) == {"status": "alive"}
    assert (await api.get("/health/ready")) == {"status": "ready"}
    health = await api.get("/health")
    assert (health["status"], health["uptime_seconds"], health["started_at"]) == (
        "healthy", 7.0, "2026-03-04T12:00:00.000Z",
    )  # fmt: skip


async def test_the_root_says_what_this_is_and_its_links_lead_somewhere(api: Api) -> None:
    body = await api.get("/")
    assert (body["name"], body["roles"]) == ("optiinfra", ["resource", "performance"])
    for link in body["links"].values():
        assert (await api.client.get(link)).status_code == 200


async def test_the_details_name_every_part(api: Api) -> None:
    body = await api.get("/health/detailed")
    parts = body["parts"]
    assert body["status"] == "healthy"
    assert {name: part["state"] for name, part in parts.items()} == {
        "database": "ok", "migrations": "ok", "ingest": "ok", "nodes": "ok", "disk": "ok", "jobs": "not_configured",
        "llm": "not_configured", "orchestrator": "not_configured",
    }  # fmt: skip
    assert parts["nodes"]["counts"] == {"connected": 3, "stale": 0, "gone": 0, "never_sampled": 1}
    assert parts["migrations"]["current"] == parts["migrations"]["head"]


async def test_nodes_that_fell_silent_degrade_health_and_do_not_end_readiness(api: Api, clock: FakeClock) -> None:
    clock.advance(60)
    body = await api.get("/health/detailed")
    assert (body["status"], body["parts"]["nodes"]["counts"]["stale"]) == ("degraded", 3)
    assert (await api.get("/health/ready")) == {"status": "ready"}


async def test_without_its_database_the_process_lives_and_is_not_ready(cut_off: Api) -> None:
    assert (await cut_off.get("/health/live")) == {"status": "alive"}
    assert (await cut_off.get("/health"))["status"] == "healthy"
    answer = await cut_off.client.get("/health/ready")
    body = problem_of(answer, 503)
    assert [error["pointer"] for error in body["errors"]] == ["/parts/database", "/parts/migrations"]
    assert answer.headers["retry-after"] == "5"
    detailed = await cut_off.get("/health/detailed")
    assert detailed["status"] == "unhealthy"
    assert detailed["parts"]["database"]["state"] == "failed"
    assert "a-password-of-ours" not in answer.text + str(detailed)


@pytest.mark.parametrize("path", ["/nodes", "/nodes/alpha", "/gpu/metrics", "/system/all", "/metrics/latency"])
async def test_without_its_database_a_question_is_unavailable_and_worth_asking_again(cut_off: Api, path: str) -> None:
    answer = await cut_off.client.get(path)
    body = problem_of(answer, 503)
    assert body["detail"] == "the database does not answer; try again in a few seconds"
    assert answer.headers["retry-after"] == "5"
    assert "127.0.0.1" not in answer.text


async def test_a_schema_that_is_not_at_head_is_not_ready_and_the_answer_says_what_to_run(
    empty_api: Api, database: Database
) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    body = await empty_api.refused("/health/ready", 503)
    assert body["errors"] == [{"pointer": "/parts/migrations", "detail": "run `optiinfra migrate`"}]
    async with database.engine.begin() as connection:
        await connection.execute(text("DROP TABLE alembic_version"))
    assert (await empty_api.refused("/health/ready", 503))["errors"][0]["pointer"] == "/parts/migrations"


async def test_a_process_that_is_going_down_is_not_ready(empty_api: Api) -> None:
    service = empty_api.context.ingest
    assert isinstance(service, LinkService)
    await service.drain()
    body = await empty_api.refused("/health/ready", 503)
    assert [error["pointer"] for error in body["errors"]] == ["/parts/ingest"]


async def test_a_part_whose_error_has_no_words_is_still_named(empty_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_self: Database) -> str:
        raise TimeoutError

    monkeypatch.setattr(Database, "ping", silent)
    parts = (await empty_api.get("/health/detailed"))["parts"]
    assert (parts["database"]["state"], parts["database"]["error"]) == ("failed", "TimeoutError")


async def test_an_unexpected_error_is_a_problem_without_its_insides(empty_api: Api) -> None:
    class Broken:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("a secret of the insides")

    context = replace(empty_api.context, ingest=Broken())  # type: ignore[arg-type]
    async with client_of(context, strict=False) as broken:
        answer = await broken.client.get("/metrics")
    problem_of(answer, 500)
    assert "secret" not in answer.text


# -- configuration --------------------------------------------------------------------------------

SECRETS = {
    "GROQ_API_KEY": "gsk_a-key-of-ours",
    "DATABASE_URL": "postgresql://optiinfra:a-password-of-ours@db.internal/optiinfra",
}


@pytest.mark.parametrize("environment", [{}, SECRETS])
async def test_the_configuration_says_of_secrets_only_whether_they_are_set(
    api: Api, clock: FakeClock, environment: Mapping[str, str]
) -> None:
    service = api.context.ingest
    assert isinstance(service, LinkService)
    context = context_of(api.context.database, clock, service, environment=environment)
    async with client_of(context) as client:
        settings = (await client.get("/config"))["settings"]
        shown = [(await client.client.get(path)).text for path in ("/config", "/capabilities", "/", "/health/detailed")]
        capabilities = await client.get("/capabilities")
    state = "set" if environment else "not set"
    assert (settings["groq_api_key"], settings["database_url"]) == (state, state)
    assert capabilities["llm_configured"] is bool(environment)
    for secret in ("gsk_a-key-of-ours", "a-password-of-ours"):
        assert secret not in "".join(shown)


async def test_the_configuration_shows_no_credentials_of_urls(api: Api, clock: FakeClock) -> None:
    service = api.context.ingest
    assert isinstance(service, LinkService)
    environment = {
        "ORCHESTRATOR_URL": "http://somebody:hunter2@orchestrator:8080/v1",
        "OPTIINFRA_SCRAPE_TARGETS": "http://127.0.0.1:8000,http://token-of-ours@127.0.0.1:8001",
    }
    context = context_of(api.context.database, clock, service, environment=environment)
    async with client_of(context) as client:
        settings = (await client.get("/config"))["settings"]
    assert settings["orchestrator_url"] == "http://***@orchestrator:8080/v1"
    assert settings["scrape_targets"] == ["http://127.0.0.1:8000", "http://***@127.0.0.1:8001"]


async def test_capabilities_name_every_engine_and_field(api: Api) -> None:
    body = await api.get("/capabilities")
    assert body["engines"] == ["vllm", "sglang", "tgi"]
    assert "tensor_active_ratio" in body["tables"]["gpu"]


# -- Prometheus -----------------------------------------------------------------------------------


async def test_the_exposition_is_what_prometheus_reads_and_knows_every_figure(api: Api) -> None:
    answer = await api.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    for name in api.context.ingest.figures():
        family = families[f"optiinfra_ingest_{name}"]
        assert family.documentation != name, "say what it means"
        assert family.type == ("gauge" if name in ("streams", "pending_bytes", "streams_held_back") else "counter")
    assert families["optiinfra_build_info"].samples[0].labels.keys() == {"version"}


async def test_jobs_are_shown_and_one_that_fails_degrades_health(api: Api) -> None:
    well = JobState(name="rollups", standing=Standing.LEADING, figures={"behind_seconds": 12.0})
    broken = JobState(name="partitions", standing=Standing.FAILED, last_error="StorageUnavailable: the disk is full")
    async with client_of(replace(api.context, jobs=[well, broken])) as client:
        body = await client.get("/health/detailed")
    part = body["parts"]["jobs"]
    assert (body["status"], part["state"]) == ("degraded", "degraded")
    assert part["error"] == "partitions: StorageUnavailable: the disk is full"
    assert [(job["name"], job["standing"]) for job in part["jobs"]] == [
        ("rollups", "leading"),
        ("partitions", "failed"),
    ]
    assert part["jobs"][0]["figures"] == {"behind_seconds": 12.0}


async def test_the_orchestrator_is_shown_and_makes_nothing_else_worse(api: Api, clock: FakeClock) -> None:
    off = await api.get("/integrations/orchestrator")
    assert (off["enabled"], off["state"], off["roles"]) == (False, "disabled", [])
    before = (await api.get("/health/detailed"))["status"]
    well = Registration(role=Role.RESOURCE, agent_id="a", registered_at=clock.now(), heartbeat_interval_seconds=30.0)
    ill = Registration(role=Role.PERFORMANCE, last_error="away", last_error_at=clock.now(), failures_in_a_row=3)
    api.context.registrations.extend([well, ill])
    shown = await api.get("/integrations/orchestrator")
    assert shown["state"] == "failing"
    assert [(role["role"], role["state"]) for role in shown["roles"]] == [
        ("resource", "registered"), ("performance", "failing"),
    ]  # fmt: skip
    health = await api.get("/health/detailed")
    assert health["parts"]["orchestrator"]["state"] == "degraded"
    assert health["status"] == before
