"""What an API server does on its bad days: conflicts, errors, resets, old reads, refusals. Nothing is done by half."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.model.rollout import WHOLE, Effect, Intent, Plan, Strategy
from control_plane.rollouts.actuators import kubernetes_api
from control_plane.rollouts.actuators.base import Refused, Stale, Unreachable
from control_plane.rollouts.actuators.kubernetes import Kubernetes
from control_plane.rollouts.actuators.kubernetes_api import KubernetesApi
from tests.fakes.kubernetes_api import FakeKubernetes, Fault, fake_kubernetes
from tests.support.kubernetes import api_of, cluster

PLAN = Plan(strategy=Strategy.CANARY, shares=(500, WHOLE), replicas=2)


@dataclass(slots=True)
class Site:
    """An actuator and its API server."""

    fake: FakeKubernetes
    actuator: Kubernetes
    namespace: str

    @property
    def route(self) -> str:
        return f"/apis/gateway.networking.k8s.io/v1/namespaces/{self.namespace}/httproutes/chat"

    def weights(self) -> list[int]:
        return [each["weight"] for each in self.fake.objects[self.route]["spec"]["rules"][1]["backendRefs"]]

    def set_weights(self, blue: int, green: int) -> None:
        """Somebody else does."""
        rules = self.fake.objects[self.route]["spec"]["rules"]
        rules[1]["backendRefs"][0]["weight"], rules[1]["backendRefs"][1]["weight"] = blue, green


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Two replicas of blue, none of green."""
    with fake_kubernetes() as fake:
        api = api_of(fake.url)
        async with cluster(api) as target:
            made = Site(fake, Kubernetes(target, api, candidate_is_green=True), target.namespace)
            while (await made.actuator.observe()).stable_ready != 2:
                await asyncio.sleep(0.02)
            yield made


def intent(effect: Effect, value: int) -> Intent:
    return Intent(key="r/1/x", effect=effect, value=value, decided_at=datetime(2026, 3, 4, tzinfo=UTC))


def on(method: str, part: str, what: int | str) -> Fault:
    return lambda m, path: what if m == method and part in path else None


@pytest.mark.parametrize("what", [500, 503, 504, 429, "reset"])
async def test_a_server_that_does_not_answer_is_unreachable_and_nothing_is_set(site: Site, what: int | str) -> None:
    seen = await site.actuator.observe()
    site.fake.fault = on("PATCH", "httproutes", what)
    with pytest.raises(Unreachable):
        await site.actuator.carry_out(intent(Effect.SET_SHARE, 500), seen=seen)
    site.fake.fault = on("GET", "deployments", what)
    with pytest.raises(Unreachable):
        await site.actuator.observe()
    assert site.weights() == [WHOLE, 0]


async def test_a_server_that_hangs_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_api, "ANSWER_SECONDS", 0.2)
    site.fake.fault = on("GET", "httproutes", "hang")
    with pytest.raises(Unreachable):
        await site.actuator.observe()


async def test_a_conflict_is_no_failure_but_a_reason_to_look_again(site: Site) -> None:
    seen = await site.actuator.observe()
    site.fake.fault = on("PATCH", "httproutes", 409)
    with pytest.raises(Stale):
        await site.actuator.carry_out(intent(Effect.SET_SHARE, 500), seen=seen)


async def test_an_old_read_sets_nothing_over_what_somebody_has_set(site: Site) -> None:
    """The server shows the weights of before; the change tests them where they are stored."""
    seen = await site.actuator.observe()
    await site.actuator.carry_out(intent(Effect.SET_SHARE, 700), seen=seen)
    site.fake.fault = on("GET", "httproutes", "stale")
    assert (await site.actuator.observe()).share == 0
    with pytest.raises(Stale):
        await site.actuator.carry_out(intent(Effect.SET_SHARE, 500), seen=seen)
    assert site.weights() == [WHOLE - 700, 700]


async def test_the_way_back_does_not_care_what_somebody_has_set(site: Site) -> None:
    site.set_weights(1, 3)
    assert (await site.actuator.observe()).share == 7500
    await site.actuator.carry_out(intent(Effect.SET_SHARE, 0), seen=None)
    assert site.weights() == [WHOLE, 0]


