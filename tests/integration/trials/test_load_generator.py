"""The load generator against a server that streams as vLLM does, with every way in which a request can fail."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from control_plane.model.errors import InvalidRequest
from control_plane.runtime.clock import SystemClock
from control_plane.trials.load import arrivals, report
from control_plane.trials.load.asking import served_models
from control_plane.trials.load.connection import Address
from control_plane.trials.load.lengths import Fixed
from control_plane.trials.load.plan import LoadPlan, opened, run_load
from control_plane.trials.load.prompts import Measure
from control_plane.trials.load.records import LoadRun, Outcome
from control_plane.trials.load.requesting import Api, Client, Job, Target, body
from control_plane.trials.load.summary import Objective, summarize
from tests.fakes.inference_server import Behaviour, InferenceServer
from tests.support.up import free_ports

CLOCK = SystemClock()


def target(server: InferenceServer, **changed: object) -> Target:
    return Target(address=Address.parse(server.url), model="tiny", **changed)  # type: ignore[arg-type]


def plan(count: int = 30, seconds: float = 0.3, **changed: object) -> LoadPlan:
    due = arrivals.arrivals(arrivals.constant(count / seconds, seconds), variation=0, random=np.random.default_rng(1))
    given = {"prompt_tokens": Fixed(tokens=40), "output_tokens": Fixed(tokens=6), "timeout_seconds": 30.0} | changed
    return LoadPlan(due_seconds=due, seconds=seconds, **given)  # type: ignore[arg-type]


async def loaded(server: InferenceServer, asked: LoadPlan | None = None, **changed: object) -> LoadRun:
    return await run_load(asked or plan(), target(server, **changed), CLOCK, stop=asyncio.Event())


@pytest.mark.parametrize("api", list(Api))
async def test_every_request_is_seen_through_and_counted_by_the_server(api: Api) -> None:
    how = Behaviour(tokens_per_word=1.5, tokens_around=9, itl_seconds=0.001)
    async with InferenceServer(how) as server:
        run = await loaded(server, api=api)
        assert Counter(r.outcome for r in run.records) == {Outcome.COMPLETED: 30}
        assert {(r.output_tokens, r.chunks, r.finish_reason) for r in run.records} == {(6, 6, "length")}
        assert all(abs((r.prompt_tokens or 0) - 40) <= 1 for r in run.records), "the prompt is as long as asked"
        assert run.gaps.total == 30 * 5
        load = [seen.body for seen in server.seen[2:]]
        texts = [b["messages"][0]["content"] if api is Api.CHAT else b["prompt"] for b in load]
        assert len(set(texts)) == 30
        assert {(b["max_tokens"], b["stream"], b["ignore_eos"], b["temperature"]) for b in load} == {(6, True, True, 0)}
    summary = summarize(run, Objective())
    assert summary.output_tokens_mean == 6
    assert json.dumps(report.as_values(summary))


@pytest.mark.parametrize(
    ("fault", "outcome", "status", "words"),
    [
        ("http_500", Outcome.FAILED, 500, "out of luck"),
        ("http_429", Outcome.REJECTED, 429, "too many"),
        ("cut", Outcome.CUT, 200, ""),
        ("close", Outcome.REFUSED, None, "closed"),
        ("malformed", Outcome.MALFORMED, 200, "JSON"),
        ("empty", Outcome.EMPTY, 200, "without a token"),
        ("not_a_stream", Outcome.MALFORMED, 200, "all at once"),
        ("error_event", Outcome.FAILED, 200, "engine died"),
        ("hang", Outcome.TIMED_OUT, 200, "within"),
    ],
)
async def test_each_failure_is_kept_as_what_it_is(fault: str, outcome: Outcome, status: int | None, words: str) -> None:
    def choose(number: int, _: object) -> Behaviour:
        return Behaviour(fault=fault if number > 2 and number % 3 == 0 else None)

    async with InferenceServer(choose=choose) as server:
        run = await loaded(server, plan(timeout_seconds=1.0 if fault == "hang" else 30.0))
    assert Counter(r.outcome for r in run.records) == {Outcome.COMPLETED: 20, outcome: 10}
    for record in run.records:
        if record.outcome is outcome:
            assert record.http_status == status
            assert words in (record.detail or "")
            assert record.e2e_seconds is None


@pytest.mark.parametrize("fault", ["no_done", "no_usage", "goodbye"])
async def test_what_other_engines_leave_out_is_no_failure(fault: str) -> None:
    async with InferenceServer(Behaviour(fault=fault)) as server:
        run = await loaded(server)
    assert Counter(r.outcome for r in run.records) == {Outcome.COMPLETED: 30}
    if fault == "no_usage":
        assert any("chunks were counted" in doubt for doubt in summarize(run, Objective()).doubts)


async def test_a_server_that_does_not_know_ignore_eos_is_asked_without() -> None:
    async with InferenceServer(Behaviour(reject_ignore_eos=True)) as server:
        run = await loaded(server)
        assert "ignore_eos" not in server.seen[-1].body
    assert Counter(r.outcome for r in run.records) == {Outcome.COMPLETED: 30}


async def test_a_slow_server_is_not_asked_less() -> None:
    """One at a time, 50 ms each, 100 a second: whoever comes last has waited for all the others."""
    async with InferenceServer(Behaviour(slots=1, prefill_seconds=0.05)) as server:
        run = await loaded(server, plan(count=30, seconds=0.3))
    ordered = sorted(run.records, key=lambda r: r.number)
    assert all(r.sent_seconds is not None and r.ended_seconds > 0.05 * (r.number + 1) - 0.01 for r in ordered)
    assert (ordered[-1].ttft_seconds or 0) > 30 * 0.05 - 0.3 - 0.01


async def test_requests_beyond_the_limit_count_as_failed_and_not_as_absent() -> None:
    async with InferenceServer(Behaviour(slots=1, prefill_seconds=0.1)) as server:
        run = await loaded(server, plan(most_in_flight=5))
    outcomes = Counter(r.outcome for r in run.records)
    assert outcomes[Outcome.NOT_SENT] + outcomes[Outcome.COMPLETED] == 30
    assert outcomes[Outcome.NOT_SENT] > 0
    assert any("not sent" in doubt for doubt in summarize(run, Objective()).doubts)


async def test_stopping_ends_what_is_under_way_and_keeps_what_was_measured() -> None:
    async with InferenceServer(Behaviour(itl_seconds=0.002)) as server:
        stop = asyncio.Event()
        asked = plan(count=3000, seconds=300.0)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(run_load(asked, target(server), CLOCK, stop=stop))
            while len(server.seen) < 8:
                await asyncio.sleep(0.01)
            server.behaviour = Behaviour(fault="hang")
            while server.running < 2:
                await asyncio.sleep(0.01)
            stop.set()
        run = running.result()
        while server.running:
            await asyncio.sleep(0.01)  # the server saw that nobody listens any more
    assert run.stopped
    outcomes = Counter(r.outcome for r in run.records)
    assert outcomes[Outcome.COMPLETED] >= 4
    assert outcomes[Outcome.CANCELLED] >= 2
    assert summarize(run, Objective()).stopped


async def test_a_server_that_is_not_there_is_told_before_any_load() -> None:
    (port,) = free_ports(1)
    nowhere = Target(address=Address.parse(f"http://127.0.0.1:{port}"), model="tiny")
    with pytest.raises(InvalidRequest, match="refused"):
        await run_load(plan(), nowhere, CLOCK, stop=asyncio.Event())
    with pytest.raises(InvalidRequest, match="no server answers"):
        await served_models(nowhere, CLOCK)


async def test_a_wrong_model_is_told_in_the_servers_words() -> None:
    async with InferenceServer() as server:
        wrong = Target(address=Address.parse(server.url), model="huge")
        with pytest.raises(InvalidRequest, match="does not exist"):
            await run_load(plan(), wrong, CLOCK, stop=asyncio.Event())
        assert await served_models(wrong, CLOCK) == ["tiny"]


async def test_a_server_that_dies_refuses_what_comes_after() -> None:
    async with InferenceServer() as server:
        client, _ = await opened(target(server), CLOCK, timeout_seconds=5)
        began = CLOCK.monotonic()
        job = Job(number=0, due_seconds=0.0, body=body(client.target, "hello", 3))
        assert (await client.send(job, began=began))[0].outcome is Outcome.COMPLETED
    for _ in range(2):
        assert (await client.send(job, began=CLOCK.monotonic()))[0].outcome is Outcome.REFUSED
    client.close()


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://", "http://user:secret@host", "http://a/?b", "http://a:99999", "http://[::1"]
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Address.parse(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "netloc", "path"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8000", ""),
        ("https://host", "host:443", ""),
        ("http://host/v1/", "host:80", ""),
        ("http://[::1]:8000/models/a/", "[::1]:8000", "/models/a"),
    ],
)
def test_addresses_are_read_as_people_write_them(url: str, netloc: str, path: str) -> None:
    address = Address.parse(url)
    assert (address.netloc, address.path) == (netloc, path)


async def test_a_key_goes_into_its_header_and_into_no_words() -> None:
    async with InferenceServer() as server:
        keyed = target(server, api_key="very-secret")
        run = await run_load(plan(count=2), keyed, CLOCK, stop=asyncio.Event())
        assert all(c.headers["authorization"] == "Bearer very-secret" for c in server.connections if c.headers)
    assert "very-secret" not in repr(keyed) + repr(run)
    with pytest.raises(InvalidRequest):
        Client(target(server, api_key="a\r\nX: y"), CLOCK, timeout_seconds=1)


async def test_the_measure_of_a_server_that_does_not_count_is_words() -> None:
    async with InferenceServer(Behaviour(fault="no_usage")) as server:
        _, measure = await opened(target(server), CLOCK, timeout_seconds=5)
    assert measure == Measure()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "control_plane", "load", *arguments], capture_output=True, text=True, timeout=100
    )


@pytest.mark.slow
async def test_the_command_line_says_what_came_of_it() -> None:
    quick = (
        "--seconds",
        "1",
        "--warm-up",
        "0.2",
        "--rate",
        "100",
        "--output-tokens",
        "5",
        "--prompt-tokens",
        "20",
        "--variation",
        "0",
    )
    async with InferenceServer() as server:
        said = await asyncio.to_thread(command, server.url, *quick, "--ttft", "30")
        assert said.returncode == 0, said.stderr
        assert "80 completed" in said.stdout
        broken = await asyncio.to_thread(command, server.url, *quick, "--ttft", "0.000001", "--json")
        assert broken.returncode == 1
        assert json.loads(broken.stdout)["good_ratio"]["value"] == 0
        found = await asyncio.to_thread(
            command, server.url, *quick, "--e2e", "30", "--find-highest-rate", "--most-rate", "200", "--json"
        )
        assert json.loads(found.stdout)["highest_rate"] == 200
        async with InferenceServer(Behaviour(wrong_share=0.5)) as other:
            wrong = await asyncio.to_thread(command, other.url, *quick, "--against", server.url, "--words")
            assert wrong.returncode == 1
            assert "words FAIL" in wrong.stdout
            little = await asyncio.to_thread(command, server.url, *quick, "--against", server.url, "--json")
            assert little.returncode == 3
            assert json.loads(little.stdout)["verdict"] == "inconclusive"
        refused = await asyncio.to_thread(command, server.url, "--output-tokens", "many")
        assert refused.returncode == 2
        assert "no length in tokens" in refused.stderr
