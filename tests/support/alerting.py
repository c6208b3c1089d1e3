"""A whole control plane with its agent beside an engine, an objective on it, and somebody's webhook."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.webhook import Webhook
from tests.support.up import Up, eventually, free_ports

INTERVAL_SECONDS = 2.0  # between scrapes
SPACING_SECONDS = 5.0  # the least that may lie between two notifications of a group
SLO = {"name": "ttft", "indicator": "ttft", "threshold_seconds": 0.5, "target_ratio": 0.95}
SECRET = "whsec_c2lnbmVkIGJ5IHRlc3Rz"


class Alerting:
    """What is asked of it, and what its webhook was told."""

    def __init__(self, up: Up, hook: Webhook, url: str) -> None:
        """`url` is the webhook's."""
        self.up, self.hook, self.url = up, hook, url

    def configure(self, *kinds: str, slo: Mapping[str, object] | None = None) -> None:
        """This will ask for alerts of some kinds, told within a second, and for an objective."""
        if slo is not None:
            self.up.post("/slo/configure", dict(slo))
        body = {
            "rules": [{"name": kind, "kind": kind, "keep_seconds": 1} for kind in kinds],
            "receivers": [{"name": "ops", "webhook_url": self.url, "signing_secret": SECRET}],
            "default_receiver": "ops",
            "grouping": {"by": ["rule"], "wait_seconds": 0, "interval_seconds": SPACING_SECONDS},
        }  # fmt: skip
        status, _ = self.up.put("/alerts/rules", body)
        assert status == 200

    def told(self, rule: str, status: str, *, after: float = 0.0) -> tuple[float, Mapping[str, Any]] | None:
        """This will give when the webhook was first told that an alert fires, or is over, and its alert; None: not."""
        for at, _, body in list(self.hook.taken):
            for alert in body["alerts"]:
                if at > after and (alert["labels"]["rule"], alert["status"]) == (rule, status):
                    return at, alert
        return None

    def wait_until_told(
        self, rule: str, status: str, *, after: float = 0.0, within_seconds: float = 90.0
    ) -> tuple[float, Mapping[str, Any]]:
        """This will wait for it."""
        return eventually(
            lambda: self.told(rule, status, after=after), within_seconds=within_seconds, what=f"{rule} {status}"
        )

    def wait_for_events(self, least: float) -> None:
        """This will wait until the guard has seen so many events of the objective."""
        eventually(lambda: self._events() >= least, within_seconds=120, what=f"{least:g} events")

    def _events(self) -> float:
        (item,) = self.up.get("/slo/status")["items"]
        return float((item["guard"] or {}).get("events") or 0.0)


@contextmanager
def alerting(folder: Path, target: str) -> Iterator[Alerting]:
    """This will start it over the engine at `target`, and leave nothing of it behind."""
    hook = Webhook()
    (port,) = free_ports(1)
    server = hook.serve(port)
    up = Up(folder, "--sampling-interval-seconds", f"{INTERVAL_SECONDS:g}", "--scrape-targets", target)
    up.start()
    try:
        up.wait_for_samples()
        yield Alerting(up, hook, f"http://127.0.0.1:{port}/alerts")
    finally:
        up.stop()
        server.shutdown()
        server.server_close()


def now() -> float:
    """This will give the time as the webhook notes it."""
    return time.time()
