"""Takes the pictures of the dashboard in docs/images/dashboard: `make screenshots` (needs Chromium). Fleets of 1, 8 and
1,000 GPUs are made up (tests/support/scene.py) and go through the real door, into a real Postgres, to a real browser.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto" / "gen")]

from tests.fakes.clock import FakeClock  # noqa: E402
from tests.support import scene  # noqa: E402
from tests.support.postgres import running_postgres  # noqa: E402

OUT = ROOT / "docs" / "images" / "dashboard"
SIZES = (1, 8, 1000)
WIDTH, HEIGHT = 1280, 800
COLOURS = 160  # text stays clean, and a picture is a third as large


def places(base: str, page: Page) -> dict[str, str]:
    """This will give the pages to take, by the name of their picture."""
    servers = page.request.get(f"{base}/inference/servers").json()["items"]
    late = servers[-1]["server_id"]  # where the queue grows, when there are several
    return {
        "fleet": "fleet", "nodes": "nodes", "node": f"nodes/{scene.node_name(0)}",
        "gpu": f"gpus/{scene.gpu_uuid(0, 0)}", "servers": "servers", "server": f"servers/{late}",
        "money": "money", "slos": "slos", "alerts": "alerts",
    }  # fmt: skip


def keep(picture: bytes, path: Path) -> None:
    """This will write a picture with few colours."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    few = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def main() -> int:
    """This will take every page at every size, light and dark."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.stderr.write("no Chromium here: apt install chromium\n")
        return 2
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    OUT.mkdir(parents=True, exist_ok=True)
    with running_postgres() as postgres:
        for size in sizes:
            url, clock = postgres.migrated(), FakeClock()
            scene.fill(url, scene.Scene(size), clock)
            with scene.served(url, clock) as base, sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                for theme in ("light", "dark"):
                    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)
                    for name, place in places(base, page).items():
                        page.goto("about:blank")
                        answer = page.goto(f"{base}/dashboard#/{place}")
                        if answer is None or not answer.ok:
                            raise SystemExit("there is no dashboard to take a picture of: `make vendor`")
                        page.wait_for_load_state("networkidle")
                        page.locator(".loading").first.wait_for(state="detached")
                        # As a visitor sees it first; a page that is little longer is taken whole.
                        whole = page.evaluate("document.documentElement.scrollHeight")
                        page.set_viewport_size({"width": WIDTH, "height": min(max(whole, 420), HEIGHT * 3 // 2)})
                        page.wait_for_timeout(200)  # charts and maps are drawn again at the new size
                        keep(page.screenshot(), OUT / f"{name}-{size}-{theme}.png")
                        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
                    page.close()
                browser.close()
            postgres.drop(url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
