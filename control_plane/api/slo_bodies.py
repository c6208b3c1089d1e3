"""Bodies that configure objectives: ours, and OpenSLO's. What is wrong is said at its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from control_plane.api.parameters import Name
from control_plane.model.errors import InvalidRequest
from control_plane.model.slo import Indicator, SloDefinition, SloScope
from control_plane.slo import openslo
from control_plane.slo.definition import LONGEST_DAYS, SHORTEST_DAYS, refusals

MOST_AT_ONCE = 100
Label = Annotated[str, StringConstraints(max_length=256)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class ScopeBody(BaseModel):
    """Of which inference servers; what is left out narrows nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Name | None = Field(None, description="the served model's name")
    engine: Name | None = Field(None, description="vllm, sglang or tgi")
    server: Name | None = Field(None, description="a server's URL")
    node: Name | None = Field(None, description="a node's name")
    namespace: Name | None = Field(None, description="its pod's")


class SloBody(BaseModel):
    """One objective. The same name again changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="lower-case letters, digits, dots, underscores, hyphens")
    indicator: Indicator = Field(description="what is promised")
    target_ratio: float = Field(gt=0, lt=1, allow_inf_nan=False, description="share of events that must be good")
    window_days: int = Field(30, ge=SHORTEST_DAYS, le=LONGEST_DAYS, description="rolling")
    threshold_seconds: Seconds | None = Field(None, description="latency: up to here an event is good")
    limits: dict[Name, Seconds] = Field(
        default_factory=dict, max_length=8,
        description="goodput: ttft_seconds, time_per_output_token_seconds, end_to_end_seconds",
    )  # fmt: skip
    floor_tokens_per_second: float | None = Field(
        None, gt=0, allow_inf_nan=False,
        description="throughput_floor: tokens that all servers in scope generate together while requests wait",
    )  # fmt: skip
    scope: ScopeBody = Field(default_factory=lambda: ScopeBody(), description="of which inference servers")
    route: Name | None = Field(None, description="a name that is carried along; the scope says which servers serve it")
    labels: dict[Name, Label] = Field(default_factory=dict, max_length=32, description="carried along, to alerts too")
    description: str = Field("", max_length=1050)

    def meant(self) -> SloDefinition:
        """This will give the definition that it stands for."""
        return SloDefinition(
            name=self.name, indicator=self.indicator, target_ratio=self.target_ratio, window_days=self.window_days,
            scope=SloScope(**self.scope.model_dump()), threshold_seconds=self.threshold_seconds, limits=self.limits,
            floor_tokens_per_second=self.floor_tokens_per_second, route=self.route, labels=self.labels,
            description=self.description,
        )  # fmt: skip


def body_schema() -> dict[str, Any]:
    """This will describe the body with all of its parts in place."""
    described = SloBody.model_json_schema()
    parts = described.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, dict):
            named = parts.get(str(part.get("$ref", "")).rpartition("/")[2])
            return (
                inlined({**named, **{k: v for k, v in part.items() if k != "$ref"}})
                if named
                else {name: inlined(value) for name, value in part.items()}
            )
        return [inlined(value) for value in part] if isinstance(part, list) else part

    found = inlined(described)
    assert isinstance(found, dict)
    return found


def definitions(documents: Sequence[Any]) -> list[SloDefinition]:
    """This will read what documents ask for. Raises InvalidRequest, or RequestValidationError, with every place."""
    if not documents:
        raise InvalidRequest("the body is empty; send an objective, or an OpenSLO document")
    if any(openslo.is_openslo(document) for document in documents):
        translated = openslo.translate(documents)
        found, wrong = translated.definitions, list(translated.refusals)
        wrong += [
            (f"{place} ({d.name[:64]})", why) for d in found for place, why in refusals(d)
        ]  # of what it means: its own place is lost
    else:
        found = [_ours(document, number, of=len(documents)) for number, document in enumerate(documents)]
        root = len(found) > 1
        wrong = [
            (f"/{number}{place}" if root else place, why)
            for number, d in enumerate(found)
            for place, why in refusals(d)
        ]
    names = [d.name for d in found]
    wrong += [("/name", f"{name!r} is there twice") for name in sorted({n for n in names if names.count(n) > 1})]
    if len(found) > MOST_AT_ONCE:
        wrong.append(("", f"{len(found)} objectives; at most {MOST_AT_ONCE} at once"))
    if wrong:
        raise InvalidRequest("; ".join(f"{place or 'body'}: {why}" for place, why in wrong[:3]), wrong)
    return found


def _ours(document: Any, number: int, *, of: int) -> SloDefinition:
    if not isinstance(document, dict):
        raise InvalidRequest("an objective is a JSON object; several go into one YAML body, parted by ---")
    try:
        return SloBody.model_validate(document).meant()
    except ValidationError as error:
        root = ("body",) if of == 1 else ("body", number)
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**e, "loc": (*root, *e["loc"])} for e in found]) from None
