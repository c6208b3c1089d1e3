"""The engine collector, against a real HTTP server that says what engines said, hangs, lies and goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from node_agent.clock import Instant
from node_agent.collectors.engine import EngineCollector
from node_agent.discovery import Server
from node_agent.model import Collected, EntityKind, Histogram, Outcome, Reason, Value
from optiinfra.catalogue import TABLES

DATA = Path(__file__).parents[2] / "data" / "engines"
HEALTHY = (DATA / "vllm-healthy" / "0050.prom").read_bytes()
SGLANG = (DATA / "sglang-healthy" / "0050.prom").read_bytes()
FIELDS = {spec.name for spec in TABLES["inference"].fields}
START = 1_800_000_000.0


def at(seconds: float) -> Instant:
    return Instant(wall=datetime.fromtimestamp(START + seconds, UTC), monotonic_seconds=seconds)


class StillClock:
    """Every look takes a quarter of a second."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> Instant:
        self.seconds += 0.25
        return at(self.seconds)


@dataclass
class FakeEngine:
    """Answers whatever is in `pages`; anything else is 404. None hangs for ever."""

    pages: dict[str, bytes | None] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)  # of pages that are not 200 OK
    asked: list[str] = field(default_factory=list)
    port: int = 0
    server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._handle, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()
        self.server = None

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        self.asked.append(path)
        status = self.statuses.get(path, "200 OK" if path in self.pages else "404 Not Found")
        body = self.pages.get(path, b"")
        if body is None:
            await reader.read()
        else:
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def engine(metrics: bytes | None = HEALTHY, **pages: object) -> AsyncIterator[FakeEngine]:
    named = {f"/{path.replace('__', '/')}": json.dumps(page).encode() for path, page in pages.items()}
    fake = FakeEngine(pages={"/metrics": metrics, **named})
    await fake.start()
    try:
        yield fake
    finally:
        fake.stop()


def collector(*targets: str, **options: Any) -> EngineCollector:
    options.setdefault("timeout_seconds", 5.0)
    return EngineCollector(clock=StillClock(), targets=targets, discover=False, **options)


def only(seen: Collected) -> tuple[Mapping[str, Any], Mapping[str, Value]]:
    (entity,), (sample,) = seen.entities, seen.samples
    assert entity.kind is EntityKind.INFERENCE_SERVER
    assert sample.entity == (EntityKind.INFERENCE_SERVER, entity.key)
    assert set(sample.values) == FIELDS  # a value or a reason for each, never silence
    json.dumps(entity.attributes)
    return entity.attributes, sample.values


async def test_a_server_that_answers_is_up_and_has_its_values() -> None:
    models = {"data": [{"id": "tiny", "max_model_len": 4096}]}
    async with engine(version={"version": "0.32.0"}, v1__models=models) as fake:
        seen = await collector(fake.url).collect(at(0))
    attributes, values = only(seen)
    assert seen.outcome is Outcome.OK
    assert seen.detail == ""
    assert attributes["engine"] == "vllm"
    assert attributes["version"] == "0.32.0"
    assert attributes["model"] == "tiny"
    assert attributes["max_model_len"] == 4096
    assert (attributes["state"], attributes["source"], attributes["pid"]) == ("up", "configured", None)
    assert attributes["config"]["block_size"] == 32
    assert attributes["config_read_at"] == at(0).wall.isoformat()
    assert values["up_flag"] == 1.0
    assert values["scrape_seconds"] == 0.25
    assert values["requests_finished_total"] == 205
    assert values["counters_since_unix_seconds"] == 1.79532777176e9
    assert isinstance(values["ttft_seconds"], Histogram)


