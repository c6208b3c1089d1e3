"""An explanation in words, of what was computed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from control_plane.api import recommendations as words
from control_plane.api.answers import answer
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import operation
from control_plane.api.parameters import Parameters
from control_plane.api.schemas import MAYBE_TEXT, TEXT, UNKNOWN
from control_plane.insights.evidence import Fact, Grounds, shown
from control_plane.insights.narrator import Narrator
from control_plane.model.decision import Kept
from control_plane.storage import recommendations

router = APIRouter(tags=["optimisation"])

MOST_LISTED = 5
EFFECTS = {
    "requests_ratio": ("requests a second that can be served, after against before", "times"),
    "token_time_ratio": ("time per token, after against before", "times"),
    "ttft_ratio": ("time to the first token, after against before", "times"),
    "memory_bytes": ("memory in use on each GPU afterwards", "bytes"),
}
INSIGHT = {
    "type": "object",
    "properties": {
        "text": TEXT, "source": {"enum": ["llm", "fallback"]},
        "because": {**MAYBE_TEXT, "description": "why the text is not the model's"},
        "from_memory": {"type": "boolean"},
        "evidence": {
            "type": "array",
            "items": {"type": "object", "properties": {"handle": TEXT, "means": TEXT, "shown": TEXT}},
        },
        "unknown": UNKNOWN,
    },
}  # fmt: skip


class InsightBody(BaseModel):
    """What is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recommendation_id: int | None = Field(None, ge=1, le=2**53, description="about one; default: about what is open")
    question: str = Field("", max_length=500, description="in words; default: what was found, and what it means")


@router.post(
    "/insights",
    **operation("insights", "An explanation in words", scope="operate", rate="heavy", answer=INSIGHT,
                errors=(404, 413, 422, 503)),
)  # fmt: skip
async def insights(_: Annotated[Parameters, Query()], context: Context, body: InsightBody | None = None) -> Response:
    """By a language model where a key is set: it writes sentences around evidence, and every number and name in them is
    filled in here. Without a key, after a time-out or when its answer does not pass the checks: the same, by rule."""
    asked = body or InsightBody()
    grounds = await _grounds(context, asked)
    narrator = context.narrator or Narrator(None, context.clock)
    told = await narrator.tell(grounds, asked.question)
    evidence = [
        {"handle": f"E{place}", "means": fact.means, "shown": shown(fact)}
        for place, fact in enumerate(grounds.facts, start=1)
    ]
    return answer({
        "text": told.text, "source": told.source, "because": told.because, "from_memory": told.is_kept,
        "evidence": evidence, "unknown": {} if told.because else {"because": "it_is_the_models_text"},
    })  # fmt: skip


async def _grounds(context: ApiContext, asked: InsightBody) -> Grounds:
    engine = context.database.engine
    if asked.recommendation_id is not None:
        return _of_one(await recommendations.get(engine, asked.recommendation_id))
    found = await recommendations.find(engine, limit=MOST_LISTED)
    if not found:
        return Grounds(
            subject="a fleet of inference servers", situation="nothing is recommended", facts=(), names={},
            fallback="Nothing is recommended at the moment.",
        )  # fmt: skip
    facts = [
        Fact(means=f"requests a second after against before, of the change of {k.body['kind'].replace('_', ' ')}",
             value=k.gain_ratio, unit="times")
        for k in found
    ] + [
        Fact(means=f"saved a month by the change of {k.body['kind'].replace('_', ' ')}", value=k.saved_usd_per_month,
             unit="usd")
        for k in found if k.saved_usd_per_month is not None and k.saved_usd_per_month > 0
    ]  # fmt: skip
    return Grounds(
        subject="several changes that are recommended, the best first", facts=facts, names={},
        situation="; ".join(f"{k.body['kind']} because of {k.body['because']}".replace("_", " ") for k in found),
        fallback=" ".join(words.in_words(k).partition(". ")[0] + "." for k in found),
    )  # fmt: skip


def _of_one(kept: Kept) -> Grounds:
    body = kept.body
    facts = [Fact(means=e["means"], value=float(e["value"]), unit=_unit(e)) for e in body["evidence"][:8]]
    facts += [
        Fact(means=means, value=float(body["effect"][name]["expected"]), unit=unit)
        for name, (means, unit) in EFFECTS.items() if name in body["effect"]
    ]  # fmt: skip
    if kept.saved_usd_per_month is not None:
        facts.append(Fact(means="saved a month for the same work", value=kept.saved_usd_per_month, unit="usd"))
    kind, because = (str(body[name]).replace("_", " ") for name in ("kind", "because"))
    return Grounds(
        subject=f"a recommended change of the kind {kind}", situation=f"recommended because of {because}; risk "
        f"{body['risk_level']}", facts=facts, names={"SUBJECT": kept.subject}, fallback=words.in_words(kept),
    )  # fmt: skip


def _unit(evidence: Mapping[str, Any]) -> str:
    return str(evidence["unit"])
