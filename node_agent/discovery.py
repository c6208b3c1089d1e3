"""Finds the machine's inference servers: those it was told of, and those that listen.

Engines rewrite their process titles and hide the server behind a launcher, so a server is
found by its listening socket and the family of the process that holds it, and believed only
when /metrics answers like an engine. Engines open many other ports (ZMQ, Gloo, NCCL) that expect
anything but HTTP, above all while they start: a worker's are never asked, a server's only when
nothing likelier is there, and ever more rarely.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from node_agent.clock import Instant
from node_agent.host import http
from node_agent.host.process_table import Process, processes, started_unix_seconds
from node_agent.host.sockets import ListeningSocket, listening, owners
from node_agent.launch.flags import FOR_DISCOVERY, own_flags
from node_agent.launch.program import ENGINE, Port, metrics_port, program
from node_agent.untrusted import Plain

# Processes that serve no HTTP, by their titles; the kernel cuts a name after 15 bytes, as in "VLLM::EngineCor".
_WORKER = re.compile(r"::(engine_?cor|worker|dp_?coord|scheduler|detokenizer)|resource_tracker|generation-server", re.I)
_USUAL_PORTS = frozenset({80, 3000, 8000, 8080, 9000, 30000})  # of vLLM, SGLang and TGI, in and out of their images
_HIGHEST_PID_OF_SYSTEM = 2  # init and kthreadd: everyone's ancestors, nobody's family
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - read from the kernel's table, not bound to
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_FULL_SCAN_SECONDS = 60.0  # processes may rename themselves without opening a socket
_FIRST_RETRY_SECONDS = 10.0
_LAST_RETRY_SECONDS = 300.0  # a large model loads for minutes; then five more are little
_MAX_PROBES = 8  # per scan: a family's odd ports are few, and the rest wait for the next scan

CONFIGURED = "configured"
PUSHED = "pushed"  # by the control plane, within the host's policy
MOST_PIDS = 256  # an engine over 8 GPUs has some two dozen processes
DISCOVERED = "discovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One inference server that should be watched."""

    url: str  # without a path's last slash; /metrics goes behind it
    source: str  # CONFIGURED, PUSHED or DISCOVERED
    pid: int | None = None  # who holds the listening socket, when it is on this machine
    pids: tuple[int, ...] = ()  # it and its family: a GPU's memory is held by a worker, not by who listens
    pids_left_out: int = 0  # of its family, beyond MOST_PIDS
    process_started_unix_seconds: float | None = None
    flags: Mapping[str, Plain] = field(default_factory=dict)  # of the command line, by allow-list


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A listening socket that an engine's family holds."""

    server: Server
    inode: int
    family: int  # the pid of its topmost engine process
    likely: bool  # by its port


@dataclass(slots=True)
class _Refused:
    """A socket that did not answer like an engine, and when it may be asked again."""

    again_at: float
    wait_seconds: float


