"""How soon the dashboard is there: from asking for the page to its figures, in a real browser with nothing cached."""

from __future__ import annotations

import shutil
import time

from playwright.sync_api import Browser, sync_playwright

from benchmarks.api_latency import filled
from benchmarks.figures import Figure, Result
from benchmarks.processes import control_plane

RUNS = 7
GPUS = {8: 1, 1000: 125}  # and how many nodes have them
FLOOR = "floor: a page of a few bytes"
EXPLANATION = (
    "From asking for the page to what a visitor waits for, in a real headless Chromium with a new profile each time, "
    "against a control plane on the same host. The floor is the same browser asking for `/health/live`. The first "
    "paint is the browser's own figure (first contentful paint); the figures are there when the table of GPUs, which "
    "is below the map, has its first row."
)


def _visit(browser: Browser, address: str, path: str, *, wait_for: str | None) -> tuple[float, float]:
    """This will open a page in a new profile, and give the ms to the first paint and to what was waited for."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
    started = time.perf_counter()
    page.goto(f"{address}{path}", wait_until="load" if wait_for is None else "commit")
    if wait_for is not None:
        page.locator(wait_for).first.wait_for()
    took = (time.perf_counter() - started) * 1000
    painted = page.evaluate(
        "() => performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)[0] ?? null"
    )
    context.close()
    assert not wrong, wrong
    return (took if painted is None else painted), took


def measure(*, quick: bool = False) -> Result:
    """This will measure. Raises RuntimeError where there is no Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise RuntimeError("no Chromium here: apt install chromium")
    runs = 2 if quick else RUNS
    figures: list[Figure] = []
    floor: list[float] = []
    for gpus, nodes in ({8: 1} if quick else GPUS).items():
        with control_plane() as server, sync_playwright() as playwright:
            filled(server, nodes, first=0)
            address = f"http://127.0.0.1:{server.port}"
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            _visit(
                browser, address, "/dashboard", wait_for="tbody tr"
            )  # the browser's own first start is nobody's wait
            painted, there = [], []
            for _ in range(runs):
                floor.append(_visit(browser, address, "/health/live", wait_for=None)[1])
                first, last = _visit(browser, address, "/dashboard", wait_for="tbody tr")
                painted.append(first)
                there.append(last)
            browser.close()
        figures.append(Figure(name=f"{gpus} GPUs: first paint", unit="ms", values=painted, floor=FLOOR))
        figures.append(Figure(name=f"{gpus} GPUs: figures there", unit="ms", values=there, floor=FLOOR))
    figures.append(Figure(name=FLOOR, unit="ms", values=floor))
    return Result(
        name="dashboard", title="The dashboard's first view", explanation=EXPLANATION, figures=figures,
        notes=["No page wrote an error into the browser's console; the benchmark fails if one does."],
    )  # fmt: skip
