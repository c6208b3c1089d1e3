"""Configure: how this host is watched, as far as its owner lets a control plane say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Protocol

from node_agent.commands.release_gpus import LONGEST_SECONDS, ReleasesGpus
from node_agent.configuration.kept import KeptConfiguration
from node_agent.configuration.policy import LocalPolicy, refusal
from node_agent.model import NodeConfiguration, Standing
from node_agent.sampler import deadline_seconds

log = logging.getLogger(__name__)

# A run of the engine collector takes up to two times its time limit: it must end before the
# sampler's deadline, or one server that hangs would make all the others look late.
ENGINE_SHARE = 0.48
# The second looks up whose the processes on the GPUs are: without GPUs there are none.
GPU_COLLECTORS = ("gpu", "attribution")
SWITCHED_OFF = "switched off by the control plane"


class Sampling(Protocol):
    """What of the sampler can be configured."""

    @property
    def interval_seconds(self) -> float:
        """This will give the cadence."""
        ...

    def set_interval(self, seconds: float) -> None:
        """This will change it."""
        ...

    def switch_off(self, why: Mapping[str, str]) -> None:
        """This will run no collector that is named, and every other one."""
        ...


class WatchesEngines(Protocol):
    """What of the search for inference servers can be configured."""

    def watch(self, *, pushed: Sequence[str], discover: bool, timeout_seconds: float) -> None:
        """This will watch these servers beside the host's own, and look for more or not."""
        ...


def engine_timeout_seconds(interval_seconds: float) -> float:
    """This will give the engine collector's time limit at a cadence."""
    return ENGINE_SHARE * deadline_seconds(interval_seconds)


class Configurator:
    """Takes a configuration whole or not at all: checked first, then kept, then applied, and only then acknowledged."""

    def __init__(
        self,
        policy: LocalPolicy,
        kept: KeptConfiguration,
        *,
        own_interval_seconds: float,
        own_addresses: Callable[[], Set[str]],
        sampler: Sampling,
        engines: WatchesEngines,
        gpus: ReleasesGpus | None,
    ) -> None:
        """`own_interval_seconds` is the host's own cadence. `gpus` is None where none is watched."""
        self._policy = policy
        self._kept = kept
        self._own_interval_seconds = own_interval_seconds
        self._own_addresses = own_addresses
        self._sampler = sampler
        self._engines = engines
        self._gpus = gpus
        self._gpus_are_on = True
        self._in_force = NodeConfiguration(revision=0)

    def standing(self) -> Standing:
        """This will say what holds now."""
        return Standing(revision=self._in_force.revision, sampling_interval_seconds=self._sampler.interval_seconds)

    async def restore(self) -> None:
        """This will begin with what was kept, unless the host's policy has become tighter since."""
        try:
            kept = self._kept.read()
        except (OSError, ValueError) as error:
            log.warning("the kept configuration cannot be used: %s; the host's own settings hold", error)
            return
        if kept is None:
            return
        refused = refusal(kept, self._policy, self._own_addresses())
        if refused is not None:
            log.warning("the kept configuration is refused: %s; the host's own settings hold", refused)
            return
        await self._apply(kept)
        log.info("configuration %d of the control plane, kept from before, holds: %s", kept.revision, _named(kept))

    async def configure(self, asked: NodeConfiguration) -> str | None:
        """This will take a whole configuration, or say why the host refuses and leave all as it is."""
        refused = refusal(asked, self._policy, self._own_addresses())
        if refused is not None:
            log.warning("configuration %d of the control plane is refused: %s", asked.revision, refused)
            return refused
        if asked == self._in_force:
            return None
        try:
            await asyncio.to_thread(self._kept.write, asked)
        except OSError as error:
            return f"it cannot be kept on the host's disk: {error.strerror}"
        try:
            await self._apply(asked)
        except Exception as error:  # boundary: what a control plane sends must never end the agent
            log.exception("configuration %d cannot be applied", asked.revision)
            return f"the agent failed to apply it ({type(error).__name__})"
        log.info("configuration %d of the control plane holds: %s", asked.revision, _named(asked))
        return None

    def set_interval(self, seconds: float) -> str | None:
        """This will change the cadence alone, as a control plane of an older release asks; it is not kept."""
        asked = NodeConfiguration(revision=0, sampling_interval_seconds=seconds)
        refused = refusal(asked, self._policy, frozenset())
        if refused is None:
            self._in_force = replace(self._in_force, sampling_interval_seconds=seconds)
            self._set_cadence(seconds, self._in_force)
        return refused

    async def _apply(self, asked: NodeConfiguration) -> None:
        seconds = asked.sampling_interval_seconds
        self._set_cadence(self._own_interval_seconds if seconds is None else seconds, asked)
        await self._switch_gpus(on=asked.gpu_monitoring_enabled is not False)
        self._in_force = asked

    def _set_cadence(self, seconds: float, asked: NodeConfiguration) -> None:
        if seconds != self._sampler.interval_seconds:
            self._sampler.set_interval(seconds)
        discover = self._policy.discover_engines if asked.discover_engines is None else asked.discover_engines
        self._engines.watch(
            pushed=asked.scrape_targets, discover=discover, timeout_seconds=engine_timeout_seconds(seconds)
        )

    async def _switch_gpus(self, *, on: bool) -> None:
        """This will let go of the driver with the last look, and take it again before the first."""
        if self._gpus is None or on == self._gpus_are_on:
            return
        if on:
            await self._gpus.release(0)
            self._sampler.switch_off({})
        else:
            self._sampler.switch_off(dict.fromkeys(GPU_COLLECTORS, SWITCHED_OFF))
            if not await self._gpus.release(LONGEST_SECONDS):
                log.warning("a call into the driver has not come back, so that the driver is still held")
        self._gpus_are_on = on


def _named(configuration: NodeConfiguration) -> str:
    return ", ".join(configuration.names) or "nothing but the host's own settings"
