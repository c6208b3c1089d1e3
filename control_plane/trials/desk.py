"""Where test runs are asked for, and where they are run: one at a time here, so that they do not measure each other."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import sys
from asyncio.subprocess import Process
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from control_plane.model.errors import LeaseLost, OptiInfraError
from control_plane.model.trial import Trial, TrialKind, TrialSpec, TrialState
from control_plane.runtime import destinations
from control_plane.runtime.clock import Clock
from control_plane.runtime.destinations import Policy, Resolve
from control_plane.runtime.groups import one_error
from control_plane.runtime.sealing import Sealer
from control_plane.storage.trials import ClaimedTrial, TrialStore
from control_plane.trials import asked
from control_plane.trials.load.connection import Address

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
# A worker that was told to end sees its requests off at once; one that compares words ends with the prompt.
END_SECONDS = 20.0
MOST_LINE_BYTES = 16 * 1024 * 1024
# What a worker may see of our environment: no database, no keys.
HANDED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(slots=True)
class _Heard:
    """What a worker has said."""

    progress: Mapping[str, Any] | None = None
    last: dict[str, Any] = field(default_factory=dict)


class TrialDesk:
    """Takes test runs in, and runs them."""

    def __init__(
        self,
        store: TrialStore,
        clock: Clock,
        *,
        policy: Policy,
        sealer: Sealer,
        named_urls: Collection[str] = (),
        resolve: Resolve = destinations.by_system,
    ) -> None:
        """`policy` says where load may be put on; `named_urls` are servers that the operator himself has named."""
        self.store, self._clock, self._policy, self._sealer = store, clock, policy, sealer
        self._named = frozenset(url.rstrip("/") for url in named_urls)
        self._resolve = resolve
        self._owner = f"{os.getpid()}-{secrets.token_hex(6)}"

    async def ask(self, spec: TrialSpec, *, by: str, keys: Mapping[str, str]) -> Trial:
        """This will take a test run in; `keys` are those of its servers, by `base_url` and `baseline_url`.

        Raises InvalidRequest for what makes no sense or leads where it must not, Conflict when too many wait.
        """
        asked.checked(spec)
        await self._addresses(spec)
        trial_id = f"{spec.kind.replace('_', '-')}-{secrets.token_hex(4)}"
        sealed = {name: self._sealer.seal(key, f"trial/{trial_id}/{name}") for name, key in keys.items()}
        trial = Trial(
            trial_id=trial_id, spec=spec, state=TrialState.QUEUED, asked_at=self._clock.now(), asked_by=by,
            because="it waits for its turn",
        )  # fmt: skip
        await self.store.add(trial, sealed)
        return trial

    async def cancel(self, trial_id: str, *, by: str) -> Trial:
        """This will end a test run, within a second or two where it runs. Raises UnknownResource or Conflict."""
        return await self.store.cancel(trial_id, by=by, now=self._clock.now())

    async def _addresses(self, spec: TrialSpec) -> dict[str, str]:
        """This will give the addresses to connect to. Raises InvalidRequest when one must not be connected to."""
        found = {"base_url": await self._address(spec.base_url)}
        if spec.kind is TrialKind.VALIDATION and spec.baseline_url is not None:
            found["baseline_url"] = await self._address(spec.baseline_url)
        return found

    async def _address(self, url: str) -> str:
        where = Address.parse(url)
        plain = f"{'https' if where.tls else 'http'}://{where.netloc}{where.path}"
        policy = Policy.everywhere() if plain in self._named else self._policy
        return (await destinations.check(plain, policy, self._resolve)).addresses[0]

    async def run(self) -> None:
        """This will run whatever waits, one after the other, until it is cancelled."""
        while True:
            try:
                if await self.store.give_up_silent(self._clock.now()):
                    log.warning("test runs whose process has ended are marked as interrupted")
                claimed = await self.store.claim(self._owner, self._clock.now())
            except Exception as error:  # boundary: a database that is away comes back
                log.warning("test runs are not looked for; it is tried again: %s", error)
                claimed = None
            if claimed is None:
                await asyncio.sleep(POLL_SECONDS)
                continue
            try:
                await self._run(claimed)
            except asyncio.CancelledError:
                await self._interrupted(claimed.trial.trial_id)
                raise
            except LeaseLost:
                log.warning("test run %s was given up meanwhile", claimed.trial.trial_id)
            except Exception:  # boundary: one test run that breaks must not keep the others from running
                log.exception("test run %s broke", claimed.trial.trial_id)
                await self._broke(claimed.trial.trial_id)

    async def _interrupted(self, trial_id: str) -> None:
        because = "the process that ran it was ended; what it had measured is lost: ask for it again"
        with suppress(Exception):  # the next one marks it, once nobody has spoken of it for a while
            await self._end(trial_id, TrialState.INTERRUPTED, because=because)

    async def _broke(self, trial_id: str) -> None:
        with suppress(Exception):  # likewise
            await self._end(trial_id, TrialState.FAILED, because="it broke; the control plane's log says how")

    async def _end(
        self, trial_id: str, state: TrialState, *, because: str, verdict: str | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        await self.store.end(
            trial_id, self._owner, state, verdict=verdict, because=because, result=result, now=self._clock.now()
        )

    async def _run(self, claimed: ClaimedTrial) -> None:
        trial = claimed.trial
        try:
            # The name may lead elsewhere by now: the worker connects to what was checked just here.
            addresses = await self._addresses(trial.spec)
            keys = {
                name: self._sealer.open(sealed, f"trial/{trial.trial_id}/{name}")
                for name, sealed in claimed.sealed_keys.items()
            }
        except OptiInfraError as error:
            await self._end(trial.trial_id, TrialState.FAILED, because=str(error))
            return
        log.info("test run %s (%s) begins", trial.trial_id, trial.spec.kind)
        given = {"spec": asdict(trial.spec), "addresses": addresses, "keys": keys}
        heard, cancelled = await self._watched(trial, given)
        await self._end(trial.trial_id, **_ending(heard.last, cancelled=cancelled))
        log.info("test run %s has ended", trial.trial_id)

    async def _watched(self, trial: Trial, given: Mapping[str, Any]) -> tuple[_Heard, bool]:
        """This will run a worker to its end, tell how far it is, and pass on the wish that it ends."""
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "control_plane.trials.worker", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, limit=MOST_LINE_BYTES,
            env={name: os.environ[name] for name in HANDED_ON if name in os.environ},
        )  # fmt: skip
        heard = _Heard()
        try:
            with one_error():
                async with asyncio.TaskGroup() as tasks:
                    assert worker.stdout is not None
                    listening = tasks.create_task(_listen(worker.stdout, heard))
                    wanted = await self._until_ended(trial, given, worker, listening, heard)
                    listening.cancel()
        finally:
            if worker.returncode is None:
                with suppress(ProcessLookupError):
                    worker.kill()
            await worker.wait()
        return heard, wanted

    async def _until_ended(
        self, trial: Trial, given: Mapping[str, Any], worker: Process, listening: asyncio.Task[None], heard: _Heard
    ) -> bool:
        """This will see a worker through and say whether somebody wanted it to end before."""
        assert worker.stdin is not None
        began, wanted = self._clock.monotonic(), False
        told_at: float | None = None
        worker.stdin.write(json.dumps(given).encode() + b"\n")
        while not listening.done() and (told_at is None or self._clock.monotonic() - told_at < END_SECONDS):
            await asyncio.wait((listening,), timeout=POLL_SECONDS)
            wanted = await self.store.beat(trial.trial_id, self._owner, heard.progress, self._clock.now())
            is_late = self._clock.monotonic() - began > asked.most_seconds(trial.spec)
            if told_at is None and (wanted or is_late):
                told_at = self._clock.monotonic()
                worker.stdin.write(b"stop\n")
        return wanted


async def _listen(lines: asyncio.StreamReader, heard: _Heard) -> None:
    while line := await lines.readline():
        said = json.loads(line)
        if "progress" in said:
            heard.progress = said["progress"]
        else:
            heard.last = said


def _ending(last: Mapping[str, Any], *, cancelled: bool) -> dict[str, Any]:
    """This will say how a test run ended, by the last words of its worker."""
    if cancelled:
        because = "it was cancelled; these are the figures until then" if last.get("result") else "it was cancelled"
        return {"state": TrialState.CANCELLED, "because": because, "result": last.get("result")}
    if "error" in last:
        return {"state": TrialState.FAILED, "because": str(last["error"])[:2000]}
    if "result" not in last:
        return {"state": TrialState.FAILED, "because": "its process ended without a word, or took too long"}
    return {
        "state": TrialState.FINISHED, "because": last["because"], "verdict": last["verdict"], "result": last["result"],
    }  # fmt: skip
