"""Labels of nodes: what an agent says is taken as far as it has their shape."""

from __future__ import annotations

import pytest

from control_plane.model.labels import MOST_LABELS, labels_of, pool_of


def test_labels_come_in_the_order_of_their_keys_and_what_is_none_is_left_out() -> None:
    said = {"team": "search", "pool": "spot", "n": 1, "deep": {"a": "b"}, "": "x", "empty": "", "long": "v" * 64}
    assert labels_of(said) == (("pool", "spot"), ("team", "search"))
    assert labels_of({f"k{n:03}": "v" for n in range(100)}) == tuple((f"k{n:03}", "v") for n in range(MOST_LABELS))


@pytest.mark.parametrize("said", [None, 7, "pool=spot", ["pool"], [["pool", "spot"]]])
def test_what_is_no_mapping_is_no_labels(said: object) -> None:
    assert labels_of(said) == ()


def test_a_pool_is_the_label_of_that_name_before_what_a_cloud_calls_one() -> None:
    cloud = {"cloud.google.com/gke-nodepool": "h200", "eks.amazonaws.com/nodegroup": "other"}
    assert pool_of(labels_of(cloud)) == "h200"
    assert pool_of(labels_of({**cloud, "pool": "own"})) == "own"
    assert pool_of(labels_of({"team": "search"})) is None
