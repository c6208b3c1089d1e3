"""`python -m benchmarks`: runs all and writes docs/benchmarks.md; `python -m benchmarks NAME` runs one and prints."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    agent_weight,
    alert_delivery,
    analysis_speed,
    api_latency,
    consolidation,
    dashboard,
    detection,
    fairness,
    faults,
    fleet_scale,
    forecast,
    gpu_recorded,
    grafana_panels,
    ingest,
    load_generator,
    peers,
    phases,
    prediction,
    recordings,
    replicas,
    rollout_haproxy,
    scaling_replay,
    startup,
    stored_history,
    tuning,
    verdicts,
)
from benchmarks.figures import Result, document, machine_line, section, versions_line, with_section

BENCHMARKS: dict[str, Callable[..., Result]] = {
    "startup": startup.measure,
    "agent_weight": agent_weight.measure,
    "gpu_recorded": gpu_recorded.measure,
    "recordings": recordings.measure,
    "ingest": ingest.measure,
    "fleet_scale": fleet_scale.measure,
    "replicas": replicas.measure,
    "peers": peers.measure,
    "fairness": fairness.measure,
    "api_latency": api_latency.measure,
    "stored_history": stored_history.measure,
    "dashboard": dashboard.measure,
    "grafana_panels": grafana_panels.measure,
    "faults": faults.measure,
    "detection": detection.measure,
    "alert_delivery": alert_delivery.measure,
    "analysis_speed": analysis_speed.measure,
    "phases": phases.measure,
    "forecast": forecast.measure,
    "load_generator": load_generator.measure,
    "verdicts": verdicts.measure,
    "rollout_haproxy": rollout_haproxy.measure,
    "prediction": prediction.measure,
    "scaling_replay": scaling_replay.measure,
    "tuning": tuning.measure,
    "consolidation": consolidation.measure,
}
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures against floors; without a name it writes docs/benchmarks.md."
    )
    parser.add_argument("name", nargs="?", choices=sorted(BENCHMARKS), help="run this one and print it")
    parser.add_argument("--quick", action="store_true", help="short and rough, to see whether it runs")
    parser.add_argument("--write", action="store_true", help="with a name: write its section into the document")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="where the document goes (default: %(default)s)")
    return parser


def _run(name: str, *, quick: bool) -> Result:
    started = time.monotonic()
    print(f"{name} …", file=sys.stderr, flush=True)
    result = replace(BENCHMARKS[name](quick=quick), quick=quick)
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """This will run one benchmark and print it, or all and write the document."""
    arguments = _parser().parse_args(argv)
    if arguments.name:
        result = _run(arguments.name, quick=arguments.quick)
        print(section(result))
        if arguments.write:
            text = with_section(arguments.output.read_text(encoding="utf-8"), result)
            arguments.output.write_text(text, encoding="utf-8")
        return 0
    from control_plane.storage.postgres_binaries import find_binaries

    results = [_run(name, quick=arguments.quick) for name in BENCHMARKS]
    text = document(results, machine=machine_line(), versions=versions_line(find_binaries().version))
    arguments.output.write_text(text, encoding="utf-8")
    print(f"wrote {arguments.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