async def test_a_pushed_server_is_watched_until_it_is_taken_out_and_then_said_not_to_be() -> None:
    async with engine() as fake:
        watching = collector()
        watching.watch(pushed=[fake.url], discover=False, timeout_seconds=5.0)
        attributes, _ = only(await watching.collect(at(0)))
        assert (attributes["state"], attributes["source"]) == ("up", "pushed")
        asked = len(fake.asked)
        watching.watch(pushed=[], discover=False, timeout_seconds=5.0)
        last = await watching.collect(at(5))
        (entity,) = last.entities
        assert (entity.key, entity.attributes["state"]) == (fake.url, "not_watched")
        assert (entity.attributes["engine"], last.samples) == ("vllm", [])
        assert (await watching.collect(at(10))).outcome is Outcome.ABSENT
        assert len(fake.asked) == asked


async def test_a_server_that_points_elsewhere_is_not_followed() -> None:
    async with engine() as elsewhere, engine() as fake:
        fake.statuses["/metrics"] = f"302 Found\r\nLocation: {elsewhere.url}/metrics"
        watching = collector()
        watching.watch(pushed=[fake.url], discover=False, timeout_seconds=5.0)
        attributes, _ = only(await watching.collect(at(0)))
    assert (attributes["state"], attributes["state_detail"]) == ("error", "/metrics answered HTTP 302")
    assert elsewhere.asked == []


async def test_only_allow_listed_paths_are_asked() -> None:
    async with engine(SGLANG, model_info={}, server_info={"version": "0.5.23", "api_key": "sk-1"}) as fake:
        attributes, _ = only(await collector(fake.url).collect(at(0)))
    assert sorted(fake.asked) == ["/metrics", "/model_info", "/server_info"]
    assert "sk-1" not in json.dumps(dict(attributes))


async def test_an_old_sglang_is_asked_under_the_old_path_too() -> None:
    async with engine(SGLANG, get_server_info={"version": "0.4.9"}) as fake:
        attributes, _ = only(await collector(fake.url).collect(at(0)))
    assert attributes["version"] == "0.4.9"


async def test_a_server_that_keeps_its_configuration_to_itself_is_up_all_the_same() -> None:
    async with engine() as fake:
        attributes, _ = only(await collector(fake.url).collect(at(0)))
    assert (attributes["state"], attributes["version"], attributes["model"]) == ("up", None, "tiny")
    assert attributes["config_read_at"] is None


async def test_a_refused_connection_is_gone_with_a_reason_for_every_value() -> None:
    async with engine(version={"version": "0.32.0"}) as fake:
        watching = collector(fake.url)
        await watching.collect(at(0))
    seen = await watching.collect(at(1))
    attributes, values = only(seen)
    assert seen.outcome is Outcome.PARTIAL
    assert "gone" in seen.detail
    assert (attributes["state"], attributes["engine"], attributes["version"]) == ("gone", "vllm", "0.32.0")
    assert values.pop("up_flag") == 0.0  # type: ignore[attr-defined]
    assert set(values.values()) == {Reason.SERVER_GONE}


async def test_a_server_that_hangs_is_unreachable() -> None:
    async with engine(None) as fake:
        attributes, values = only(await collector(fake.url, timeout_seconds=0.05).collect(at(0)))
    assert attributes["state"] == "unreachable"
    assert (values["up_flag"], values["requests_running_count"]) == (0.0, Reason.TIMED_OUT)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"node_load1 3\n", b"\x00\xff"])
async def test_an_answer_without_an_engines_metrics_is_an_error(body: bytes) -> None:
    async with engine(body) as fake:
        attributes, values = only(await collector(fake.url).collect(at(0)))
    assert attributes["state"] == "error"
    assert values["requests_running_count"] is Reason.ERROR


async def test_a_missing_metrics_page_is_an_error_that_says_what_to_do() -> None:
    async with engine() as fake:
        del fake.pages["/metrics"]
        attributes, _ = only(await collector(fake.url).collect(at(0)))
    assert attributes["state"] == "error"
    assert "HTTP 404" in attributes["state_detail"]
    assert "--enable-metrics" in attributes["state_detail"]


async def test_too_large_a_body_is_an_error() -> None:
    async with engine() as fake:
        attributes, _ = only(await collector(fake.url, max_bytes=1000).collect(at(0)))
    assert attributes["state"] == "error"


