"""AutoETS, the forecaster of a library that ours is measured against, run beside us in an environment of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.traces import Series

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-bench" / "bin" / "python"
WORKER = Path(__file__).with_name("autoets_worker.py")
# Bins that a fit sees. Longer windows cost more and, without a season, do not forecast better.
WINDOW = 240
SETUP_SECONDS = 600
ANSWER_SECONDS = 900


class EtsError(Exception):
    """AutoETS gave no answer; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtsForecasts:
    """What AutoETS said at some origins."""

    origins: Sequence[int]
    forecasts: Series  # (origins, horizons)
    failed: int  # origins at which no model could be fitted; the last value stands there


def available(*, set_up: bool) -> str | None:
    """This will say why AutoETS cannot run, or None. With `set_up` it is installed first when it is not there."""
    if PYTHON.exists():
        return None
    if not set_up:
        return "statsforecast is not installed (make .venv-bench/bin/python)"
    print("setting up .venv-bench for AutoETS, once (150 MB) …", file=sys.stderr, flush=True)
    try:
        made = subprocess.run(
            ["make", "--silent", ".venv-bench/bin/python"],
            cwd=ROOT, capture_output=True, text=True, timeout=SETUP_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f".venv-bench could not be made: {error}"
    return None if made.returncode == 0 else f".venv-bench could not be made: {made.stderr.strip()[-300:]}"


class Running:
    """AutoETS at work in another process, while we do our own."""

    def __init__(self, values: Series, *, origins: Sequence[int], horizons: Sequence[int]) -> None:
        self._origins = origins
        self._horizons = len(horizons)
        question = {
            "values": [None if np.isnan(v) else float(v) for v in values],
            "origins": list(origins), "horizons": list(horizons), "window": WINDOW,
        }  # fmt: skip
        self._process = subprocess.Popen(
            [PYTHON, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:  # result() says that it ended
            json.dump(question, stdin)
        self._process.stdin = None

    def result(self) -> EtsForecasts:
        """This will wait for the forecasts; EtsError when there are none."""
        try:
            answer, _ = self._process.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise EtsError(f"it took more than {ANSWER_SECONDS} s; ask for fewer --ets-origins") from None
        if self._process.returncode != 0:
            raise EtsError(f"its process ended with {self._process.returncode}")
        found = json.loads(answer)
        forecasts = np.asarray(found["forecasts"], dtype=np.float64).reshape(len(self._origins), self._horizons)
        return EtsForecasts(origins=self._origins, forecasts=forecasts, failed=found["failed"])
