"""How recommendations are shown, told apart and put into words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from control_plane.api.schemas import MAYBE_TEXT, TEXT, TIME, UNKNOWN
from control_plane.model.decision import Kept, RecommendationState
from control_plane.model.recommendation import RecommendationKind
from control_plane.model.saving import Realised

NUMBER = {"type": "number"}
INTERVAL = {
    "type": "object",
    "description": "holds nine times in ten",
    "properties": {"low": NUMBER, "expected": NUMBER, "high": NUMBER},
}
RECOMMENDATION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": [kind.value for kind in RecommendationKind]},
        "engine": TEXT, "version": MAYBE_TEXT, "because": TEXT,
        "flags": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": TEXT, "value": {**MAYBE_TEXT, "description": "null: take it out"}, "was": MAYBE_TEXT,
                    "unknown": UNKNOWN,
                },
            },
        },
        "replicas": {"type": "integer"}, "replicas_before": {"type": "integer"},
        "moves": {"type": "array", "items": {"type": "object"}},
        "effect": {
            "type": "object",
            "description": "under the load that was seen; ratios are after / before",
            "properties": {
                **dict.fromkeys(
                    ("requests_ratio", "token_time_ratio", "ttft_ratio", "running", "memory_bytes", "usd_per_month"),
                    INTERVAL,
                ),
                "gpus": NUMBER,
            },
        },
        "doing": {
            "type": "object",
            "properties": {"restarts": {"type": "integer"}, "seconds": NUMBER, "surge_gpus": {"type": "integer"},
                           "usd": NUMBER},
        },
        "payback_hours": {"type": ["number", "null"]},
        "cost": TEXT, "risk": TEXT, "risk_level": {"enum": ["low", "medium", "high"]}, "rollback": TEXT,
        "needs": {"type": "array", "items": TEXT},
        "evidence": {"type": "array", "items": {"type": "object"}},
        "lost": {"type": "array", "items": {"type": "object"}, "description": "what was looked at and not taken"},
        "unknown": UNKNOWN,
    },
}  # fmt: skip
KEPT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "recommendation_id": {"type": "integer"},
        "state": {"enum": [state.value for state in RecommendationState]},
        "subject_kind": {"enum": ["server", "service", "fleet", "cache"]}, "subject": TEXT,
        "server_id": {"type": ["integer", "null"]},
        "made_at": TIME, "found_at": TIME, "expires_at": TIME, "decided_at": TIME, "decided_by": MAYBE_TEXT,
        "reason": MAYBE_TEXT, "saved_usd_per_month": {"type": ["number", "null"]}, "gain_ratio": NUMBER,
        "recommendation": RECOMMENDATION, "explanation": TEXT,
        "realised": {"type": ["object", "null"], "description": "what really came, once it was carried out"},
        "unknown": UNKNOWN,
    },
}  # fmt: skip
OUTCOME: dict[str, Any] = {
    "type": "object",
    "properties": {
        "subject_kind": TEXT, "subject": TEXT, "server_id": {"type": ["integer", "null"]},
        "outcome": {"enum": ["recommendation", "no_action"]},
        "recommendation": KEPT,
        "no_action": {"type": "object", "properties": {"because": TEXT, "explanation": TEXT}},
        "unknown": UNKNOWN,
    },
}  # fmt: skip


def shown(kept: Kept) -> dict[str, Any]:
    """This will show one that is stored."""
    item = {
        "recommendation_id": kept.recommendation_id, "state": kept.state, "subject_kind": kept.subject_kind,
        "subject": kept.subject, "server_id": kept.subject_id, "made_at": kept.made_at, "found_at": kept.found_at,
        "expires_at": kept.expires_at, "decided_at": kept.decided_at, "decided_by": kept.decided_by,
        "reason": kept.reason, "saved_usd_per_month": kept.saved_usd_per_month, "gain_ratio": kept.gain_ratio,
        "recommendation": kept.body, "explanation": in_words(kept), "realised": kept.realised,
    }  # fmt: skip
    why = {
        "server_id": "not_of_one_server", "decided_at": "nobody_has_decided", "decided_by": "nobody_has_decided",
        "reason": "none_was_given", "saved_usd_per_month": "no_price_is_known", "realised": "not_carried_out",
    }  # fmt: skip
    return item | {"unknown": {name: reason for name, reason in why.items() if item[name] is None}}


def in_words(kept: Kept) -> str:
    """This will explain a recommendation in sentences, from its own numbers and nothing else."""
    body = kept.body
    what = _what(body)
    effect = body["effect"]
    sentences = [f"{what} for {kept.subject}, because of {str(body['because']).replace('_', ' ')}."]
    ratio = effect["requests_ratio"]
    if ratio["expected"] != 1.0 or ratio["low"] != ratio["high"]:
        sentences.append(f"It can then serve {_times(ratio)} as many requests a second.")
    if (pace := effect["token_time_ratio"])["low"] != pace["high"]:
        sentences.append(f"The time per token becomes {_times(pace)} of what it is.")
    if (usd := effect.get("usd_per_month")) is not None:
        word = "saves" if usd["expected"] < 0 else "costs"
        sentences.append(f"For the same work it {word} about {abs(usd['expected']):,.0f} $ a month.")
    if body["payback_hours"] is not None:
        sentences.append(f"What doing it costs is paid back after {body['payback_hours']:g} hours.")
    sentences += [f"It costs: {body['cost']}.", f"Risk ({body['risk_level']}): {body['risk']}."]
    sentences += [f"It needs {need}." for need in body["needs"]]
    sentences.append(f"The way back: {body['rollback']}.")
    sentences += [f"{e['name']} is {e['value']:.4g} {e['unit']}: {e['means']}." for e in body["evidence"][:4]]
    sentences += [f"Not {lost['what']}: {lost['why']}." for lost in body["lost"][:3]]
    return " ".join(sentences)


def _what(body: Mapping[str, Any]) -> str:
    if body["flags"]:
        parts = [
            f"{f['name']} {f['value']}".strip() if f["value"] is not None else f"no {f['name']}" for f in body["flags"]
        ]
        return "Set " + ", ".join(parts)
    if body["moves"]:
        return f"Move {len(body['moves'])} engines"
    return f"Go from {body.get('replicas_before')} to {body.get('replicas')} replicas"


def _times(interval: Mapping[str, float]) -> str:
    return f"{interval['expected']:.2f} times ({interval['low']:.2f} to {interval['high']:.2f})"


def line_of(kept: Kept) -> Realised | None:
    """This will give what came of one as a line of the ledger; None for one that was not carried out."""
    if kept.realised is None:
        return None
    usd = kept.realised.get("usd_per_month")
    saved = None if usd is None else -usd
    at = datetime.fromisoformat(kept.realised["at"])
    return Realised(
        execution=str(kept.recommendation_id), kind=kept.kind, about=kept.subject, carried_out_at=at, measured_until=at,
        promised_usd_per_month=kept.saved_usd_per_month, usd_per_month=saved, usd_per_month_low=saved,
        usd_per_month_high=saved, gpu_hours_per_month=None,
    )  # fmt: skip
