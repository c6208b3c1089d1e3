"""The ledger: what was promised against what came, for every change that was seen to be made.

The counterfactual is the same server as it ran before, under as much load: rates are only compared while it was busy
both times, and a load that differs by more than a third says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MOST_DIFFERENT = 1.35
METHOD = "the same server before the change, while as many requests ran or waited (within a third)"


def applied(body: Mapping[str, Any], config: Mapping[str, object]) -> bool:
    """This will say whether a server now runs with the flags that were recommended."""
    flags = [f for f in body["flags"] if f["value"] is not None]
    return bool(flags) and all(_same(config.get(_key(f["name"])), str(f["value"])) for f in flags)


def _key(flag: str) -> str:
    return {"--max-num-seqs": "max_num_seqs"}.get(flag, flag.removeprefix("--").replace("-", "_"))


def _same(said: object, wanted: str) -> bool:
    if isinstance(said, bool):
        return said == (wanted == "")
    if isinstance(said, int | float):
        try:
            return math.isclose(float(wanted), float(said), rel_tol=1e-6)
        except ValueError:
            return False
    return isinstance(said, str) and said.lower() == wanted.lower()


def realised(body: Mapping[str, Any], now: Mapping[str, float]) -> dict[str, Any] | None:
    """This will compare before and after; None when the loads cannot be compared, or one side is unknown."""
    before = body.get("before", {})
    names = ("requests_per_second", "token_seconds", "concurrency")
    if any(not before.get(name) or not now.get(name) for name in names):
        return None
    load = now["concurrency"] / before["concurrency"]
    if not 1 / MOST_DIFFERENT <= load <= MOST_DIFFERENT:
        return None
    came = {
        "requests_ratio": round(now["requests_per_second"] / before["requests_per_second"], 4),
        "token_time_ratio": round(now["token_seconds"] / before["token_seconds"], 4),
    }
    within = {
        name: body["effect"][name]["low"] <= value <= body["effect"][name]["high"] for name, value in came.items()
    }
    promised = body["effect"].get("usd_per_month")
    usd = None
    if promised is not None and body["effect"]["requests_ratio"]["expected"] not in (0.0, 1.0):
        # For the same work: what was promised for the promised ratio, at the ratio that came.
        share = 1.0 / body["effect"]["requests_ratio"]["expected"] - 1.0
        usd = round(promised["expected"] * (1.0 / came["requests_ratio"] - 1.0) / share, 2) if share else None
    return {**came, "within": within, "method": METHOD, **({} if usd is None else {"usd_per_month": usd})}


def accuracy(kept: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """This will say of each kind how promises came out: (kind, body, realised) of all that was carried out."""
    out = []
    for kind in sorted({kind for kind, _, _ in kept}):
        errors, inside = [], []
        for of, body, came in kept:
            if of == kind:
                errors.append(abs(math.log(came["requests_ratio"] / body["effect"]["requests_ratio"]["expected"])))
                inside.append(bool(came["within"]["requests_ratio"]))
        out.append({
            "kind": kind, "changes": len(errors), "within_ratio": round(sum(inside) / len(inside), 4),
            "mean_error_ratio": round(math.expm1(sum(errors) / len(errors)), 4),
        })  # fmt: skip
    return out