class Discovery:
    """Remembers what was found, so that a scan costs a read of the socket tables and little else."""

    def __init__(
        self,
        *,
        targets: Sequence[str],
        identify: Callable[[bytes], str | None],
        scan: bool = True,
        proc_root: str = "/proc",
        scan_interval_seconds: float = 10.0,
        probe_timeout_seconds: float = 2.0,
        max_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        """This will only remember; the first call of `servers` looks. `identify` names the engine of a body."""
        self._targets = dict.fromkeys((normalised(target) for target in targets), CONFIGURED)
        self._pushed: tuple[str, ...] = ()
        self._identify = identify
        self._scan = scan
        self._proc_root = proc_root
        self._interval_seconds = scan_interval_seconds
        self._timeout_seconds = probe_timeout_seconds
        self._max_bytes = max_bytes
        self._scanned_at: float | None = None
        self._read_processes_at = 0.0
        self._inodes: frozenset[int] = frozenset()
        self._candidates: tuple[Candidate, ...] = ()
        self._verified: dict[tuple[str, int], Server] = {}
        self._refused: dict[tuple[str, int], _Refused] = {}

    def configure(self, *, pushed: Sequence[str], scan: bool, probe_timeout_seconds: float) -> None:
        """This will give other servers from the next call on; without `scan` only those that it was told of."""
        self._pushed = tuple(normalised(target) for target in pushed)
        self._timeout_seconds = probe_timeout_seconds
        if self._scan and not scan:
            self._candidates, self._verified, self._refused = (), {}, {}
            self._scanned_at, self._inodes = None, frozenset()
        self._scan = scan

    async def servers(self, now: Instant) -> tuple[Server, ...]:
        """This will give the configured servers and the verified ones that listen now."""
        due = self._scanned_at is None or now.monotonic_seconds - self._scanned_at >= self._interval_seconds
        if self._scan and due:
            self._scanned_at = now.monotonic_seconds
            await self._look(now)
        candidates = self._candidates if self._scan else ()
        by_place = {_place(candidate.server.url): candidate.server for candidate in candidates}
        told = self._told()
        known = [_with_process(target, source, by_place.get(_place(target))) for target, source in told.items()]
        taken = {_place(target) for target in told}
        verified = self._verified.values() if self._scan else ()
        return (*known, *(server for server in verified if _place(server.url) not in taken))

    def _told(self) -> Mapping[str, str]:
        """This will give the servers that need not be found, and who named them: the host's own settings come first."""
        told, places = dict(self._targets), {_place(target) for target in self._targets}
        for target in self._pushed:
            if _place(target) not in places:  # by two names it would count twice
                told[target] = PUSHED
                places.add(_place(target))
        return told

    def wants(self, server: Server) -> bool:
        """This will say whether a server that was given before is still to be watched, be it there or not."""
        told = self._told()
        if server.source == DISCOVERED:
            return self._scan and _place(server.url) not in {_place(target) for target in told}
        return server.url in told

    async def _look(self, now: Instant) -> None:
        """This will renew the candidates and ask those that are new or due again."""
        candidates = await asyncio.to_thread(self._find, now.monotonic_seconds)
        self._candidates = candidates = _kept(self._candidates, candidates)
        here = {(candidate.server.url, candidate.inode): candidate for candidate in candidates}
        self._verified = {key: here[key].server for key in self._verified if key in here}
        self._refused = {key: refused for key, refused in self._refused.items() if key in here}
        known = {_place(target) for target in self._told()}
        asked = [candidate for key, candidate in here.items() if _place(key[0]) not in known and self._due(key, now)]
        served = {here[key].family for key in self._verified}
        settled = served | {candidate.family for candidate in candidates if candidate.likely}
        chosen = [candidate for candidate in asked if candidate.likely or candidate.family not in settled]
        async with asyncio.TaskGroup() as group:
            for candidate in chosen[:_MAX_PROBES]:
                group.create_task(self._probe(candidate, now))

    def _find(self, now_seconds: float) -> tuple[Candidate, ...]:
        """This will read the socket tables, and the processes when the sockets changed or a minute passed."""
        sockets = listening(self._proc_root)
        inodes = frozenset(each.inode for each in sockets)
        if inodes == self._inodes and now_seconds - self._read_processes_at < _FULL_SCAN_SECONDS:
            return self._candidates
        self._inodes, self._read_processes_at = inodes, now_seconds
        return find_candidates(sockets, self._proc_root)

    def _due(self, key: tuple[str, int], now: Instant) -> bool:
        """This will say whether a socket may be asked now."""
        refused = self._refused.get(key)
        return key not in self._verified and (refused is None or now.monotonic_seconds >= refused.again_at)

    async def _probe(self, candidate: Candidate, now: Instant) -> None:
        """This will ask one socket for its metrics and remember the answer's kind."""
        key = (candidate.server.url, candidate.inode)
        try:
            answer = await http.get(
                f"{candidate.server.url}/metrics", timeout_seconds=self._timeout_seconds, max_bytes=self._max_bytes
            )
        except http.HttpError:
            engine = None
        else:
            engine = self._identify(answer.body) if answer.status == 200 else None
        if engine is not None:
            self._verified[key] = candidate.server
            self._refused.pop(key, None)
            return
        before = self._refused.get(key)
        wait = _FIRST_RETRY_SECONDS if before is None else min(before.wait_seconds * 2, _LAST_RETRY_SECONDS)
        self._refused[key] = _Refused(again_at=now.monotonic_seconds + wait, wait_seconds=wait)


def normalised(url: str) -> str:
    """This will give one spelling of a base address: no slash at the end, http:// when no scheme is named."""
    text = url.strip()
    return (text if "://" in text else f"http://{text}").rstrip("/")


def find_candidates(sockets: Iterable[ListeningSocket], proc_root: str = "/proc") -> tuple[Candidate, ...]:
    """This will give the listening sockets that belong to an engine's family of processes."""
    table = processes(proc_root)
    families = _families(table)
    by_inode = {each.inode: each for each in sockets}
    found: dict[str, Candidate] = {}
    for inode, pid in sorted(owners(families, by_inode.keys(), proc_root).items()):
        here, holder = by_inode[inode], table[pid]
        port, flags = _launched(holder, table)
        family = sorted(p for p, first in families.items() if first == families[pid])
        server = Server(
            url=_url(here),
            source=DISCOVERED,
            pid=pid,
            pids=tuple(family[:MOST_PIDS]),
            pids_left_out=max(0, len(family) - MOST_PIDS),
            process_started_unix_seconds=started_unix_seconds(holder, proc_root),
            flags={name: value for name, value in flags.items() if name not in FOR_DISCOVERY},
        )
        likely = here.port == port.number or (here.port in _USUAL_PORTS and not port.certain)
        if not likely and (port.number is not None or port.certain or _is_worker(holder)):
            continue  # the server's port is known to be another one
        found.setdefault(server.url, Candidate(server=server, inode=inode, family=families[pid], likely=likely))
    return tuple(found.values())


def _families(table: Mapping[int, Process]) -> dict[int, int]:
    """This will map the pids of engines, of their descendants and of their parents to the family's first engine."""
    engines = {pid for pid, process in table.items() if _is_engine(process)}
    families: dict[int, int] = {}
    for pid in table:
        above = [ancestor.pid for ancestor in _lineage(table[pid], table) if ancestor.pid in engines]
        if above:
            families[pid] = above[-1]
    for pid in engines:
        parent = table[pid].parent_pid
        if parent in table and parent > _HIGHEST_PID_OF_SYSTEM:
            families.setdefault(parent, families[pid])
    return families


def _lineage(process: Process, table: Mapping[int, Process]) -> Iterable[Process]:
    """This will give a process and its ancestors, nearest first; a table read while pids changed may have loops."""
    seen: set[int] = set()
    current: Process | None = process
    while current is not None and current.pid not in seen and current.pid > _HIGHEST_PID_OF_SYSTEM:
        seen.add(current.pid)
        yield current
        current = table.get(current.parent_pid)


def _is_engine(process: Process) -> bool:
    """This will say whether a process calls itself an engine, by its name or its program's words.

    Flags and their values do not count: they may name anything.
    """
    before = ("", *process.words)
    said = [word for word, last in zip(process.words, before, strict=False) if not last.startswith("--")]
    return any(ENGINE.search(word) for word in (process.name, *said) if not word.startswith("-"))


def _is_worker(process: Process) -> bool:
    """This will say whether a process is one of an engine's inner ones."""
    return _WORKER.search(" ".join((process.name, *process.words))) is not None


def _launched(holder: Process, table: Mapping[int, Process]) -> tuple[Port, dict[str, Plain]]:
    """This will give the metrics' port and the flags of the nearest command line that says something of either.

    A server that rewrote its title left its words only in the process that started it.
    """
    for process in _lineage(holder, table):
        found = program(process.words)
        if found is None:
            continue
        flags = own_flags(found.arguments)
        port = metrics_port(found, flags)
        if flags or port.certain:
            return port, flags
    return Port(number=None, certain=False), {}


def _kept(before: Sequence[Candidate], after: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """This will give `after`, with what was known of sockets that are still held by the same process.

    A process's start is told from the boot time, which moves when the wall clock is set; read
    once, it cannot look like a restart.
    """
    started = {
        (each.inode, each.server.url, each.server.pid): each.server.process_started_unix_seconds for each in before
    }
    return tuple(
        replace(each, server=replace(each.server, process_started_unix_seconds=started[key]))
        if key in started
        else each
        for each in after
        for key in ((each.inode, each.server.url, each.server.pid),)
    )


def _url(here: ListeningSocket) -> str:
    """This will give the address at which this machine reaches a socket."""
    host = "127.0.0.1" if here.address in _EVERYWHERE else here.address
    return f"http://[{host}]:{here.port}" if ":" in host else f"http://{host}:{here.port}"


def _place(url: str) -> tuple[str, int | None]:
    """This will say which server an address means, whatever this machine's loopback is called."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url, None
    return ("127.0.0.1" if host in _LOCAL_NAMES else host), port or (443 if parts.scheme == "https" else 80)


def _with_process(target: str, source: str, found: Server | None) -> Server:
    """This will give a server that somebody named, with what is known of its process when it runs here."""
    if found is None:
        return Server(url=target, source=source)
    return Server(
        url=target,
        source=source,
        pid=found.pid,
        pids=found.pids,
        pids_left_out=found.pids_left_out,
        process_started_unix_seconds=found.process_started_unix_seconds,
        flags=found.flags,
    )
