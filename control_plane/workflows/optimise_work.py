"""What a workflow's steps do: look, ask policies, choose what rails allow, say what would be done, and measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.decisions import ledger
from control_plane.decisions.policies.facts import HOURS_A_MONTH
from control_plane.decisions.rails import RESTARTING, RailSettings, Situation, refused, waves
from control_plane.model.decision import Kept, RecommendationState
from control_plane.model.entity import EntityKind
from control_plane.model.recommendation import (
    Doing,
    Effect,
    Interval,
    Occasion,
    Recommendation,
    RecommendationKind,
    Risk,
)
from control_plane.model.scaling import Because, NoAction
from control_plane.runtime.clock import Clock
from control_plane.stages import live_servers
from control_plane.stages.keeping import keep
from control_plane.stages.live_servers import LiveServer
from control_plane.stages.live_services import BIN, services
from control_plane.stages.recommending import FLEET, Limits, outcomes, ran
from control_plane.storage import recommendations
from control_plane.storage.readings import Dictionaries, Selection
from control_plane.storage.session import Database

MOST_RANKED = 20  # each is asked of the rails, with what is known at that moment
KINDS = tuple(kind for kind in RecommendationKind if kind not in ("lmcache", "scale_to_zero"))


class OptimiseWork:
    """The steps of the optimise workflow. Nothing here touches a server: execution says what would be done."""

    def __init__(
        self, database: Database, dictionaries: Dictionaries, clock: Clock, rails: RailSettings | None = None
    ) -> None:
        """`rails` is what the operator adds to those that always hold."""
        self._database, self._dictionaries, self._clock = database, dictionaries, clock
        self._rails = rails or RailSettings()

    async def collect(self, asked: dict[str, Any]) -> dict[str, Any]:
        """This will count the servers in scope by how they are."""
        found = await self._load(asked)
        return {"servers": len(found), "serving": sum(server.serves for server in found)}

    async def analyse(self, asked: dict[str, Any]) -> dict[str, Any]:
        """This will count what binds them."""
        found = await self._load(asked)
        return {"bottlenecks": Counter(str(s.state.tuned.bottleneck) for s in found if s.state.tuned is not None)}

    async def find(self, asked: dict[str, Any]) -> list[int]:
        """This will ask the policies of the kinds that are asked for."""
        ids = []
        for kind in asked.get("kinds") or KINDS:
            for outcome in await outcomes(
                self._database, self._dictionaries, RecommendationKind(kind), _selection(asked), self._clock.now(),
                limits=Limits(),
            ):  # fmt: skip
                if isinstance(outcome.found, Recommendation):
                    kept = await keep(self._database, outcome, outcome.found, self._clock.now())
                    ids.append(kept.recommendation_id)
        return list(dict.fromkeys(ids))

    async def predict(self, found: list[int]) -> dict[str, Any]:
        """This will note what each promises."""
        kept = [await self._get(each) for each in found]
        return {str(each.recommendation_id): each.body["effect"] for each in kept}

    async def rank(self, found: list[int]) -> list[int]:
        """This will put what saves most, at little risk, at the front, and leave out what rails refuse now."""
        kept = [await self._get(each) for each in found]
        order = {"low": 0, "medium": 1, "high": 2}
        kept.sort(key=lambda k: (order.get(k.body["risk_level"], 2), -(k.saved_usd_per_month or 0.0), -k.gain_ratio))
        return [k.recommendation_id for k in kept[:MOST_RANKED] if await self._refusal(k) is None]

    async def execute(self, recommendation_id: int) -> dict[str, Any]:
        """This will say, step by step, what would be done, and whether rails allow it at this moment."""
        kept = await self._get(recommendation_id)
        refusal = await self._refusal(kept)
        said = None if refusal is None else {"because": str(refusal.because), "explanation": refusal.explanation}
        names = [kept.subject]
        return {
            "dry_run": True,
            "would": [_would(kept, list(wave)) for wave in waves(names, self._rails)],
            "refused": said,
        }

    async def watch(self, recommendation_id: int, number: int) -> dict[str, Any]:
        """This will see whether somebody has made the change, and how the server runs."""
        kept = await self._get(recommendation_id)
        server = await self._server(kept)
        if server is None:
            return {"look": number, "because": "the server is not there"}
        applied = ledger.applied(kept.body, server.state.config)
        return {"look": number, "applied": applied, "now": ran(server.state), "because": "watched"}

    async def record(self, recommendation_id: int, verdict: str) -> dict[str, Any]:
        """This will write down what was promised, and what came if somebody made the change."""
        kept = await self._get(recommendation_id)
        server = await self._server(kept)
        if server is None or not ledger.applied(kept.body, server.state.config):
            return {"verdict": verdict, "applied": False, "promised": kept.body["effect"]}
        came = ledger.realised(kept.body, ran(server.state))
        if came is not None and kept.state in (RecommendationState.OPEN, RecommendationState.APPROVED):
            await recommendations.realise(self._database.engine, recommendation_id, came, self._clock.now())
        return {"verdict": verdict, "applied": True, "promised": kept.body["effect"], "came": came}

    # -- what it stands on ------------------------------------------------------------------------------

    async def _load(self, asked: Mapping[str, Any]) -> list[LiveServer]:
        return await live_servers.load(self._database, self._dictionaries, _selection(asked), self._clock.now())

    async def _get(self, recommendation_id: int) -> Kept:
        return await recommendations.get(self._database.engine, recommendation_id)

    async def _server(self, kept: Kept) -> LiveServer | None:
        if kept.subject_id is None:
            return None
        return next(iter(await self._load({"server_ids": [kept.subject_id]})), None)

    async def _refusal(self, kept: Kept) -> NoAction | None:
        """This will ask the rails about one, with what is known at this moment."""
        found = await self._load({})
        now = self._clock.now()
        if kept.subject_kind == FLEET:
            # Each engine runs twice while it moves, so that no traffic is without one.
            situation = Situation(
                now=now, demand=0.0, capacity=None, ready=sum(s.serves for s in found), starting=0,
                unhealthy=sum(not s.serves for s in found), in_flight=0,
            )  # fmt: skip
            return refused(_change(kept), situation, self._rails)
        costs = [
            s.state.gpus * s.state.usd_per_gpu_hour if s.state.gpus and s.state.usd_per_gpu_hour else None
            for s in found
        ]
        known = [cost for cost in costs if cost is not None]
        spent = sum(known) * HOURS_A_MONTH if len(known) == len(costs) else None
        model = kept.subject if kept.subject_kind == "service" else _model_of(found, kept.subject_id)
        for state, members in await services(self._database, found, now):
            if state.service == model:
                newest = state.demands[-1] if state.demands else None
                per_second = 1.0 / BIN.total_seconds()
                situation = Situation(
                    now=now, demand=None if newest is None else newest * per_second,
                    capacity=None if state.capacity is None else state.capacity * per_second,
                    ready=sum(m.serves for m in members), starting=0, unhealthy=state.unhealthy, in_flight=0,
                    spent_usd_per_month=spent,
                )  # fmt: skip
                return refused(_change(kept), situation, self._rails)
        return NoAction(because=Because.MISSING_DATA, explanation="what it is about is not there any more")


def _model_of(found: Sequence[LiveServer], server_id: int | None) -> str | None:
    return next((s.state.model for s in found if s.entity.entity_id == server_id), None)


def _selection(asked: Mapping[str, Any]) -> Selection:
    return Selection(
        kind=EntityKind.INFERENCE_SERVER, entity_ids=asked.get("server_ids") or None,
        models=asked.get("models") or None, node_ids=asked.get("node_ids") or None,
    )  # fmt: skip


def _change(kept: Kept) -> Recommendation:
    """This will read of a stored recommendation what rails look at."""
    body, kind = kept.body, RecommendationKind(kept.body["kind"])
    effect, doing = body["effect"], body.get("doing")
    return Recommendation(
        kind=kind, engine=body["engine"], flags=(), because=Occasion.LESS_DEMAND,
        effect=Effect(
            requests_ratio=Interval(**effect["requests_ratio"]),
            token_time_ratio=Interval(**effect["token_time_ratio"]),
            usd_per_month=Interval(**effect["usd_per_month"]) if "usd_per_month" in effect else None,
        ),
        cost="", risk="", rollback="", evidence=(), lost=(), replicas=body.get("replicas"),
        replicas_before=body.get("replicas_before"), risk_level=Risk(body["risk_level"]),
        doing=Doing(
            restarts=doing["restarts"], seconds=doing["seconds"],
            # A restart with a surge keeps the old server until the new one serves.
            surge_gpus=max(doing["surge_gpus"], 1 if kind in RESTARTING else 0), usd=doing.get("usd"),
        ) if doing else Doing(restarts=1, seconds=180.0, surge_gpus=1 if kind in RESTARTING else 0, usd=None),
    )  # fmt: skip


def _would(kept: Kept, names: list[str]) -> dict[str, Any]:
    body = kept.body
    steps = []
    if body["flags"]:
        flags = " ".join(f"{f['name']} {f['value']}".strip() for f in body["flags"] if f["value"] is not None)
        steps = [
            f"start a second server beside it with {flags}", "wait until it is warm and serves within its objectives",
            "give it a growing share of the traffic, watched by the guard of objectives", "drain and stop the old one",
        ]  # fmt: skip
    elif body["moves"]:
        steps = [f"start {m['engine']} on {m['target']}, then drain it on {m['source']}" for m in body["moves"][:100]]
    elif "replicas" in body:
        steps = [f"ask for {body['replicas']} replicas in place of {body['replicas_before']}"]
    return {"subjects": names, "steps": steps, "way_back": body["rollback"]}
