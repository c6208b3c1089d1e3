from __future__ import annotations

import numpy as np
import pytest

from control_plane.model.errors import InvalidRequest
from control_plane.statistics.sequences import Verdict
from control_plane.trials.comparison.prompts import PROMPTS
from control_plane.trials.comparison.quality import LEAST_PROMPTS, Agreement, QualityMargins, agreement, judged

MARGINS = QualityMargins()


def drawn(hazard: float, seed: int, *, prompts: int = 40, tokens: int = 48) -> list[Agreement]:
    random = np.random.default_rng(seed)
    until = random.geometric(hazard, prompts) if hazard else np.full(prompts, tokens + 1)
    return [Agreement(agreed=int(min(n - 1, tokens)), disagreed=bool(n <= tokens)) for n in until]


def test_texts_agree_up_to_their_first_difference() -> None:
    assert agreement(["a", "b", "c"], ["a", "b", "c"]) == Agreement(agreed=3, disagreed=False)
    assert agreement(["a", "b", "c"], ["a", "x", "c"]) == Agreement(agreed=1, disagreed=True)
    assert agreement(["a", "b"], ["a"]) == Agreement(agreed=1, disagreed=True)
    assert agreement([], []) == Agreement(agreed=0, disagreed=False)


@pytest.mark.parametrize(
    ("hazard", "noise", "expected"),
    [
        (0.0, 0.0, Verdict.PASS),
        (0.01, 0.0, Verdict.PASS),
        (0.02, 0.02, Verdict.PASS),
        (0.3, 0.0, Verdict.FAIL),
        (0.9, 0.02, Verdict.FAIL),
    ],
)
def test_only_more_disagreement_than_the_baseline_has_with_itself_counts(
    hazard: float, noise: float, expected: Verdict
) -> None:
    verdicts = [judged(drawn(hazard, s), drawn(noise, 1000 + s), None, MARGINS).verdict for s in range(40)]
    assert verdicts.count(expected) >= 34


def test_a_model_at_the_margin_seldom_passes() -> None:
    verdicts = [judged(drawn(0.05, s), drawn(0.0, 1000 + s), None, MARGINS).verdict for s in range(300)]
    assert verdicts.count(Verdict.PASS) / 300 <= 0.06


def test_likelihoods_can_fail_what_agreement_lets_pass() -> None:
    same = drawn(0.0, 1)
    assert judged(same, same, [0.001] * 40, MARGINS).verdict is Verdict.PASS
    worse = list(np.random.default_rng(1).normal(0.3, 0.1, 40))
    assert judged(same, same, worse, MARGINS).verdict is Verdict.FAIL


def test_few_prompts_prove_nothing() -> None:
    few = drawn(0.0, 1, prompts=LEAST_PROMPTS - 1)
    assert judged(few, few, None, MARGINS).verdict is Verdict.INCONCLUSIVE


def test_prompts_are_enough_and_different() -> None:
    assert len(set(PROMPTS)) == len(PROMPTS) >= 2 * LEAST_PROMPTS


@pytest.mark.parametrize("changed", [{"disagreement": 0.0}, {"disagreement": 1.0}, {"log_likelihood": 0.0}])
def test_what_is_no_margin_is_refused(changed: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest):
        QualityMargins(**changed)