async def test_a_route_that_was_rebuilt_meanwhile_is_not_touched(site: Site) -> None:
    await site.actuator.carry_out(intent(Effect.SET_SHARE, 700), seen=await site.actuator.observe())
    rules = site.fake.objects[site.route]["spec"]["rules"]
    rules[1]["backendRefs"].reverse()  # and the reads are of before
    site.fake.fault = on("GET", "httproutes", "stale")
    with pytest.raises(Stale):
        await site.actuator.carry_out(intent(Effect.SET_SHARE, 0), seen=None)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_missing_right_is_refused_and_known_before_it_begins(site: Site, status: int) -> None:
    site.fake.fault = on("PATCH", "scale", status)
    (problem,) = await site.actuator.preflight(PLAN)
    assert str(status) in problem
    with pytest.raises(Refused):
        await site.actuator.carry_out(intent(Effect.ENSURE_CANDIDATE, 1), seen=None)


async def test_asking_what_speaks_against_a_plan_changes_nothing(site: Site) -> None:
    before = len(site.fake.patches)
    assert list(await site.actuator.preflight(PLAN)) == []
    assert [path for path, _ in site.fake.patches[before:] if not path.endswith("/status")] == []


async def test_a_quota_without_room_speaks_against_a_plan(site: Site) -> None:
    where = f"/api/v1/namespaces/{site.namespace}/resourcequotas/gpus"
    site.fake.objects[where] = {
        "metadata": {"name": "gpus"},
        "status": {"hard": {"requests.nvidia.com/gpu": "3"}, "used": {"requests.nvidia.com/gpu": "2"}},
    }  # fmt: skip
    (problem,) = await site.actuator.preflight(PLAN)
    assert "allows 3 requests.nvidia.com/gpu, 2 are used and 2 are needed" in problem


async def test_a_status_of_an_earlier_generation_is_not_believed(site: Site) -> None:
    path = f"/apis/apps/v1/namespaces/{site.namespace}/deployments/green"
    site.fake.fault = on("PATCH", "/status", 503)  # its controller does not come through
    await site.actuator.carry_out(intent(Effect.ENSURE_CANDIDATE, 2), seen=None)
    found = await site.actuator.observe()
    assert site.fake.objects[path]["spec"]["replicas"] == 2
    assert (found.candidate_ready, found.candidate_running) == (None, None)


async def test_more_replicas_than_were_asked_for_stay(site: Site) -> None:
    await site.actuator.carry_out(intent(Effect.ENSURE_CANDIDATE, 2), seen=None)
    await site.actuator.carry_out(intent(Effect.ENSURE_CANDIDATE, 1), seen=None)
    path = f"/apis/apps/v1/namespaces/{site.namespace}/deployments/green"
    assert site.fake.objects[path]["spec"]["replicas"] == 2


async def test_a_gateway_that_has_not_taken_the_route_yet_is_waited_for(site: Site) -> None:
    route = site.fake.objects[site.route]
    route["status"] = {"parents": [{"conditions": [{"type": "Accepted", "observedGeneration": 1}]}]}
    assert (await site.actuator.observe()).share_kept
    await site.actuator.carry_out(intent(Effect.SET_SHARE, 500), seen=await site.actuator.observe())
    found = await site.actuator.observe()
    assert (found.share, found.share_kept) == (500, False)


async def test_a_route_of_another_shape_speaks_against_a_plan(site: Site) -> None:
    references = site.fake.objects[site.route]["spec"]["rules"][1]["backendRefs"]
    references.append({"name": "red", "weight": 1})
    (problem,) = await site.actuator.preflight(PLAN)
    assert "one rule that divides" in problem
    del references[2], references[0]["weight"]
    (problem,) = await site.actuator.preflight(PLAN)
    assert "needs a weight" in problem


@pytest.mark.parametrize("name", ["", "a/b", "a b", "../x", "x" * 300, "ü", "A"])
async def test_a_name_that_no_object_has_is_refused(site: Site, name: str) -> None:
    target = replace(site.actuator._target, route=name)
    with pytest.raises(Refused):
        Kubernetes(target, site.actuator._api, candidate_is_green=True)


def test_no_way_into_a_cluster_is_said(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no way to Kubernetes"):
        KubernetesApi.of(tmp_path / "none")
    with pytest.raises(Refused, match="no way to Kubernetes"):
        KubernetesApi.of(None)  # this process runs in no cluster


async def test_a_kubeconfig_leads_to_its_server(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: '{site.fake.url}'}}}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: secret}}]\n"
    )
    assert (await KubernetesApi.of(file).get(site.route))["metadata"]["name"] == "chat"
