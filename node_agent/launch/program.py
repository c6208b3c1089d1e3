"""Which program of an engine a command line starts, and on which port that program says its metrics.

Only what stands behind the program's own word is its: before it stand shells, interpreters, `env` with its
assignments and other wrappers, whose flags mean something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from node_agent.untrusted import Plain

ENGINE = re.compile(r"vllm|sglang|text[-_]generation|lmcache", re.IGNORECASE)  # also VLLM::APIServer, sglang::scheduler
# What may stand before a program without taking it for a value: Python's switches, and the end of a wrapper's flags.
_NO_VALUE = frozenset({"-m", "-u", "-B", "-E", "-I", "-O", "-OO", "-s", "-S", "--"})
_MODULE = re.compile(r"(lmcache(?:\.\w+)+)")
_MODULE_FILE = re.compile(r"(?:.*/)?(lmcache(?:/\w+)+)\.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An engine's program and its own arguments. These may hold secrets."""

    word: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """Where a program shows its metrics, as far as its command line says."""

    number: int | None
    certain: bool  # no other port of this program may be asked


# Programs of LMCache 0.3 to 0.5 (pyproject.toml, docs/source/mp), by console script, subcommand or module: the flag
# that names the port of their metrics, and its default. None: it shows none, and its port speaks another protocol.
_LMCACHE: Mapping[str, tuple[str, int] | None] = MappingProxyType(
    {
        "server": ("http_port", 8080),  # its --port speaks ZMQ or gRPC
        "coordinator": ("port", 9300),
        "lmcache_controller": ("port", 9000),
        "lmcache_server": None,
        "lmcache.v1.api_server": ("port", 9000),
        "lmcache.v1.mp_coordinator": ("port", 9300),
        "lmcache.v1.multiprocess.http_server": ("http_port", 8080),
        "lmcache.v1.multiprocess.server": ("prometheus_port", 9090),  # no HTTP but that of prometheus_client
        "lmcache.v1.multiprocess.blend_server": ("prometheus_port", 9090),
        "lmcache.v1.multiprocess.blend_server_v2": ("prometheus_port", 9090),
        "lmcache.v1.server": None,
        "lmcache.server": None,
    }
)
_LMCACHE_COMMANDS = frozenset({"lmcache", "lmcache.cli.main", "lmcache.cli"})
# Their default can be changed by a file or the environment, so that another port of theirs may be the one.
_MOVABLE = frozenset({"coordinator", "lmcache_controller", "lmcache.v1.api_server", "lmcache.v1.mp_coordinator"})


def program(words: Sequence[str]) -> Program | None:
    """This will find the engine's program in a command line, None when there is none.

    It is the first word that names an engine and is no flag, no flag's value, no assignment and no script for a
    shell. Of a path only the last part counts, for an interpreter may lie in an engine's own environment.
    """
    before = ""
    for position, word in enumerate(words):
        if _names_a_program(word, before):
            return Program(word=word, arguments=tuple(words[position + 1 :]))
        before = word
    return None


def metrics_port(found: Program, flags: Mapping[str, Plain]) -> Port:
    """This will say where a program shows its metrics, by its flags and what is known of it."""
    name = _lmcache_name(found)
    if name not in _LMCACHE:
        number = flags.get("port")
        return Port(number=number if isinstance(number, int) else None, certain=False)
    where = _LMCACHE[name]
    if where is None:
        return Port(number=None, certain=True)
    flag, default = where
    number = flags.get(flag)
    said = isinstance(number, int)
    return Port(number=number if isinstance(number, int) else default, certain=said or name not in _MOVABLE)


def _names_a_program(word: str, before: str) -> bool:
    """This will say whether a word is the program that all words behind it belong to."""
    if word.startswith("-") or (before.startswith("-") and before not in _NO_VALUE):
        return False
    if "=" in word or any(character.isspace() for character in word):
        return False
    base = word.rpartition("/")[2]
    return ENGINE.search(word if base.endswith(".py") else base) is not None


def _lmcache_name(found: Program) -> str:
    """This will name a program of LMCache as the table does; for any other program the table has no entry."""
    matched = _MODULE.fullmatch(found.word) or _MODULE_FILE.fullmatch(found.word)
    name = matched[1].replace("/", ".") if matched is not None else found.word.rpartition("/")[2]
    name = name.removesuffix(".__main__")
    if name in _LMCACHE_COMMANDS:
        return next((word for word in found.arguments if not word.startswith("-")), "")
    return name if "lmcache" in name else ""
