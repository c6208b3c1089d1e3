"""Quantise: weights in fewer bits, where the GPU's generation and the engine really support it.

Not a ladder from 16 over 8 to 4 bits: Ampere has no FP8 arithmetic and Blackwell's vLLM no INT8 (docs of vLLM,
"Supported hardware" of quantization); what each format brings is computed for this model, GPU and load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from control_plane.decisions.performance.setup import Setup
from control_plane.decisions.policies.costs import for_the_same_work, payback_hours, restart_of
from control_plane.decisions.policies.facts import ServerState
from control_plane.decisions.policies.what_if import Compared, Subject, changeable, compare, setup_of
from control_plane.model.architecture import NumberFormat
from control_plane.model.bottleneck import Evidence
from control_plane.model.recommendation import Flag, Lost, Occasion, Recommendation, RecommendationKind, Risk
from control_plane.model.scaling import Because, NoAction

LEAST_GAIN = 1.05  # times the requests a second; less is not worth a restart and a test of the answers
# Of the most that a format gains, what is given up for one that needs no other checkpoint and risks less.
GIVEN_UP = 0.7
AMPERE, ADA, BLACKWELL, AMD = 80, 89, 100, 900
BITS = {
    NumberFormat.BF16: 16, NumberFormat.FP8: 8, NumberFormat.FP8_BLOCK: 8, NumberFormat.INT8: 8, NumberFormat.INT4: 4,
    NumberFormat.MXFP4: 4, NumberFormat.NVFP4: 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to serve a model in fewer bits."""

    name: str
    weights: NumberFormat
    kv: NumberFormat | None  # None: as it is
    first: int  # architecture code from which the GPU can
    last: int  # and up to which
    value: str  # of --quantization
    since: dict[str, tuple[int, int]]  # engine → release
    checkpoint: str | None  # that must be made before; None: the engine converts the weights when it starts
    accuracy: str
    risk: Risk


WAYS = (
    Way(
        name="FP8 weights and activations", weights=NumberFormat.FP8, kv=None, first=ADA, last=AMD, value="fp8",
        since={"vllm": (0, 5), "sglang": (0, 3)}, checkpoint=None, risk=Risk.MEDIUM,
        accuracy="usually within 1 % of 16 bits on public tests; yours decide",
    ),
    Way(
        name="NVFP4 weights and activations", weights=NumberFormat.NVFP4, kv=None, first=BLACKWELL, last=AMD - 1,
        value="modelopt_fp4", since={"vllm": (0, 10), "sglang": (0, 5)},
        checkpoint="an NVFP4 checkpoint of the model (NVIDIA Model Optimizer, llm-compressor)", risk=Risk.HIGH,
        accuracy="4 bits lose more than 8: small models and long reasoning first; test before traffic",
    ),
    Way(
        name="INT8 weights and activations", weights=NumberFormat.INT8, kv=None, first=75, last=ADA - 1,
        value="compressed-tensors", since={"vllm": (0, 5)},
        checkpoint="a W8A8 checkpoint of the model (llm-compressor, SmoothQuant and GPTQ)", risk=Risk.HIGH,
        accuracy="activations in INT8 need calibration with prompts like yours; test before traffic",
    ),
    Way(
        name="FP8 weights alone, multiplied in 16 bits", weights=NumberFormat.FP8, kv=None, first=AMPERE, last=ADA - 1,
        value="fp8", since={"vllm": (0, 5)}, checkpoint=None, risk=Risk.MEDIUM,
        accuracy="weights only: usually within 1 % of 16 bits on public tests; yours decide",
    ),
    Way(
        name="INT4 weights alone (AWQ)", weights=NumberFormat.INT4, kv=None, first=75, last=AMD - 1, value="awq",
        since={"vllm": (0, 3), "sglang": (0, 3)}, checkpoint="an AWQ checkpoint of the model", risk=Risk.HIGH,
        accuracy="4 bits lose more than 8, and long batches gain little; test before traffic",
    ),
)  # fmt: skip


