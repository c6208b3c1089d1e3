"""Whatever is asked, the answer is one that the API description declares."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.golden.write import document
from tests.support import fleet
from tests.support.rest import Api, problem_of, unexplained

OPERATIONS = [
    (path, operation)
    for path, methods in document()["paths"].items()
    for method, operation in methods.items()
    if method == "get" and path != "/events"  # it has no end
]
FIELDS = [
    "power_draw_watts",
    "energy_joules_total",
    "cpu_busy_ratio",
    "ttft_seconds",
    "generation_tokens_total",
    "nope",
]
SENSIBLE = {
    "node": ["alpha", "beta", "gamma", "delta", "1", "2", "nobody"],
    "gpu": [fleet.GPU_0, fleet.A100, "GPU-none"],
    "server": [fleet.URL, fleet.GONE_URL, "1", "7", "8", "http://nowhere"],
    "model": [fleet.LLAMA, fleet.QWEN, "nobody's"],
    "field": FIELDS,
    "since": ["5m", "15m", "1h", "7d", "90s", "500ms", "2026-03-04T11:55:00Z", "1970-01-01T00:00:00Z"],
    "until": ["1m", "0s", "2026-03-04T11:58:00+00:00", "9999-12-31T23:59:59Z"],
    "slo": ["llama-ttft", "llama-up", "1", "no-such"],
    "alert_id": ["1", "2", "99"],
    "state": ["firing", "pending", "resolved"],
    "label": ["node=alpha", "x"],
    "slo_id": ["llama-ttft", "llama-up", "1", "no-such"],
    "step": ["1s", "7s", "1m", "1h", "999999999d"],
    "limit": ["1", "2", "10", "10000"],
    "cursor": ["eyJhZnRlciI6MX0", "eyJhZnRlciI6Mn0", "eyJhZnRlciI6MjE0NzQ4MzY0N30"],
}
ANYTHING = st.one_of(
    st.text(max_size=80),
    st.integers().map(str),
    st.datetimes().map(lambda t: t.isoformat() + "Z"),
    st.builds("{}{}".format, st.integers(0, 10**12), st.sampled_from(["ms", "s", "m", "h", "d", ""])),
)


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """One operation, its path filled in, and parameters of which most make sense."""
    path, operation = draw(st.sampled_from(OPERATIONS))
    asked: dict[str, Any] = {}
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        sensible = st.sampled_from(SENSIBLE.get(name, ["alpha", "1", "5"]))
        value = st.one_of(sensible, sensible, sensible, ANYTHING)
        if parameter["in"] == "path":
            text = draw(value.filter(lambda t: t not in ("", ".", "..")))
            path = path.replace(f"{{{name}}}", "".join(f"%{byte:02x}" for byte in text.encode()))
        elif parameter["required"] or draw(st.booleans()):
            asked[name] = draw(
                st.lists(value, min_size=1, max_size=3) if name in ("node", "gpu", "server", "slo", "field") else value
            )
    if draw(st.integers(0, 19)) == 0:
        asked[draw(st.text(min_size=1, max_size=20))] = "1"
    return path, operation, asked


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=questions())
async def test_every_answer_is_a_declared_one_and_every_null_is_explained(
    api: Api, question: tuple[str, dict[str, Any], dict[str, Any]]
) -> None:
    path, operation, asked = question
    answer = await api.client.get(path, params=asked)
    assert str(answer.status_code) in operation["responses"] or (answer.status_code == 404 and "%2f" in path)
    if answer.status_code != 200:
        problem_of(answer)
        assert answer.status_code < 500
    elif answer.headers["content-type"] == "application/json":
        body = answer.json()
        assert list(unexplained(body)) == []
        limit = int(asked.get("limit", 1000))
        for item in body.get("items", []):
            assert len(item.get("points", [])) <= limit
