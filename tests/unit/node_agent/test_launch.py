"""What of a command line is kept: the known flags of real ones, and never a word of anything else."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.launch.flags import launch_flags, own_flags
from node_agent.launch.program import Port, metrics_port, program

# As the recordings' READMEs, the engines' own READMEs and images have them.
REAL = {
    "vllm serve tiny --served-model-name tiny --enforce-eager --dtype float32 --distributed-executor-backend uni "
    "--max-model-len 2048 --block-size 32 --num-gpu-blocks-override 128 --no-enable-prefix-caching --max-num-seqs 64": {
        "enforce_eager": True,
        "dtype": "float32",
        "max_model_len": 2048,
        "block_size": 32,
        "num_gpu_blocks_override": 128,
        "enable_prefix_caching": False,
        "max_num_seqs": 64,
    },
    "python3 -m vllm.entrypoints.cli.main serve /m/llama8b --load-format dummy --served-model-name tiny --host "
    "127.0.0.1 --port 8000 --attention-backend FLASH_ATTN --enforce-eager --max-model-len 16384 "
    "--gpu-memory-utilization 0.5 --tensor-parallel-size 2 --no-enable-prefix-caching --max-num-batched-tokens 8192": {
        "port": 8000,
        "attention_backend": "FLASH_ATTN",
        "enforce_eager": True,
        "max_model_len": 16384,
        "gpu_memory_utilization": 0.5,
        "tensor_parallel_size": 2,
        "enable_prefix_caching": False,
        "max_num_batched_tokens": 8192,
    },
    "/venv/bin/python /venv/bin/vllm serve ./tiny --host 127.0.0.1 --port 8301 --kv-cache-memory-bytes 67108864 "
    '--kv-transfer-config {"kv_connector":"LMCacheMPConnector","kv_role":"kv_both"} -tp 4 -q fp8': {
        "port": 8301,
        "kv_cache_memory_bytes": 67108864,
        "tensor_parallel_size": 4,
        "quantization": "fp8",
    },
    "python -m sglang.launch_server --model-path tiny --device cpu --enable-metrics --attention-backend torch_native "
    "--sampling-backend pytorch --cuda-graph-backend-decode disabled --cuda-graph-backend-prefill disabled --dtype "
    "float32 --disable-overlap-schedule --max-total-tokens 4096 --disable-radix-cache --schedule-conservativeness 0.1 "
    "--max-running-requests 2 --tp 2 --mem-fraction-static 0.8": {
        "attention_backend": "torch_native",
        "dtype": "float32",
        "max_total_tokens": 4096,
        "disable_radix_cache": True,
        "schedule_conservativeness": 0.1,
        "max_running_requests": 2,
        "tp_size": 2,
        "mem_fraction_static": 0.8,
    },
    "text-generation-launcher --model-id org/model --num-shard 2 --quantize bitsandbytes-nf4 --max-input-tokens 4000 "
    "--max-batch-prefill-tokens 8192 --max-concurrent-requests 128 --port 80": {
        "num_shard": 2,
        "quantization": "bitsandbytes-nf4",
        "max_input_tokens": 4000,
        "max_batch_prefill_tokens": 8192,
        "max_concurrent_requests": 128,
        "port": 80,
    },
    "lmcache server --host 127.0.0.1 --port 5655 --http-host 127.0.0.1 --http-port 9200 --l1-size-gb 1 "
    "--l1-init-size-gb 1 --eviction-policy LRU --supported-transfer-mode engine_driven "
    "--chunk-size 64 --disable-grpc-metrics": {
        "port": 5655,
        "http_port": 9200,
        "l1_size_gb": 1.0,
        "eviction_policy": "LRU",
        "chunk_size": 64,
    },
}
LINES = [shlex.split(line.replace('"', '\\"')) for line in REAL]


@pytest.mark.parametrize("line", REAL, ids=lambda line: line[:40])
def test_the_known_flags_of_a_real_command_line_are_read(line: str) -> None:
    words = shlex.split(line.replace('"', '\\"'))
    assert launch_flags(words) == REAL[line]
    wrappers = ("env HF_TOKEN=hf_1 PORT=9", "numactl -N 0 -m 0", "nohup", "/opt/vllm/bin/python3 -u", "run --port 9 --")
    for wrapper in wrappers:
        assert launch_flags([*wrapper.split(), *words]) == REAL[line]


MORE = {"--api-key", "--hf-token", "--served-model-name", "--model", "-k", "--max-num-seqs", "--dtype"}
FLAGS = st.sampled_from(sorted(MORE | {word for line in LINES for word in line if word.startswith("-")}))
SECRET = st.text(st.characters(codec="ascii", categories=("L", "N", "P"), exclude_characters="\\"), min_size=8).filter(
    lambda text: not text.lstrip("-").replace(".", "", 1)[:-1].isdigit()  # a number with a unit may be a value
)


def shapes(secret: str, flag: str) -> list[list[str]]:
    """Where a secret may stand: as one or two words of a command line."""
    return [
        [secret],
        [flag, secret],
        [f"{flag}={secret}"],
        [f"HF_TOKEN={secret}"],
        [f"https://user:{secret}@hub.example/org/model"],
        [flag, f"s3://{secret}:{secret}@store.example/model"],
        [json.dumps({"api_key": secret, "dtype": secret})],
        [flag, json.dumps({"token": secret})],
        ["sh", "-c", f"vllm serve m --api-key {secret} --dtype {secret}"],
        [flag, f"fp8{secret}"],
        [f"{flag}=8{secret}"],
        ["--api-key", flag, secret],
        ["--", flag, secret],
    ]


@given(data=st.data(), line=st.sampled_from(LINES), secret=SECRET, flag=FLAGS)
def test_a_secret_anywhere_in_a_command_line_is_never_reported(
    data: st.DataObject, line: list[str], secret: str, flag: str
) -> None:
    put = data.draw(st.sampled_from(shapes(secret, flag)))
    at, instead = data.draw(st.integers(0, len(line))), data.draw(st.integers(0, 2))
    words = [*line[:at], *put, *line[at + instead :]]
    for kept in (launch_flags(words), own_flags(words)):
        assert all(secret not in str(value) for value in kept.values()), kept
        assert set(kept.values()) <= {False, True} | {v for known in REAL.values() for v in known.values()}
        assert all("-" not in name and secret not in name for name in kept)


@given(
    line=st.sampled_from(sorted(REAL)), secret=SECRET, flag=st.sampled_from(["--api-key", "--hf-token", "--x", "-x"])
)
def test_an_unknown_flags_value_changes_nothing_of_what_is_read(line: str, secret: str, flag: str) -> None:
    words = shlex.split(line.replace('"', '\\"'))
    assert launch_flags([*words, f"{flag}={secret}"]) == REAL[line]
    assert launch_flags([f"KEY={secret}", *words]) == REAL[line]
    if not secret.startswith("-"):
        assert launch_flags([*words, flag, secret]) == REAL[line]


@pytest.mark.parametrize(
    "line",
    [
        "sh -c 'vllm serve m --max-num-seqs 8'",
        "bash --max-num-seqs 8",
        "python3 app.py --max-num-seqs 8 --model vllm-model",
        "docker run --name vllm --max-num-seqs 8",
        "ENGINE=vllm run --max-num-seqs 8",
        "/opt/vllm/bin/python -c code --max-num-seqs 8",
        "run --max-num-seqs 8 vllm serve m",
    ],
)
def test_the_flags_of_a_wrapper_are_nobodys(line: str) -> None:
    assert launch_flags(shlex.split(line)) == {}


ONLY, PERHAPS = True, False


@pytest.mark.parametrize(
    ("line", "number", "certain"),
    [
        ("lmcache server", 8080, ONLY),
        ("/venv/bin/python /venv/bin/lmcache server --port 8000 --http-port 9200", 9200, ONLY),
        ("python3 -m lmcache.cli.main server --port=6555 --http-port=6556", 6556, ONLY),
        ("python3 -m lmcache.v1.multiprocess.http_server --port 6555 --http-port 6556", 6556, ONLY),
        ("python3 -m lmcache.v1.multiprocess.server --port 6555", 9090, ONLY),
        ("python3 -m lmcache.v1.multiprocess.server --port 6555 --prometheus-port 9091", 9091, ONLY),
        ("python3 /src/lmcache/v1/multiprocess/server.py --port 6555", 9090, ONLY),
        ("lmcache_server 0.0.0.0 65432 cpu", None, ONLY),
        ("python -m lmcache.v1.server localhost 65432", None, ONLY),
        ("lmcache_controller --host 0.0.0.0 --port 9100 --monitor-ports {}", 9100, ONLY),
        ("python3 -m lmcache.v1.api_server", 9000, PERHAPS),
        ("lmcache coordinator --port 9301", 9301, ONLY),
        ("lmcache coordinator", 9300, PERHAPS),
        ("lmcache bench engine", None, PERHAPS),
        ("/opt/lmcache/bin/lmcache server --http-port 9200", 9200, ONLY),
        ("/opt/lmcache/bin/vllm serve m --port 8001", 8001, PERHAPS),
        ("vllm serve m", None, PERHAPS),
    ],
)
def test_the_port_of_the_metrics_is_told_from_ports_that_speak_something_else(
    line: str, number: int | None, certain: bool
) -> None:
    found = program(line.split())
    assert found is not None
    assert metrics_port(found, own_flags(found.arguments)) == Port(number=number, certain=certain)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--max-num-seqs", "8"], {"max_num_seqs": 8}),
        (["--max-num-seqs=8"], {"max_num_seqs": 8}),
        (["--max_num_seqs", "8"], {"max_num_seqs": 8}),
        (["-tp", "4", "-pp=2"], {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}),
        (["--max-model-len", "2k"], {"max_model_len": 2000}),
        (["--max-model-len", "2K"], {"max_model_len": 2048}),
        (["--max-num-seqs", "8", "--max-num-seqs", "16"], {"max_num_seqs": 16}),
        (["--gpu-memory-utilization", "0.85"], {"gpu_memory_utilization": 0.85}),
        (["--chunked-prefill-size", "-1"], {"chunked_prefill_size": -1}),
        (["--no-enable-prefix-caching"], {"enable_prefix_caching": False}),
        (["--enable-prefix-caching", "--quantization", "fp8"], {"enable_prefix_caching": True, "quantization": "fp8"}),
        (["--max-num-seqs", "--api-key", "sk-1"], {}),
        (["--max-num-seqs"], {}),
        (["--api-key", "sk-1", "--hf-token=hf_2", "--ssl-keyfile", "x", "-k", "y"], {}),
        (["--served-model-name", "tiny"], {}),
        (["--max-model-len", "auto"], {"max_model_len": "auto"}),
        (["--max-num-seqs", "8", "--max-num-seqs", "many"], {}),
        (["--max-num-seqs", "8 9"], {}),
        (["--gpu-memory-utilization", "1.5"], {}),
        (["--quantization", "hf_fp8"], {}),
        (["--max-num-seqs", "8", "--", "--max-num-seqs", "9"], {"max_num_seqs": 8}),
        (["--api-key", "-q", "fp8"], {}),
        (["--middleware", "--max-num-seqs", "8"], {"max_num_seqs": 8}),
        (["--enforce-eager=--max-num-seqs", "--enforce-eager", "8"], {"enforce_eager": True}),
        (["--mem-fraction-static", "0.8", "--tp", "2"], {"mem_fraction_static": 0.8, "tp_size": 2}),
    ],
)
def test_of_a_command_line_only_named_flags_are_kept(words: list[str], kept: dict[str, object]) -> None:
    assert launch_flags(["vllm", "serve", *words]) == kept