def quantize(state: ServerState) -> Recommendation | NoAction:
    """This will recommend the format that serves most, if one serves enough more to be worth the test."""
    subject = changeable(state)
    if isinstance(subject, NoAction):
        return subject
    before = setup_of(state, subject)
    looked = [_look(way, state, subject, before) for way in WAYS]
    found = [(way, each) for way, each in zip(WAYS, looked, strict=True) if isinstance(each, Compared)]
    lost = [Lost(what=way.name, why=each) for way, each in zip(WAYS, looked, strict=True) if isinstance(each, str)]
    worth = [(way, each) for way, each in found if each.gain >= LEAST_GAIN]
    if not worth:
        best = max((f"{way.name}: × {each.gain:.2f}" for way, each in found), default="nothing is left to try")
        why = "; ".join(f"{each.what}: {each.why}" for each in lost)
        because = Because.NOT_WORTH_IT if found else Because.NOT_SUPPORTED
        return NoAction(because=because, explanation=f"{best}. {why}".strip())
    # What may change answers least, of what brings nearly as much: FP8 before NVFP4.
    most = max(each.gain for _, each in worth)
    near = 1.0 + (1.0 - GIVEN_UP) * (most - 1.0)
    way, chosen = min(
        ((way, each) for way, each in worth if each.gain >= near),
        key=lambda pair: (pair[0].risk is Risk.HIGH, pair[0].checkpoint is not None, -pair[1].gain),
    )
    for other, each in found:
        if other is not way:
            why = f"× {each.gain:.2f} requests a second; {other.accuracy}"
            lost.append(Lost(what=other.name, why=f"{why}; needs {other.checkpoint}" if other.checkpoint else why))
    return _recommended(state, way, chosen, lost)


def _look(way: Way, state: ServerState, subject: Subject, before: Setup) -> Compared | str:
    """This will predict a way, or say why it cannot be gone."""
    code = subject.machine.architecture_code
    if not way.first <= code <= (10_000 if way.last == AMD else way.last):
        return f"{subject.machine.name} cannot: {_generation(code)}"
    since = way.since.get(state.engine)
    if since is None:
        return f"not with {state.engine} on this GPU"
    if (release := _release(state.version)) is not None and release < since:
        return f"{state.engine} {state.version} is older than {since[0]}.{since[1]}, which has it"
    if BITS[before.feed_forward_format] <= BITS[way.weights]:
        return f"weights are in {before.feed_forward_format} already"
    attention = before.attention_format if BITS[before.attention_format] <= BITS[way.weights] else way.weights
    after = replace(before, attention_format=attention, feed_forward_format=way.weights)
    guessed = subject.model.guessed or not subject.machine.rates_measured or not subject.machine.listed
    compared = compare(subject, before, after, guessed=guessed)
    return compared if compared.fits else "it would not fit into memory even so"


def _generation(code: int) -> str:
    if code >= AMD:
        return "AMD's tensor cores know no such format"
    return f"it is of compute capability {code // 10}.{code % 10}"


def _release(version: str | None) -> tuple[int, int] | None:
    found = re.match(r"v?(\d+)\.(\d+)", version or "")
    return (int(found[1]), int(found[2])) if found else None


def _recommended(state: ServerState, way: Way, chosen: Compared, lost: list[Lost]) -> Recommendation:
    was = state.config.get("quantization")
    flag = Flag(name="--quantization", value=way.value, was=str(was) if isinstance(was, str) else None)
    doing = restart_of(state)
    usd = for_the_same_work(state, chosen.effect.requests_ratio)
    room_before, room_after = (float(s.memory.max_concurrency) for s in (chosen.before, chosen.after))
    return Recommendation(
        kind=RecommendationKind.QUANTIZE, engine=state.engine, version=state.version, flags=(flag,),
        because=Occasion.SMALLER_FORMAT, effect=replace(chosen.effect, usd_per_month=usd),
        needs=tuple(filter(None, (way.checkpoint, "a test of the answers: POST /test/validate with your own prompts"))),
        cost="a restart of the server; its prefix cache is empty afterwards",
        risk=f"answers may change: {way.accuracy}", risk_level=way.risk,
        rollback=f"restart with --quantization {was}" if was else "restart without --quantization",
        evidence=(
            Evidence(
                name="weights_bytes", value=float(chosen.after.memory.weights), unit="bytes",
                means=f"of weights on each GPU, {float(chosen.before.memory.weights) / 1e9:.3g} GB before",
            ),
            Evidence(
                name="max_concurrency", value=room_after, unit="count",
                means=f"requests of the usual length that memory holds, {room_before:.0f} before",
            ),
            Evidence(
                name="concurrency", value=float(state.concurrency or 0.0), unit="count",
                means="requests that ran or waited while it was busy",
            ),
        ),
        lost=tuple(lost), doing=doing, payback_hours=payback_hours(doing, usd),
    )  # fmt: skip
