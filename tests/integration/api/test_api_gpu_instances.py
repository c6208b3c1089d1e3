"""What the API says of GPU instances."""

from __future__ import annotations

import pytest

from tests.support.fleet import A100, GIB, GPU_0, INSTANCE_0, INSTANCE_1, INSTANCE_GONE
from tests.support.rest import Api


async def test_instances_are_shown_with_their_gpu_their_memory_and_why_the_rest_is_unknown(api: Api) -> None:
    first, second, gone = await api.items("/gpu/instances")
    assert (first["instance"], second["instance"]) == (INSTANCE_0, INSTANCE_1)
    assert (first["gpu"], first["node"], first["gpu_instance_id"], first["profile"]) == (A100, "beta", 1, "3g.40gb")
    assert (first["memory_total_bytes"], first["memory_used_bytes"]) == (40 * GIB, 4 * GIB)
    assert first["sm_active_ratio"] is None
    assert first["unknown"]["sm_active_ratio"] == "unsupported"
    assert (first["state"], first["processes"]) == ("present", [])
    assert (gone["instance"], gone["state"], gone["unknown"]["memory_used_bytes"]) == (
        INSTANCE_GONE, "gone", "never_sampled",
    )  # fmt: skip


async def test_a_gpu_narrows_to_its_instances(api: Api) -> None:
    assert len(await api.items("/gpu/instances", gpu=A100)) == 3
    assert await api.items("/gpu/instances", gpu=GPU_0) == []
    assert await api.items("/gpu/instances", node="alpha") == []


@pytest.mark.parametrize("limit", [1, 2])
async def test_pages_show_every_instance_once(api: Api, limit: int) -> None:
    shown = [item["instance"] for item in await api.all_pages("/gpu/instances", limit=limit)]
    assert shown == [INSTANCE_0, INSTANCE_1, INSTANCE_GONE]


async def test_a_node_shows_the_instances_that_its_gpus_have_now(api: Api) -> None:
    (gpu,) = (await api.get("/nodes/beta"))["gpus"]
    assert [one["instance"] for one in gpu["instances"]] == [INSTANCE_0, INSTANCE_1]
    first, _ = (await api.get("/nodes/alpha"))["gpus"]
    assert first["instances"] == []
