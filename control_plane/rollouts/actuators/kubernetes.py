"""Two Deployments behind an HTTPRoute of the Gateway API, blue and green: the route's weights divide the traffic.

Whichever has all traffic is the stable version; the other is the candidate of the next rollout. A candidate is brought
by its number of replicas and taken away by none; its template is its owner's. The weights are changed only where they
still are as they were seen: the API server checks that and changes them in one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from control_plane.model.rollout import WHOLE, Effect, Intent, Observed, Plan
from control_plane.rollouts.actuators.base import Refused, Stale
from control_plane.rollouts.actuators.kubernetes_api import KubernetesApi

_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesTarget:
    """What one HTTPRoute divides. Each side is a Deployment and the Service before it, both of this name."""

    namespace: str
    route: str
    blue: str
    green: str
    most_replicas: int  # of a side; whatever a plan says, never more


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """Where the route has the two weights, and what they are."""

    blue: int
    green: int
    blue_path: str
    green_path: str
    taken: bool  # the gateways have taken this route as it is

    @property
    def green_share(self) -> int | None:
        """This will give green's share; None where neither gets anything."""
        together = self.blue + self.green
        return round(WHOLE * self.green / together) if together else None


class Kubernetes:
    """One rollout's view of a target."""

    def __init__(self, target: KubernetesTarget, api: KubernetesApi, *, candidate_is_green: bool) -> None:
        """Raises Refused for names that no object has."""
        for name in (target.namespace, target.route, target.blue, target.green):
            if not name or len(name) > 253 or not _NAME.issuperset(name):
                raise Refused(f"{name[:64]!r} is no name of an object")
        self._target, self._api, self._green = target, api, candidate_is_green
        self.candidate = target.green if candidate_is_green else target.blue
        self.stable = target.blue if candidate_is_green else target.green

    def _deployment(self, name: str) -> str:
        return f"/apis/apps/v1/namespaces/{self._target.namespace}/deployments/{name}"

    @property
    def _route(self) -> str:
        kind = "/apis/gateway.networking.k8s.io/v1/namespaces"
        return f"{kind}/{self._target.namespace}/httproutes/{self._target.route}"

    async def preflight(self, plan: Plan) -> Sequence[str]:
        """This will say what speaks against a plan."""
        try:
            candidate = await self._api.get(self._deployment(self.candidate))
            stable = await self._api.get(self._deployment(self.stable))
            _weights(await self._api.get(self._route), self._target)
            # May we, and does admission let us? Nothing is changed.
            await self._scale(self.candidate, plan.replicas, dry_run=True)
            await self._api.patch(self._route, {"metadata": {"annotations": {}}}, dry_run=True)
            quotas = await self._api.get(f"/api/v1/namespaces/{self._target.namespace}/resourcequotas")
        except (Refused, Stale) as error:
            return (str(error),)
        problems = list(_beyond_quota(candidate, plan.replicas, quotas))
        if plan.replicas > self._target.most_replicas:
            problems.append(f"a side has {self._target.most_replicas} replicas at most, and {plan.replicas} are needed")
        ready = _ready(stable)
        if (ready or 0) < plan.replicas:
            there = "an unknown number of" if ready is None else str(ready)
            problems.append(f"{there} replicas of {self.stable} are ready, and {plan.replicas} are needed")
        return problems

    async def observe(self) -> Observed:
        """This will read what is. How many requests are under way Kubernetes does not know."""
        weights = _weights(await self._api.get(self._route), self._target)
        candidate = await self._api.get(self._deployment(self.candidate))
        stable = await self._api.get(self._deployment(self.stable))
        green = weights.green_share
        return Observed(
            share=None if green is None else self._of_candidate(green),
            share_kept=weights.taken,
            candidate_ready=_ready(candidate),
            candidate_running=_running(candidate),
            candidate_in_flight=0 if _running(candidate) == 0 else None,
            stable_ready=_ready(stable),
            stable_running=_running(stable),
        )

    def _of_candidate(self, green: int) -> int:
        return green if self._green else WHOLE - green

    async def carry_out(self, intent: Intent, *, seen: Observed | None) -> None:
        """This will do what was decided."""
        match intent.effect:
            case Effect.SET_SHARE:
                await self._set_share(intent.value, seen)
            case Effect.ENSURE_CANDIDATE:
                if intent.value > self._target.most_replicas:
                    raise Refused(f"a side has {self._target.most_replicas} replicas at most")
                wanted = (await self._api.get(self._deployment(self.candidate)))["spec"].get("replicas", 1)
                if wanted < intent.value:  # never fewer: somebody may have given it more
                    await self._scale(self.candidate, intent.value)
            case Effect.RETIRE_STABLE:
                await self._scale(self.stable, 0)
            case Effect.REMOVE_CANDIDATE:
                await self._scale(self.candidate, 0)
            case _:
                assert_never(intent.effect)

    async def _scale(self, name: str, replicas: int, *, dry_run: bool = False) -> None:
        await self._api.patch(f"{self._deployment(name)}/scale", {"spec": {"replicas": replicas}}, dry_run=dry_run)

    async def _set_share(self, share: int, seen: Observed | None) -> None:
        green = share if self._green else WHOLE - share
        now = _weights(await self._api.get(self._route), self._target)
        current = None if now.green_share is None else self._of_candidate(now.green_share)
        if seen is not None and current not in (seen.share, share):
            raise Stale(f"the candidate's share is {current}, and was another when this was decided")
        # Also on the way back: a route that somebody rebuilt meanwhile has other services in these places.
        changes: list[dict[str, Any]] = [
            {"op": "test", "path": now.green_path.removesuffix("weight") + "name", "value": self._target.green},
            {"op": "test", "path": now.blue_path.removesuffix("weight") + "name", "value": self._target.blue},
        ]
        if seen is not None:
            changes += [
                {"op": "test", "path": now.green_path, "value": now.green},
                {"op": "test", "path": now.blue_path, "value": now.blue},
            ]
        await self._api.patch(
            self._route,
            [
                *changes,
                {"op": "add", "path": now.green_path, "value": green},
                {"op": "add", "path": now.blue_path, "value": WHOLE - green},
            ],
        )


