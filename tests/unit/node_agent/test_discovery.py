"""Finding inference servers in a made-up /proc, asked over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node_agent.clock import Instant
from node_agent.collectors.engines.registry import identify
from node_agent.discovery import CONFIGURED, DISCOVERED, PUSHED, Discovery, find_candidates, normalised
from node_agent.host.process_table import processes, started_unix_seconds
from node_agent.host.sockets import ListeningSocket, listening, owners

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
VLLM = ["/venv/bin/python3", "/venv/bin/vllm", "serve", "org/model", "--api-key", "sk-secret", "--max-num-seqs", "8"]


def at(seconds: float) -> Instant:
    return Instant(wall=datetime.fromtimestamp(1_800_000_000 + seconds, UTC), monotonic_seconds=seconds)


class FakeProc:
    """A /proc that a test fills in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sockets: list[str] = []
        (root / "net").mkdir(parents=True)
        (root / "stat").write_text("cpu  1 2 3\nbtime 1700000000\n")
        self.write_sockets()

    def write_sockets(self) -> None:
        (self.root / "net" / "tcp").write_text(HEADER + "".join(self.sockets))

    def process(self, pid: int, parent: int, name: str, words: list[str]) -> None:
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "cmdline").write_bytes("".join(f"{word}\0" for word in words).encode())
        behind = " ".join(["S", str(parent), *["0"] * 17, "4200", "0"])
        (folder / "stat").write_text(f"{pid} ({name}) {behind}\n")

    def listens(self, pid: int, port: int, inode: int, address: str = "0100007F", state: str = "0A") -> None:
        line = f"   0: {address}:{port:04X} 00000000:0000 {state} 0:0 00:0 0  0 0 {inode} 1 0 0"
        self.sockets.append(line + "\n")
        self.write_sockets()
        (self.root / str(pid) / "fd" / str(inode)).symlink_to(f"socket:[{inode}]")

    def closes(self, inode: int) -> None:
        self.sockets = [line for line in self.sockets if f" {inode} " not in line]
        self.write_sockets()


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