async def test_broken_lines_are_told_and_the_rest_is_read() -> None:
    async with engine(HEALTHY + b"vllm:num_requests_running{ 5\n") as fake:
        attributes, values = only(await collector(fake.url).collect(at(0)))
    assert attributes["state"] == "up"
    assert "1 lines" in attributes["state_detail"]
    assert values["requests_finished_total"] == 205


async def test_without_any_server_the_outcome_is_absent_and_says_so() -> None:
    seen = await collector().collect(at(0))
    assert seen.outcome is Outcome.ABSENT
    assert seen.detail == "no inference server is configured or listening on this host"
    assert (seen.entities, seen.samples) == ((), ())


async def test_one_failing_server_does_not_take_the_others_with_it() -> None:
    async with engine() as good, engine(None) as hanging:
        seen = await collector(good.url, hanging.url, timeout_seconds=1.0).collect(at(0))
    assert seen.outcome is Outcome.PARTIAL
    assert "1 of 2" in seen.detail
    assert hanging.url in seen.detail
    assert [entity.attributes["state"] for entity in seen.entities if entity.key == good.url] == ["up"]


async def test_hanging_servers_are_waited_for_together() -> None:
    async with engine(None) as fake:
        watching = collector(*(f"{fake.url}/{n}" for n in range(10)), timeout_seconds=0.4)
        for n in range(10):
            fake.pages[f"/{n}/metrics"] = None
        async with asyncio.timeout(2.0):  # one after the other would take 4
            seen = await watching.collect(at(0))
    assert [entity.attributes["state"] for entity in seen.entities] == ["unreachable"] * 10


async def test_a_bug_in_one_reading_is_that_servers_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("a body's words")

    monkeypatch.setattr("node_agent.collectors.engine_scrape.read_values", broken)
    async with engine() as fake:
        attributes, _ = only(await collector(fake.url).collect(at(0)))
    assert attributes["state"] == "error"
    assert "ZeroDivisionError" in attributes["state_detail"]
    assert "words" not in attributes["state_detail"]


class Finding:
    """Stands in for discovery: gives what a test puts in, or fails."""

    def __init__(self, *servers: Server) -> None:
        self.found = list(servers)
        self.broken = False

    async def servers(self, now: Instant) -> tuple[Server, ...]:
        if self.broken:
            raise RuntimeError("no /proc")
        return tuple(self.found)

    def wants(self, server: Server) -> bool:
        return True


def watching_found(*urls: str, **known: Any) -> tuple[EngineCollector, Finding]:
    watching = collector()
    finding = Finding(*(Server(url=url, source="discovered", **known) for url in urls))
    watching._discovery = finding  # type: ignore[assignment]
    return watching, finding


async def test_a_discovered_server_that_went_away_is_reported_gone_for_ten_minutes_and_forgotten() -> None:
    async with engine() as fake:
        watching, finding = watching_found(fake.url, pid=100)
        attributes, _ = only(await watching.collect(at(0)))
        assert (attributes["source"], attributes["pid"]) == ("discovered", 100)
    finding.found.clear()
    for seconds in (10, 300, 600):
        attributes, _ = only(await watching.collect(at(seconds)))
        assert (attributes["state"], attributes["pid"]) == ("gone", None)
    assert (await watching.collect(at(601))).outcome is Outcome.ABSENT


async def test_a_discovered_server_that_comes_back_is_remembered_again() -> None:
    async with engine() as fake:
        watching, finding = watching_found(fake.url)
        await watching.collect(at(0))
        finding.found.clear()
        fake.stop()
        await watching.collect(at(500))
        await fake.start()
        await watching.collect(at(590))
        fake.stop()
        attributes, _ = only(await watching.collect(at(1100)))
        assert attributes["state"] == "gone"


async def test_a_configured_server_is_reported_gone_for_ever() -> None:
    async with engine() as fake:
        pass
    watching = collector(fake.url)
    for seconds in (0, 10_000, 100_000):
        attributes, _ = only(await watching.collect(at(seconds)))
        assert attributes["state"] == "gone"


