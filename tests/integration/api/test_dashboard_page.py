"""The page at /dashboard and its files: what they allow a browser, and that they are whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.api import dashboard_page
from control_plane.api.dashboard_page import ASSETS, IMPORTS
from tests.support.rest import Api

ROOT = Path(__file__).parents[3]
WEB = ROOT / "control_plane" / "web"
with_libraries = pytest.mark.skipif(
    not dashboard_page.has_libraries(), reason="NEEDS THE DASHBOARD'S LIBRARIES: make vendor"
)


async def test_without_its_libraries_the_page_says_what_to_do(empty_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_page, "has_libraries", lambda: False)
    page = await empty_api.client.get("/dashboard")
    assert page.status_code == 503
    assert "make vendor" in page.text


@with_libraries
async def test_the_page_may_load_and_ask_nothing_but_this_control_plane(empty_api: Api) -> None:
    page = await empty_api.client.get("/dashboard")
    assert page.status_code == 200
    policy = dict(rule.strip().split(" ", 1) for rule in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert re.findall(r"https?://", page.text) == []
    assert "{{" not in page.text


@with_libraries
async def test_the_page_says_what_this_release_answers(empty_api: Api) -> None:
    page = (await empty_api.client.get("/dashboard")).text
    (paths,) = re.findall(r'name="optiinfra-paths" content="([^"]*)"', page)
    document = (await empty_api.client.get("/openapi.json")).json()
    assert set(paths.split(" ")) == set(document["paths"])
    assert (await empty_api.get("/"))["links"]["dashboard"] == "/dashboard"


@with_libraries
async def test_every_file_that_the_page_and_its_modules_name_is_served(empty_api: Api) -> None:
    named = set(re.findall(rf'"({ASSETS}/[^"]+)"', (WEB / "index.html").read_text())) | set(IMPORTS.values())
    for module in WEB.rglob("*.js"):
        for relative in re.findall(r'from "(\.[^"]+)"', module.read_text()) if "vendor" not in module.parts else ():
            named.add(f"{ASSETS}/{(module.parent / relative).resolve().relative_to(WEB.resolve())}")
    assert len(named) > 15
    for path in sorted(named):
        answer = await empty_api.client.get(path)
        assert answer.status_code == 200, path
        kind = answer.headers["content-type"].partition(";")[0]
        expected = {"css": "text/css", "svg": "image/svg+xml"}.get(path.rpartition(".")[2], "javascript")
        assert expected in kind, (path, kind)
    assert (await empty_api.client.get(f"{ASSETS}/../../api/app.py")).status_code == 404


@with_libraries
def test_the_libraries_are_those_that_were_pinned_unmodified_and_with_their_licences() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "scripts" / "vendor.py", "--check"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    libraries = {path.name.split(".")[0] for path in (WEB / "vendor").glob("*.LICENSE")}
    assert libraries == {"preact", "htm", "uPlot"}