class Metrics:
    """A server that answers one body, and counts who asks."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked: list[str] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.decode().split(" ")[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.body) + self.body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def metrics(body: bytes = b"vllm:num_requests_running 1\n") -> AsyncIterator[Metrics]:
    answering = Metrics(body)
    server = await asyncio.start_server(answering.handle, "127.0.0.1", 0)
    answering.port = server.sockets[0].getsockname()[1]
    try:
        yield answering
    finally:
        server.close()


def discovery(proc: FakeProc, *targets: str, scan: bool = True) -> Discovery:
    return Discovery(targets=targets, identify=identify, proc_root=str(proc.root), scan=scan, probe_timeout_seconds=5)


def urls(found: tuple[object, ...]) -> list[str]:
    return [getattr(server, "url", "") for server in found]


async def test_a_listening_engine_is_found_with_its_process_and_flags(proc: FakeProc) -> None:
    async with metrics() as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001)
        (found,) = await discovery(proc).servers(at(0))
    assert found.url == f"http://127.0.0.1:{server.port}"
    assert found.source == DISCOVERED
    assert found.pid == 100
    assert found.process_started_unix_seconds == 1_700_000_000 + 42
    assert found.flags == {"max_num_seqs": 8}
    assert server.asked == ["/metrics"]


async def test_a_server_with_a_rewritten_title_gets_the_flags_of_the_process_that_started_it(proc: FakeProc) -> None:
    async with metrics() as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.process(101, 100, "VLLM::APIServer", ["VLLM::APIServer_0"])
        proc.listens(101, server.port, 5001)
        (found,) = await discovery(proc).servers(at(0))
    assert (found.pid, found.flags) == (101, {"max_num_seqs": 8})


async def test_a_server_that_only_has_an_engine_for_a_child_is_found(proc: FakeProc) -> None:
    async with metrics() as server:
        proc.process(100, 1, "python3", ["python3", "my_server.py"])
        proc.process(101, 100, "VLLM::EngineCor", ["VLLM::EngineCore"])
        proc.listens(100, server.port, 5001)
        assert urls(await discovery(proc).servers(at(0))) == [f"http://127.0.0.1:{server.port}"]


async def test_processes_that_are_no_engines_are_never_asked(proc: FakeProc) -> None:
    async with metrics() as server:
        proc.process(1, 0, "init", ["init"])
        proc.process(100, 1, "nginx", ["nginx", "--title", "vllm"])
        proc.process(200, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001)
        assert await discovery(proc).servers(at(0)) == ()
    assert server.asked == []


async def test_the_inner_ports_of_an_engine_are_never_asked(proc: FakeProc) -> None:
    async with metrics() as inner:
        proc.process(100, 1, "vllm", ["vllm", "serve", "m"])
        proc.process(101, 100, "VLLM::EngineCor", ["VLLM::EngineCore"])
        proc.listens(101, inner.port, 5001)
        assert await discovery(proc).servers(at(0)) == ()
    assert inner.asked == []


async def test_where_the_command_line_names_the_port_no_other_is_asked(proc: FakeProc) -> None:
    async with metrics() as named, metrics() as other:
        proc.process(100, 1, "vllm", [*VLLM, "--port", str(named.port)])
        proc.listens(100, other.port, 5001)
        proc.listens(100, named.port, 5002)
        (found,) = await discovery(proc).servers(at(0))
    assert found.url.endswith(str(named.port))
    assert found.flags == {"max_num_seqs": 8}
    assert other.asked == []


CACHE_METRICS = b"lmcache_mp_l1_usage_ratio 0.5\n"


@pytest.mark.parametrize(
    "words",
    [
        ["/venv/bin/python", "/venv/bin/lmcache", "server", "--port", "{zmq}", "--http-port", "{http}"],
        ["python3", "-m", "lmcache.v1.multiprocess.http_server", "--port={zmq}", "--http-port={http}"],
        ["python3", "-m", "lmcache.v1.multiprocess.server", "--port", "{zmq}", "--prometheus-port", "{http}"],
        ["python3", "-m", "lmcache.cli.main", "coordinator", "--port", "{http}"],
        ["lmcache_controller", "--port", "{http}", "--monitor-ports", '{"pull":1,"reply":2}'],
    ],
)
async def test_of_a_cache_server_only_the_port_of_its_metrics_is_asked(proc: FakeProc, words: list[str]) -> None:
    async with metrics(CACHE_METRICS) as http, metrics() as zmq:
        said = [word.replace("{http}", str(http.port)).replace("{zmq}", str(zmq.port)) for word in words]
        proc.process(100, 1, "lmcache", said)
        proc.listens(100, zmq.port, 5001)
        proc.listens(100, http.port, 5002)
        assert urls(await discovery(proc).servers(at(0))) == [f"http://127.0.0.1:{http.port}"]
    assert zmq.asked == []


@pytest.mark.parametrize("program", [["lmcache_server"], ["python3", "-m", "lmcache.v1.server"]])
async def test_a_cache_server_that_speaks_no_http_is_never_asked(proc: FakeProc, program: list[str]) -> None:
    async with metrics(CACHE_METRICS) as raw:
        proc.process(100, 1, "python3", [*program, "0.0.0.0", str(raw.port), "cpu"])
        proc.listens(100, raw.port, 5001)
        assert await discovery(proc).servers(at(0)) == ()
    assert raw.asked == []


async def test_a_port_that_is_no_engine_is_asked_ever_more_rarely(proc: FakeProc) -> None:
    async with metrics(b"something_else 1\n") as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001)
        finder = discovery(proc)
        asked_at = []
        for seconds in range(0, 400, 10):
            before = len(server.asked)
            assert await finder.servers(at(seconds)) == ()
            if len(server.asked) > before:
                asked_at.append(seconds)
    assert asked_at == [0, 10, 30, 70, 150, 310]


async def test_an_engine_that_was_not_ready_is_found_when_it_is(proc: FakeProc) -> None:
    async with metrics(b"") as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001)
        finder = discovery(proc)
        assert await finder.servers(at(0)) == ()
        server.body = b"vllm:num_requests_running 1\n"
        assert len(await finder.servers(at(10))) == 1


async def test_a_found_server_is_not_asked_again_and_ends_with_its_socket(proc: FakeProc) -> None:
    async with metrics() as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001)
        finder = discovery(proc)
        for seconds in (0, 5, 10, 20):
            assert len(await finder.servers(at(seconds))) == 1
        assert len(server.asked) == 1
        proc.closes(5001)
        assert len(await finder.servers(at(25))) == 1  # not looked yet
        assert await finder.servers(at(30)) == ()


async def test_a_restarted_server_is_the_same_address_and_another_process(proc: FakeProc) -> None:
    async with metrics() as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001)
        finder = discovery(proc)
        await finder.servers(at(0))
        proc.closes(5001)
        proc.process(200, 1, "vllm", VLLM)
        proc.listens(200, server.port, 5002)
        (found,) = await finder.servers(at(10))
    assert found.pid == 200


async def test_processes_are_read_again_only_when_sockets_changed_or_a_minute_passed(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def counted(*args: object) -> dict[int, object]:
        nonlocal looks
        looks += 1
        return {}

    monkeypatch.setattr("node_agent.discovery.processes", counted)
    finder = discovery(proc)
    proc.process(100, 1, "sshd", ["sshd"])
    proc.listens(100, 22, 1)
    for seconds in range(0, 60, 10):
        await finder.servers(at(seconds))
    assert looks == 1
    await finder.servers(at(60))
    assert looks == 2
    proc.listens(100, 23, 2)
    await finder.servers(at(70))
    assert looks == 3


async def test_configured_servers_are_given_without_being_asked(proc: FakeProc) -> None:
    found = await discovery(proc, "http://gpu-7:8000/", "gpu-8:9000", "http://gpu-7:8000").servers(at(0))
    assert [(server.url, server.source) for server in found] == [
        ("http://gpu-7:8000", CONFIGURED),
        ("http://gpu-8:9000", CONFIGURED),
    ]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_a_configured_server_on_this_machine_is_not_found_twice(proc: FakeProc, host: str) -> None:
    async with metrics() as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001, address="00000000")
        (found,) = await discovery(proc, f"http://{host}:{server.port}").servers(at(0))
    assert (found.url, found.source) == (f"http://{host}:{server.port}", CONFIGURED)
    assert (found.pid, found.flags) == (100, {"max_num_seqs": 8})
    assert server.asked == []


async def test_pushed_servers_stand_beside_the_hosts_own_and_none_counts_twice(proc: FakeProc) -> None:
    finder = discovery(proc, "http://localhost:8000")
    pushed = ["http://127.0.0.1:8000", "http://127.0.0.1:9000", "http://localhost:9000/"]
    finder.configure(pushed=pushed, scan=True, probe_timeout_seconds=1)
    found = await finder.servers(at(0))
    assert [(server.url, server.source) for server in found] == [
        ("http://localhost:8000", CONFIGURED),
        ("http://127.0.0.1:9000", PUSHED),
    ]
    assert all(finder.wants(server) for server in found)
    finder.configure(pushed=[], scan=True, probe_timeout_seconds=1)
    assert [finder.wants(server) for server in found] == [True, False]


async def test_a_server_that_was_found_and_is_then_pushed_is_watched_once(proc: FakeProc) -> None:
    async with metrics() as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001)
        finder = discovery(proc)
        (found,) = await finder.servers(at(0))
        finder.configure(pushed=[f"http://localhost:{server.port}"], scan=True, probe_timeout_seconds=1)
        (pushed,) = await finder.servers(at(1))
    assert (pushed.source, pushed.pid) == (PUSHED, 100)
    assert not finder.wants(found), "by its other name it would count twice"


async def test_a_search_may_be_switched_off_and_on_again(proc: FakeProc) -> None:
    async with metrics() as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001)
        finder = discovery(proc)
        (found,) = await finder.servers(at(0))
        finder.configure(pushed=[], scan=False, probe_timeout_seconds=1)
        assert await finder.servers(at(1)) == ()
        assert not finder.wants(found)
        finder.configure(pushed=[], scan=True, probe_timeout_seconds=1)
        assert await finder.servers(at(2)) == (found,), "at once, whenever the next search would have been"


async def test_nothing_is_searched_when_searching_is_off(proc: FakeProc) -> None:
    async with metrics() as server:
        proc.process(100, 1, "vllm", VLLM)
        proc.listens(100, server.port, 5001)
        assert await discovery(proc, scan=False).servers(at(0)) == ()


async def test_a_missing_proc_finds_nothing(tmp_path: Path) -> None:
    finder = Discovery(targets=(), identify=identify, proc_root=str(tmp_path / "none"))
    assert await finder.servers(at(0)) == ()


@pytest.mark.parametrize(
    ("written", "address"),
    [("0100007F", "127.0.0.1"), ("00000000", "0.0.0.0"), ("0200A8C0", "192.168.0.2")],
)
def test_addresses_are_read_in_the_kernels_byte_order(proc: FakeProc, written: str, address: str) -> None:
    proc.process(100, 1, "x", ["x"])
    proc.listens(100, 8301, 7, address=written)
    assert listening(str(proc.root)) == (ListeningSocket(address=address, port=8301, inode=7),)


def test_ipv6_sockets_are_read_and_mapped_addresses_are_ipv4(proc: FakeProc) -> None:
    rows = (("0" * 32, 1), ("00000000000000000000000001000000", 2), ("0000000000000000FFFF00000100007F", 3))
    lines = [f"   0: {host}:1F40 {'0' * 32}:0000 0A 0:0 00:0 0 0 0 {inode} 1\n" for host, inode in rows]
    (proc.root / "net" / "tcp6").write_text(HEADER + "".join(lines))
    assert [each.address for each in listening(str(proc.root))] == ["::", "::1", "127.0.0.1"]


def test_sockets_that_do_not_listen_and_broken_lines_are_skipped(proc: FakeProc) -> None:
    proc.process(100, 1, "x", ["x"])
    proc.listens(100, 8301, 7, state="01")
    proc.sockets += ["nonsense\n", "   1: ZZ:1F40 0:0 0A 0:0 0:0 0 0 0 x 1\n"]
    proc.write_sockets()
    assert listening(str(proc.root)) == ()


def test_a_process_that_ended_holds_nothing(proc: FakeProc) -> None:
    assert owners([4242], {7}, str(proc.root)) == {}


def test_processes_with_odd_names_are_read_and_broken_ones_skipped(proc: FakeProc) -> None:
    proc.process(100, 7, "a) b (c", ["x", "", "y"])
    proc.process(101, 7, "kworker", [])
    (proc.root / "102").mkdir()
    (proc.root / "103").mkdir()
    (proc.root / "103" / "stat").write_text("garbage")
    (proc.root / "103" / "cmdline").write_text("")
    table = processes(str(proc.root))
    assert set(table) == {100, 101}
    assert (table[100].name, table[100].parent_pid, table[100].words) == ("a) b (c", 7, ("x", "", "y"))
    assert table[101].words == ()
    assert started_unix_seconds(table[100], str(proc.root)) == 1_700_000_042


def test_a_loop_of_parents_ends(proc: FakeProc) -> None:
    proc.process(100, 101, "vllm", VLLM)
    proc.process(101, 100, "vllm", VLLM)
    proc.listens(100, 8000, 1)
    assert len(find_candidates(listening(str(proc.root)), str(proc.root))) == 1


def test_addresses_have_one_spelling() -> None:
    assert normalised(" http://a:1/ ") == "http://a:1"
    assert normalised("a:1") == "http://a:1"
