"""Recommendations on their way into storage: as they are shown, told apart by what exactly they change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from control_plane.model.decision import Kept
from control_plane.model.recommendation import Recommendation
from control_plane.stages.recommending import Outcome
from control_plane.storage import recommendations
from control_plane.storage.session import Database

_WHY_NO_PAYBACK = "it_saves_no_money_or_no_price_is_known"


def body_of(found: Recommendation) -> dict[str, Any]:
    """This will give a recommendation as it is stored and shown: what is not said is left out."""
    said: dict[str, Any] = json.loads(json.dumps(asdict(found)))
    said["effect"] = {name: value for name, value in said["effect"].items() if value is not None}
    said["flags"] = [_flag(flag) for flag in said["flags"]]
    if said["doing"] is not None:
        said["doing"] = {name: value for name, value in said["doing"].items() if value is not None}
    kept = ("payback_hours", "version")
    why = {"payback_hours": _WHY_NO_PAYBACK, "version": "not_said"}
    shown = {name: value for name, value in said.items() if value is not None or name in kept}
    return shown | {"unknown": {name: why[name] for name in kept if shown[name] is None}}


def _flag(flag: dict[str, Any]) -> dict[str, Any]:
    why = {"value": "to_be_taken_out", "was": "not_set_or_not_said"}
    return flag | {"unknown": {name: why[name] for name in why if flag[name] is None}}


def fingerprint_of(outcome: Outcome, body: Mapping[str, Any]) -> str:
    """This will tell changes apart: of what, and exactly what; not how sure it is or what it brings."""
    exact = {
        "of": [outcome.kind, outcome.subject_kind, outcome.subject, outcome.subject_id],
        "flags": [[f["name"], f["value"]] for f in body["flags"]],
        "replicas": [body.get("replicas"), body.get("replicas_before")], "moves": body["moves"],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(exact, sort_keys=True).encode()).hexdigest()


def saved(found: Recommendation) -> float | None:
    """This will give the dollars a month that are saved, as expected; None when no price is known."""
    usd = found.effect.usd_per_month
    return None if usd is None else -usd.expected


async def keep(database: Database, outcome: Outcome, found: Recommendation, now: datetime) -> Kept:
    """This will store what is recommended, or note that it was found again."""
    body = body_of(found) | {"before": dict(outcome.before)}
    return await recommendations.keep(
        database.engine, kind=outcome.kind, subject_kind=outcome.subject_kind, subject=outcome.subject,
        subject_id=outcome.subject_id, fingerprint=fingerprint_of(outcome, body), now=now,
        saved_usd_per_month=saved(found), gain_ratio=found.effect.requests_ratio.expected, body=body,
    )  # fmt: skip
