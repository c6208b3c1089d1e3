"""`optiinfra diagnose`: from a folder to verdicts, and what it says of folders that are none."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from control_plane.__main__ import main

RECORDINGS = Path(__file__).parents[2] / "data" / "engine-recordings"


def test_the_json_has_a_verdict_with_evidence_and_remedies_for_every_window(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["diagnose", "--recording", str(RECORDINGS / "vllm-h200-prefill"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["engine"] == "vllm"
    assert len(document["windows"]) == len(list((RECORDINGS / "vllm-h200-prefill").glob("*.prom.gz"))) - 1
    for window in document["windows"]:
        assert set(window) == {
            "from_seconds", "to_seconds", "bottleneck", "runner_up", "score", "evidence", "remedies",
        }  # fmt: skip
    worst = document["windows"][2]
    assert (worst["bottleneck"], worst["runner_up"]) == ("prefill_bound", "compute_bound")
    assert worst["evidence"] and worst["remedies"]


def test_people_get_spells_and_not_windows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "--recording", str(RECORDINGS / "vllm-cpu-queue-bound")]) == 0
    shown = capsys.readouterr().out
    assert shown.count("batch_limited") == 1
    assert "→ raise the requests that may run at once (--max-num-seqs" in shown
    assert "cannot be told apart here" in shown


def test_plain_and_compressed_snapshots_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = RECORDINGS / "vllm-cpu-kv-bound"
    for file in source.glob("*.prom.gz"):
        (tmp_path / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    main(["diagnose", "--recording", str(source), "--json"])
    compressed = capsys.readouterr().out
    main(["diagnose", "--recording", str(tmp_path), "--json"])
    assert capsys.readouterr().out == compressed


def test_a_snapshot_that_cannot_be_read_is_missing_data_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (RECORDINGS / "vllm-cpu-healthy").glob("*.prom.gz"):
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "0015.prom.gz").write_bytes((tmp_path / "0015.prom.gz").read_bytes()[:200])
    (tmp_path / "0020.prom.gz").write_bytes(b"<html>404</html>")
    assert main(["diagnose", "--recording", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    verdicts = {window["to_seconds"]: window["bottleneck"] for window in document["windows"]}
    assert {verdicts[at] for at in (15.0, 20.0, 25.0)} == {"missing_data"}
    assert verdicts[30.0] == "healthy"
    assert [line.split(":")[0] for line in document["skipped"]] == ["0015.prom.gz", "0020.prom.gz"]


def test_a_recorded_collective_that_never_ends_is_stuck_in_every_window_until_it_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = (RECORDINGS.parent / "nvml" / "h200-x2-allreduce-then-stuck.jsonl.gz").read_bytes()
    (tmp_path / "gpu.jsonl").write_bytes(gzip.decompress(packed))
    assert main(["diagnose", "--recording", str(tmp_path), "--json"]) == 0
    windows = json.loads(capsys.readouterr().out)["windows"]
    # As tests/data/nvml/README.md says: idle, then all-reduce at 8 s, stuck from 15 s on.
    assert {w["bottleneck"] for w in windows if w["from_seconds"] >= 20 and w["to_seconds"] <= 85} == {
        "stuck_collective"
    }
    assert "stuck_collective" not in {w["bottleneck"] for w in windows if w["to_seconds"] <= 15}


def test_gpus_alone_are_judged_by_what_they_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"util_gpu": 100, "sm_util": 18.182, "any_tensor_util": 0.0, "dram_bw_util": 0.0, "pcie_tx_per_sec": 0.0}
    lines = [json.dumps({"t": 1000 + n, **row}) for n in range(20)]
    (tmp_path / "gpu.jsonl").write_text("\n".join([*lines, "not json", json.dumps({"t": "never"})]))
    assert main(["diagnose", "--recording", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {window["bottleneck"] for window in document["windows"]} == {"stuck_collective"}
    assert len(document["skipped"]) == 2


@pytest.mark.parametrize("content", [{}, {"0000.prom": ""}, {"notes.txt": "hello"}, {"0000.prom": "up 1\n"}])
def test_a_folder_with_nothing_to_judge_is_refused_with_what_it_should_hold(
    tmp_path: Path, content: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    assert main(["diagnose", "--recording", str(tmp_path)]) == 1
    assert "0000.prom, 0005.prom" in capsys.readouterr().err


def test_a_folder_of_two_engines_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(RECORDINGS / "vllm-cpu-healthy" / "0000.prom.gz", tmp_path / "0000.prom.gz")
    shutil.copy(RECORDINGS / "sglang-cpu-healthy" / "0005.prom.gz", tmp_path / "0005.prom.gz")
    assert main(["diagnose", "--recording", str(tmp_path)]) == 1
    assert "sglang and vllm" in capsys.readouterr().err


def test_a_path_that_does_not_exist_is_an_error_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "--recording", "/nowhere"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
