"""Takes the API's examples from a running server: asks every operation and keeps the answers, cut short.

    python scripts/capture_examples.py http://127.0.0.1:8003
    python scripts/capture_examples.py http://127.0.0.1:8003 --rollout chat    # begins one there, and takes it back
    python scripts/capture_examples.py http://127.0.0.1:8003 --optimize        # asks every policy, and decides
    python scripts/capture_examples.py http://127.0.0.1:8003 --tests http://candidate:8000 http://baseline:8000

Lists keep 2 items, series 3 points, long lists of names 3; every answer goes to <operation_id>.json under
control_plane/api/examples (or --folder). Needs nothing but Python. `make openapi` puts them into the document.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "control_plane" / "api" / "examples"
TIMEOUT_SECONDS = 60
MOST_TEST_SECONDS = 600  # the comparison, and then the load
MOST_ITEMS, MOST_POINTS, MOST_NAMES = 2, 3, 3
LONGEST_TEXT = 12  # lines of the Prometheus exposition
# Questions that need more than their defaults; a window of a minute at 20 s is three points.
PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "gpu_history": {"field": "sm_active_ratio", "since": "1m", "step": "20s"},
    "system_history": {"field": "cpu_busy_ratio", "since": "1m", "step": "20s"},
    "metrics_history": {"field": "ttft_seconds", "since": "1m", "step": "20s"},
    "analysis_forecast": {"horizon": "15m"},
    "analysis_trends": {"window": "24h"},
    "analysis_waste": {"by": "node"},
}
# Beside every GET: one takes a sample, one is asked for what holds already.
HARMLESS = ("metrics_collect", "node_configure", "analysis_utilization")
# What a POST is asked with.
BODIES: Mapping[str, Any] = {"analysis_utilization": {}}


def ask(base: str, path: str, parameters: Mapping[str, str], method: str = "GET", body: Any = None) -> Any:
    """This will ask one question and give the answer: JSON, or a text as it is."""
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    sent = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(base + path + query, sent, headers, method=method)  # noqa: S310 - the operator's own
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        if answer.headers.get_content_type() == "text/event-stream":
            return "".join(_first_events(answer))
        body = answer.read().decode()
        return json.loads(body) if answer.headers.get_content_type() == "application/json" else body


def _first_events(lines: Iterable[bytes]) -> Iterator[str]:
    """This will give a stream's text up to the end of its first event: it has no end of its own."""
    has_data = False
    for line in lines:
        has_data = has_data or line.startswith(b"data:")
        yield line.decode()
        if has_data and not line.strip():
            return


def shortened(value: Any, name: str = "") -> Any:
    """This will cut an answer to what a reader needs to see its shape."""
    match value:
        case dict():
            return {key: shortened(entry, key) for key, entry in value.items()}
        case list():
            most = MOST_POINTS if name == "points" else MOST_ITEMS if _holds_things(value) else MOST_NAMES
            return [shortened(entry) for entry in value[:most]]
        case str() if value.count("\n") > LONGEST_TEXT:
            return "".join(value.splitlines(keepends=True)[:LONGEST_TEXT])
        case _:
            return value


