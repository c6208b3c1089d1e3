"""What a control plane may configure on a host: within the owner's limits, whole or not at all, kept over restarts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.clock import Instant
from node_agent.collectors.gpu import GpuCollector
from node_agent.commands.configure import GPU_COLLECTORS, Configurator, engine_timeout_seconds
from node_agent.configuration.kept import FILE, KeptConfiguration
from node_agent.configuration.policy import MOST_TARGETS, LocalPolicy, is_here, named_place, refusal
from node_agent.host.addresses import own_addresses
from node_agent.model import CONFIGURABLE, NodeConfiguration, Outcome
from node_agent.sampler import deadline_seconds
from tests.fakes.gpus import h200
from tests.fakes.nvml import FakeNvml

OURS = frozenset({"10.0.0.7", "fd00::7"})
POLICY = LocalPolicy(
    shortest_interval_seconds=1.0,
    longest_interval_seconds=60.0,
    allowed=frozenset(CONFIGURABLE),
    pushed_targets=("engine-7.example", "10.0.0.8:8000", "[fd00::8]:8000"),
    gpu_monitoring_enabled=True,
    discover_engines=True,
)


def at(seconds: float) -> Instant:
    return Instant(wall=datetime.fromtimestamp(1_800_000_000 + seconds, UTC), monotonic_seconds=seconds)


def asking(**fields: object) -> NodeConfiguration:
    return NodeConfiguration(revision=2, **fields)  # type: ignore[arg-type]


def targets(*urls: str) -> NodeConfiguration:
    return asking(scrape_targets=urls)


# -- the policy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "http://127.8.8.8:8000/",
        "http://localhost:8000",
        "https://LOCALHOST",
        "http://[::1]:8000",
        "http://[::ffff:127.0.0.1]:8000",
        "http://10.0.0.7:30000",
        "http://[fd00::7]:30000",
        "http://[fd00:0:0::7]:30000",
        "http://engine-7.example:1234",
        "https://Engine-7.Example",
        "http://10.0.0.8:8000",
        "http://[fd00::8]:8000",
    ],
)
def test_a_target_on_this_host_or_named_by_its_owner_is_taken(url: str) -> None:
    assert refusal(targets(url), POLICY, OURS) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254",
        "http://[::ffff:169.254.169.254]",
        "http://[::ffff:a9fe:a9fe]",
        "http://2852039166",  # 169.254.169.254, for who resolves it
        "http://127.1:8000",
        "http://0x7f.0.0.1:8000",
        "http://0.0.0.0:8000",
        "http://[::]:8000",
        "http://[::1%251]:8000",
        "http://10.0.0.9:8000",
        "http://10.0.0.8:8001",
        "http://10.0.0.8",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://engine-7.example.evil",
        "http://engine-7.example.:80",
        "http://localhost.:8000",
    ],
)
def test_a_target_elsewhere_is_refused_however_it_is_spelled(url: str) -> None:
    assert "is not on this host, and not among its pushed_targets" in str(refusal(targets(url), POLICY, OURS))


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "http://",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "http://127.0.0.1:8000/v1/unload?model=x#",
        "http://127.0.0.1:8000/metrics",
        "http://127.0.0.1:8000?x=1",
        "http://127.0.0.1:8000/?",
        "http://127.0.0.1:8000#",
        "http://127.0.0.1:8000 ",
        "http://127.0.0.1\t:8000",
        "http://127.0.0.1:8000/\r\nX: y",
        "http://[127.0.0.1:8000",
        "http://löcalhost:8000",
        "http://127.0.0.1:8000/" + "/" * 256,
        "",
    ],
)
def test_a_target_is_a_server_and_nothing_that_somebody_could_make_the_agent_fetch(url: str) -> None:
    refused = str(refusal(targets(url), POLICY, OURS))
    assert "is no server; write http://host:port" in refused
    assert "\n" not in refused
    assert len(refused) < 500


def test_a_target_with_a_name_or_password_is_refused() -> None:
    for url in ("http://me:secret@127.0.0.1:8000", "http://evil.example@127.0.0.1", "http://127.0.0.1\\@evil.example"):
        assert "holds a name or password" in str(refusal(targets(url), POLICY, OURS))


@given(st.one_of(st.text(max_size=40), st.text("http://[]@:.%0123456789abcdefx/\\?#", max_size=40)))
def test_whatever_is_taken_as_here_is_an_address_of_this_host(text: str) -> None:
    closed = replace(POLICY, pushed_targets=())
    if refusal(targets(f"http://{text}"), closed, OURS) is None:
        host = text.lower().rstrip("/")
        assert host.startswith(("127.", "localhost", "[", "10.0.0.7"))


def test_too_many_targets_are_refused_without_naming_them_all() -> None:
    many = targets(*(f"http://127.0.0.1:{8000 + n}" for n in range(MOST_TARGETS + 1)))
    assert refusal(many, POLICY, OURS) == "33 scrape targets are too many; at most 32 are accepted"
    assert refusal(replace(many, scrape_targets=many.scrape_targets[1:]), POLICY, OURS) is None


@pytest.mark.parametrize("seconds", [0.999, 60.001, 0.0, -1.0, float("inf"), float("nan"), 4294967.295])
def test_an_interval_beyond_the_owners_floor_and_ceiling_is_refused(seconds: float) -> None:
    refused = str(refusal(asking(sampling_interval_seconds=seconds), POLICY, OURS))
    assert "is outside the 1 to 60 s that this host accepts" in refused


@pytest.mark.parametrize("seconds", [1.0, 5.0, 60.0])
def test_an_interval_at_or_between_the_owners_limits_is_taken(seconds: float) -> None:
    assert refusal(asking(sampling_interval_seconds=seconds), POLICY, OURS) is None


@pytest.mark.parametrize("name", ["gpu_monitoring_enabled", "discover_engines"])
def test_what_the_owner_switched_off_stays_off(name: str) -> None:
    off = replace(POLICY, **{name: False})
    assert refusal(asking(**{name: True}), off, OURS) == f"{name} is switched off on the host itself"
    assert refusal(asking(**{name: False}), off, OURS) is None
    assert refusal(asking(**{name: True}), POLICY, OURS) is None


@pytest.mark.parametrize(
    "asked",
    [
        asking(sampling_interval_seconds=5.0),
        targets("http://127.0.0.1:8000"),
        asking(gpu_monitoring_enabled=False),
        asking(discover_engines=True),
    ],
)
def test_what_the_owner_does_not_allow_by_name_is_refused(asked: NodeConfiguration) -> None:
    closed = replace(POLICY, allowed=frozenset())
    assert refusal(asked, closed, OURS) == f"{asked.names[0]} is not among this host's allowed_configuration"
    assert refusal(NodeConfiguration(revision=3), closed, OURS) is None, "nothing is asked, so nothing is refused"


def test_everything_that_is_wrong_is_said_at_once() -> None:
    refused = refusal(asking(sampling_interval_seconds=0.1, scrape_targets=("http://evil.example",)), POLICY, OURS)
    assert str(refused).count("; ") == 1


def test_this_hosts_own_addresses_are_known() -> None:
    assert is_here("127.0.0.1", own_addresses())
    assert "127.0.0.1" in own_addresses()


@pytest.mark.parametrize("entry", ["", "http://a", "a/b", "me@a", "a:0", "a:99999", "[::1", ":80", "a?b", "a#b"])
def test_an_entry_of_pushed_targets_is_a_place_or_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        named_place(entry)


# -- keeping and applying -------------------------------------------------------------------------


class Sampling:
    """A sampler that only remembers."""

    def __init__(self) -> None:
        self.interval_seconds = 5.0
        self.intervals: list[float] = []
        self.off: Mapping[str, str] = {}

    def set_interval(self, seconds: float) -> None:
        self.interval_seconds = seconds
        self.intervals.append(seconds)

    def switch_off(self, why: Mapping[str, str]) -> None:
        self.off = why


class Engines:
    """A search for inference servers that only remembers."""

    def __init__(self) -> None:
        self.pushed: tuple[str, ...] = ()
        self.discover = True
        self.timeout_seconds = 0.0
        self.broken = False

    def watch(self, *, pushed: Sequence[str], discover: bool, timeout_seconds: float) -> None:
        if self.broken:
            raise RuntimeError("broken")
        self.pushed, self.discover, self.timeout_seconds = tuple(pushed), discover, timeout_seconds


class Gpus:
    """Holds a driver."""

    def __init__(self) -> None:
        self.released: list[float] = []

    async def release(self, seconds: float) -> bool:
        self.released.append(seconds)
        return True


class Host:
    """One run of an agent on a host that keeps its state folder."""

    def __init__(self, folder: Path, policy: LocalPolicy = POLICY, holder: GpuCollector | None = None) -> None:
        self.sampler, self.engines, self.gpus = Sampling(), Engines(), Gpus()
        self.kept = KeptConfiguration(folder)
        self.configurator = Configurator(
            policy,
            self.kept,
            own_interval_seconds=5.0,
            own_addresses=lambda: OURS,
            sampler=self.sampler,
            engines=self.engines,
            gpus=holder or self.gpus,
        )

    @property
    def holds(self) -> tuple[int, float]:
        standing = self.configurator.standing()
        return standing.revision, standing.sampling_interval_seconds


WHOLE = NodeConfiguration(
    revision=7,
    sampling_interval_seconds=2.0,
    scrape_targets=("http://127.0.0.1:8000",),
    gpu_monitoring_enabled=False,
    discover_engines=False,
)


async def test_a_configuration_that_is_taken_is_kept_and_holds(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert await host.configurator.configure(WHOLE) is None
    assert host.holds == (7, 2.0)
    assert (host.engines.pushed, host.engines.discover) == (WHOLE.scrape_targets, False)
    assert host.sampler.off.keys() == set(GPU_COLLECTORS)
    assert host.gpus.released == [3600.0]
    assert host.kept.read() == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


async def test_what_a_later_configuration_does_not_say_is_again_as_the_host_says(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.configurator.configure(WHOLE)
    assert await host.configurator.configure(NodeConfiguration(revision=8)) is None
    assert host.holds == (8, 5.0)
    assert (host.engines.pushed, host.engines.discover) == ((), True)
    assert (host.sampler.off, host.gpus.released) == ({}, [3600.0, 0])


async def test_a_refused_configuration_changes_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.configurator.configure(WHOLE)
    refused = await host.configurator.configure(replace(WHOLE, revision=8, sampling_interval_seconds=0.5))
    assert refused == "0.5 s is outside the 1 to 60 s that this host accepts"
    assert (host.holds, host.sampler.intervals) == ((7, 2.0), [2.0])
    assert host.kept.read() == WHOLE


async def test_the_same_configuration_again_touches_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.configurator.configure(WHOLE)
    (tmp_path / FILE).unlink()
    assert await host.configurator.configure(WHOLE) is None
    assert not (tmp_path / FILE).exists()
    assert host.sampler.intervals == [2.0]


async def test_a_lower_revision_is_taken_when_a_control_plane_was_restored(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.configurator.configure(WHOLE)
    assert await host.configurator.configure(NodeConfiguration(revision=2, sampling_interval_seconds=3.0)) is None
    assert host.holds == (2, 3.0)


async def test_a_disk_that_takes_nothing_refuses_a_configuration_and_leaves_the_one_before(tmp_path: Path) -> None:
    host = Host(tmp_path / "missing")
    refused = await host.configurator.configure(WHOLE)
    assert refused == "it cannot be kept on the host's disk: No such file or directory"
    assert (host.holds, host.sampler.intervals) == ((0, 5.0), [])


async def test_a_configuration_that_cannot_be_applied_never_ends_the_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(tmp_path)
    host.engines.broken = True
    assert await host.configurator.configure(WHOLE) == "the agent failed to apply it (RuntimeError)"
    assert host.configurator.standing().revision == 0
    host.engines.broken = False
    assert await host.configurator.configure(WHOLE) is None, "and can be tried again"


async def test_an_agent_begins_with_what_was_kept(tmp_path: Path) -> None:
    await Host(tmp_path).configurator.configure(WHOLE)
    again = Host(tmp_path)
    await again.configurator.restore()
    assert again.holds == (7, 2.0)
    assert (again.engines.pushed, again.engines.discover) == (WHOLE.scrape_targets, False)
    assert again.sampler.off.keys() == set(GPU_COLLECTORS)


async def test_what_was_kept_is_judged_by_the_policy_of_today(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await Host(tmp_path).configurator.configure(WHOLE)
    tighter = Host(tmp_path, replace(POLICY, shortest_interval_seconds=10.0))
    await tighter.configurator.restore()
    assert (tighter.holds, tighter.sampler.intervals) == ((0, 5.0), [])
    assert "the kept configuration is refused: 2 s is outside the 10 to 60 s" in caplog.text
    looser = Host(tmp_path)
    await looser.configurator.restore()
    assert looser.holds == (7, 2.0), "the file is left as it was"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"revision": true}',
        '{"revision": 2, "reach_of_a_later_release": 1}',
        '{"revision": 2, "sampling_interval_seconds": "5"}',
        '{"revision": 2, "sampling_interval_seconds": true}',
        '{"revision": 2, "scrape_targets": "http://127.0.0.1"}',
        '{"revision": 2, "scrape_targets": [1]}',
        '{"revision": 2, "discover_engines": 1}',
        "\udcff",
    ],
)
async def test_a_file_that_is_not_understood_is_passed_over(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(text.encode(errors="surrogateescape"))
    host = Host(tmp_path)
    await host.configurator.restore()
    assert host.holds == (0, 5.0)
    assert "the kept configuration cannot be used" in caplog.text


async def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    await Host(tmp_path).configurator.configure(WHOLE)
    (tmp_path / f"{FILE}.abc").write_text("{")
    await Host(tmp_path).configurator.restore()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


async def test_a_full_disk_leaves_what_was_kept_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path)
    await host.configurator.configure(WHOLE)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    refused = await host.configurator.configure(NodeConfiguration(revision=8))
    assert refused == "it cannot be kept on the host's disk: No space left on device"
    assert (host.holds, host.kept.read()) == ((7, 2.0), WHOLE)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


async def test_without_a_file_the_hosts_own_settings_hold_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await Host(tmp_path).configurator.restore()
    assert caplog.records == []


async def test_a_file_says_no_more_than_was_configured(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.configurator.configure(NodeConfiguration(revision=2, sampling_interval_seconds=2.0))
    assert json.loads((tmp_path / FILE).read_text()) == {"revision": 2, "sampling_interval_seconds": 2.0}


async def test_an_older_control_planes_cadence_keeps_to_the_limits_and_is_not_kept(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.configurator.set_interval(3.0) is None
    assert host.holds == (0, 3.0)
    assert host.configurator.set_interval(0.5) == "0.5 s is outside the 1 to 60 s that this host accepts"
    assert host.holds == (0, 3.0)
    assert list(tmp_path.iterdir()) == []


async def test_an_older_control_planes_cadence_leaves_the_rest_as_it_was_configured(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.configurator.configure(WHOLE)
    host.configurator.set_interval(3.0)
    assert (host.engines.pushed, host.engines.discover) == (WHOLE.scrape_targets, False)
    assert await host.configurator.configure(WHOLE) is None
    assert host.holds == (7, 2.0), "and is over when a whole one comes"


async def test_a_run_of_the_engine_collector_fits_the_deadline_at_every_cadence(tmp_path: Path) -> None:
    host = Host(tmp_path, replace(POLICY, shortest_interval_seconds=0.5))
    for seconds in (0.5, 1.0, 5.0, 60.0):
        await host.configurator.configure(NodeConfiguration(revision=2, sampling_interval_seconds=seconds))
        assert host.engines.timeout_seconds == engine_timeout_seconds(seconds)
        assert 2 * host.engines.timeout_seconds < deadline_seconds(seconds)


async def test_gpus_that_are_switched_off_are_let_go_of_and_seen_again_at_once_when_switched_on(tmp_path: Path) -> None:
    driver = FakeNvml(h200())
    holder = GpuCollector(driver, kernel_log=tmp_path / "none")
    host = Host(tmp_path, holder=holder)
    assert (await holder.collect(at(0))).outcome is Outcome.OK
    await host.configurator.configure(NodeConfiguration(revision=2, gpu_monitoring_enabled=False))
    assert not driver.is_open
    await host.configurator.configure(NodeConfiguration(revision=3))
    assert (await holder.collect(at(86_400))).outcome is Outcome.OK
    await holder.close()


async def test_other_changes_leave_a_release_on_command_alone(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.configurator.configure(NodeConfiguration(revision=2, sampling_interval_seconds=2.0))
    await host.configurator.configure(NodeConfiguration(revision=3, gpu_monitoring_enabled=True))
    assert host.gpus.released == []
