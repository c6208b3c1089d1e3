"""The dashboard at /dashboard: files that lie in `control_plane/web`, with a policy that lets the page load and ask
nothing but this control plane."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from html import escape
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

PAGE = "/dashboard"
ASSETS = f"{PAGE}/assets"
# Libraries name each other as npm does; this says where they lie.
IMPORTS = {
    "preact": f"{ASSETS}/vendor/preact.mjs",
    "preact/hooks": f"{ASSETS}/vendor/preact-hooks.mjs",
    "htm": f"{ASSETS}/vendor/htm.mjs",
}
IMPORT_MAP = json.dumps({"imports": IMPORTS}, separators=(",", ":"))


def _policy() -> str:
    """This will allow the page its own files, the one script that stands in it and questions to us; nothing else."""
    digest = base64.b64encode(hashlib.sha256(IMPORT_MAP.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; "
        "require-trusted-types-for 'script'"
    )


# What stands in the page's place when set-up could not fetch them; a wheel and an image have them inside.
WITHOUT_LIBRARIES = """<!doctype html><html lang="en"><meta charset="utf-8"><title>OptiInfra</title>
<p>The dashboard's libraries are not here: set-up could not fetch them. Run <code>make vendor</code> where there is a
network, then load this page again. The same figures: <a href="/analysis/report">/analysis/report</a>,
<a href="/docs">/docs</a>."""


@cache
def _folder() -> Path:
    return Path(str(files("control_plane.web")))


def has_libraries() -> bool:
    """This will say whether the files are there that set-up fetches (scripts/vendor.py)."""
    needed = [*IMPORTS.values(), f"{ASSETS}/vendor/uPlot.iife.min.js", f"{ASSETS}/vendor/uPlot.min.css"]
    return all((_folder() / path.removeprefix(f"{ASSETS}/")).is_file() for path in needed)


def install(app: FastAPI) -> None:
    """This will serve the dashboard over the application's own endpoints. What the page asks needs the usual key; the
    page itself, which says nothing of the fleet, does not."""
    app.mount(ASSETS, StaticFiles(directory=_folder()), name="dashboard-assets")
    policy = _policy()

    @app.get(PAGE, include_in_schema=False)
    async def dashboard() -> HTMLResponse:
        if not has_libraries():
            return HTMLResponse(WITHOUT_LIBRARIES, HTTPStatus.SERVICE_UNAVAILABLE)
        # What this release answers: the page offers nothing else, and need not try.
        paths = sorted({r.path_format for r in app.routes if isinstance(r, APIRoute) and r.include_in_schema})
        page = (_folder() / "index.html").read_text(encoding="utf-8")
        for name, value in (("version", app.version), ("paths", " ".join(paths))):
            page = page.replace("{{" + name + "}}", escape(value))
        page = page.replace("{{importmap}}", IMPORT_MAP)
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    @app.get(f"{PAGE}/", include_in_schema=False)
    async def without_slash() -> RedirectResponse:
        return RedirectResponse(PAGE)