def _holds_things(value: list[Any]) -> bool:
    return any(isinstance(entry, dict) for entry in value)


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """This will give method, path and id of every operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation["operationId"]


def identifiers(base: str) -> dict[str, str]:
    """This will give for each placeholder of a path the thing that has most to show."""
    nodes = ask(base, "/nodes", {})["items"]
    servers = ask(base, "/inference/servers", {})["items"]
    up = [server for server in servers if server["state"] == "up"] or servers
    found: dict[str, str] = {}
    if nodes:
        details = [ask(base, f"/nodes/{node['node_id']}", {}) for node in nodes[:20]]
        fullest = max(details, key=lambda node: len(node["gpus"]) + len(node["inference_servers"]))
        found["node_id"] = str(fullest["node_id"])
    if up:
        found["server_id"] = str(up[0]["server_id"])
    if objectives := ask(base, "/slo", {})["items"]:
        found["slo_id"] = str(objectives[0]["slo_id"])
    if alerts := ask(base, "/alerts", {})["items"]:
        found["alert_id"] = str(alerts[0]["alert_id"])
    if rollouts := ask(base, "/rollout/history", {})["items"]:
        found["rollout_id"] = str(rollouts[0]["rollout_id"])
    if tests := ask(base, "/test/results", {})["items"]:
        found["test_id"] = str(tests[0]["test_id"])
    return found


def capture(base: str, folder: Path, only: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """This will write every example that can be had, and give their ids and why others are missing."""
    written, missing = [], []
    known = identifiers(base)
    for method, path, operation_id in operations(ask(base, "/openapi.json", {})):
        if only and operation_id not in only:
            continue
        if method != "GET" and operation_id not in HARMLESS:
            missing.append(f"{operation_id}: a {method} changes things")
            continue
        try:
            named = path.format(**known)
            body = BODIES.get(operation_id)
            if method == "PUT":  # what is there already, put again, stays as it is
                body = ask(base, named, {})["desired"]
                if not body:
                    missing.append(f"{operation_id}: there is nothing that could be put again")
                    continue
            answer = ask(base, named, PARAMETERS.get(operation_id, {}), method, body)
        except KeyError as error:
            missing.append(f"{operation_id}: there is nothing to name for {error}")
            continue
        except OSError as error:
            missing.append(f"{operation_id}: {error}")
            continue
        if isinstance(answer, dict) and answer.get("items") == []:
            missing.append(f"{operation_id}: the list is empty, which shows nothing")
            continue
        text = json.dumps(shortened(answer), indent=2, ensure_ascii=False)
        (folder / f"{operation_id}.json").write_text(text + "\n", encoding="utf-8")
        written.append(operation_id)
    return written, missing


def until(base: str, rollout_id: str, *states: str) -> None:
    """This will wait until a rollout stands in one of these states. Raises TimeoutError."""
    for _ in range(TIMEOUT_SECONDS * 4):
        if ask(base, f"/rollout/{rollout_id}", {})["state"] in states:
            return
        time.sleep(0.25)
    raise TimeoutError(f"{rollout_id} is not {' or '.join(states)}; nothing is waited for longer")


def capture_rollout(base: str, folder: Path, target: str) -> list[str]:
    """This will begin a rollout, hold it, hurry it and take it back, keep the answers, and give their ids."""
    asked = {"target": target, "steps_percent": [5, 50, 100], "approve_before_percent": [100]}
    taken: dict[str, Any] = {"rollout_start": ask(base, "/rollout/start", {}, "POST", asked)}
    rollout_id = str(taken["rollout_start"]["rollout_id"])
    for verb, states in (("pause", ("observing",)), ("resume", ("paused",)), ("promote", ("observing",))):
        until(base, rollout_id, *states)
        if verb == "promote":
            time.sleep(5)  # requests of this step come in
            taken["rollout_status"] = ask(base, "/rollout/status", {})
        taken[f"rollout_{verb}"] = ask(base, f"/rollout/{rollout_id}/{verb}", {}, "POST")
    time.sleep(3)
    until(base, rollout_id, "observing")
    taken["rollout_rollback"] = ask(base, "/rollout/rollback", {}, "POST", {"rollout_id": rollout_id})
    until(base, rollout_id, "rolled_back")
    taken["rollout_get"] = ask(base, f"/rollout/{rollout_id}", {})
    taken["rollout_history"] = ask(base, "/rollout/history", {})
    return kept(taken, folder)


def kept(taken: Mapping[str, Any], folder: Path) -> list[str]:
    """This will write answers as examples and give their ids."""
    for operation_id, answer in taken.items():
        text = json.dumps(shortened(answer), indent=2, ensure_ascii=False)
        (folder / f"{operation_id}.json").write_text(text + "\n", encoding="utf-8")
    return list(taken)


OPTIMIZE = ("scale-up", "scale-down", "consolidate", "kv-cache", "quantize", "batch", "parallelism")


def capture_optimize(base: str, folder: Path) -> list[str]:
    """This will ask every policy, decide about what they say, keep the answers, and give their ids."""
    taken: dict[str, Any] = {
        f"optimize_{kind.replace('-', '_')}": ask(base, f"/optimize/{kind}", {}, "POST", {}) for kind in OPTIMIZE
    }
    taken["optimize_recommendations"] = ask(base, "/optimize/recommendations", {})
    taken["optimize_recommendations_post"] = ask(base, "/optimize/recommendations", {}, "POST")
    first, second = (f"/optimize/recommendations/{each['recommendation_id']}" for each in _two(taken))
    taken["optimize_recommendation"] = ask(base, first, {})
    taken["optimize_approve"] = ask(base, f"{first}/approve", {}, "POST", {"reason": "tried on staging"})
    taken["optimize_reject"] = ask(base, f"{second}/reject", {}, "POST", {"reason": "not this week"})
    number = taken["optimize_approve"]["recommendation_id"]
    asked = {"recommendation_id": number, "watch_seconds": 5}
    taken["insights"] = ask(base, "/insights", {}, "POST", {"recommendation_id": number})
    begun = taken["optimize_execute"] = ask(base, "/optimize/execute", {}, "POST", asked)
    waiting = taken["workflow_run"] = ask(base, "/workflows/run", {}, "POST", {"kinds": ["quantize", "scale_up"]})
    standing(base, waiting["workflow_id"], "awaiting_approval", "done")
    standing(base, begun["workflow_id"], "watching", "done")
    taken["optimize_executions"] = ask(base, "/optimize/executions", {})
    taken["optimize_execution"] = ask(base, f"/optimize/executions/{begun['workflow_id']}", {})
    taken["workflows"] = ask(base, "/workflows", {})
    taken["workflow"] = ask(base, f"/workflows/{waiting['workflow_id']}", {})
    answered = {"approved": False, "reason": "not this week"}
    taken["workflow_resume"] = ask(base, f"/workflows/{waiting['workflow_id']}/resume", {}, "POST", answered)
    taken["optimize_cancel"] = ask(base, f"/optimize/executions/{begun['workflow_id']}/cancel", {}, "POST")
    for operation_id, answer in taken.items():
        text = json.dumps(shortened(answer), indent=2, ensure_ascii=False)
        (folder / f"{operation_id}.json").write_text(text + "\n", encoding="utf-8")
    return list(taken)


def capture_lmcache(base: str, folder: Path) -> list[str]:
    """This will ask what to change of the first cache and how, keep the answers, and give their ids."""
    cache = ask(base, "/lmcache/status", {})["items"][0]
    changes = {"cache_id": cache["cache_id"], "changes": {"memory_gibibytes": 4, "log_level": "DEBUG"}}
    taken = {
        "lmcache_optimize": ask(base, "/lmcache/optimize", {}, "POST", {}),
        "lmcache_configure": ask(base, "/lmcache/configure", {}, "POST", changes),
    }
    for operation_id, answer in taken.items():
        text = json.dumps(shortened(answer), indent=2, ensure_ascii=False)
        (folder / f"{operation_id}.json").write_text(text + "\n", encoding="utf-8")
    return list(taken)


def standing(base: str, workflow_id: str, *states: str) -> None:
    """This will wait until a workflow stands in one of these states. Raises TimeoutError."""
    for _ in range(TIMEOUT_SECONDS * 4):
        if ask(base, f"/workflows/{workflow_id}", {})["state"] in states:
            return
        time.sleep(0.25)
    raise TimeoutError(f"{workflow_id} is not {' or '.join(states)}; nothing is waited for longer")


def _two(taken: Mapping[str, Any]) -> list[Any]:
    items: list[Any] = taken["optimize_recommendations"]["items"]
    return [items[0], items[-1]]


def capture_tests(base: str, folder: Path, candidate: str, baseline: str) -> list[str]:
    """This will compare two servers, put load on one and end that, keep the answers, and give their ids."""
    load = {"rate": 20, "prompt_length": "lognormal:300,0.6,16-2048", "output_length": "32-128"}
    compared = {"candidate_url": candidate, "baseline_url": baseline, "load": load, "seconds": 300}
    taken: dict[str, Any] = {"test_validate": ask(base, "/test/validate", {}, "POST", compared)}
    asked = {"base_url": candidate, "load": load, "seconds": 120, "objective": {"ttft_seconds": 0.5}}
    taken["test_run"] = ask(base, "/test/run", {}, "POST", asked)
    test_id = str(taken["test_run"]["test_id"])
    waited = 0.0
    while (found := ask(base, f"/test/results/{test_id}", {}))["state"] != "finished":
        if waited > MOST_TEST_SECONDS or found["state"] in ("failed", "interrupted"):
            raise TimeoutError(f"{test_id} does not finish: {found['because']}")
        time.sleep(1)
        waited += 1
    taken["test_result"] = found
    again = ask(base, "/test/run", {}, "POST", asked)
    time.sleep(8)
    taken["test_results"] = ask(base, "/test/results", {})
    taken["test_cancel"] = ask(base, f"/test/{again['test_id']}/cancel", {}, "POST")
    taken["test_profiles"] = ask(base, "/test/profiles", {})
    return kept(taken, folder)


def main() -> int:
    """This will capture every example and say what is missing; 1 when something is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="the running server, such as http://127.0.0.1:8003")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files go")
    parser.add_argument("--only", nargs="+", default=(), help="operation ids; without it all of them")
    parser.add_argument(
        "--rollout", metavar="TARGET", help="begin a rollout of this target for the examples of rollouts"
    )
    parser.add_argument("--optimize", action="store_true", help="ask every policy, and decide about what they say")
    parser.add_argument("--tests", nargs=2, metavar="URL", help="candidate and baseline, for the examples of tests")
    parser.add_argument("--lmcache", action="store_true", help="ask what to change of the first cache, and how")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    base = arguments.base.rstrip("/")
    if arguments.tests:
        written, missing = capture_tests(base, arguments.folder, *arguments.tests), list[str]()
    elif arguments.rollout:
        written, missing = capture_rollout(base, arguments.folder, arguments.rollout), list[str]()
    elif arguments.lmcache:
        written, missing = capture_lmcache(base, arguments.folder), list[str]()
    elif arguments.optimize:
        written, missing = capture_optimize(base, arguments.folder), list[str]()
    else:
        written, missing = capture(base, arguments.folder, arguments.only)
    sys.stdout.write(f"{len(written)} examples in {arguments.folder}\n" + "".join(f"missing: {m}\n" for m in missing))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
