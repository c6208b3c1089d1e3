"""What is found out of what was summed up: each figure with its reason, ranked by what it saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.analysis.findings import correlation, gpu_use, opportunities, verdicts
from control_plane.analysis.findings.gpu_use import Gpu, UseFacts
from control_plane.analysis.findings.model_size import size_of
from control_plane.analysis.findings.opportunities import OpportunityFacts, interval
from control_plane.analysis.findings.verdicts import Verdict
from control_plane.model.price import EnteredPrice, PriceBook, PriceHistory
from control_plane.model.use import GPU_USE, Cause, Cells, Owner, UseClass
from control_plane.storage.prices import history_of

SINCE = datetime(2026, 3, 4, tzinfo=UTC)
HOUR = 3600.0
BOOK = PriceBook(
    entered=(EnteredPrice(node=None, name_pattern="H200", usd_per_gpu_hour=4.0),), entered_as_of=date(2026, 3, 1)
)


def gpu(number: int, *, node: str = "a", name: str | None = "NVIDIA H200") -> Gpu:
    return Gpu(entity_id=number, key=f"GPU-{number}", node_id=1, node=node, index=number, name=name)


def cells(rows: list[Mapping[str, float]], *, gpus: list[int], owners: list[int], bins: list[int]) -> Cells:
    """Cells whose columns are given or zero; means are known for all of the observed time."""
    columns = {name: np.array([float(row.get(name, 0.0)) for row in rows]) for name in GPU_USE}
    return Cells(
        starts_us=np.array([b * 3_600_000_000 for b in bins], np.int64), node_ids=np.ones(len(rows), np.int64),
        entity_ids=np.array(gpus, np.int64), owner_ids=np.array(owners, np.int64), columns=columns,
    )  # fmt: skip


def hour(**causes: float) -> dict[str, float]:
    """An hour of one GPU, by cause in seconds."""
    observed = sum(s for c, s in causes.items() if c != Cause.NO_SAMPLES)
    return {
        "paid_seconds": sum(causes.values()), "observed_seconds": observed, "energy_seconds": observed,
        **{f"use_{c}_seconds": s for c, s in causes.items()},
        **{f"use_{c}_joules": 100.0 * s for c, s in causes.items()},
        "activity_idle_seconds": observed, "busy_ratio_seconds": observed,
    }  # fmt: skip


def use_facts(found: Cells, owners: Mapping[int, Owner], *, book: PriceBook = BOOK) -> UseFacts:
    return UseFacts(
        cells=found, gpus={n: gpu(n, node="a" if n < 3 else "b") for n in range(1, 6)}, owners={0: Owner(), **owners},
        servers={9: "http://s on a"}, prices=PriceHistory(books=[(SINCE, book)]), since=SINCE,
        until=SINCE + timedelta(hours=1),
    )  # fmt: skip


def unexplained(body: Mapping[str, object]) -> list[str]:
    why = body["unknown"]
    assert isinstance(why, dict)
    return [n for n, v in body.items() if v is None and n not in why and n not in ("index", "name")]


cause_seconds = st.dictionaries(st.sampled_from(list(Cause)), st.floats(0, HOUR), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cause_seconds, st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=8))
def test_every_grouping_adds_up_to_the_same_hours_and_money(rows: list[tuple[dict[Cause, float], int, int]]) -> None:
    found = cells(
        [hour(**causes) for causes, _, _ in rows], gpus=[g for _, g, _ in rows], owners=[o for _, _, o in rows],
        bins=[0] * len(rows),
    )  # fmt: skip
    owners = {1: Owner(model="llama", server_id=9, namespace="team"), 2: Owner(namespace="team")}
    drafts = gpu_use.drafts(use_facts(found, owners))
    by_kind: dict[str, list[Mapping[str, object]]] = {}
    for draft in drafts:
        by_kind.setdefault(draft.subject_kind, []).append(draft.body)
        assert unexplained(draft.body) == []
        parts = sum(c["gpu_hours"] for c in draft.body["classes"])
        assert parts == pytest.approx(draft.body["paid_gpu_hours"], abs=1e-3)
    (whole,) = by_kind["fleet"]
    for bodies in by_kind.values():
        for figure in ("paid_gpu_hours", "usd", "waste_usd", "waste_gpu_hours"):
            total = sum(float(str(body[figure] or 0.0)) for body in bodies)
            assert total == pytest.approx(float(str(whole[figure] or 0.0)), abs=0.01)
    assert whole["usd"] == pytest.approx(4.0 * float(str(whole["paid_gpu_hours"])), abs=0.01)


def test_gpus_without_a_price_are_in_the_hours_and_not_in_the_money() -> None:
    found = cells([hour(work=HOUR)] * 2, gpus=[1, 2], owners=[0, 0], bins=[0, 0])
    facts = use_facts(found, {})
    odd = {1: gpu(1), 2: gpu(2, name="NVIDIA Unheard-of")}
    (fleet,) = gpu_use.drafts(replace(facts, gpus=odd), of=["fleet"])
    assert fleet.body["usd"] == pytest.approx(4.0)
    assert fleet.body["unpriced_gpu_hours"] == pytest.approx(1.0)
    assert "some GPUs have no price" in fleet.body["confidence"]["because"]


def test_prices_hold_from_their_day_on_and_the_first_also_before() -> None:
    def entered(day: str, price: float) -> dict[str, object]:
        return {
            "as_of": day, "currency": "USD", "usd_per_unit": 1.0, "per_kwh": None, "provider": None,
            "use_list_prices": False, "prices": [{"node": None, "gpu_model": None, "per_gpu_hour": price}],
        }  # fmt: skip

    def held(history: PriceHistory, day: int) -> float | None:
        found = history.at(datetime(2026, 3, day, 12, tzinfo=UTC)).price_of(node="a", gpu_name="NVIDIA H200")
        return None if found is None else found.usd_per_gpu_hour

    history = history_of([entered("2026-03-05", 3.0), entered("2026-03-10", 2.0)])
    assert [held(history, day) for day in (1, 5, 9, 10, 11)] == [3.0, 3.0, 3.0, 2.0, 2.0]
    assert history.changes(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC)) == [
        datetime(2026, 3, 10, tzinfo=UTC)
    ]
    # What is entered later for an earlier day holds from then on: it is the last word.
    again = history_of([entered("2026-03-05", 3.0), entered("2026-03-10", 2.0), entered("2026-03-07", 1.0)])
    assert [held(again, day) for day in (6, 8, 11)] == [3.0, 1.0, 1.0]
    same_day = history_of([entered("2026-03-05", 3.0), entered("2026-03-05", 4.0)])
    assert held(same_day, 20) == 4.0
    assert held(history_of([]), 1) is not None  # lists


def test_a_window_in_which_prices_changed_is_paid_in_both() -> None:
    change = SINCE + timedelta(minutes=30)
    later = PriceBook(
        entered=(EnteredPrice(node=None, name_pattern=None, usd_per_gpu_hour=8.0),), entered_as_of=date(2026, 3, 4)
    )
    rows = cells([hour(work=1800.0), hour(work=1800.0)], gpus=[1, 1], owners=[0, 0], bins=[0, 0])
    begin = int(SINCE.timestamp()) * 1_000_000
    rows = replace(rows, starts_us=np.array([begin, begin + 1_800_000_000]))
    facts = replace(use_facts(rows, {}), prices=PriceHistory(books=[(SINCE, BOOK), (change, later)]))
    (fleet,) = gpu_use.drafts(facts, of=["fleet"])
    assert fleet.body["usd"] == pytest.approx(0.5 * 4.0 + 0.5 * 8.0)
    assert fleet.body["paid_gpu_hours"] == pytest.approx(1.0)
    assert sorted(price["usd_per_gpu_hour"] for price in fleet.body["prices"]) == [4.0, 8.0]


# -- opportunities ----------------------------------------------------------------------------------


def opportunity_facts(
    found: Cells, owners: Mapping[int, Owner], hours: int, book: PriceBook = BOOK
) -> OpportunityFacts:
    return OpportunityFacts(
        cells=found, gpus={n: gpu(n) for n in range(1, 6)}, owners={0: Owner(), **owners}, servers={9: "http://s on a"},
        book=book, starts_us=np.arange(hours, dtype=np.int64) * 3_600_000_000, bin_seconds=HOUR, since=SINCE,
        until=SINCE + timedelta(hours=hours),
    )  # fmt: skip


def test_what_saves_most_comes_first_with_its_interval_and_what_it_costs() -> None:
    hours = 48
    chance = np.random.default_rng(1)
    rows, gpus, owners, bins = [], [], [], []
    for n in range(hours):
        idle = float(np.clip(chance.normal(2400, 300), 0, HOUR))
        rows += [hour(work=HOUR - idle, memory_held=idle), hour(stuck=HOUR), hour(work=HOUR)]
        gpus += [1, 2, 3]
        owners += [1, 2, 0]
        bins += [n] * 3
    named = {1: Owner(server_id=9, model="llama"), 2: Owner(namespace="team", pod="train-0")}
    found = opportunities.drafts(opportunity_facts(cells(rows, gpus=gpus, owners=owners, bins=bins), named, hours))
    first, second = found[0].body, found[1].body
    assert (first["kind"], first["about"]["name"], first["rank"]) == ("end_stuck_job", "team/train-0", 1)
    assert first["saving"]["usd_per_month"] == pytest.approx(4.0 * 730)
    assert first["saving"]["gpu_hours_per_month"] == pytest.approx(730)
    assert (second["kind"], second["about"]["kind"]) == ("release_held_memory", "server")
    truth = 4.0 * 730 * 2400 / HOUR
    saving = second["saving"]
    assert saving["usd_per_month"] == pytest.approx(0.7 * truth, rel=0.05)
    assert saving["usd_per_month_low"] < saving["usd_per_month"] < saving["usd_per_month_high"]
    assert saving["usd_per_month_high"] >= truth
    assert len(found) == 2
    for draft in found:
        assert draft.body["remedy"]
        assert draft.body["to_do"]
        assert draft.body["confidence"]["level"] == "high"


def test_time_in_which_nobody_had_a_gpu_is_laid_to_its_node_whoever_had_it_for_the_rest() -> None:
    rows = [hour(memory_held=1800.0, unallocated=1800.0), hour(unallocated=HOUR)] * 3
    found = cells(rows, gpus=[1, 2] * 3, owners=[1, 0] * 3, bins=[0, 0, 1, 1, 2, 2])
    named = {1: Owner(server_id=9, model="llama")}
    about = {d.body["cause"]: d.body["about"] for d in opportunities.drafts(opportunity_facts(found, named, 3))}
    assert (about["memory_held"]["kind"], about["memory_held"]["name"]) == ("server", "http://s on a")
    assert (about["unallocated"]["kind"], about["unallocated"]["name"]) == ("node", "a")
    assert len(about["unallocated"]["gpus"]) == 2


def test_what_comes_and_goes_is_not_taken_to_stay_and_what_came_late_is_judged_since() -> None:
    # The GPU holds memory all the time; in every other hour for a server, and from hour 8 on for a pod.
    owners = [1, 0] * 4 + [2] * 4
    found = cells([hour(memory_held=HOUR)] * 12, gpus=[1] * 12, owners=owners, bins=list(range(12)))
    named = {1: Owner(server_id=9, model="llama"), 2: Owner(namespace="team", pod="p")}
    by = {d.body["about"]["kind"]: d.body for d in opportunities.drafts(opportunity_facts(found, named, 12))}
    hours = {kind: body["saving"]["gpu_hours_per_month"] for kind, body in by.items()}
    whole = 0.7 * 730
    assert hours["server"] == pytest.approx(whole * 4 / 12, abs=0.01)
    assert hours["node"] == pytest.approx(whole * 4 / 11, abs=0.01)  # it came an hour later
    assert hours["pod"] == pytest.approx(whole, abs=0.01)
    assert "only 4.0 hours of it are known" in by["server"]["confidence"]["because"]


def test_without_a_price_an_opportunity_is_in_hours_and_says_why() -> None:
    found = opportunities.drafts(
        opportunity_facts(
            cells([hour(unallocated=HOUR)] * 3, gpus=[1] * 3, owners=[0] * 3, bins=[0, 1, 2]), {}, 3, PriceBook()
        )
    )
    saving = found[0].body["saving"]
    assert saving["usd_per_month"] is None
    assert saving["unknown"]["usd_per_month"] == "no_price_is_known"
    assert saving["gpu_hours_per_month"] > 600
    assert found[0].body["confidence"]["level"] == "low"  # three hours are known


def test_a_fleet_that_works_has_no_opportunity() -> None:
    rows = [hour(work=HOUR)] * 24
    found = cells(rows, gpus=[1] * 24, owners=[0] * 24, bins=list(range(24)))
    assert opportunities.drafts(opportunity_facts(found, {}, 24)) == []


def test_an_interval_holds_its_mean_and_is_wider_when_neighbours_are_alike() -> None:
    chance = np.random.default_rng(2)
    independent = chance.normal(10, 2, 200)
    alike = 10 + np.convolve(chance.normal(0, 2, 219), np.ones(20) / 20**0.5, "valid")
    low, middle, high = interval(independent)
    assert low < middle < high
    wide = interval(alike)
    assert wide[2] - wide[0] > 2 * (high - low)
    assert interval(np.array([3.0, 3.0, 3.0])) == (3.0, 3.0, 3.0)
    assert interval(np.array([])) == (0.0, 0.0, 0.0)


# -- correlation and verdicts -----------------------------------------------------------------------


def test_what_goes_up_together_is_clear_and_chance_is_not() -> None:
    chance = np.random.default_rng(3)
    load = chance.uniform(0, 1, 200)
    latency = 0.1 + load**3 + chance.normal(0, 0.02, 200)
    found = correlation.correlated(load, latency, "kv_cache_usage_ratio", "ttft_seconds")
    assert found is not None
    assert found["is_clear"]
    assert found["rank_correlation"] > 0.9
    nothing = correlation.correlated(load, chance.uniform(0, 1, 200), "a", "b")
    assert nothing is not None
    assert abs(nothing["rank_correlation"]) < 0.25
    # Two walks that have nothing to do with one another look alike for long: that is no evidence.
    walks = [correlation.correlated(np.cumsum(chance.normal(size=200)), np.cumsum(chance.normal(size=200)), "a", "b")
             for _ in range(40)]  # fmt: skip
    assert sum(bool(w and w["is_clear"]) for w in walks) <= 10
    assert correlation.correlated(load[:5], load[:5], "a", "b") is None
    assert correlation.correlated(np.ones(50), load[:50], "a", "b") is None


@pytest.mark.parametrize(
    ("busy", "pressure", "verdict"),
    [
        (0.05, 0.0, Verdict.UNDER_USED), (0.05, 0.2, Verdict.OVER_USED), (0.5, 0.02, Verdict.BALANCED),
        (0.95, None, Verdict.OVER_USED), (None, None, Verdict.UNKNOWN), (None, 0.2, Verdict.OVER_USED),
    ],
)  # fmt: skip
def test_cpus_are_judged_by_who_waits_and_not_by_percent_alone(
    busy: float | None, pressure: float | None, verdict: Verdict
) -> None:
    assert verdicts.of_cpu(busy, pressure).verdict is verdict


def test_unknown_is_never_called_balanced() -> None:
    assert verdicts.of_memory(None, None).verdict is Verdict.UNKNOWN
    assert verdicts.of_disk(None, None).verdict is Verdict.UNKNOWN
    assert verdicts.of_network(None).verdict is Verdict.UNKNOWN
    body = {"observed_ratio": 0.2, "busy_ratio": 0.9}
    assert verdicts.of_gpu(body).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("name", "billions", "active", "size"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8, 8, 2.0), ("Qwen/Qwen3-30B-A3B-FP8", 30, 3, 1.0),
        ("Qwen2.5-0.5B", 0.5, 0.5, 2.0), ("casperhansen/llama-3-70b-instruct-awq", 70, 70, 0.56),
        ("mistralai/Mixtral-8x7B", None, None, None), ("tiny", None, None, None), (None, None, None, None),
        ("deepseek-ai/DeepSeek-V3", None, None, None), ("org8B/model", None, None, None),
    ],
)  # fmt: skip
def test_a_model_s_name_says_its_size_or_nothing(
    name: str | None, billions: float | None, active: float | None, size: float | None
) -> None:
    found = size_of(name)
    if billions is None or active is None:
        assert found is None
        return
    assert found is not None
    assert found.parameters == pytest.approx(billions * 1e9)
    assert found.active_parameters == pytest.approx(active * 1e9)
    assert found.bytes_per_parameter == size


def test_every_class_has_a_place_in_the_report() -> None:
    assert {rule.cause for rule in opportunities.RULES} <= set(Cause)
    assert len(UseClass) == 6
