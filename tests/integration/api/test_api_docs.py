"""The interactive description must work on a host without the internet."""

from __future__ import annotations

import re

from tests.support.rest import Api


async def test_the_docs_page_needs_nothing_from_other_hosts(empty_api: Api) -> None:
    page = await empty_api.client.get("/docs")
    assert page.status_code == 200
    links = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(links) >= 3
    for link in links:
        assert link.startswith("/"), link
        asset = await empty_api.client.get(link)
        assert asset.status_code == 200, link
        assert asset.content