async def test_a_search_that_fails_leaves_the_known_servers_watched() -> None:
    async with engine() as fake:
        watching, finding = watching_found(fake.url)
        await watching.collect(at(0))
        finding.broken = True
        seen = await watching.collect(at(10))
    assert seen.outcome is Outcome.PARTIAL
    assert "looking for inference servers failed" in seen.detail
    assert only(seen)[0]["state"] == "up"


async def test_more_servers_than_can_be_watched_are_counted() -> None:
    async with engine() as fake:
        watching, _ = watching_found(*(f"http://127.0.0.1:{fake.port}/{n}" for n in range(70)))
        seen = await watching.collect(at(0))
    assert len(seen.entities) == 64
    assert "6 servers" in seen.detail


async def test_the_process_start_stands_in_where_the_engine_names_none() -> None:
    async with engine(SGLANG) as fake:
        watching, _ = watching_found(fake.url, process_started_unix_seconds=START - 500)
        _, values = only(await watching.collect(at(0)))
    assert values["counters_since_unix_seconds"] == START - 500


async def test_counters_that_fell_begin_now_and_the_configuration_is_read_again() -> None:
    async with engine(SGLANG, server_info={"version": "1"}) as fake:
        watching, _ = watching_found(fake.url, process_started_unix_seconds=START - 500)
        await watching.collect(at(0))
        fake.pages["/metrics"] = (DATA / "sglang-healthy" / "0000.prom").read_bytes()
        fake.pages["/server_info"] = b'{"version": "2"}'
        attributes, values = only(await watching.collect(at(10)))
    assert values["counters_since_unix_seconds"] == START + 10
    assert attributes["version"] == "2"


async def test_the_configuration_is_read_once_a_minute_and_a_failure_forgets_nothing() -> None:
    async with engine(version={"version": "1"}) as fake:
        watching = collector(fake.url)
        for seconds in (0, 10, 59):
            await watching.collect(at(seconds))
        assert fake.asked.count("/version") == 1
        fake.pages["/version"] = b"{not json"
        attributes, _ = only(await watching.collect(at(60)))
        assert fake.asked.count("/version") == 2
    assert attributes["version"] == "1"
    assert attributes["config_read_at"] == at(0).wall.isoformat()


async def test_flags_fill_in_what_the_engine_does_not_say() -> None:
    async with engine() as fake:
        watching, _ = watching_found(fake.url, flags={"max_num_seqs": 8, "block_size": 16, "max_model_len": 2048})
        attributes, _ = only(await watching.collect(at(0)))
    assert attributes["config"]["max_num_seqs"] == 8
    assert attributes["config"]["block_size"] == 32  # the engine's own word
    assert attributes["max_model_len"] == 2048


async def test_a_listening_engine_is_found_and_scraped_in_one_run(tmp_path: Path) -> None:
    async with engine() as fake:
        holder = tmp_path / "100"
        (holder / "fd").mkdir(parents=True)
        (holder / "cmdline").write_bytes(b"vllm\0serve\0tiny\0--max-num-seqs\x002\0")
        (holder / "stat").write_text("100 (vllm) S 1 " + "0 " * 17 + "0 0\n")
        (holder / "fd" / "3").symlink_to("socket:[7]")
        (tmp_path / "net").mkdir()
        row = f"  0: 0100007F:{fake.port:04X} 00000000:0000 0A 0:0 00:0 0 0 0 7 1\n"
        (tmp_path / "net" / "tcp").write_text(f"  sl  local_address\n{row}")
        watching = EngineCollector(clock=StillClock(), proc_root=str(tmp_path), timeout_seconds=5.0)
        attributes, values = only(await watching.collect(at(0)))
        await watching.close()
    assert (attributes["state"], attributes["source"], attributes["pid"]) == ("up", "discovered", 100)
    assert attributes["config"]["max_num_seqs"] == 2
    assert values["requests_finished_total"] == 205


def busy(tokens: int) -> bytes:
    labels = '{engine="0",model_name="tiny"}'
    return f"vllm:num_requests_running{labels} 1\nvllm:generation_tokens_total{labels} {tokens}\n".encode()


