"""What must not be shown is replaced: in logs, in audit entries, in whatever leaves the process.

By the name of the field it stands in, and by its own form: our keys and tokens, bearer tokens, private keys, names and
passwords in URLs. It is the second line of defence: nobody is to hand a secret on in the first place.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

SHOWN_INSTEAD = "***"
MOST_DEPTH = 32

_SECRET_NAME = re.compile(
    r"(?i)(?:^|[_-])(?:token|secret|password|passwd|authorization|cookie|credentials?|private[_-]?key|secret[_-]?key"
    r"|api[_-]?key|webhook[_-]?url)s?$"
)
_FORMS = re.compile(
    r"\boik_[a-z0-9]{4,}_[A-Za-z0-9_-]{8,}"  # our API keys
    r"|\boi1\.\d{1,5}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)?"  # our join tokens
    r"|\b(?:gsk|sk|ghp|glpat|xox[abprs])[_-][A-Za-z0-9_-]{16,}"  # keys of LLM, code and chat services
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)?"  # JSON web tokens
    r"|(?i:\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=://)[^/?#\s@\"']+@"  # name and password of a URL
)


def text(value: str) -> str:
    """This will replace what has the form of a secret."""
    return _FORMS.sub(lambda found: f"{SHOWN_INSTEAD}@" if found[0].endswith("@") else SHOWN_INSTEAD, value)


def value(given: Any, *, depth: int = 0) -> Any:
    """This will replace secrets in what JSON can hold; what lies deeper than anything of ours is left out."""
    if isinstance(given, str):
        return text(given)
    if isinstance(given, Mapping | list | tuple) and depth >= MOST_DEPTH:
        return "…"
    if isinstance(given, Mapping):
        return {name: _named(str(name), entry, depth + 1) for name, entry in given.items()}
    if isinstance(given, list | tuple):
        return [value(entry, depth=depth + 1) for entry in given]
    return given


def _named(name: str, entry: Any, depth: int) -> Any:
    if isinstance(entry, str) and entry and _SECRET_NAME.search(name):
        return SHOWN_INSTEAD
    return value(entry, depth=depth)


class LogFilter(logging.Filter):
    """On a handler: this will replace secrets in every line, whoever logs it, its trace included."""

    def filter(self, record: logging.LogRecord) -> bool:
        """This will let every record pass, without its secrets."""
        said = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = text(record.exc_text)
        cleaned = text(said)
        if cleaned != said:
            record.msg, record.args = cleaned, ()
        return True
