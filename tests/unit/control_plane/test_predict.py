"""`optiinfra predict` answers every row: a number with its interval, or the reason why not."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from control_plane.__main__ import main

HEAD = "backend,backend_version,model,system,precision,isl,osl,gemm_quant_mode,moe_quant_mode,concurrency,tp_size"


def answers(
    folder: Path, capsys: pytest.CaptureFixture[str], *lines: str, models: Path | None = None
) -> list[dict[str, str]]:
    path = folder / "rows.csv.gz"
    path.write_bytes(gzip.compress("\n".join((HEAD, *lines)).encode()))
    assert main(["predict", "--file", str(path), *(["--models", str(models)] if models else [])]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_a_known_model_on_a_known_gpu_has_a_number_within_its_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = answers(tmp_path, capsys, "vllm,0.12.0,meta-llama/Llama-3.1-70B,h100_sxm,fp8,1024,1024,fp8,fp8,16,4")
    assert float(row["tpot_low"]) < float(row["tpot_ms"]) < float(row["tpot_high"])
    assert 5 < float(row["tpot_ms"]) < 40
    assert float(row["ttft_ms"]) > 0
    assert 0 < float(row["memory_bytes"]) <= 80 * 2**30
    assert int(row["max_concurrency"]) > 16
    assert row["note"] == ""
    assert row["model"] == "meta-llama/Llama-3.1-70B"


def width(row: dict[str, str]) -> float:
    return float(row["tpot_high"]) / float(row["tpot_low"])


def test_what_is_guessed_has_a_wider_interval_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known, model, gpu = answers(
        tmp_path, capsys,
        "vllm,,meta-llama/Llama-3.1-70B,h200_sxm,,1024,1024,,,16,4",
        "vllm,,someone/Mystery-70B,h200_sxm,,1024,1024,,,16,4",
        "vllm,,meta-llama/Llama-3.1-70B,q7000,,1024,1024,,,16,4",
    )  # fmt: skip
    assert width(known) < width(model) < width(gpu)
    assert "guessed" in model["note"]
    assert "not listed" in gpu["note"]


def test_what_no_measured_server_had_has_a_wider_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grouped, latent = answers(
        tmp_path, capsys,
        "vllm,,Qwen/Qwen3-235B-A22B,h200_sxm,,1024,1024,,,16,8",
        "vllm,,deepseek-ai/DeepSeek-R1,h200_sxm,,1024,1024,,,16,8",
    )  # fmt: skip
    assert width(grouped) < width(latent)


def test_one_measured_configuration_corrects_the_others_of_its_kind_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kin = "vllm,0.12.0,meta-llama/Llama-3.1-70B,h100_sxm,fp8,1024,1024,fp8,fp8,16,{}"
    lines = (kin.format(4), kin.format(8), "vllm,0.12.0,meta-llama/Llama-3.1-70B,h200_sxm,fp8,1024,1024,fp8,fp8,16,4")
    before = answers(tmp_path, capsys, *lines)
    slower = 1.2 * float(before[0]["tpot_ms"])
    measured = tmp_path / "measured.csv"
    measured.write_text(f"{HEAD},measured_tpot_ms\n{lines[0]},{slower}\n")
    assert main(["predict", "--file", str(tmp_path / "rows.csv.gz"), "--measured", str(measured)]) == 0
    after = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for old, new in zip(before[:2], after[:2], strict=True):
        assert 1.08 < float(new["tpot_ms"]) / float(old["tpot_ms"]) < 1.2
        assert width(new) < width(old)
        assert "1 measured" in new["note"]
    assert after[2]["tpot_ms"] == before[2]["tpot_ms"]
    measured.write_text(f"{HEAD},measured_tpot_ms\n{lines[0]},fast\n")
    assert main(["predict", "--file", str(tmp_path / "rows.csv.gz"), "--measured", str(measured)]) == 1


def test_a_row_that_says_too_little_gets_a_reason_and_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = answers(
        tmp_path, capsys,
        "vllm,,someone/mystery,h200_sxm,,1024,1024,,,16,4",
        "vllm,,Qwen/Qwen3-32B,h200_sxm,,many,1024,,,16,4",
        "vllm,,Qwen/Qwen3-32B,h200_sxm,,1024,1024,base64,,16,4",
        "vllm,,Qwen/Qwen3-32B,h200_sxm,,1024,1024,,,-3,4",
        "vllm,,Qwen/Qwen3-32B,h200_sxm,,1024,1024,,,16,4",
    )  # fmt: skip
    assert [bool(row["tpot_ms"]) for row in rows] == [False, False, False, False, True]
    assert "no size" in rows[0]["note"]
    assert "isl" in rows[1]["note"]
    assert "format" in rows[2]["note"]
    assert "concurrency" in rows[3]["note"]


def test_a_model_of_ones_own_is_read_from_its_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "models" / "mine" / "small"
    folder.mkdir(parents=True)
    config = {
        "num_hidden_layers": 4,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "vocab_size": 999,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (row,) = answers(tmp_path, capsys, "vllm,,mine/small,h100_sxm,,100,100,,,1,1", models=tmp_path / "models")
    assert row["note"] == ""
    assert float(row["tpot_ms"]) < 5


def test_a_model_that_does_not_fit_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = answers(tmp_path, capsys, "vllm,,deepseek-ai/DeepSeek-R1,l4,,1024,1024,,,16,1")
    assert "does not fit" in row["note"]
    assert row["max_concurrency"] == "0"


def test_a_file_that_is_no_table_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    assert main(["predict", "--file", str(path)]) == 1
    assert "no column isl, model, osl, system" in capsys.readouterr().err
    assert main(["predict", "--file", str(tmp_path / "absent.csv")]) == 1
