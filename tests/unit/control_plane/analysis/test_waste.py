"""Paid time falls into disjoint classes that add up, with gaps and unknowns; energy and money follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.nvml_recording import FOLDER, looks_of, rows
from control_plane.analysis.utilization.cells import gpu_cells
from control_plane.analysis.utilization.judging import ACTIVITIES, judge
from control_plane.analysis.utilization.looks import FIELDS, SECOND_US, Looks, spans, within
from control_plane.analysis.utilization.summary import summary
from control_plane.analysis.waste import money, sums
from control_plane.analysis.waste.division import CAUSES, divided
from control_plane.analysis.waste.sums import Used, used
from control_plane.catalogue.tables import list_prices
from control_plane.model.price import EnteredPrice, Price, PriceBasis, PriceBook
from control_plane.model.use import CLASS_OF, GPU_USE, Cause, UseClass

WINDOW = 300  # seconds
PRICE = Price(usd_per_gpu_hour=3.6, basis=PriceBasis.ENTERED, provider=None, as_of=date(2026, 6, 1), source="entered")


def test_every_cause_is_in_one_class_and_every_class_has_one() -> None:
    assert set(CLASS_OF) == set(Cause)
    assert set(CLASS_OF.values()) == set(UseClass)


@dataclass(frozen=True)
class Gpu:
    at: list[int]  # seconds of its looks
    values: list[dict[str, float | None]]
    allocated: bool | None


share = st.none() | st.floats(0, 1)
look = st.fixed_dictionaries({
    **{name: share for name in FIELDS if name.endswith("ratio")},
    **{name: st.none() | st.floats(0, 1e11) for name in FIELDS if name.endswith("per_second")},
    "memory_used_bytes": st.none() | st.floats(0, 1e11),
    "power_draw_watts": st.none() | st.floats(0, 1000),
    "energy_joules_total": st.none() | st.floats(0, 1e6),
    "clock_event_reasons_bits": st.none() | st.sampled_from([0.0, 4.0, 8.0, 64.0]),
    "requests_running_count": st.none() | st.sampled_from([0.0, 3.0]),
})  # fmt: skip


@st.composite
def gpus(draw: st.DrawFn) -> Gpu:
    """A GPU with looks at any moments, before, in and after the window; perhaps none at all."""
    at = sorted(draw(st.sets(st.integers(-60, WINDOW + 60), max_size=12)))
    return Gpu(at, [draw(look) for _ in at], draw(st.sampled_from([True, False, None])))


def fleet_looks(fleet: list[Gpu]) -> Looks:
    names = [*FIELDS, "requests_running_count"]
    flat = [
        (number, at, values) for number, gpu in enumerate(fleet) for at, values in zip(gpu.at, gpu.values, strict=True)
    ]
    return Looks(
        gpu_ids=np.array([f[0] for f in flat], np.int64),
        taken_at_us=np.array([f[1] * SECOND_US for f in flat], np.int64),
        columns={n: np.array([np.nan if (v := f[2].get(n)) is None else v for f in flat], float) for n in names},
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(gpus(), min_size=1, max_size=4), st.none() | st.floats(0.01, 1.0))
def test_classes_add_up_to_wall_time_times_gpus_and_energy_and_money_follow(
    fleet: list[Gpu], usd_per_kwh: float | None
) -> None:
    looks = fleet_looks(fleet)
    judged = judge(looks)
    uncut = spans(looks, interval_us=5 * SECOND_US)
    times = within(uncut, since_us=0, until_us=WINDOW * SECOND_US)
    division = divided(looks, judged, uncut, times, allocated={n: gpu.allocated for n, gpu in enumerate(fleet)})
    assert (division.busy_seconds >= 0).all()
    assert (division.rest_seconds >= 0).all()
    each = [used(division, of=looks.gpu_ids == n, paid_seconds=WINDOW) for n in range(len(fleet))]
    whole = sums.total(each)
    assert whole.paid_seconds == pytest.approx(WINDOW * len(fleet))
    assert sum(whole.of(c) for c in UseClass) == pytest.approx(WINDOW * len(fleet))
    assert all(seconds >= 0 for seconds in whole.seconds.values())
    known = np.nansum(np.where(times.seconds > 0, division.joules, np.nan))
    assert sum(e.joules for e in whole.energy.values()) == pytest.approx(known, abs=1e-6)
    for cause, energy in whole.energy.items():
        assert 0 <= energy.seconds <= whole.seconds[cause] + 1e-6
    # Half of the fleet has a price.
    paid = [money.spent(one, PRICE if n % 2 == 0 else None, usd_per_kwh=usd_per_kwh) for n, one in enumerate(each)]
    priced = money.total(paid)
    joules = sum(e.joules for n, one in enumerate(each) if n % 2 == 0 for e in one.energy.values())
    expected = 0.001 * WINDOW * ((len(fleet) + 1) // 2) + joules / 3.6e6 * (usd_per_kwh or 0.0)
    assert sum(priced.usd.values()) == pytest.approx(expected)
    # Electricity has an amount of its own only where it is paid on top of the hour.
    everything = sum(e.joules for e in whole.energy.values()) / 3.6e6
    assert priced.energy_usd == (None if usd_per_kwh is None else pytest.approx(everything * usd_per_kwh))
    assert priced.unpriced_seconds == pytest.approx(WINDOW * (len(fleet) // 2))
    assert (priced.total_usd is None) == (len(fleet) > 1)


@settings(max_examples=60, deadline=None)
@given(gpus(), st.integers(1, WINDOW - 1))
def test_two_windows_side_by_side_are_one_whole_window(gpu: Gpu, cut: int) -> None:
    looks = fleet_looks([gpu])
    judged, whole = judge(looks), spans(fleet_looks([gpu]), interval_us=5 * SECOND_US)
    every = np.ones(len(looks), bool)

    def of(since: int, until: int) -> Used:
        times = within(whole, since_us=since * SECOND_US, until_us=until * SECOND_US)
        return used(
            divided(looks, judged, whole, times, allocated={0: gpu.allocated}), of=every, paid_seconds=until - since
        )

    parts, once = sums.total([of(0, cut), of(cut, WINDOW)]), of(0, WINDOW)
    assert sum(e.joules for e in parts.energy.values()) == pytest.approx(
        sum(e.joules for e in once.energy.values()), abs=1e-6
    )
    for cause in CAUSES:
        assert parts.seconds.get(cause, 0.0) == pytest.approx(once.seconds.get(cause, 0.0), abs=1e-6)


def test_looks_that_cover_more_than_is_paid_are_an_error_and_not_rounded_away() -> None:
    looks = fleet_looks([Gpu([5, 10], [{}, {}], None)])
    times = spans(looks, interval_us=5 * SECOND_US)
    division = divided(looks, judge(looks), times, times, allocated={})
    with pytest.raises(ValueError, match="more than"):
        used(division, of=np.ones(2, bool), paid_seconds=5.0)


def shares_of(name: str, allocated: bool | None) -> dict[Cause, float]:
    looks = looks_of(rows(FOLDER / f"{name}.jsonl.gz"))
    judged, times = judge(looks), spans(looks, interval_us=SECOND_US // 2)
    ids = np.unique(looks.gpu_ids)
    division = divided(looks, judged, times, times, allocated={int(gpu): allocated for gpu in ids})
    found = used(division, of=np.ones(len(looks), bool), paid_seconds=float(times.seconds.sum()))
    return {cause: seconds / found.paid_seconds for cause, seconds in found.seconds.items()}


def test_a_collective_that_never_ends_is_waste_and_not_use() -> None:
    found = shares_of("h200-x2-allreduce-then-stuck", None)
    assert found[Cause.STUCK] == pytest.approx(72 / 90, abs=0.05)
    assert CLASS_OF[Cause.STUCK] is UseClass.STRANDED
    assert found[Cause.WORK] < 0.12
    # Before any process and after the last, nobody held the GPUs.
    assert found[Cause.UNALLOCATED] == pytest.approx(10 / 90, abs=0.05)
    assert shares_of("h200-x2-allreduce-then-stuck", True)[Cause.ALLOCATED_UNUSED] == pytest.approx(10 / 90, abs=0.05)


def test_the_recorded_loads_are_use_and_waste_as_they_were() -> None:
    found = shares_of("h200-phases-whole", None)
    assert found[Cause.HOST_STARVED] == pytest.approx(10 / 70, abs=0.03)
    assert found[Cause.COPYING] == pytest.approx(8 / 70, abs=0.03)
    # Two phases of idling with memory held, and half of the time of the one with half the duty.
    assert found[Cause.MEMORY_HELD] == pytest.approx((12.5 + 5) / 70, abs=0.03)
    assert found[Cause.WORK] == pytest.approx((10 + 10 + 10 + 5) / 70, abs=0.05)


def test_energy_is_that_of_the_counter_over_its_whole_way() -> None:
    looks = looks_of(rows(FOLDER / "h200-phases-whole.jsonl.gz"))
    times = spans(looks, interval_us=SECOND_US // 2)
    found = used(
        divided(looks, judge(looks), times, times, allocated={}),
        of=np.arange(len(looks)) > 0, paid_seconds=float(times.seconds[1:].sum()),
    )  # fmt: skip
    counter = looks.column("energy_joules_total")
    assert sum(e.joules for e in found.energy.values()) == pytest.approx(counter[-1] - counter[0], rel=0.001)


def test_a_gpu_that_stands_still_while_requests_are_worked_on_is_starved_and_not_idle() -> None:
    values: dict[str, float | None] = {
        "sm_active_ratio": 0.25, "graphics_active_ratio": 0.4, "gpu_utilization_ratio": 0.4,
        "tensor_active_ratio": 0.05, "fp32_active_ratio": 0.0, "dram_active_ratio": 0.2, "memory_used_bytes": 7e10,
    }  # fmt: skip
    for running, cause in ((3.0, Cause.HOST_STARVED), (0.0, Cause.MEMORY_HELD), (None, Cause.MEMORY_HELD)):
        looks = fleet_looks([Gpu([5, 10], [values | {"requests_running_count": running}] * 2, None)])
        times = spans(looks, interval_us=5 * SECOND_US)
        division = divided(looks, judge(looks), times, times, allocated={})
        found = used(division, of=np.ones(2, bool), paid_seconds=10.0)
        assert found.seconds == pytest.approx({Cause.WORK: 4.0, cause: 6.0})


def test_a_gpu_that_does_nothing_for_long_while_requests_run_is_stalled_and_one_that_rests_briefly_is_not() -> None:
    still: dict[str, float | None] = {name: 0.0 for name in FIELDS if name.endswith("ratio")}
    still |= {"memory_used_bytes": 7e10, "requests_running_count": 3.0}
    works = still | {"sm_active_ratio": 0.9, "graphics_active_ratio": 0.9, "gpu_utilization_ratio": 0.9,
                     "tensor_active_ratio": 0.9}  # fmt: skip
    for values, expected in (
        ([works, still, still, works], {Cause.WORK: 10.0, Cause.STALLED: 10.0}),
        ([works, still, works, works], {Cause.WORK: 15.0, Cause.HOST_STARVED: 5.0}),
        (
            [still | {"graphics_active_ratio": 0.02, "sm_active_ratio": 0.02}] * 4,
            {Cause.WORK: 0.4, Cause.HOST_STARVED: 19.6},
        ),
        ([still | {"requests_running_count": 0.0}] * 4, {Cause.MEMORY_HELD: 20.0}),
    ):
        looks = fleet_looks([Gpu([5, 10, 15, 20], values, None)])
        times = spans(looks, interval_us=5 * SECOND_US)
        division = divided(looks, judge(looks), times, times, allocated={})
        assert used(division, of=np.ones(4, bool), paid_seconds=20.0).seconds == pytest.approx(expected)


# -- prices -----------------------------------------------------------------------------------------


def test_what_was_entered_goes_before_lists_and_a_node_before_a_kind_of_gpu() -> None:
    book = PriceBook(
        entered=(
            EnteredPrice(node=None, name_pattern="H200", usd_per_gpu_hour=2.5),
            EnteredPrice(node="own", name_pattern=None, usd_per_gpu_hour=1.0),
        ),
        entered_as_of=date(2026, 11, 1),
        listed=list_prices(),
    )  # fmt: skip
    own = book.price_of(node="own", gpu_name="NVIDIA H200")
    rented = book.price_of(node="other", gpu_name="NVIDIA H200")
    listed = book.price_of(node="other", gpu_name="NVIDIA L4")
    assert own is not None
    assert rented is not None
    assert listed is not None
    assert (own.usd_per_gpu_hour, own.basis) == (1.0, PriceBasis.NODE)
    assert (rented.usd_per_gpu_hour, rented.basis, rented.as_of) == (2.5, PriceBasis.ENTERED, date(2026, 11, 1))
    assert listed.basis is PriceBasis.MEDIAN_OF_LISTS
    assert listed.as_of == date(2026, 6, 1)
    assert book.price_of(node="other", gpu_name="NVIDIA Something New") is None
    assert book.price_of(node="other", gpu_name=None) is None


def test_a_named_provider_is_asked_alone() -> None:
    book = PriceBook(provider="nebius", listed=list_prices())
    found = book.price_of(node="n", gpu_name="NVIDIA H200")
    assert found is not None
    assert (found.usd_per_gpu_hour, found.basis, found.provider) == (4.5, PriceBasis.LIST, "nebius")
    assert book.price_of(node="n", gpu_name="Tesla T4") is None  # it lists none


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("NVIDIA H200", {"H200"}), ("NVIDIA H100 80GB HBM3", {"H100"}), ("NVIDIA H100 NVL", {"H100-NVL"}),
        ("NVIDIA A100-SXM4-80GB", {"A100-80"}), ("NVIDIA A100-PCIE-40GB", {"A100-40"}), ("NVIDIA L4", {"L4"}),
        ("NVIDIA L40S", {"L40S"}), ("NVIDIA A10", {"A10"}), ("NVIDIA A10G", {"A10G"}), ("Tesla T4", {"T4"}),
        ("NVIDIA B200", {"B200"}), ("NVIDIA GB200", {"GB200"}), ("NVIDIA GeForce RTX 4090", {"RTX4090"}),
        ("NVIDIA L40", set()), ("NVIDIA A30", set()),
    ],
)  # fmt: skip
def test_a_gpu_has_the_price_of_its_own_kind(name: str, gpu: set[str]) -> None:
    fitting = {p.gpu for p in list_prices() if PriceBook(listed=(p,)).price_of(node="n", gpu_name=name)}
    assert fitting == gpu


@settings(max_examples=80, deadline=None)
@given(st.lists(gpus(), min_size=1, max_size=4))
def test_many_gpus_at_once_are_summed_up_as_each_by_itself(fleet: list[Gpu]) -> None:
    looks = fleet_looks(fleet)
    judged, uncut = judge(looks), spans(looks, interval_us=5 * SECOND_US)
    times = within(uncut, since_us=0, until_us=WINDOW * SECOND_US)
    division = divided(looks, judged, uncut, times, allocated={n: gpu.allocated for n, gpu in enumerate(fleet)})
    columns = gpu_cells(looks, judged, division, groups=looks.gpu_ids, paid_seconds=np.full(len(fleet), float(WINDOW)))
    assert list(columns) == list(GPU_USE)
    for n in range(len(fleet)):
        mine = looks.gpu_ids == n
        one = used(division, of=mine, paid_seconds=WINDOW)
        whole = summary(looks, judged, times, window_seconds=WINDOW, of=mine)
        for cause in CAUSES:
            assert columns[f"use_{cause}_seconds"][n] == pytest.approx(one.seconds.get(cause, 0.0), abs=1e-6)
            joules = one.energy[cause].joules if cause in one.energy else 0.0
            assert columns[f"use_{cause}_joules"][n] == pytest.approx(joules, abs=1e-6)
        assert columns["observed_seconds"][n] == pytest.approx(whole.observed_seconds, abs=1e-6)
        assert columns["power_capped_seconds"][n] == pytest.approx(whole.power_capped_seconds, abs=1e-6)
        assert sum(columns[f"activity_{a}_seconds"][n] for a in ACTIVITIES) == pytest.approx(whole.observed_seconds)
        for name in ("sm_active_ratio", "dram_active_ratio", "power_draw_watts"):
            mean = whole.means.get(name)
            assert columns[f"{name}_seconds"][n] == pytest.approx(mean.seconds if mean else 0.0, abs=1e-6)
            assert columns[f"{name}_sum"][n] == pytest.approx(mean.value * mean.seconds if mean else 0.0, abs=1e-6)
