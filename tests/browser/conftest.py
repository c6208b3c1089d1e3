"""A real Chromium before a real server. Where there is none these tests are skipped, and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from control_plane.api.dashboard_page import has_libraries
from tests.fakes.clock import FakeClock
from tests.support import scene
from tests.support.postgres import PostgresForTests

CHROMIUM = os.environ.get("OPTIINFRA_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
# One node at known kinds of work, and two GPUs of another that do not say what their multiprocessors do.
SCENE = scene.Scene(gpus=10, ticks=25, old=frozenset({1}))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a module. Not for longer: while it is there this thread has a loop, and no other test may."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt install chromium, or name one in OPTIINFRA_TEST_CHROMIUM")
    if not has_libraries():
        pytest.skip("NEEDS THE DASHBOARD'S LIBRARIES: make vendor")
    with sync_playwright() as playwright:
        # As root, as in a container, Chromium's own sandbox cannot be made.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def scene_url(postgres_server: PostgresForTests) -> Iterator[str]:
    """A database with the scene. Nobody writes into it."""
    url = postgres_server.migrated()
    scene.fill(url, SCENE, FakeClock())
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="session")
def control_plane(scene_url: str) -> Iterator[str]:
    """A control plane over the scene, without keys: its address."""
    with scene.served(scene_url, FakeClock()) as address:
        yield address


@dataclass
class Visit:
    """A page in the browser, and everything that went wrong in it."""

    page: Page
    address: str
    wrong: list[str] = field(default_factory=list)

    def watch(self) -> Visit:
        """This will note errors, and questions to anybody but the control plane."""
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.wrong.append(said.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda asked: self._is_ours(asked.url) or self.wrong.append(f"asked {asked.url}"))
        return self

    def _is_ours(self, url: str) -> bool:
        return urlsplit(url).netloc == urlsplit(self.address).netloc or url.startswith("data:")

    def go(self, place: str) -> Page:
        """This will open a place of the dashboard, and wait until it has been answered."""
        self.page.goto(f"{self.address}/dashboard#/{place}")
        self.page.locator("h1").wait_for()
        self.settled()
        return self.page

    def settled(self) -> None:
        """This will wait until nothing is loading."""
        self.page.wait_for_load_state("networkidle")
        self.page.locator(".loading").first.wait_for(state="detached")


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A new profile."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    yield context
    context.close()


@pytest.fixture
def visit(context: BrowserContext, control_plane: str) -> Visit:
    """A visitor of the scene."""
    return Visit(context.new_page(), control_plane).watch()
