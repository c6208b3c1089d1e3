"""Test runs: load on servers, the highest rate that they keep, a candidate beside its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from control_plane.analysis import workload
from control_plane.analysis.workload import Workload
from control_plane.api.answers import answer, timestamp
from control_plane.api.context import ApiContext, Context, TrialDoor, WhoAsks
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import (
    Name,
    Paged,
    Parameters,
    ServerWindow,
    Window,
    decode_text_cursor,
    encode_cursor,
)
from control_plane.api.resources.metrics import by_model, question_of
from control_plane.api.trial_bodies import (
    PROFILE_SCHEMA,
    TRIAL_SCHEMA,
    WHOLE_SCHEMA,
    NewTest,
    NewValidation,
    shown,
    whole,
)
from control_plane.model.errors import Conflict, InvalidRequest
from control_plane.model.trial import TrialKind, TrialState
from control_plane.trials.load import lengths

router = APIRouter(tags=["tests"])

TestId = Annotated[Name, Path(description="a test run's id")]


class Results(Paged):
    """Which test runs."""

    kind: list[TrialKind] = Field(default_factory=list, max_length=8, description="may be repeated")
    state: list[TrialState] = Field(default_factory=list, max_length=8, description="may be repeated")


def _door(context: ApiContext) -> TrialDoor:
    if context.trials is None:
        raise Conflict("this process runs no tests")
    return context.trials


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        return datetime.fromisoformat(decode_text_cursor(cursor, "at")), decode_text_cursor(cursor, "id")
    except ValueError as error:
        raise InvalidRequest("cursor is not one that this endpoint gave; start without one") from error


@router.post(
    "/test/run",
    **operation("test_run", "Put load on a server", scope="operate", errors=(409, 422, 503), answer=TRIAL_SCHEMA),
)
async def run(_: Annotated[Parameters, Query()], asked: NewTest, context: Context, caller: WhoAsks) -> Response:
    """It begins when those before it have ended: one at a time, so that tests do not measure each other. With
    `find_highest_rate` it is repeated at rates that close in on the highest that keeps the objective. GET
    /test/results/{test_id} says how far it is, and then what came of it."""
    spec, keys = asked.meant()
    return answer(shown(await _door(context).ask(spec, by=caller.name, keys=keys)))


@router.post(
    "/test/validate",
    **operation(
        "test_validate", "May this server replace that one?", scope="operate", errors=(409, 422, 503),
        answer=TRIAL_SCHEMA,
    ),
)  # fmt: skip
async def validate(
    _: Annotated[Parameters, Query()], asked: NewValidation, context: Context, caller: WhoAsks
) -> Response:
    """Both get half of the same load, request by request in turn, and the same prompts; it ends as soon as the verdict
    is sure: pass, fail or inconclusive. A candidate whose words differ fails, however fast it is."""
    spec, keys = asked.meant()
    return answer(shown(await _door(context).ask(spec, by=caller.name, keys=keys)))


@router.get(
    "/test/results",
    **operation("test_results", "Test runs, the newest first", scope="read", answer=listed(TRIAL_SCHEMA)),
)
async def results(asked: Annotated[Results, Query()], context: Context) -> Response:
    """Those that wait and run, and those that are over; one alone has its figures too."""
    found = await _door(context).store.listed(
        limit=asked.limit + 1, before=None if asked.cursor is None else _position(asked.cursor), kinds=asked.kind,
        states=asked.state,
    )  # fmt: skip
    here, cursor = found[: asked.limit], None
    if len(found) > asked.limit:
        cursor = encode_cursor(at=here[-1].asked_at.isoformat(), id=here[-1].trial_id)
    return answer({"items": [shown(trial) for trial in here], "next_cursor": cursor})


@router.get(
    "/test/results/{test_id}",
    **operation(
        "test_result", "One test run with its figures", scope="read", errors=(404, 422, 503), answer=WHOLE_SCHEMA
    ),
)
async def result(_: Annotated[Parameters, Query()], test_id: TestId, context: Context) -> Response:
    """What was asked, how far it is, and what came of it, with intervals."""
    return answer(whole(await _door(context).store.get(test_id)))


@router.post(
    "/test/{test_id}/cancel",
    **operation("test_cancel", "End a test run", scope="operate", errors=(404, 409, 422, 503), answer=TRIAL_SCHEMA),
)
async def cancel(_: Annotated[Parameters, Query()], test_id: TestId, context: Context, caller: WhoAsks) -> Response:
    """One that waits never begins; one that runs ends within seconds and keeps what was measured until then."""
    return answer(shown(await _door(context).cancel(test_id, by=caller.name)))


# Round numbers of everyday use, to begin with where nothing has been learnt yet.
_BUILT_IN: Sequence[tuple[str, str, dict[str, Any]]] = (
    (
        "chat", "short questions, answers of a paragraph, one system prompt",
        {"prompt_length": "lognormal:400,0.9,16-8192", "output_length": "lognormal:200,0.7,4-2048",
         "prefixes": 1, "prefix_tokens": 200},
    ),
    (
        "retrieval", "long prompts with documents, short answers",
        {"prompt_length": "lognormal:4000,0.5,512-32768", "output_length": "lognormal:150,0.6,4-1024",
         "prefixes": 8, "prefix_tokens": 1000},
    ),
    (
        "summaries", "long prompts of which none is like another, answers of a page",
        {"prompt_length": "lognormal:8000,0.6,1024-65536", "output_length": "lognormal:400,0.5,32-2048"},
    ),
    (
        "completion", "code before the cursor, a line of answer, the same file again and again",
        {"prompt_length": "lognormal:1500,0.8,64-16384", "output_length": "lognormal:40,0.8,1-512",
         "prefixes": 64, "prefix_tokens": 1000},
    ),
)  # fmt: skip
PROFILE_WINDOW = timedelta(hours=1)
# How many different prefixes there were is not known; with more of them than slots of a batch, few hit by chance.
_PREFIXES = 16


def _learnt_profile(model: str, found: Workload, span: Window) -> dict[str, Any]:
    not_learnt = {"variation": "requests are counted, not stamped"}
    load: dict[str, Any] = {"rate": round(found.per_second, 4)}
    for name, lengths_found in (("prompt_length", found.prompt_lengths), ("output_length", found.output_lengths)):
        if lengths_found is None:
            not_learnt[name] = "its servers do not count it, or not alike"
        else:
            load[name] = lengths.counted(lengths_found)
    if found.cached_ratio is None or found.mean_prompt_tokens is None:
        not_learnt["prefix_tokens"] = "its servers do not count it"
    elif found.cached_ratio * found.mean_prompt_tokens >= 1:
        load |= {"prefixes": _PREFIXES, "prefix_tokens": round(found.cached_ratio * found.mean_prompt_tokens)}
    return {
        "profile_id": f"live:{model}", "source": "live", "model": model,
        "description": f"what {model} was asked; nothing of what it said is kept or known", "load": load,
        "requests": found.requests, "since": timestamp(span.since), "until": timestamp(span.until),
        "not_learnt": not_learnt, "unknown": {},
    }  # fmt: skip


@router.get(
    "/test/profiles",
    **operation(
        "test_profiles", "Workloads to test with", scope="read", errors=(404, 422, 503), answer=listed(PROFILE_SCHEMA)
    ),
)
async def profiles(asked: Annotated[ServerWindow, Query()], context: Context) -> Response:
    """What each model's servers were asked within a window (an hour by default): rate, lengths, how much began alike;
    and some usual ones. Put `load` of one into POST /test/run or /test/validate. Nothing is known of words."""
    question = await question_of(context, asked, default=PROFILE_WINDOW)
    items = []
    for model, group in by_model(question).items():
        found = workload.learnt(group)
        if found is not None:
            items.append(_learnt_profile(model, found, question.span))
    why = dict.fromkeys(("model", "requests", "since", "until"), "built_in")
    items += [
        {
            "profile_id": name, "source": "built_in", "model": None, "description": said, "load": load,
            "requests": None, "since": None, "until": None, "not_learnt": {}, "unknown": why,
        }
        for name, said, load in _BUILT_IN
    ]  # fmt: skip
    return question.page(items)