async def test_a_request_that_gets_nowhere_makes_a_server_hung_and_its_next_token_up_again() -> None:
    models = {"data": [{"id": "tiny", "max_model_len": 4096}]}
    async with engine(busy(5), v1__models=models, health="ok") as fake:
        looking = collector(fake.url)
        states = [only(await looking.collect(at(second)))[0]["state"] for second in (0, 30, 60)]
        assert states == ["up", "up", "up"]
        hung = await looking.collect(at(61))
        attributes, values = only(hung)
        assert attributes["state"] == "hung"
        assert at(0).wall.isoformat(timespec="seconds") in attributes["state_detail"]
        assert hung.outcome is Outcome.PARTIAL
        assert (values["up_flag"], values["requests_running_count"]) == (1.0, 1.0)  # what it says is still worth having
        assert only(await looking.collect(at(90)))[0] == attributes  # the words stay, so nothing is announced anew
        fake.pages["/metrics"] = busy(6)
        assert only(await looking.collect(at(91)))[0]["state"] == "up"


async def test_a_server_whose_worker_died_is_unhealthy_while_its_metrics_still_answer() -> None:
    async with engine(HEALTHY, health="dead") as fake:
        fake.statuses["/health"] = "503 Service Unavailable"
        attributes, values = only(await collector(fake.url).collect(at(0)))
    assert attributes["state"] == "unhealthy"
    assert "503" in attributes["state_detail"]
    assert values["up_flag"] == 1.0


def sglang(*running: int, moved: int = 0) -> bytes:
    ranks = (f'sglang:num_running_reqs{{model_name="tiny",dp_rank="{rank}"}} {n}\n' for rank, n in enumerate(running))
    tokens = f'sglang:realtime_tokens_total{{model_name="tiny",mode="decode",dp_rank="0"}} {moved}\n'
    return ("".join(ranks) + tokens).encode()


async def test_an_engine_is_never_asked_to_work_not_even_before_it_is_called_hung() -> None:
    async with engine(sglang(2), health="ok", health_generate="ok", server_info={"context_length": 2048}) as fake:
        looking = collector(fake.url)
        states = [only(await looking.collect(at(second)))[0]["state"] for second in (0, 60, 61, 200)]
    assert states == ["up", "up", "hung", "hung"]
    assert set(fake.asked) == {"/metrics", "/model_info", "/server_info"}  # its /health makes a token too


async def test_an_idle_sglang_that_writes_its_zeros_half_a_minute_late_is_never_hung() -> None:
    async with engine(sglang(2), health="ok", server_info={"context_length": 2048}) as fake:
        looking = collector(fake.url)
        for second in range(0, 240, 10):
            fake.pages["/metrics"] = sglang(2) if second <= 30 else sglang(0)
            assert only(await looking.collect(at(second)))[0]["state"] == "up"


@pytest.mark.parametrize(("together", "state"), [(True, "up"), (False, "hung")])
async def test_a_rank_that_keeps_old_gauges_is_not_hung_while_the_others_of_its_step_move(
    together: bool, state: str
) -> None:
    said = {"context_length": 2048, "enable_dp_attention": together}
    async with engine(server_info=said) as fake:
        looking = collector(fake.url)
        for second in range(0, 100, 10):
            fake.pages["/metrics"] = sglang(3, 1, moved=second)
            attributes, _ = only(await looking.collect(at(second)))
    assert attributes["state"] == state


async def test_ranks_that_step_together_are_hung_together() -> None:
    async with engine(sglang(3, 1), server_info={"context_length": 2048, "enable_dp_attention": True}) as fake:
        looking = collector(fake.url)
        states = [only(await looking.collect(at(second)))[0]["state"] for second in (0, 60, 61)]
    assert states == ["up", "up", "hung"]


async def test_a_health_check_that_does_not_answer_leaves_a_server_up() -> None:
    async with engine(HEALTHY) as fake:
        fake.pages["/health"] = None
        attributes, _ = only(await collector(fake.url, timeout_seconds=0.3).collect(at(0)))
    assert attributes["state"] == "up"
