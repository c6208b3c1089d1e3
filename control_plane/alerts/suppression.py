"""Who is not told of what: silences that people made, and alerts that explain others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from control_plane.model.alert import Alert, AlertState, Inhibition, Silence

# Which alert explains which, without anybody having to say so.
BUILT_IN: Sequence[Inhibition] = (
    # Of a node that is silent nothing is known: what else is said of it is old.
    Inhibition(source={"kind": "node_silent"}, target={}, equal=("node",)),
    # A GPU that has fallen off the bus is why its engine hangs.
    Inhibition(source={"kind": "gpu_hung"}, target={"kind": "engine_hung"}, equal=("node",)),
    Inhibition(source={"kind": "gpu_hung"}, target={"kind": "gpu_throttled"}, equal=("gpu",)),
    # GPUs that spin in a collective are why their engine hangs.
    Inhibition(source={"kind": "stuck_collective"}, target={"kind": "engine_hung"}, equal=("server",)),
    # What binds an engine that hangs or is down is that.
    Inhibition(source={"kind": "engine_hung"}, target={"kind": "bottleneck"}, equal=("server",)),
    Inhibition(source={"kind": "engine_down"}, target={"kind": "bottleneck"}, equal=("server",)),
    # An engine that hangs or is down misses its objectives, and its budget burns.
    Inhibition(source={"kind": "engine_hung"}, target={"kind": "slo_violated"}, equal=("server",)),
    Inhibition(source={"kind": "engine_down"}, target={"kind": "slo_violated"}, equal=("server",)),
    # What is violated now burns its budget too.
    Inhibition(source={"kind": "slo_violated"}, target={"kind": "slo_burning"}, equal=("slo",)),
)  # fmt: skip


def matches(matchers: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """This will say whether labels are as asked. `a|b` is either; `*` any value that is there."""
    return all(
        name in labels and (wanted == "*" or labels[name] in wanted.split("|")) for name, wanted in matchers.items()
    )


def suppressed(
    alerts: Sequence[Alert], inhibitions: Sequence[Inhibition], silences: Sequence[Silence], now: datetime
) -> list[Alert]:
    """This will note on each alert who keeps it from being told."""
    firing = [a for a in alerts if a.state is AlertState.FIRING]
    active = [s for s in silences if s.starts_at <= now < s.ends_at]
    sources = [
        (rule, {tuple(_of(a).get(name, "") for name in rule.equal): a for a in firing if matches(rule.source, _of(a))})
        for rule in (*BUILT_IN, *inhibitions)
    ]
    out = []
    for alert in alerts:
        labels = _of(alert)
        silence = next((s.silence_id for s in active if matches(s.matchers, labels)), None)
        by = None
        for rule, found in sources:
            if not found or not matches(rule.target, labels) or any(name not in labels for name in rule.equal):
                continue
            source = found.get(tuple(labels[name] for name in rule.equal))
            # No alert keeps itself silent, nor those of its own kind that could keep it silent in turn.
            if source is not None and source.fingerprint != alert.fingerprint and not matches(rule.source, labels):
                by = source.fingerprint
                break
        out.append(replace(alert, silenced_by=silence, inhibited_by=by))
    return out


def _of(alert: Alert) -> Mapping[str, str]:
    return {**alert.labels, "kind": alert.kind}
