"""Questions to a control plane over its REST door, with nothing but the standard library."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from control_plane.model.errors import OptiInfraError
from control_plane.settings import LOOPBACK, Settings

TIMEOUT_SECONDS = 20.0


class NoAnswer(OptiInfraError):
    """The control plane did not answer, or refused; the text says what to do."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        """`status` is the HTTP status of a refusal; None: nobody answered."""
        super().__init__(text)
        self.status = status


class Rest:
    """One control plane, by its URL."""

    def __init__(self, settings: Settings, url: str | None = None) -> None:
        """`url` is another control plane than the one that these settings describe."""
        self.url = (url or settings.own_url).rstrip("/")
        self._key = settings.api_key.get_secret_value() if settings.api_key else None
        self._opener = _opener(settings, is_own=url is None)

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Any = None,
        **parameters: str | int | float | Sequence[str] | None,
    ) -> Any:
        """This will ask, and give the answer's JSON. Raises NoAnswer."""
        asked = {name: value for name, value in parameters.items() if value is not None}
        query = f"?{urlencode(asked, doseq=True)}" if asked else ""
        headers: Mapping[str, str] = {"Accept": "application/json"}
        if self._key:
            headers = {**headers, "Authorization": f"Bearer {self._key}"}
        sent = None
        if body is not None:
            sent, headers = json.dumps(body).encode(), {**headers, "Content-Type": "application/json"}
        request = Request(f"{self.url}{path}{query}", sent, dict(headers), method=method)  # noqa: S310 - the user's own
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise NoAnswer(_refusal(error), status=error.code) from error
        except (URLError, OSError, ValueError) as error:
            why = error.reason if isinstance(error, URLError) else error
            raise NoAnswer(f"no control plane answers at {self.url} ({why}); name its --host and --port") from error


def _opener(settings: Settings, *, is_own: bool) -> OpenerDirector:
    handlers: list[Any] = [ProxyHandler({})]
    if is_own and settings.tls_cert_file is not None and settings.own_host in LOOPBACK:
        # On this very host, and the certificate is for another name.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(HTTPSHandler(context=context))
    return build_opener(*handlers)


def _refusal(error: HTTPError) -> str:
    try:
        said = str(json.load(error).get("detail", error.reason))
    except ValueError:
        said = str(error.reason)
    return f"{said} (OPTIINFRA_API_KEY is what this command presents)" if error.code == 401 else said
