"""From an engine that becomes bad to somebody's webhook, through the agent, the door, Postgres and both jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.vllm_server import FakeVllm
from tests.support import alerting as support
from tests.support.alerting import Alerting, alerting
from tests.support.crowd import Crowd
from tests.support.up import eventually, folder_for_postgres
from tests.support.vllm import MARKS, serving

# Ten good requests a second for half a minute: the guard knows the engine.
ENOUGH_EVENTS = 100.0


@contextmanager
def fake_engine() -> Iterator[tuple[FakeVllm, str]]:
    engine = FakeVllm(requests_per_second=10.0)
    server = engine.serve()
    try:
        yield engine, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_latency_that_becomes_bad_is_told_to_a_webhook_and_so_is_its_end() -> None:
    with folder_for_postgres() as folder, fake_engine() as (engine, target), alerting(folder, target) as rig:
        rig.configure("slo_violated", slo=support.SLO)
        rig.wait_for_events(ENOUGH_EVENTS)
        assert rig.hook.taken == [], "nothing is told of an engine that keeps its objective"
        injected = support.now()
        engine.bad = 0.5
        at, alert = rig.wait_until_told("slo_violated", "firing")
        assert at > injected
        assert alert["labels"]["slo"] == "ttft"
        engine.bad = 0.0
        _, over = rig.wait_until_told("slo_violated", "resolved", within_seconds=240)
        assert over["fingerprint"] == alert["fingerprint"]
        assert over["startsAt"] == alert["startsAt"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_control_plane_killed_between_fired_and_sent_tells_it_once_after_it_comes_back() -> None:
    with folder_for_postgres() as folder, fake_engine() as (engine, target), alerting(folder, target) as rig:
        rig.configure("slo_violated", slo=support.SLO)
        rig.wait_for_events(ENOUGH_EVENTS)
        rig.hook.status = 500
        engine.bad = 0.5
        eventually(lambda: rig.hook.refused, within_seconds=90, what="the first attempt")
        (alert,) = [a for a in rig.up.get("/alerts?state=firing")["items"] if a["rule"] == "slo_violated"]
        rig.up.kill_everything()
        rig.hook.status = 200
        rig.up.start().wait_for_samples()
        _, told = rig.wait_until_told("slo_violated", "firing", within_seconds=120)
        assert told["startsAt"] == alert["fired_at"]
        delivery = eventually(lambda: _delivered(rig), what="the note that it was taken")
        assert (delivery["waiting"], delivery["given_up"]) == (0, 0)
        ids = [headers["webhook-id"] for _, headers, _ in rig.hook.taken]
        assert len(ids) == len(set(ids)), "none was taken twice"
        firing = [b for _, _, b in rig.hook.taken if [a["status"] for a in b["alerts"]] == ["firing"]]
        assert len(firing) == 1, "what was fired once is told once"


def _delivered(rig: Alerting) -> dict[str, object] | None:
    (delivery,) = rig.up.get("/alerts/rules")["delivery"]
    return delivery if delivery["sent"] else None


@pytest.mark.parametrize("_", [pytest.param(None, marks=MARKS)])
def test_a_real_vllm_that_is_crowded_misses_its_objective_and_a_webhook_is_told(_: None) -> None:
    limits = ("--max-num-seqs", "2")
    with serving(*limits) as (base, _process), folder_for_postgres() as folder, alerting(folder, base) as rig:
        rig.configure("slo_violated", slo=support.SLO)
        with Crowd(base, 1, tokens=4):
            rig.wait_for_events(ENOUGH_EVENTS)
            assert rig.told("slo_violated", "firing") is None
            injected = support.now()
            with Crowd(base, 24, tokens=64):
                at, alert = rig.wait_until_told("slo_violated", "firing")
        assert at > injected
        assert alert["labels"]["engine"] == "vllm"
