from __future__ import annotations

import numpy as np
import pytest

from control_plane.model.errors import InvalidRequest
from control_plane.trials.load import lengths
from control_plane.trials.load.lengths import Counted
from control_plane.trials.load.prompts import WORDS, Measure, Prompts, Sharing


def random() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize(
    ("text", "low", "high", "median"),
    [("512", 512, 512, 512), ("10-20", 10, 20, 15), ("lognormal:100,0.5,20-300", 20, 300, 100)],
)
def test_lengths_are_as_they_were_written(text: str, low: int, high: int, median: int) -> None:
    found = lengths.parse(text).draw(20_000, random())
    assert low <= found.min() <= found.max() <= high
    assert np.median(found) == pytest.approx(median, rel=0.05)


@pytest.mark.parametrize("text", ["", "0", "-3", "20-10", "1e3", "lognormal:", "lognormal:1", "normal:3,4", "9" * 9])
def test_what_is_no_length_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(InvalidRequest, match="token"):
        lengths.parse(text)


def test_counted_lengths_fall_into_their_buckets() -> None:
    found = Counted(bounds=[10, 100], counts=[3, 1]).draw(10_000, random())
    assert found.min() == 1
    assert found.max() == 100
    assert np.mean(found <= 10) == pytest.approx(0.75, abs=0.02)


def test_a_measure_goes_through_what_the_server_counted() -> None:
    measure = Measure.through(few=(20, 38), many=(220, 338))
    assert measure == Measure(around=8.0, per_word=1.5)
    assert measure.words(308) == 200
    assert measure.words(1) == 1, "a prompt is never empty"


def test_a_server_that_counts_more_words_as_fewer_tokens_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Measure.through(few=(20, 50), many=(220, 50))


def test_words_are_different_words() -> None:
    assert len(set(WORDS)) == len(WORDS) > 100


def test_prompts_share_their_prefix_and_nothing_else() -> None:
    prompts = Prompts(Measure(), Sharing(groups=2, tokens=50), random())
    made = [prompts.prompt(80) for _ in range(40)]
    assert all(len(text.split()) == 80 for text in made)
    groups = {" ".join(text.split()[:50]) for text in made}
    assert len(groups) == 2
    for group in groups:
        rest = [text[len(group) :] for text in made if text.startswith(group)]
        assert len({" ".join(text.split()[:4]) for text in rest}) == len(rest)


def test_only_a_share_has_a_prefix() -> None:
    prompts = Prompts(Measure(), Sharing(groups=1, tokens=50, share=0.25), random())
    made = [prompts.prompt(80) for _ in range(400)]
    prefix = max({" ".join(t.split()[:50]) for t in made}, key=lambda p: sum(t.startswith(p) for t in made))
    assert sum(text.startswith(prefix) for text in made) / 400 == pytest.approx(0.25, abs=0.07)


def test_a_prompt_shorter_than_the_prefix_has_none() -> None:
    assert len(Prompts(Measure(), Sharing(groups=1, tokens=50), random()).prompt(30).split()) == 30
