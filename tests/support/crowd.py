"""Clients of a real engine that keep it busy."""

from __future__ import annotations

import threading

import httpx2


class Crowd:
    """Clients that ask a real engine for completions, one after the other each."""

    def __init__(self, base: str, clients: int, *, tokens: int) -> None:
        model = httpx2.get(f"{base}/v1/models").json()["data"][0]["id"]
        self._url = f"{base}/v1/completions"
        self._body = {"model": model, "prompt": list(range(300, 332)), "max_tokens": tokens, "ignore_eos": True}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def _ask(self) -> None:
        with httpx2.Client(timeout=120) as client:
            while not self._over.is_set():
                client.post(self._url, json=self._body)

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=120)
