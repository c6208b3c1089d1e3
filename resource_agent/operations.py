"""Every operation of the API as a method. Written by `make openapi` from its description; do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


class Operations:
    """One method for each operation."""

    def _ask(self, asked: Question) -> Any:
        raise NotImplementedError

    def root(self) -> Answer:
        """What this is, and where to look: GET /."""
        return cast("Answer", self._ask(question("GET", "/")))

    def alerts(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        state: str | Sequence[str] | None = None,
        severity: str | Sequence[str] | None = None,
        rule: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        since: str | None = None,
    ) -> Page:
        """Alerts, the newest first: GET /alerts."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/alerts",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "state": state,
                        "severity": severity,
                        "rule": rule,
                        "label": label,
                        "since": since,
                    },
                    listed=True,
                )
            ),
        )

    def alert_rules(self) -> Answer:
        """What is configured of alerts: GET /alerts/rules."""
        return cast("Answer", self._ask(question("GET", "/alerts/rules")))

    def alert_rules_put(
        self,
        *,
        rules: Sequence[Mapping[str, Any]],
        default_receiver: str | None = None,
        grouping: Mapping[str, Any] | None = None,
        inhibitions: Sequence[Mapping[str, Any]] | None = None,
        receivers: Sequence[Mapping[str, Any]] | None = None,
        revision: int | None = None,
        routes: Sequence[Mapping[str, Any]] | None = None,
        silences: Sequence[Mapping[str, Any]] | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Configure alerts: PUT /alerts/rules."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "PUT",
                    "/alerts/rules",
                    body={
                        "rules": rules,
                        "default_receiver": default_receiver,
                        "grouping": grouping,
                        "inhibitions": inhibitions,
                        "receivers": receivers,
                        "revision": revision,
                        "routes": routes,
                        "silences": silences,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def alert(self, alert_id: int) -> Answer:
        """One alert: GET /alerts/{alert_id}."""
        return cast("Answer", self._ask(question("GET", "/alerts/{alert_id}", path={"alert_id": alert_id})))

    def alert_acknowledge(
        self, alert_id: int, *, comment: str | None = None, idempotency_key: str | None = None
    ) -> Answer:
        """Say that somebody has an alert in hand: POST /alerts/{alert_id}/acknowledge."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/alerts/{alert_id}/acknowledge",
                    path={"alert_id": alert_id},
                    body={"comment": comment},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def analysis_bottlenecks(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
        of: str | None = None,
        bottleneck: str | Sequence[str] | None = None,
    ) -> Page:
        """What binds each inference server, and what to do about it: GET /analysis/bottlenecks."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/analysis/bottlenecks",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                        "of": of,
                        "bottleneck": bottleneck,
                    },
                    listed=True,
                )
            ),
        )

    def analysis_correlation(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        window: str | None = None,
        model: str | Sequence[str] | None = None,
    ) -> Page:
        """Throughput per GPU, watt and dollar; latency against utilisation: GET /analysis/correlation."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/analysis/correlation",
                    query={"limit": limit, "cursor": cursor, "window": window, "model": model},
                    listed=True,
                )
            ),
        )

    def analysis_forecast(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        horizon: str | None = None,
        model: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
    ) -> Page:
        """Demand that will come, at most how much, and how far to believe it: GET /analysis/forecast."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/analysis/forecast",
                    query={"limit": limit, "cursor": cursor, "horizon": horizon, "model": model, "server": server},
                    listed=True,
                )
            ),
        )

    def analysis_opportunities(
        self, *, limit: int | None = None, cursor: str | None = None, window: str | None = None
    ) -> Page:
        """What could be saved, ranked by value: GET /analysis/opportunities."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/analysis/opportunities",
                    query={"limit": limit, "cursor": cursor, "window": window},
                    listed=True,
                )
            ),
        )

    def analysis_report(self, *, window: str | None = None, format: str | None = None) -> Answer:
        """The whole as JSON, Markdown or HTML with plots: GET /analysis/report."""
        return cast(
            "Answer", self._ask(question("GET", "/analysis/report", query={"window": window, "format": format}))
        )

    def analysis_trends(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        window: str | None = None,
        by: str | None = None,
        model: str | Sequence[str] | None = None,
        node: str | Sequence[str] | None = None,
    ) -> Page:
        """Trend, seasons and changes of demand and resources, with what is forecast: GET /analysis/trends."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/analysis/trends",
                    query={"limit": limit, "cursor": cursor, "window": window, "by": by, "model": model, "node": node},
                    listed=True,
                )
            ),
        )

    def analysis_utilization(
        self,
        *,
        cursor: str | None = None,
        gpu: Sequence[str] | None = None,
        limit: int | None = None,
        model: Sequence[str] | None = None,
        node: Sequence[str] | None = None,
        resource: Sequence[str] | None = None,
        server: Sequence[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        verdict: Sequence[str] | None = None,
    ) -> Page:
        """Under- and over-used resources in a scope and window: POST /analysis/utilization."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST",
                    "/analysis/utilization",
                    body={
                        "cursor": cursor,
                        "gpu": gpu,
                        "limit": limit,
                        "model": model,
                        "node": node,
                        "resource": resource,
                        "server": server,
                        "since": since,
                        "until": until,
                        "verdict": verdict,
                    },
                    listed=True,
                )
            ),
        )

    def analyze_utilization(
        self,
        *,
        cursor: str | None = None,
        gpu: Sequence[str] | None = None,
        limit: int | None = None,
        model: Sequence[str] | None = None,
        node: Sequence[str] | None = None,
        resource: Sequence[str] | None = None,
        server: Sequence[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        verdict: Sequence[str] | None = None,
    ) -> Page:
        """Under- and over-used resources in a scope and window: POST /analysis/utilization."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST",
                    "/analysis/utilization",
                    body={
                        "cursor": cursor,
                        "gpu": gpu,
                        "limit": limit,
                        "model": model,
                        "node": node,
                        "resource": resource,
                        "server": server,
                        "since": since,
                        "until": until,
                        "verdict": verdict,
                    },
                    listed=True,
                )
            ),
        )

    def analysis_waste(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        pool: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        by: str | None = None,
    ) -> Page:
        """What paid GPU time, energy and money went into: GET /analysis/waste."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/analysis/waste",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                        "gpu": gpu,
                        "pool": pool,
                        "label": label,
                        "by": by,
                    },
                    listed=True,
                )
            ),
        )

    def api_keys(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Every API key: GET /api-keys."""
        return cast(
            "Page", self._ask(question("GET", "/api-keys", query={"limit": limit, "cursor": cursor}, listed=True))
        )

    def api_key_create(
        self,
        *,
        name: str,
        days: float | None = None,
        scopes: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Make an API key: POST /api-keys."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/api-keys",
                    body={"name": name, "days": days, "scopes": scopes},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def api_key_revoke(self, key_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Revoke an API key: DELETE /api-keys/{key_id}."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "DELETE",
                    "/api-keys/{key_id}",
                    path={"key_id": key_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def audit(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        caller: str | Sequence[str] | None = None,
        operation: str | Sequence[str] | None = None,
    ) -> Page:
        """Who changed what, the newest first: GET /audit."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/audit",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "caller": caller,
                        "operation": operation,
                    },
                    listed=True,
                )
            ),
        )

    def capabilities(self) -> Answer:
        """What this control plane can do: GET /capabilities."""
        return cast("Answer", self._ask(question("GET", "/capabilities")))

    def config(self) -> Answer:
        """The settings in force: GET /config."""
        return cast("Answer", self._ask(question("GET", "/config")))

    def cost_gpu_hours(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        pool: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        by: str | None = None,
    ) -> Page:
        """GPU-hours, by what they went into: GET /cost/gpu-hours."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/cost/gpu-hours",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                        "gpu": gpu,
                        "pool": pool,
                        "label": label,
                        "by": by,
                    },
                    listed=True,
                )
            ),
        )

    def cost_prices(self) -> Answer:
        """The prices that hold: GET /cost/prices."""
        return cast("Answer", self._ask(question("GET", "/cost/prices")))

    def cost_prices_enter(
        self,
        *,
        as_of: str,
        currency: str | None = None,
        per_kwh: float | None = None,
        prices: Sequence[Mapping[str, Any]] | None = None,
        provider: str | None = None,
        usd_per_unit: float | None = None,
        use_list_prices: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Let other prices hold: PUT /cost/prices."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "PUT",
                    "/cost/prices",
                    body={
                        "as_of": as_of,
                        "currency": currency,
                        "per_kwh": per_kwh,
                        "prices": prices,
                        "provider": provider,
                        "usd_per_unit": usd_per_unit,
                        "use_list_prices": use_list_prices,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def cost_savings(self, *, window: str | None = None) -> Answer:
        """What could be saved, and what was: GET /cost/savings."""
        return cast("Answer", self._ask(question("GET", "/cost/savings", query={"window": window})))

    def cost_summary(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        pool: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        by: str | None = None,
    ) -> Page:
        """What was paid, what of it was waste, and what a million tokens cost: GET /cost/summary."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/cost/summary",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                        "gpu": gpu,
                        "pool": pool,
                        "label": label,
                        "by": by,
                    },
                    listed=True,
                )
            ),
        )

    def gpu_attribution(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        finding: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """To whom each GPU was given, who uses it, and what the difference says: GET /gpu/attribution."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/gpu/attribution",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "gpu": gpu,
                        "finding": finding,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    def gpu_health(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """Errors, links, fabric and set-up of every GPU: GET /gpu/health."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/gpu/health",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    def gpu_instances(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """The instances of GPUs in MIG mode: GET /gpu/instances."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/gpu/instances",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    def gpu_memory(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """Device memory, BAR1, ECC, remapped rows, and who holds it: GET /gpu/memory."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/gpu/memory",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    def gpu_metrics(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        field: str | Sequence[str] | None = None,
    ) -> Page:
        """The newest sample of every GPU: GET /gpu/metrics."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/gpu/metrics",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu, "field": field},
                    listed=True,
                )
            ),
        )

    def gpu_history(
        self,
        *,
        field: str | Sequence[str],
        since: str | None = None,
        until: str | None = None,
        step: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        by: str | None = None,
    ) -> Page:
        """Fields of GPUs over time, by GPU, node or fleet: GET /gpu/metrics/history."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/gpu/metrics/history",
                    query={
                        "field": field,
                        "since": since,
                        "until": until,
                        "step": step,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "gpu": gpu,
                        "by": by,
                    },
                    listed=True,
                )
            ),
        )

    def gpu_power(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """Power, and energy over a window: GET /gpu/power."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/gpu/power",
                    query={"since": since, "until": until, "limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    def gpu_temperature(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """Temperatures, thresholds and throttling: GET /gpu/temperature."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/gpu/temperature",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    def gpu_utilization(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """How busy GPUs really are, and with what: GET /gpu/utilization."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/gpu/utilization",
                    query={"since": since, "until": until, "limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    def health(self) -> Answer:
        """Up, and since when: GET /health."""
        return cast("Answer", self._ask(question("GET", "/health")))

    def health_detailed(self) -> Answer:
        """Every part, its state and last error: GET /health/detailed."""
        return cast("Answer", self._ask(question("GET", "/health/detailed")))

    def health_live(self) -> Answer:
        """The process's loop answers: GET /health/live."""
        return cast("Answer", self._ask(question("GET", "/health/live")))

    def health_ready(self) -> Answer:
        """Ready to serve: GET /health/ready."""
        return cast("Answer", self._ask(question("GET", "/health/ready")))

    def inference_servers(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """Every inference server found: GET /inference/servers."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/inference/servers",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    def inference_server(self, server_id: str) -> Answer:
        """One inference server, with its live load: GET /inference/servers/{server_id}."""
        return cast(
            "Answer", self._ask(question("GET", "/inference/servers/{server_id}", path={"server_id": server_id}))
        )

    def insights(self, body: Any, *, idempotency_key: str | None = None) -> Answer:
        """An explanation in words: POST /insights."""
        return cast(
            "Answer", self._ask(question("POST", "/insights", body=body, writes=True, idempotency_key=idempotency_key))
        )

    def orchestrator(self) -> Answer:
        """Registration with the orchestrator: GET /integrations/orchestrator."""
        return cast("Answer", self._ask(question("GET", "/integrations/orchestrator")))

    def lmcache_configure(
        self, *, cache_id: int, changes: Mapping[str, Any], idempotency_key: str | None = None
    ) -> Answer:
        """How a change of an LMCache is made: POST /lmcache/configure."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/lmcache/configure",
                    body={"cache_id": cache_id, "changes": changes},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def lmcache_metrics(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """What every LMCache did: GET /lmcache/metrics."""
        return cast(
            "Page",
            self._ask(
                question("GET", "/lmcache/metrics", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    def lmcache_optimize(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """How large each LMCache should be: POST /lmcache/optimize."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST", "/lmcache/optimize", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    def optimize_lmcache(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """How large each LMCache should be: POST /lmcache/optimize."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST", "/lmcache/optimize", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    def lmcache_status(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Every LMCache found: GET /lmcache/status."""
        return cast(
            "Page",
            self._ask(
                question("GET", "/lmcache/status", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    def metrics_exposition(self) -> str:
        """The control plane's own metrics, for Prometheus: GET /metrics."""
        return cast("str", self._ask(question("GET", "/metrics")))

    def metrics_collect(
        self,
        *,
        node: str | Sequence[str] | None = None,
        timeout_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Take a sample now: POST /metrics/collect."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/metrics/collect",
                    query={"node": node, "timeout_seconds": timeout_seconds},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def metrics_gpu(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Answer:
        """The GPUs behind each server, with its load: GET /metrics/gpu."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "GET",
                    "/metrics/gpu",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                )
            ),
        )

    def metrics_history(
        self,
        *,
        field: str | Sequence[str],
        since: str | None = None,
        until: str | None = None,
        step: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """Fields of inference servers over time: GET /metrics/history."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/metrics/history",
                    query={
                        "field": field,
                        "since": since,
                        "until": until,
                        "step": step,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    def metrics_latency(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """TTFT, time per token, queue, prefill, decode, end to end: GET /metrics/latency."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/metrics/latency",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    def metrics_memory(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Answer:
        """KV cache, prefix hits, preemptions: GET /metrics/memory."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "GET",
                    "/metrics/memory",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                )
            ),
        )

    def metrics_throughput(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Answer:
        """Requests and tokens per second: GET /metrics/throughput."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "GET",
                    "/metrics/throughput",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                )
            ),
        )

    def metrics_tokens(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Answer:
        """Token generation speed and lengths: GET /metrics/tokens."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "GET",
                    "/metrics/tokens",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                )
            ),
        )

    def nodes(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Every node and its state: GET /nodes."""
        return cast("Page", self._ask(question("GET", "/nodes", query={"limit": limit, "cursor": cursor}, listed=True)))

    def join_token(
        self,
        *,
        hours: float | None = None,
        max_uses: int | None = None,
        node_name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """A token to enrol nodes with: POST /nodes/join-tokens."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/nodes/join-tokens",
                    query={"hours": hours, "max_uses": max_uses, "node_name": node_name},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def node_forget(self, node_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Forget a node that is gone: DELETE /nodes/{node_id}."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "DELETE",
                    "/nodes/{node_id}",
                    path={"node_id": node_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def node(self, node_id: str) -> Answer:
        """One node, with what is on it: GET /nodes/{node_id}."""
        return cast("Answer", self._ask(question("GET", "/nodes/{node_id}", path={"node_id": node_id})))

    def node_config(self, node_id: str) -> Answer:
        """How one node is configured: GET /nodes/{node_id}/config."""
        return cast("Answer", self._ask(question("GET", "/nodes/{node_id}/config", path={"node_id": node_id})))

    def node_configure(
        self,
        node_id: str,
        *,
        discover_engines: bool | None = None,
        gpu_monitoring_enabled: bool | None = None,
        sampling_interval_seconds: float | None = None,
        scrape_targets: Sequence[str] | None = None,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> Answer:
        """Configure one node: PUT /nodes/{node_id}/config."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "PUT",
                    "/nodes/{node_id}/config",
                    path={"node_id": node_id},
                    body={
                        "discover_engines": discover_engines,
                        "gpu_monitoring_enabled": gpu_monitoring_enabled,
                        "sampling_interval_seconds": sampling_interval_seconds,
                        "scrape_targets": scrape_targets,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                    if_match=if_match,
                )
            ),
        )

    def node_events(
        self,
        node_id: str,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        kind: str | Sequence[str] | None = None,
    ) -> Page:
        """What happened on one node, the newest first: GET /nodes/{node_id}/events."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/nodes/{node_id}/events",
                    path={"node_id": node_id},
                    query={"since": since, "until": until, "limit": limit, "cursor": cursor, "kind": kind},
                    listed=True,
                )
            ),
        )

    def node_gpus_release(
        self, node_id: str, *, seconds: int | None = None, idempotency_key: str | None = None
    ) -> Answer:
        """Have an agent let go of its GPUs: POST /nodes/{node_id}/gpus/release."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/nodes/{node_id}/gpus/release",
                    path={"node_id": node_id},
                    query={"seconds": seconds},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def optimize_batch(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """More requests at once: POST /optimize/batch."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST", "/optimize/batch", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    def optimize_consolidate(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """The same engines on fewer GPUs: POST /optimize/consolidate."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST",
                    "/optimize/consolidate",
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                    listed=True,
                )
            ),
        )

    def optimize_execute(
        self,
        *,
        recommendation_id: int,
        dry_run: bool | None = None,
        watch_looks: int | None = None,
        watch_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Carry a recommendation out: POST /optimize/execute."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/optimize/execute",
                    body={
                        "recommendation_id": recommendation_id,
                        "dry_run": dry_run,
                        "watch_looks": watch_looks,
                        "watch_seconds": watch_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def execute_optimization(
        self,
        *,
        recommendation_id: int,
        dry_run: bool | None = None,
        watch_looks: int | None = None,
        watch_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Carry a recommendation out: POST /optimize/execute."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/optimize/execute",
                    body={
                        "recommendation_id": recommendation_id,
                        "dry_run": dry_run,
                        "watch_looks": watch_looks,
                        "watch_seconds": watch_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def optimize_executions(
        self, *, limit: int | None = None, cursor: str | None = None, state: str | Sequence[str] | None = None
    ) -> Page:
        """Every execution, the newest first: GET /optimize/executions."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET", "/optimize/executions", query={"limit": limit, "cursor": cursor, "state": state}, listed=True
                )
            ),
        )

    def optimize_execution(self, workflow_id: str) -> Answer:
        """One execution: GET /optimize/executions/{workflow_id}."""
        return cast(
            "Answer",
            self._ask(question("GET", "/optimize/executions/{workflow_id}", path={"workflow_id": workflow_id})),
        )

    def optimize_cancel(self, workflow_id: str, body: Any, *, idempotency_key: str | None = None) -> Answer:
        """Stop an execution: POST /optimize/executions/{workflow_id}/cancel."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/optimize/executions/{workflow_id}/cancel",
                    path={"workflow_id": workflow_id},
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def optimize_kv_cache(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """Room in the KV cache: POST /optimize/kv-cache."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST", "/optimize/kv-cache", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    def optimize_parallelism(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """The same GPUs, divided otherwise: POST /optimize/parallelism."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST",
                    "/optimize/parallelism",
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                    listed=True,
                )
            ),
        )

    def optimize_quantize(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """Weights in fewer bits: POST /optimize/quantize."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST", "/optimize/quantize", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    def optimize_recommendations(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        state: str | Sequence[str] | None = None,
        kind: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
    ) -> Page:
        """What is recommended, ranked by what it saves: GET /optimize/recommendations."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/optimize/recommendations",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "state": state,
                        "kind": kind,
                        "server": server,
                        "model": model,
                    },
                    listed=True,
                )
            ),
        )

    def get_scaling_recommendations(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        state: str | Sequence[str] | None = None,
        kind: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
    ) -> Page:
        """What is recommended, ranked by what it saves: GET /optimize/recommendations."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/optimize/recommendations",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "state": state,
                        "kind": kind,
                        "server": server,
                        "model": model,
                    },
                    listed=True,
                )
            ),
        )

    def optimize_recommendations_post(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        state: str | Sequence[str] | None = None,
        kind: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
    ) -> Page:
        """The same, as published scripts ask for it: POST /optimize/recommendations."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST",
                    "/optimize/recommendations",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "state": state,
                        "kind": kind,
                        "server": server,
                        "model": model,
                    },
                    listed=True,
                )
            ),
        )

    def optimize_recommendation(self, recommendation_id: int) -> Answer:
        """One recommendation: GET /optimize/recommendations/{recommendation_id}."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "GET",
                    "/optimize/recommendations/{recommendation_id}",
                    path={"recommendation_id": recommendation_id},
                )
            ),
        )

    def optimize_approve(self, recommendation_id: int, body: Any, *, idempotency_key: str | None = None) -> Answer:
        """Agree to a recommendation: POST /optimize/recommendations/{recommendation_id}/approve."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/optimize/recommendations/{recommendation_id}/approve",
                    path={"recommendation_id": recommendation_id},
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def optimize_reject(self, recommendation_id: int, body: Any, *, idempotency_key: str | None = None) -> Answer:
        """Turn a recommendation down: POST /optimize/recommendations/{recommendation_id}/reject."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/optimize/recommendations/{recommendation_id}/reject",
                    path={"recommendation_id": recommendation_id},
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def optimize_scale_down(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """Fewer replicas, where those that are left hold it: POST /optimize/scale-down."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST", "/optimize/scale-down", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    def optimize_scale_up(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """More replicas, where demand needs them: POST /optimize/scale-up."""
        return cast(
            "Page",
            self._ask(
                question(
                    "POST", "/optimize/scale-up", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    def rollout_history(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """All rollouts, the newest first: GET /rollout/history."""
        return cast(
            "Page",
            self._ask(question("GET", "/rollout/history", query={"limit": limit, "cursor": cursor}, listed=True)),
        )

    def rollout_rollback(self, *, rollout_id: str, idempotency_key: str | None = None) -> Answer:
        """Take a rollout back: POST /rollout/rollback."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/rollout/rollback",
                    body={"rollout_id": rollout_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def rollout_start(
        self,
        *,
        target: str,
        allowed_bad_ratio: float | None = None,
        approve_before_percent: Sequence[float] | None = None,
        bad_margin_ratio: float | None = None,
        bake_seconds: float | None = None,
        drain_seconds: float | None = None,
        dry_run: bool | None = None,
        least_requests: int | None = None,
        least_seconds: float | None = None,
        most_seconds: float | None = None,
        ready_seconds: float | None = None,
        replicas: int | None = None,
        steps_percent: Sequence[float] | None = None,
        strategy: str | None = None,
        warm_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Begin a rollout: POST /rollout/start."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/rollout/start",
                    body={
                        "target": target,
                        "allowed_bad_ratio": allowed_bad_ratio,
                        "approve_before_percent": approve_before_percent,
                        "bad_margin_ratio": bad_margin_ratio,
                        "bake_seconds": bake_seconds,
                        "drain_seconds": drain_seconds,
                        "dry_run": dry_run,
                        "least_requests": least_requests,
                        "least_seconds": least_seconds,
                        "most_seconds": most_seconds,
                        "ready_seconds": ready_seconds,
                        "replicas": replicas,
                        "steps_percent": steps_percent,
                        "strategy": strategy,
                        "warm_seconds": warm_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def rollout_status(self, *, id: str | None = None) -> Page:
        """Rollouts under way: GET /rollout/status."""
        return cast("Page", self._ask(question("GET", "/rollout/status", query={"id": id}, listed=True)))

    def rollout_get(self, rollout_id: str) -> Answer:
        """One rollout with its history: GET /rollout/{rollout_id}."""
        return cast("Answer", self._ask(question("GET", "/rollout/{rollout_id}", path={"rollout_id": rollout_id})))

    def rollout_pause(self, rollout_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Hold where it is: POST /rollout/{rollout_id}/pause."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/rollout/{rollout_id}/pause",
                    path={"rollout_id": rollout_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def rollout_promote(self, rollout_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Go on now: POST /rollout/{rollout_id}/promote."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/rollout/{rollout_id}/promote",
                    path={"rollout_id": rollout_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def rollout_resume(self, rollout_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Go on with the step that was held: POST /rollout/{rollout_id}/resume."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/rollout/{rollout_id}/resume",
                    path={"rollout_id": rollout_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def slo_list(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Every objective: GET /slo."""
        return cast("Page", self._ask(question("GET", "/slo", query={"limit": limit, "cursor": cursor}, listed=True)))

    def slo_configure(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """Make or change objectives: POST /slo/configure."""
        return cast(
            "Page",
            self._ask(
                question("POST", "/slo/configure", body=body, writes=True, idempotency_key=idempotency_key, listed=True)
            ),
        )

    def slo_status(
        self, *, limit: int | None = None, cursor: str | None = None, slo: str | Sequence[str] | None = None
    ) -> Page:
        """How objectives are kept now: GET /slo/status."""
        return cast(
            "Page",
            self._ask(
                question("GET", "/slo/status", query={"limit": limit, "cursor": cursor, "slo": slo}, listed=True)
            ),
        )

    def slo_violations(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        slo: str | Sequence[str] | None = None,
    ) -> Page:
        """When objectives were not kept: GET /slo/violations."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/slo/violations",
                    query={"since": since, "until": until, "limit": limit, "cursor": cursor, "slo": slo},
                    listed=True,
                )
            ),
        )

    def slo_delete(self, slo_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Take an objective back: DELETE /slo/{slo_id}."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "DELETE", "/slo/{slo_id}", path={"slo_id": slo_id}, writes=True, idempotency_key=idempotency_key
                )
            ),
        )

    def slo_get(self, slo_id: str) -> Answer:
        """One objective: GET /slo/{slo_id}."""
        return cast("Answer", self._ask(question("GET", "/slo/{slo_id}", path={"slo_id": slo_id})))

    def slo_budget(
        self, slo_id: str, *, since: str | None = None, until: str | None = None, step: str | None = None
    ) -> Answer:
        """Error budget and burn rate over time: GET /slo/{slo_id}/budget."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "GET",
                    "/slo/{slo_id}/budget",
                    path={"slo_id": slo_id},
                    query={"since": since, "until": until, "step": step},
                )
            ),
        )

    def system_all(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Everything about each machine: GET /system/all."""
        return cast(
            "Page",
            self._ask(
                question("GET", "/system/all", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    def system_cpu(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """CPU use, load and pressure: GET /system/cpu."""
        return cast(
            "Page",
            self._ask(
                question("GET", "/system/cpu", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    def system_disk(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Disks and file systems: GET /system/disk."""
        return cast(
            "Page",
            self._ask(
                question("GET", "/system/disk", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    def system_history(
        self,
        *,
        field: str | Sequence[str],
        since: str | None = None,
        until: str | None = None,
        step: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
    ) -> Page:
        """Fields of machines over time: GET /system/history."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/system/history",
                    query={
                        "field": field,
                        "since": since,
                        "until": until,
                        "step": step,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                    },
                    listed=True,
                )
            ),
        )

    def system_memory(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Memory, swap and pressure: GET /system/memory."""
        return cast(
            "Page",
            self._ask(
                question("GET", "/system/memory", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    def system_network(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Network interfaces and InfiniBand ports: GET /system/network."""
        return cast(
            "Page",
            self._ask(
                question("GET", "/system/network", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    def test_profiles(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """Workloads to test with: GET /test/profiles."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/test/profiles",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    def test_results(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        kind: str | Sequence[str] | None = None,
        state: str | Sequence[str] | None = None,
    ) -> Page:
        """Test runs, the newest first: GET /test/results."""
        return cast(
            "Page",
            self._ask(
                question(
                    "GET",
                    "/test/results",
                    query={"limit": limit, "cursor": cursor, "kind": kind, "state": state},
                    listed=True,
                )
            ),
        )

    def test_result(self, test_id: str) -> Answer:
        """One test run with its figures: GET /test/results/{test_id}."""
        return cast("Answer", self._ask(question("GET", "/test/results/{test_id}", path={"test_id": test_id})))

    def test_run(
        self,
        *,
        base_url: str,
        api: str | None = None,
        api_key: str | None = None,
        find_highest_rate: bool | None = None,
        load: Mapping[str, Any] | None = None,
        model: str | None = None,
        most_in_flight: int | None = None,
        most_rate: float | None = None,
        objective: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        seed: int | None = None,
        timeout_seconds: float | None = None,
        warm_up_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Put load on a server: POST /test/run."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/test/run",
                    body={
                        "base_url": base_url,
                        "api": api,
                        "api_key": api_key,
                        "find_highest_rate": find_highest_rate,
                        "load": load,
                        "model": model,
                        "most_in_flight": most_in_flight,
                        "most_rate": most_rate,
                        "objective": objective,
                        "seconds": seconds,
                        "seed": seed,
                        "timeout_seconds": timeout_seconds,
                        "warm_up_seconds": warm_up_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def test_validate(
        self,
        *,
        baseline_url: str,
        candidate_url: str,
        api: str | None = None,
        api_key: str | None = None,
        baseline_api_key: str | None = None,
        baseline_model: str | None = None,
        compare_words: bool | None = None,
        load: Mapping[str, Any] | None = None,
        margins: Mapping[str, Any] | None = None,
        model: str | None = None,
        most_in_flight: int | None = None,
        objective: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        seed: int | None = None,
        timeout_seconds: float | None = None,
        warm_up_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """May this server replace that one?: POST /test/validate."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/test/validate",
                    body={
                        "baseline_url": baseline_url,
                        "candidate_url": candidate_url,
                        "api": api,
                        "api_key": api_key,
                        "baseline_api_key": baseline_api_key,
                        "baseline_model": baseline_model,
                        "compare_words": compare_words,
                        "load": load,
                        "margins": margins,
                        "model": model,
                        "most_in_flight": most_in_flight,
                        "objective": objective,
                        "seconds": seconds,
                        "seed": seed,
                        "timeout_seconds": timeout_seconds,
                        "warm_up_seconds": warm_up_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def test_cancel(self, test_id: str, *, idempotency_key: str | None = None) -> Answer:
        """End a test run: POST /test/{test_id}/cancel."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/test/{test_id}/cancel",
                    path={"test_id": test_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    def workflows(
        self, *, limit: int | None = None, cursor: str | None = None, state: str | Sequence[str] | None = None
    ) -> Page:
        """Every workflow, the newest first: GET /workflows."""
        return cast(
            "Page",
            self._ask(
                question("GET", "/workflows", query={"limit": limit, "cursor": cursor, "state": state}, listed=True)
            ),
        )

    def workflow_run(self, body: Any, *, idempotency_key: str | None = None) -> Answer:
        """Begin a workflow: POST /workflows/run."""
        return cast(
            "Answer",
            self._ask(question("POST", "/workflows/run", body=body, writes=True, idempotency_key=idempotency_key)),
        )

    def workflow(self, workflow_id: str) -> Answer:
        """One workflow: GET /workflows/{workflow_id}."""
        return cast("Answer", self._ask(question("GET", "/workflows/{workflow_id}", path={"workflow_id": workflow_id})))

    def workflow_resume(
        self, workflow_id: str, *, approved: bool, reason: str | None = None, idempotency_key: str | None = None
    ) -> Answer:
        """Agree, or not, to what a workflow has chosen: POST /workflows/{workflow_id}/resume."""
        return cast(
            "Answer",
            self._ask(
                question(
                    "POST",
                    "/workflows/{workflow_id}/resume",
                    path={"workflow_id": workflow_id},
                    body={"approved": approved, "reason": reason},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )


class AsyncOperations:
    """One method for each operation."""

    async def _ask(self, asked: Question) -> Any:
        raise NotImplementedError

    async def root(self) -> Answer:
        """What this is, and where to look: GET /."""
        return cast("Answer", await self._ask(question("GET", "/")))

    async def alerts(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        state: str | Sequence[str] | None = None,
        severity: str | Sequence[str] | None = None,
        rule: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        since: str | None = None,
    ) -> Page:
        """Alerts, the newest first: GET /alerts."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/alerts",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "state": state,
                        "severity": severity,
                        "rule": rule,
                        "label": label,
                        "since": since,
                    },
                    listed=True,
                )
            ),
        )

    async def alert_rules(self) -> Answer:
        """What is configured of alerts: GET /alerts/rules."""
        return cast("Answer", await self._ask(question("GET", "/alerts/rules")))

    async def alert_rules_put(
        self,
        *,
        rules: Sequence[Mapping[str, Any]],
        default_receiver: str | None = None,
        grouping: Mapping[str, Any] | None = None,
        inhibitions: Sequence[Mapping[str, Any]] | None = None,
        receivers: Sequence[Mapping[str, Any]] | None = None,
        revision: int | None = None,
        routes: Sequence[Mapping[str, Any]] | None = None,
        silences: Sequence[Mapping[str, Any]] | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Configure alerts: PUT /alerts/rules."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "PUT",
                    "/alerts/rules",
                    body={
                        "rules": rules,
                        "default_receiver": default_receiver,
                        "grouping": grouping,
                        "inhibitions": inhibitions,
                        "receivers": receivers,
                        "revision": revision,
                        "routes": routes,
                        "silences": silences,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def alert(self, alert_id: int) -> Answer:
        """One alert: GET /alerts/{alert_id}."""
        return cast("Answer", await self._ask(question("GET", "/alerts/{alert_id}", path={"alert_id": alert_id})))

    async def alert_acknowledge(
        self, alert_id: int, *, comment: str | None = None, idempotency_key: str | None = None
    ) -> Answer:
        """Say that somebody has an alert in hand: POST /alerts/{alert_id}/acknowledge."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/alerts/{alert_id}/acknowledge",
                    path={"alert_id": alert_id},
                    body={"comment": comment},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def analysis_bottlenecks(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
        of: str | None = None,
        bottleneck: str | Sequence[str] | None = None,
    ) -> Page:
        """What binds each inference server, and what to do about it: GET /analysis/bottlenecks."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/analysis/bottlenecks",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                        "of": of,
                        "bottleneck": bottleneck,
                    },
                    listed=True,
                )
            ),
        )

    async def analysis_correlation(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        window: str | None = None,
        model: str | Sequence[str] | None = None,
    ) -> Page:
        """Throughput per GPU, watt and dollar; latency against utilisation: GET /analysis/correlation."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/analysis/correlation",
                    query={"limit": limit, "cursor": cursor, "window": window, "model": model},
                    listed=True,
                )
            ),
        )

    async def analysis_forecast(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        horizon: str | None = None,
        model: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
    ) -> Page:
        """Demand that will come, at most how much, and how far to believe it: GET /analysis/forecast."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/analysis/forecast",
                    query={"limit": limit, "cursor": cursor, "horizon": horizon, "model": model, "server": server},
                    listed=True,
                )
            ),
        )

    async def analysis_opportunities(
        self, *, limit: int | None = None, cursor: str | None = None, window: str | None = None
    ) -> Page:
        """What could be saved, ranked by value: GET /analysis/opportunities."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/analysis/opportunities",
                    query={"limit": limit, "cursor": cursor, "window": window},
                    listed=True,
                )
            ),
        )

    async def analysis_report(self, *, window: str | None = None, format: str | None = None) -> Answer:
        """The whole as JSON, Markdown or HTML with plots: GET /analysis/report."""
        return cast(
            "Answer", await self._ask(question("GET", "/analysis/report", query={"window": window, "format": format}))
        )

    async def analysis_trends(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        window: str | None = None,
        by: str | None = None,
        model: str | Sequence[str] | None = None,
        node: str | Sequence[str] | None = None,
    ) -> Page:
        """Trend, seasons and changes of demand and resources, with what is forecast: GET /analysis/trends."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/analysis/trends",
                    query={"limit": limit, "cursor": cursor, "window": window, "by": by, "model": model, "node": node},
                    listed=True,
                )
            ),
        )

    async def analysis_utilization(
        self,
        *,
        cursor: str | None = None,
        gpu: Sequence[str] | None = None,
        limit: int | None = None,
        model: Sequence[str] | None = None,
        node: Sequence[str] | None = None,
        resource: Sequence[str] | None = None,
        server: Sequence[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        verdict: Sequence[str] | None = None,
    ) -> Page:
        """Under- and over-used resources in a scope and window: POST /analysis/utilization."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST",
                    "/analysis/utilization",
                    body={
                        "cursor": cursor,
                        "gpu": gpu,
                        "limit": limit,
                        "model": model,
                        "node": node,
                        "resource": resource,
                        "server": server,
                        "since": since,
                        "until": until,
                        "verdict": verdict,
                    },
                    listed=True,
                )
            ),
        )

    async def analyze_utilization(
        self,
        *,
        cursor: str | None = None,
        gpu: Sequence[str] | None = None,
        limit: int | None = None,
        model: Sequence[str] | None = None,
        node: Sequence[str] | None = None,
        resource: Sequence[str] | None = None,
        server: Sequence[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        verdict: Sequence[str] | None = None,
    ) -> Page:
        """Under- and over-used resources in a scope and window: POST /analysis/utilization."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST",
                    "/analysis/utilization",
                    body={
                        "cursor": cursor,
                        "gpu": gpu,
                        "limit": limit,
                        "model": model,
                        "node": node,
                        "resource": resource,
                        "server": server,
                        "since": since,
                        "until": until,
                        "verdict": verdict,
                    },
                    listed=True,
                )
            ),
        )

    async def analysis_waste(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        pool: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        by: str | None = None,
    ) -> Page:
        """What paid GPU time, energy and money went into: GET /analysis/waste."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/analysis/waste",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                        "gpu": gpu,
                        "pool": pool,
                        "label": label,
                        "by": by,
                    },
                    listed=True,
                )
            ),
        )

    async def api_keys(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Every API key: GET /api-keys."""
        return cast(
            "Page", await self._ask(question("GET", "/api-keys", query={"limit": limit, "cursor": cursor}, listed=True))
        )

    async def api_key_create(
        self,
        *,
        name: str,
        days: float | None = None,
        scopes: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Make an API key: POST /api-keys."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/api-keys",
                    body={"name": name, "days": days, "scopes": scopes},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def api_key_revoke(self, key_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Revoke an API key: DELETE /api-keys/{key_id}."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "DELETE",
                    "/api-keys/{key_id}",
                    path={"key_id": key_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def audit(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        caller: str | Sequence[str] | None = None,
        operation: str | Sequence[str] | None = None,
    ) -> Page:
        """Who changed what, the newest first: GET /audit."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/audit",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "caller": caller,
                        "operation": operation,
                    },
                    listed=True,
                )
            ),
        )

    async def capabilities(self) -> Answer:
        """What this control plane can do: GET /capabilities."""
        return cast("Answer", await self._ask(question("GET", "/capabilities")))

    async def config(self) -> Answer:
        """The settings in force: GET /config."""
        return cast("Answer", await self._ask(question("GET", "/config")))

    async def cost_gpu_hours(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        pool: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        by: str | None = None,
    ) -> Page:
        """GPU-hours, by what they went into: GET /cost/gpu-hours."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/cost/gpu-hours",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                        "gpu": gpu,
                        "pool": pool,
                        "label": label,
                        "by": by,
                    },
                    listed=True,
                )
            ),
        )

    async def cost_prices(self) -> Answer:
        """The prices that hold: GET /cost/prices."""
        return cast("Answer", await self._ask(question("GET", "/cost/prices")))

    async def cost_prices_enter(
        self,
        *,
        as_of: str,
        currency: str | None = None,
        per_kwh: float | None = None,
        prices: Sequence[Mapping[str, Any]] | None = None,
        provider: str | None = None,
        usd_per_unit: float | None = None,
        use_list_prices: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Let other prices hold: PUT /cost/prices."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "PUT",
                    "/cost/prices",
                    body={
                        "as_of": as_of,
                        "currency": currency,
                        "per_kwh": per_kwh,
                        "prices": prices,
                        "provider": provider,
                        "usd_per_unit": usd_per_unit,
                        "use_list_prices": use_list_prices,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def cost_savings(self, *, window: str | None = None) -> Answer:
        """What could be saved, and what was: GET /cost/savings."""
        return cast("Answer", await self._ask(question("GET", "/cost/savings", query={"window": window})))

    async def cost_summary(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        pool: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        by: str | None = None,
    ) -> Page:
        """What was paid, what of it was waste, and what a million tokens cost: GET /cost/summary."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/cost/summary",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                        "gpu": gpu,
                        "pool": pool,
                        "label": label,
                        "by": by,
                    },
                    listed=True,
                )
            ),
        )

    async def gpu_attribution(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        finding: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """To whom each GPU was given, who uses it, and what the difference says: GET /gpu/attribution."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/gpu/attribution",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "gpu": gpu,
                        "finding": finding,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    async def gpu_health(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """Errors, links, fabric and set-up of every GPU: GET /gpu/health."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/gpu/health",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    async def gpu_instances(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """The instances of GPUs in MIG mode: GET /gpu/instances."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/gpu/instances",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    async def gpu_memory(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """Device memory, BAR1, ECC, remapped rows, and who holds it: GET /gpu/memory."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/gpu/memory",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    async def gpu_metrics(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        field: str | Sequence[str] | None = None,
    ) -> Page:
        """The newest sample of every GPU: GET /gpu/metrics."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/gpu/metrics",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu, "field": field},
                    listed=True,
                )
            ),
        )

    async def gpu_history(
        self,
        *,
        field: str | Sequence[str],
        since: str | None = None,
        until: str | None = None,
        step: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
        by: str | None = None,
    ) -> Page:
        """Fields of GPUs over time, by GPU, node or fleet: GET /gpu/metrics/history."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/gpu/metrics/history",
                    query={
                        "field": field,
                        "since": since,
                        "until": until,
                        "step": step,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "gpu": gpu,
                        "by": by,
                    },
                    listed=True,
                )
            ),
        )

    async def gpu_power(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """Power, and energy over a window: GET /gpu/power."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/gpu/power",
                    query={"since": since, "until": until, "limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    async def gpu_temperature(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """Temperatures, thresholds and throttling: GET /gpu/temperature."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/gpu/temperature",
                    query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    async def gpu_utilization(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        gpu: str | Sequence[str] | None = None,
    ) -> Page:
        """How busy GPUs really are, and with what: GET /gpu/utilization."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/gpu/utilization",
                    query={"since": since, "until": until, "limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
                    listed=True,
                )
            ),
        )

    async def health(self) -> Answer:
        """Up, and since when: GET /health."""
        return cast("Answer", await self._ask(question("GET", "/health")))

    async def health_detailed(self) -> Answer:
        """Every part, its state and last error: GET /health/detailed."""
        return cast("Answer", await self._ask(question("GET", "/health/detailed")))

    async def health_live(self) -> Answer:
        """The process's loop answers: GET /health/live."""
        return cast("Answer", await self._ask(question("GET", "/health/live")))

    async def health_ready(self) -> Answer:
        """Ready to serve: GET /health/ready."""
        return cast("Answer", await self._ask(question("GET", "/health/ready")))

    async def inference_servers(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """Every inference server found: GET /inference/servers."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/inference/servers",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    async def inference_server(self, server_id: str) -> Answer:
        """One inference server, with its live load: GET /inference/servers/{server_id}."""
        return cast(
            "Answer", await self._ask(question("GET", "/inference/servers/{server_id}", path={"server_id": server_id}))
        )

    async def insights(self, body: Any, *, idempotency_key: str | None = None) -> Answer:
        """An explanation in words: POST /insights."""
        return cast(
            "Answer",
            await self._ask(question("POST", "/insights", body=body, writes=True, idempotency_key=idempotency_key)),
        )

    async def orchestrator(self) -> Answer:
        """Registration with the orchestrator: GET /integrations/orchestrator."""
        return cast("Answer", await self._ask(question("GET", "/integrations/orchestrator")))

    async def lmcache_configure(
        self, *, cache_id: int, changes: Mapping[str, Any], idempotency_key: str | None = None
    ) -> Answer:
        """How a change of an LMCache is made: POST /lmcache/configure."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/lmcache/configure",
                    body={"cache_id": cache_id, "changes": changes},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def lmcache_metrics(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """What every LMCache did: GET /lmcache/metrics."""
        return cast(
            "Page",
            await self._ask(
                question("GET", "/lmcache/metrics", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    async def lmcache_optimize(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """How large each LMCache should be: POST /lmcache/optimize."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST", "/lmcache/optimize", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    async def optimize_lmcache(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """How large each LMCache should be: POST /lmcache/optimize."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST", "/lmcache/optimize", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    async def lmcache_status(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Every LMCache found: GET /lmcache/status."""
        return cast(
            "Page",
            await self._ask(
                question("GET", "/lmcache/status", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    async def metrics_exposition(self) -> str:
        """The control plane's own metrics, for Prometheus: GET /metrics."""
        return cast("str", await self._ask(question("GET", "/metrics")))

    async def metrics_collect(
        self,
        *,
        node: str | Sequence[str] | None = None,
        timeout_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Take a sample now: POST /metrics/collect."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/metrics/collect",
                    query={"node": node, "timeout_seconds": timeout_seconds},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def metrics_gpu(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Answer:
        """The GPUs behind each server, with its load: GET /metrics/gpu."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "GET",
                    "/metrics/gpu",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                )
            ),
        )

    async def metrics_history(
        self,
        *,
        field: str | Sequence[str],
        since: str | None = None,
        until: str | None = None,
        step: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """Fields of inference servers over time: GET /metrics/history."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/metrics/history",
                    query={
                        "field": field,
                        "since": since,
                        "until": until,
                        "step": step,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    async def metrics_latency(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """TTFT, time per token, queue, prefill, decode, end to end: GET /metrics/latency."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/metrics/latency",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    async def metrics_memory(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Answer:
        """KV cache, prefix hits, preemptions: GET /metrics/memory."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "GET",
                    "/metrics/memory",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                )
            ),
        )

    async def metrics_throughput(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Answer:
        """Requests and tokens per second: GET /metrics/throughput."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "GET",
                    "/metrics/throughput",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                )
            ),
        )

    async def metrics_tokens(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Answer:
        """Token generation speed and lengths: GET /metrics/tokens."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "GET",
                    "/metrics/tokens",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                )
            ),
        )

    async def nodes(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Every node and its state: GET /nodes."""
        return cast(
            "Page", await self._ask(question("GET", "/nodes", query={"limit": limit, "cursor": cursor}, listed=True))
        )

    async def join_token(
        self,
        *,
        hours: float | None = None,
        max_uses: int | None = None,
        node_name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """A token to enrol nodes with: POST /nodes/join-tokens."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/nodes/join-tokens",
                    query={"hours": hours, "max_uses": max_uses, "node_name": node_name},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def node_forget(self, node_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Forget a node that is gone: DELETE /nodes/{node_id}."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "DELETE",
                    "/nodes/{node_id}",
                    path={"node_id": node_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def node(self, node_id: str) -> Answer:
        """One node, with what is on it: GET /nodes/{node_id}."""
        return cast("Answer", await self._ask(question("GET", "/nodes/{node_id}", path={"node_id": node_id})))

    async def node_config(self, node_id: str) -> Answer:
        """How one node is configured: GET /nodes/{node_id}/config."""
        return cast("Answer", await self._ask(question("GET", "/nodes/{node_id}/config", path={"node_id": node_id})))

    async def node_configure(
        self,
        node_id: str,
        *,
        discover_engines: bool | None = None,
        gpu_monitoring_enabled: bool | None = None,
        sampling_interval_seconds: float | None = None,
        scrape_targets: Sequence[str] | None = None,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> Answer:
        """Configure one node: PUT /nodes/{node_id}/config."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "PUT",
                    "/nodes/{node_id}/config",
                    path={"node_id": node_id},
                    body={
                        "discover_engines": discover_engines,
                        "gpu_monitoring_enabled": gpu_monitoring_enabled,
                        "sampling_interval_seconds": sampling_interval_seconds,
                        "scrape_targets": scrape_targets,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                    if_match=if_match,
                )
            ),
        )

    async def node_events(
        self,
        node_id: str,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        kind: str | Sequence[str] | None = None,
    ) -> Page:
        """What happened on one node, the newest first: GET /nodes/{node_id}/events."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/nodes/{node_id}/events",
                    path={"node_id": node_id},
                    query={"since": since, "until": until, "limit": limit, "cursor": cursor, "kind": kind},
                    listed=True,
                )
            ),
        )

    async def node_gpus_release(
        self, node_id: str, *, seconds: int | None = None, idempotency_key: str | None = None
    ) -> Answer:
        """Have an agent let go of its GPUs: POST /nodes/{node_id}/gpus/release."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/nodes/{node_id}/gpus/release",
                    path={"node_id": node_id},
                    query={"seconds": seconds},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def optimize_batch(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """More requests at once: POST /optimize/batch."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST", "/optimize/batch", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    async def optimize_consolidate(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """The same engines on fewer GPUs: POST /optimize/consolidate."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST",
                    "/optimize/consolidate",
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                    listed=True,
                )
            ),
        )

    async def optimize_execute(
        self,
        *,
        recommendation_id: int,
        dry_run: bool | None = None,
        watch_looks: int | None = None,
        watch_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Carry a recommendation out: POST /optimize/execute."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/optimize/execute",
                    body={
                        "recommendation_id": recommendation_id,
                        "dry_run": dry_run,
                        "watch_looks": watch_looks,
                        "watch_seconds": watch_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def execute_optimization(
        self,
        *,
        recommendation_id: int,
        dry_run: bool | None = None,
        watch_looks: int | None = None,
        watch_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Carry a recommendation out: POST /optimize/execute."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/optimize/execute",
                    body={
                        "recommendation_id": recommendation_id,
                        "dry_run": dry_run,
                        "watch_looks": watch_looks,
                        "watch_seconds": watch_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def optimize_executions(
        self, *, limit: int | None = None, cursor: str | None = None, state: str | Sequence[str] | None = None
    ) -> Page:
        """Every execution, the newest first: GET /optimize/executions."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET", "/optimize/executions", query={"limit": limit, "cursor": cursor, "state": state}, listed=True
                )
            ),
        )

    async def optimize_execution(self, workflow_id: str) -> Answer:
        """One execution: GET /optimize/executions/{workflow_id}."""
        return cast(
            "Answer",
            await self._ask(question("GET", "/optimize/executions/{workflow_id}", path={"workflow_id": workflow_id})),
        )

    async def optimize_cancel(self, workflow_id: str, body: Any, *, idempotency_key: str | None = None) -> Answer:
        """Stop an execution: POST /optimize/executions/{workflow_id}/cancel."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/optimize/executions/{workflow_id}/cancel",
                    path={"workflow_id": workflow_id},
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def optimize_kv_cache(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """Room in the KV cache: POST /optimize/kv-cache."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST", "/optimize/kv-cache", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    async def optimize_parallelism(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """The same GPUs, divided otherwise: POST /optimize/parallelism."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST",
                    "/optimize/parallelism",
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                    listed=True,
                )
            ),
        )

    async def optimize_quantize(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """Weights in fewer bits: POST /optimize/quantize."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST", "/optimize/quantize", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    async def optimize_recommendations(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        state: str | Sequence[str] | None = None,
        kind: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
    ) -> Page:
        """What is recommended, ranked by what it saves: GET /optimize/recommendations."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/optimize/recommendations",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "state": state,
                        "kind": kind,
                        "server": server,
                        "model": model,
                    },
                    listed=True,
                )
            ),
        )

    async def get_scaling_recommendations(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        state: str | Sequence[str] | None = None,
        kind: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
    ) -> Page:
        """What is recommended, ranked by what it saves: GET /optimize/recommendations."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/optimize/recommendations",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "state": state,
                        "kind": kind,
                        "server": server,
                        "model": model,
                    },
                    listed=True,
                )
            ),
        )

    async def optimize_recommendations_post(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        state: str | Sequence[str] | None = None,
        kind: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
    ) -> Page:
        """The same, as published scripts ask for it: POST /optimize/recommendations."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST",
                    "/optimize/recommendations",
                    query={
                        "limit": limit,
                        "cursor": cursor,
                        "state": state,
                        "kind": kind,
                        "server": server,
                        "model": model,
                    },
                    listed=True,
                )
            ),
        )

    async def optimize_recommendation(self, recommendation_id: int) -> Answer:
        """One recommendation: GET /optimize/recommendations/{recommendation_id}."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "GET",
                    "/optimize/recommendations/{recommendation_id}",
                    path={"recommendation_id": recommendation_id},
                )
            ),
        )

    async def optimize_approve(
        self, recommendation_id: int, body: Any, *, idempotency_key: str | None = None
    ) -> Answer:
        """Agree to a recommendation: POST /optimize/recommendations/{recommendation_id}/approve."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/optimize/recommendations/{recommendation_id}/approve",
                    path={"recommendation_id": recommendation_id},
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def optimize_reject(self, recommendation_id: int, body: Any, *, idempotency_key: str | None = None) -> Answer:
        """Turn a recommendation down: POST /optimize/recommendations/{recommendation_id}/reject."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/optimize/recommendations/{recommendation_id}/reject",
                    path={"recommendation_id": recommendation_id},
                    body=body,
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def optimize_scale_down(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """Fewer replicas, where those that are left hold it: POST /optimize/scale-down."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST", "/optimize/scale-down", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    async def optimize_scale_up(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """More replicas, where demand needs them: POST /optimize/scale-up."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "POST", "/optimize/scale-up", body=body, writes=True, idempotency_key=idempotency_key, listed=True
                )
            ),
        )

    async def rollout_history(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """All rollouts, the newest first: GET /rollout/history."""
        return cast(
            "Page",
            await self._ask(question("GET", "/rollout/history", query={"limit": limit, "cursor": cursor}, listed=True)),
        )

    async def rollout_rollback(self, *, rollout_id: str, idempotency_key: str | None = None) -> Answer:
        """Take a rollout back: POST /rollout/rollback."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/rollout/rollback",
                    body={"rollout_id": rollout_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def rollout_start(
        self,
        *,
        target: str,
        allowed_bad_ratio: float | None = None,
        approve_before_percent: Sequence[float] | None = None,
        bad_margin_ratio: float | None = None,
        bake_seconds: float | None = None,
        drain_seconds: float | None = None,
        dry_run: bool | None = None,
        least_requests: int | None = None,
        least_seconds: float | None = None,
        most_seconds: float | None = None,
        ready_seconds: float | None = None,
        replicas: int | None = None,
        steps_percent: Sequence[float] | None = None,
        strategy: str | None = None,
        warm_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Begin a rollout: POST /rollout/start."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/rollout/start",
                    body={
                        "target": target,
                        "allowed_bad_ratio": allowed_bad_ratio,
                        "approve_before_percent": approve_before_percent,
                        "bad_margin_ratio": bad_margin_ratio,
                        "bake_seconds": bake_seconds,
                        "drain_seconds": drain_seconds,
                        "dry_run": dry_run,
                        "least_requests": least_requests,
                        "least_seconds": least_seconds,
                        "most_seconds": most_seconds,
                        "ready_seconds": ready_seconds,
                        "replicas": replicas,
                        "steps_percent": steps_percent,
                        "strategy": strategy,
                        "warm_seconds": warm_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def rollout_status(self, *, id: str | None = None) -> Page:
        """Rollouts under way: GET /rollout/status."""
        return cast("Page", await self._ask(question("GET", "/rollout/status", query={"id": id}, listed=True)))

    async def rollout_get(self, rollout_id: str) -> Answer:
        """One rollout with its history: GET /rollout/{rollout_id}."""
        return cast(
            "Answer", await self._ask(question("GET", "/rollout/{rollout_id}", path={"rollout_id": rollout_id}))
        )

    async def rollout_pause(self, rollout_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Hold where it is: POST /rollout/{rollout_id}/pause."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/rollout/{rollout_id}/pause",
                    path={"rollout_id": rollout_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def rollout_promote(self, rollout_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Go on now: POST /rollout/{rollout_id}/promote."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/rollout/{rollout_id}/promote",
                    path={"rollout_id": rollout_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def rollout_resume(self, rollout_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Go on with the step that was held: POST /rollout/{rollout_id}/resume."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/rollout/{rollout_id}/resume",
                    path={"rollout_id": rollout_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def slo_list(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Every objective: GET /slo."""
        return cast(
            "Page", await self._ask(question("GET", "/slo", query={"limit": limit, "cursor": cursor}, listed=True))
        )

    async def slo_configure(self, body: Any, *, idempotency_key: str | None = None) -> Page:
        """Make or change objectives: POST /slo/configure."""
        return cast(
            "Page",
            await self._ask(
                question("POST", "/slo/configure", body=body, writes=True, idempotency_key=idempotency_key, listed=True)
            ),
        )

    async def slo_status(
        self, *, limit: int | None = None, cursor: str | None = None, slo: str | Sequence[str] | None = None
    ) -> Page:
        """How objectives are kept now: GET /slo/status."""
        return cast(
            "Page",
            await self._ask(
                question("GET", "/slo/status", query={"limit": limit, "cursor": cursor, "slo": slo}, listed=True)
            ),
        )

    async def slo_violations(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        slo: str | Sequence[str] | None = None,
    ) -> Page:
        """When objectives were not kept: GET /slo/violations."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/slo/violations",
                    query={"since": since, "until": until, "limit": limit, "cursor": cursor, "slo": slo},
                    listed=True,
                )
            ),
        )

    async def slo_delete(self, slo_id: str, *, idempotency_key: str | None = None) -> Answer:
        """Take an objective back: DELETE /slo/{slo_id}."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "DELETE", "/slo/{slo_id}", path={"slo_id": slo_id}, writes=True, idempotency_key=idempotency_key
                )
            ),
        )

    async def slo_get(self, slo_id: str) -> Answer:
        """One objective: GET /slo/{slo_id}."""
        return cast("Answer", await self._ask(question("GET", "/slo/{slo_id}", path={"slo_id": slo_id})))

    async def slo_budget(
        self, slo_id: str, *, since: str | None = None, until: str | None = None, step: str | None = None
    ) -> Answer:
        """Error budget and burn rate over time: GET /slo/{slo_id}/budget."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "GET",
                    "/slo/{slo_id}/budget",
                    path={"slo_id": slo_id},
                    query={"since": since, "until": until, "step": step},
                )
            ),
        )

    async def system_all(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Everything about each machine: GET /system/all."""
        return cast(
            "Page",
            await self._ask(
                question("GET", "/system/all", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    async def system_cpu(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """CPU use, load and pressure: GET /system/cpu."""
        return cast(
            "Page",
            await self._ask(
                question("GET", "/system/cpu", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    async def system_disk(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Disks and file systems: GET /system/disk."""
        return cast(
            "Page",
            await self._ask(
                question("GET", "/system/disk", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    async def system_history(
        self,
        *,
        field: str | Sequence[str],
        since: str | None = None,
        until: str | None = None,
        step: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
    ) -> Page:
        """Fields of machines over time: GET /system/history."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/system/history",
                    query={
                        "field": field,
                        "since": since,
                        "until": until,
                        "step": step,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                    },
                    listed=True,
                )
            ),
        )

    async def system_memory(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Memory, swap and pressure: GET /system/memory."""
        return cast(
            "Page",
            await self._ask(
                question("GET", "/system/memory", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    async def system_network(
        self, *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
    ) -> Page:
        """Network interfaces and InfiniBand ports: GET /system/network."""
        return cast(
            "Page",
            await self._ask(
                question("GET", "/system/network", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
            ),
        )

    async def test_profiles(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        node: str | Sequence[str] | None = None,
        server: str | Sequence[str] | None = None,
        model: str | Sequence[str] | None = None,
        namespace: str | Sequence[str] | None = None,
        pod: str | Sequence[str] | None = None,
    ) -> Page:
        """Workloads to test with: GET /test/profiles."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/test/profiles",
                    query={
                        "since": since,
                        "until": until,
                        "limit": limit,
                        "cursor": cursor,
                        "node": node,
                        "server": server,
                        "model": model,
                        "namespace": namespace,
                        "pod": pod,
                    },
                    listed=True,
                )
            ),
        )

    async def test_results(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        kind: str | Sequence[str] | None = None,
        state: str | Sequence[str] | None = None,
    ) -> Page:
        """Test runs, the newest first: GET /test/results."""
        return cast(
            "Page",
            await self._ask(
                question(
                    "GET",
                    "/test/results",
                    query={"limit": limit, "cursor": cursor, "kind": kind, "state": state},
                    listed=True,
                )
            ),
        )

    async def test_result(self, test_id: str) -> Answer:
        """One test run with its figures: GET /test/results/{test_id}."""
        return cast("Answer", await self._ask(question("GET", "/test/results/{test_id}", path={"test_id": test_id})))

    async def test_run(
        self,
        *,
        base_url: str,
        api: str | None = None,
        api_key: str | None = None,
        find_highest_rate: bool | None = None,
        load: Mapping[str, Any] | None = None,
        model: str | None = None,
        most_in_flight: int | None = None,
        most_rate: float | None = None,
        objective: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        seed: int | None = None,
        timeout_seconds: float | None = None,
        warm_up_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Put load on a server: POST /test/run."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/test/run",
                    body={
                        "base_url": base_url,
                        "api": api,
                        "api_key": api_key,
                        "find_highest_rate": find_highest_rate,
                        "load": load,
                        "model": model,
                        "most_in_flight": most_in_flight,
                        "most_rate": most_rate,
                        "objective": objective,
                        "seconds": seconds,
                        "seed": seed,
                        "timeout_seconds": timeout_seconds,
                        "warm_up_seconds": warm_up_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def test_validate(
        self,
        *,
        baseline_url: str,
        candidate_url: str,
        api: str | None = None,
        api_key: str | None = None,
        baseline_api_key: str | None = None,
        baseline_model: str | None = None,
        compare_words: bool | None = None,
        load: Mapping[str, Any] | None = None,
        margins: Mapping[str, Any] | None = None,
        model: str | None = None,
        most_in_flight: int | None = None,
        objective: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        seed: int | None = None,
        timeout_seconds: float | None = None,
        warm_up_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """May this server replace that one?: POST /test/validate."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/test/validate",
                    body={
                        "baseline_url": baseline_url,
                        "candidate_url": candidate_url,
                        "api": api,
                        "api_key": api_key,
                        "baseline_api_key": baseline_api_key,
                        "baseline_model": baseline_model,
                        "compare_words": compare_words,
                        "load": load,
                        "margins": margins,
                        "model": model,
                        "most_in_flight": most_in_flight,
                        "objective": objective,
                        "seconds": seconds,
                        "seed": seed,
                        "timeout_seconds": timeout_seconds,
                        "warm_up_seconds": warm_up_seconds,
                    },
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def test_cancel(self, test_id: str, *, idempotency_key: str | None = None) -> Answer:
        """End a test run: POST /test/{test_id}/cancel."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/test/{test_id}/cancel",
                    path={"test_id": test_id},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )

    async def workflows(
        self, *, limit: int | None = None, cursor: str | None = None, state: str | Sequence[str] | None = None
    ) -> Page:
        """Every workflow, the newest first: GET /workflows."""
        return cast(
            "Page",
            await self._ask(
                question("GET", "/workflows", query={"limit": limit, "cursor": cursor, "state": state}, listed=True)
            ),
        )

    async def workflow_run(self, body: Any, *, idempotency_key: str | None = None) -> Answer:
        """Begin a workflow: POST /workflows/run."""
        return cast(
            "Answer",
            await self._ask(
                question("POST", "/workflows/run", body=body, writes=True, idempotency_key=idempotency_key)
            ),
        )

    async def workflow(self, workflow_id: str) -> Answer:
        """One workflow: GET /workflows/{workflow_id}."""
        return cast(
            "Answer", await self._ask(question("GET", "/workflows/{workflow_id}", path={"workflow_id": workflow_id}))
        )

    async def workflow_resume(
        self, workflow_id: str, *, approved: bool, reason: str | None = None, idempotency_key: str | None = None
    ) -> Answer:
        """Agree, or not, to what a workflow has chosen: POST /workflows/{workflow_id}/resume."""
        return cast(
            "Answer",
            await self._ask(
                question(
                    "POST",
                    "/workflows/{workflow_id}/resume",
                    path={"workflow_id": workflow_id},
                    body={"approved": approved, "reason": reason},
                    writes=True,
                    idempotency_key=idempotency_key,
                )
            ),
        )
