"""What the agent reads of recorded loads is what the clients measured at the other end of the wire."""

from __future__ import annotations

from dataclasses import astuple, fields

import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load_recording import Recording, asked, counted, parsed, recordings
from benchmarks.recordings import gpu_pairs, percentiles
from node_agent.model import EntityKind, Reason, Sample
from optiinfra.catalogue import TABLES

RECORDINGS = recordings()
LOADS = [each for each in RECORDINGS if each.summary]
# A client's clock runs on while its own event loop is busy with the streams of up to 96 requests.
CLIENTS_OWN_SECONDS = 0.010

each_load = pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)


def test_every_recording_is_here() -> None:
    assert [sum(each.name.startswith(engine) for each in LOADS) for engine in ("vllm-", "sglang-")] == [9, 3]
    assert [each.name for each in LOADS if each.gpu_rows] == [each.name for each in LOADS if "-h200-" in each.name]


@each_load
def test_the_agent_counts_every_request_token_and_error_that_the_clients_saw(load: Recording) -> None:
    sent, seen = asked(load), counted(load)
    for field, truth, read in zip(fields(sent), astuple(sent), astuple(seen), strict=True):
        if field.name == "errors" and load.name.startswith("sglang-"):
            assert read is None  # it shows no counter of errors before the first: unknown, not zero
        else:
            assert read == truth, field.name


@each_load
def test_the_drawn_tokens_are_those_of_the_load_generators_rates(load: Recording) -> None:
    sent, seconds = asked(load), load.summary["drained_s"]
    assert sent.prompt_tokens == pytest.approx(load.summary["in_tok_s"] * seconds, rel=0.001)
    # it counted chunks, and under pressure an engine sends some tokens two by two; it wrote rates with one decimal,
    # and seconds with two
    assert sent.output_tokens is not None
    assert (load.summary["out_tok_s"] - 0.05) * (seconds - 0.005) <= sent.output_tokens
    assert sent.output_tokens <= 1.05 * (load.summary["out_tok_s"] + 0.05) * (seconds + 0.005)


@each_load
def test_a_percentile_of_the_clients_lies_in_the_servers_bucket_or_their_own_way_above_it(load: Recording) -> None:
    for each in percentiles(load):
        assert each.measured >= each.bucket.low, each
        assert each.above_seconds <= CLIENTS_OWN_SECONDS, each


def test_only_two_of_all_percentiles_are_not_in_their_bucket() -> None:
    found = [each for load in LOADS for each in percentiles(load)]
    assert (len(found), sum(each.is_inside for each in found)) == (84, 82)


@pytest.mark.parametrize("load", [load for load in LOADS if load.gpu_rows], ids=lambda load: load.name)
def test_the_gpu_reader_makes_our_units_of_every_recorded_row(load: Recording) -> None:
    for pairs in gpu_pairs(load):
        assert len(pairs) >= 12
        for pair in pairs:
            assert pair.read == pytest.approx(pair.recorded, rel=1e-9), pair


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_every_page_gives_every_field_a_value_or_says_that_it_is_not_exposed(recording: Recording) -> None:
    for seconds, body in recording.pages:
        values = parsed(body)
        Sample(table="inference", entity=(EntityKind.INFERENCE_SERVER, "x"), values=values)
        for spec in TABLES["inference"].fields:
            value = values.get(spec.name)
            assert not isinstance(value, Reason) or value is Reason.NOT_EXPOSED, (seconds, spec.name)


def test_the_hits_in_a_connectors_cache_are_those_that_prometheus_own_client_reads() -> None:
    (recording,) = [each for each in RECORDINGS if each.name == "lmcache-vllm-connector"]
    for _, body in recording.pages:
        values = parsed(body)
        families = {family.name: family for family in text_string_to_metric_families(body.decode())}
        for field, name in (
            ("queries", "vllm:external_prefix_cache_queries"),
            ("hits", "vllm:external_prefix_cache_hits"),
        ):
            oracle = sum(s.value for s in families[name].samples if s.name.endswith("_total"))
            assert values[f"external_prefix_cache_{field}_total"] == oracle
    assert values["external_prefix_cache_hits_total"] == 143_040