def _weights(route: Mapping[str, Any], target: KubernetesTarget) -> _Weights:
    """This will find the one rule that divides between both sides, and nothing else. Raises Refused."""
    places = []
    for number, rule in enumerate(route.get("spec", {}).get("rules", [])):
        names = [reference.get("name") for reference in rule.get("backendRefs", [])]
        if {target.blue, target.green} <= set(names):
            places.append((number, rule["backendRefs"], names))
    if len(places) != 1 or len(places[0][2]) != 2:
        raise Refused(f"the route {target.route} needs one rule that divides between {target.blue} and {target.green}")
    number, references, names = places[0]
    if not all(isinstance(reference.get("weight"), int) for reference in references):
        raise Refused(f"the route {target.route} needs a weight at {target.blue} and one at {target.green}")
    blue, green = names.index(target.blue), names.index(target.green)
    where = f"/spec/rules/{number}/backendRefs"
    return _Weights(
        blue=references[blue]["weight"], green=references[green]["weight"], blue_path=f"{where}/{blue}/weight",
        green_path=f"{where}/{green}/weight", taken=_taken(route),
    )  # fmt: skip


def _taken(route: Mapping[str, Any]) -> bool:
    """Each gateway says which generation of the route its word is about; one that says nothing is not waited for."""
    generation = route.get("metadata", {}).get("generation", 0)
    said = [
        condition.get("observedGeneration", 0)
        for parent in route.get("status", {}).get("parents", [])
        for condition in parent.get("conditions", [])
        if condition.get("type") == "Accepted"
    ]
    return all(number >= generation for number in said)


def _ready(deployment: Mapping[str, Any]) -> int | None:
    """None while the status is of an earlier generation: its numbers are of what was asked before."""
    status = deployment.get("status", {})
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return None
    return int(status.get("readyReplicas", 0))


def _running(deployment: Mapping[str, Any]) -> int | None:
    status = deployment.get("status", {})
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return None
    return int(status.get("replicas", 0))


def _beyond_quota(deployment: Mapping[str, Any], replicas: int, quotas: Mapping[str, Any]) -> Sequence[str]:
    """This will say which quota has no room for so many replicas; of GPUs and of pods, which are whole numbers."""
    more = max(0, replicas - deployment["spec"].get("replicas", 1))
    containers = deployment["spec"].get("template", {}).get("spec", {}).get("containers", [])
    needed = {"pods": more}
    for container in containers:
        resources = container.get("resources", {})
        for name, amount in {**resources.get("limits", {}), **resources.get("requests", {})}.items():
            if "/" in name and str(amount).isdigit():
                needed[f"requests.{name}"] = needed.get(f"requests.{name}", 0) + int(amount) * more
    found = []
    for quota in quotas.get("items", []):
        status = quota.get("status", {})
        for name, most in status.get("hard", {}).items():
            used = str(status.get("used", {}).get(name, "0"))
            if name in needed and str(most).isdigit() and used.isdigit() and int(used) + needed[name] > int(most):
                where = quota["metadata"]["name"]
                found.append(f"the quota {where} allows {most} {name}, {used} are used and {needed[name]} are needed")
    return found
