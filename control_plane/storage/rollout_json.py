"""Rollouts as JSON values, and back. A field that another release knows and this one does not is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from control_plane.model.rollout import Command, Effect, Intent, Look, Plan, Rollout, State, Strategy


def written(rollout: Rollout) -> dict[str, Any]:
    """This will give a rollout as JSON values."""
    return {name: _plain(value) for name, value in asdict(rollout).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return {key: _plain(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def read(values: Mapping[str, Any]) -> Rollout:
    """This will make a rollout of what `written` wrote."""
    known = _known(Rollout, values)
    intent = values.get("intent")
    return Rollout(
        **{
            **known,
            "plan": plan_read(values["plan"]),
            "state": State(values["state"]),
            "since": datetime.fromisoformat(values["since"]),
            "shares_asked": tuple(values["shares_asked"]),
            "looks": tuple(Look(**_known(Look, look)) for look in values["looks"]),
            "intent": None if intent is None else _intent(intent),
            "lost_since": _time(values.get("lost_since")),
            "silent_since": _time(values.get("silent_since")),
            "command": None if values.get("command") is None else Command(values["command"]),
        }
    )


def plan_read(values: Mapping[str, Any]) -> Plan:
    """This will make a plan of its JSON values."""
    known = _known(Plan, values)
    return Plan(
        **{
            **known,
            "strategy": Strategy(values["strategy"]),
            "shares": tuple(values["shares"]),
            "approve_before": tuple(values.get("approve_before", ())),
        }
    )


def _intent(values: Mapping[str, Any]) -> Intent:
    decided_at = datetime.fromisoformat(values["decided_at"])
    return Intent(key=values["key"], effect=Effect(values["effect"]), value=values["value"], decided_at=decided_at)


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
