"""Predictions behave as servers do, whatever the numbers: more load is not faster, more memory holds more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.catalogue.architectures import architectures
from control_plane.catalogue.machines import machine, systems
from control_plane.decisions.performance.constants import NAMES, Constants, believed, spreads
from control_plane.decisions.performance.fitting import fit
from control_plane.decisions.performance.formats import formats_of
from control_plane.decisions.performance.kernels import all_reduce
from control_plane.decisions.performance.memory import memory_use
from control_plane.decisions.performance.releases import age_years
from control_plane.decisions.performance.serving import Served, serve
from control_plane.decisions.performance.setup import Load, Setup

LLAMA_8B, LLAMA_70B = architectures()["llama-3.1-8b"], architectures()["llama-3.1-70b"]
MODELS = sorted(architectures())


def served(
    model: str = "llama-3.1-8b", gpu: str = "h100_sxm", concurrency: float = 8,
    tokens: tuple[float, float] = (1000, 200),
    **setup: float,
) -> Served:  # fmt: skip
    load = Load(input_tokens=tokens[0], output_tokens=tokens[1], concurrency=concurrency)
    return serve(architectures()[model], machine(gpu, "vllm"), Setup(engine="vllm", **setup), load, believed())


def test_an_8b_model_on_an_h100_is_as_fast_as_its_weights_can_be_read() -> None:
    one = served(concurrency=1)
    assert 16.06e9 / 3.35e12 < float(one.tpot_seconds) < 2 * 16.06e9 / 3.35e12
    assert float(one.memory.weights) == pytest.approx(16.06e9, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MODELS), st.sampled_from(sorted(systems())), st.integers(1, 300), st.integers(1, 20_000),
    st.integers(1, 4000), st.sampled_from([1, 2, 4, 8]),
)  # fmt: skip
def test_every_prediction_is_a_positive_number(
    model: str, gpu: str, concurrency: int, inputs: int, outputs: int, tp: int
) -> None:
    found = served(model, gpu, concurrency, (inputs, outputs), tensor_parallel=tp)
    for value in (found.tpot_seconds, found.ttft_seconds, found.requests_per_second, found.memory.weights):
        assert 0 < float(value) < float("inf")
    assert float(found.decoding) <= concurrency + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(["h100_sxm", "b200_sxm", "l40s"]), st.integers(1, 100))
def test_more_requests_are_never_faster_for_each(model: str, gpu: str, concurrency: int) -> None:
    fewer, more = (served(model, gpu, n, tensor_parallel=8) for n in (concurrency, 2 * concurrency))
    assert float(more.tpot_seconds) >= float(fewer.tpot_seconds) * 0.999
    assert (
        float(more.requests_per_second) >= float(fewer.requests_per_second) * 0.95
    )  # messages pass to slower all-reduces


def test_a_gpu_with_more_bandwidth_is_faster_and_one_with_more_memory_holds_more() -> None:
    h100, h200 = served(gpu="h100_sxm"), served(gpu="h200_sxm")
    assert float(h200.tpot_seconds) < float(h100.tpot_seconds)
    assert float(h200.memory.max_concurrency) > float(h100.memory.max_concurrency)


def test_a_model_that_does_not_fit_has_no_room_and_no_concurrency() -> None:
    alone = served("llama-3.1-70b")
    assert float(alone.memory.room) < 0
    assert float(alone.memory.max_concurrency) == 0
    assert float(served("llama-3.1-70b", tensor_parallel=4).memory.max_concurrency) > 0


def test_requests_beyond_what_fits_wait_and_are_not_slower_once_they_run() -> None:
    fits = float(served().memory.max_concurrency)
    full, over = served(concurrency=fits), served(concurrency=4 * fits)
    assert float(over.tpot_seconds) == pytest.approx(float(full.tpot_seconds), rel=0.01)
    assert float(over.ttft_seconds) > 3 * float(full.ttft_seconds)


def test_heads_that_cannot_be_divided_are_copied() -> None:
    load = Load(input_tokens=1000, output_tokens=100)
    per_token = [
        float(
            memory_use(
                LLAMA_70B, machine("h200_sxm", "vllm"), Setup(engine="vllm", tensor_parallel=tp), load
            ).kv_per_token
        )
        for tp in (1, 8, 16)
    ]
    assert per_token == [327_680, 40_960, 40_960]


def test_fp8_weights_are_half_as_large_and_faster_on_hopper_not_on_ampere() -> None:
    for gpu, gain in (("h100_sxm", True), ("a100_sxm", False)):
        formats = formats_of(LLAMA_8B, machine(gpu, "vllm"), dense="fp8", experts="", kv="bf16")
        setup = Setup(
            engine="vllm", attention_format=formats.attention, feed_forward_format=formats.feed_forward,
            kv_format=formats.kv,
        )  # fmt: skip
        load = Load(input_tokens=4000, output_tokens=1, concurrency=64)
        quantised = serve(LLAMA_8B, machine(gpu, "vllm"), setup, load, believed())
        plain = serve(LLAMA_8B, machine(gpu, "vllm"), Setup(engine="vllm"), load, believed())
        assert float(quantised.memory.weights) < 0.6 * float(plain.memory.weights)
        assert (float(quantised.ttft_seconds) < 0.8 * float(plain.ttft_seconds)) is gain


def test_adding_up_takes_longer_with_more_bytes_and_more_gpus() -> None:
    h100 = machine("h100_sxm", "vllm")
    sizes = [1e3, 1e5, 1e6, 1e8, 1e10]
    for gpus in (2, 4, 8, 16):
        times = [float(all_reduce(h100, message=size, gpus=gpus)) for size in sizes]
        assert times == sorted(times)
    assert float(all_reduce(h100, message=1e6, gpus=1)) == 0
    assert float(all_reduce(h100, message=1e6, gpus=16)) > float(all_reduce(h100, message=1e6, gpus=8))
    assert float(all_reduce(machine("l40s", "vllm"), message=1e6, gpus=2)) > float(
        all_reduce(h100, message=1e6, gpus=2)
    )


def test_an_unlisted_gpu_is_guessed_and_says_so() -> None:
    guess = machine("z9000", "vllm")
    assert not guess.listed
    assert machine("gb300", "vllm").listed


def test_releases_are_ordered_and_an_unknown_one_is_of_no_age() -> None:
    ages = [age_years("vllm", version) for version in ("0.9.2", "0.11.0", "0.12.0", "0.16.1", "0.30.0")]
    assert ages == sorted(ages)
    assert age_years("vllm", None) == age_years("unheard", "1.0") == 0


def test_a_fit_finds_the_constants_that_made_the_data() -> None:
    random = np.random.default_rng(7)
    effects = random.normal(size=(400, len(NAMES)))
    truth = believed().logs + spreads() * random.normal(size=len(NAMES)) * 0.7

    def predict(constants: Constants) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.asarray(effects @ constants.logs)

    measured = effects @ truth + random.normal(scale=0.03, size=400)
    measured[::20] += 2.0  # measured wrongly
    found = fit(predict, measured, [f"sweep {i % 40}" for i in range(400)])
    assert np.abs(found.constants.logs - truth).max() < 0.08


def test_a_long_sweep_that_is_off_as_a_whole_does_not_bend_the_constants() -> None:
    effects = np.ones((300, 1)) * np.eye(len(NAMES))[:1]

    def predict(constants: Constants) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.asarray(effects @ constants.logs)

    truth = believed().logs
    measured = effects @ truth
    measured[:200] += 0.1
    found = fit(predict, measured, ["odd"] * 200 + [f"other {i}" for i in range(100)])
    assert abs(found.constants.logs[0] - truth[0]) < 0.03
    assert found.offsets["odd"] > 0.06


def test_eager_mode_is_bound_by_the_host() -> None:
    load = Load(input_tokens=100, output_tokens=100, concurrency=1)
    h200 = machine("h200_sxm", "vllm")
    graphs, eager = (serve(LLAMA_8B, h200, Setup(engine="vllm", graphs=g), load, believed()) for g in (True, False))
    assert float(eager.tpot_seconds) > 1.5 * float(graphs.tpot_seconds)
    assert float(replace(eager).tpot_seconds) == float(eager.tpot_seconds)
