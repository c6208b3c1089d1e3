"""Parallelism: how the GPUs that a server has are divided among tensor, pipeline, data and expert ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from control_plane.decisions.performance.setup import Setup
from control_plane.decisions.policies.costs import for_the_same_work, payback_hours, restart_of
from control_plane.decisions.policies.facts import ServerState, spelt
from control_plane.decisions.policies.what_if import Subject, changeable, compare, expected_gain, setup_of
from control_plane.model.architecture import AttentionKind
from control_plane.model.bottleneck import Evidence
from control_plane.model.recommendation import Flag, Lost, Occasion, Recommendation, RecommendationKind, Risk
from control_plane.model.scaling import Because, NoAction

LEAST_GAIN = 1.1
# A shape's error is more than a format's: it stands on kernels and links measured alone.
SPREAD = 0.2
MOST_SLOWER = 1.5  # times the time per token; a shape that serves more by making everybody wait is no help
NVLINK_FROM = 100e9  # bytes a second in one direction: without it tensor ranks over PCIe lose more than they gain


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many ranks of each kind."""

    tensor: int
    pipeline: int
    data: int
    expert: bool

    def __str__(self) -> str:
        parts = [f"TP {self.tensor}"]
        parts += [f"PP {self.pipeline}"] if self.pipeline > 1 else []
        parts += [f"DP {self.data}"] if self.data > 1 else []
        return " × ".join(parts) + (" with expert parallelism" if self.expert else "")

    def of(self, setup: Setup) -> Setup:
        """This will give a configuration in this shape."""
        return replace(
            setup, tensor_parallel=float(self.tensor), pipeline_parallel=float(self.pipeline),
            data_parallel=float(self.data), expert_parallel=float(self.tensor * self.data) if self.expert else 1.0,
        )  # fmt: skip


def parallelism(state: ServerState) -> Recommendation | NoAction:
    """This will recommend another division of the same GPUs, if it serves enough more."""
    subject = changeable(state)
    if isinstance(subject, NoAction):
        return subject
    before = setup_of(state, subject)
    present = Shape(
        tensor=int(before.tensor_parallel), pipeline=int(before.pipeline_parallel), data=int(before.data_parallel),
        expert=float(before.expert_parallel) > 1,
    )  # fmt: skip
    gpus = state.gpus or present.tensor * present.pipeline * present.data
    if gpus <= 1:
        return NoAction(because=Because.NOTHING_BINDS, explanation="it has one GPU: there is nothing to divide")
    told = {shape: expected_gain(subject, before, shape.of(before)) for shape in shapes(state, subject, gpus)}
    told.pop(present, None)
    lost = [Lost(what=str(shape), why=_why(shape, gain)) for shape, gain in _ranked(told)]
    for shape, gain in _ranked(told):
        if gain < LEAST_GAIN:
            break
        found = compare(subject, before, shape.of(before), spread=SPREAD, guessed=subject.model.guessed)
        if found.fits and found.effect.token_time_ratio.expected <= MOST_SLOWER:
            others = tuple(each for each in lost if each.what != str(shape))
            usd = for_the_same_work(state, found.effect.requests_ratio)
            doing = restart_of(state)
            return Recommendation(
                kind=RecommendationKind.PARALLELISM, engine=state.engine, version=state.version,
                flags=flags(state.engine, shape, present), because=Occasion.BETTER_SHAPE,
                effect=replace(found.effect, usd_per_month=usd),
                cost="a restart of the server; its prefix cache is empty afterwards",
                risk="the shape stands on kernels and links measured alone: try it under load before traffic",
                rollback="restart with " + spelt(flags(state.engine, present, shape)),
                evidence=(
                    Evidence(name="gpus", value=float(gpus), unit="count", means=f"of the server, now as {present}"),
                    Evidence(
                        name="link_bytes_per_second", value=subject.machine.link_bytes_per_second, unit="bytes/s",
                        means="that one GPU can send to another",
                    ),
                ),
                lost=others[:6], doing=doing, payback_hours=payback_hours(doing, usd), risk_level=Risk.MEDIUM,
                needs=("a load test of the new shape: POST /test/run",),
            )  # fmt: skip
    best = next(iter(_ranked(told)), None)
    said = "no other division of its GPUs is possible" if best is None else f"{best[0]} would serve × {best[1]:.2f}"
    return NoAction(because=Because.NOT_WORTH_IT, explanation=f"{present} stays: {said}")


def _ranked(told: dict[Shape, float]) -> list[tuple[Shape, float]]:
    return sorted(told.items(), key=lambda pair: (-pair[1], str(pair[0])))


def _why(shape: Shape, gain: float) -> str:
    return "the model does not fit into memory" if gain == 0.0 else f"× {gain:.2f} requests a second{_note(shape)}"


def _note(shape: Shape) -> str:
    return ", and prompts pass stage after stage" if shape.pipeline > 1 else ""


def shapes(state: ServerState, subject: Subject, gpus: int) -> Iterator[Shape]:
    """This will give every division of exactly so many GPUs that the model and the topology allow."""
    machine, model = subject.machine, subject.model
    heads = [group.query_heads for group in model.attention if group.kind is not AttentionKind.STATE]
    joined = machine.gpus_per_host if machine.link_bytes_per_second >= NVLINK_FROM else min(machine.gpus_per_host, 2)
    for tensor in (n for n in (1, 2, 4, 8) if n <= min(gpus, joined)):
        if gpus % tensor or any(count % tensor for count in heads):
            continue
        # Stages help where links are slow or the server spans hosts; within NVLink nobody has measured a gain.
        staged = (1, 2, 4) if gpus > joined else (1,)
        for pipeline in (n for n in staged if n <= gpus // tensor and n <= model.layers):
            if (gpus // tensor) % pipeline:
                continue
            data = gpus // tensor // pipeline
            if state.engine == "sglang" and data > 1 and pipeline > 1:
                continue  # not supported together (sglang/srt/server_args.py)
            yield Shape(tensor=tensor, pipeline=pipeline, data=data, expert=False)
            if model.has_experts and tensor * data > 1 and pipeline == 1:
                yield Shape(tensor=tensor, pipeline=pipeline, data=data, expert=True)


def flags(engine: str, shape: Shape, was: Shape) -> tuple[Flag, ...]:
    """This will spell what differs between two shapes as the engine's flags."""
    pairs: tuple[tuple[str, int, int], ...]
    if engine == "sglang":
        pairs = (
            ("--tp-size", shape.tensor * shape.data if shape.data > 1 else shape.tensor,
             was.tensor * was.data if was.data > 1 else was.tensor),
            ("--pp-size", shape.pipeline, was.pipeline), ("--dp-size", shape.data, was.data),
            ("--ep-size", shape.tensor * shape.data if shape.expert else 1,
             was.tensor * was.data if was.expert else 1),
        )  # fmt: skip
        found = [Flag(name=n, value=str(new), was=str(old)) for n, new, old in pairs if new != old]
        if (shape.data > 1) != (was.data > 1):
            found.append(Flag(name="--enable-dp-attention", value="" if shape.data > 1 else None, was=None))
        return tuple(found)
    pairs = (
        ("--tensor-parallel-size", shape.tensor, was.tensor),
        ("--pipeline-parallel-size", shape.pipeline, was.pipeline),
        ("--data-parallel-size", shape.data, was.data),
    )  # fmt: skip
    found = [Flag(name=n, value=str(new), was=str(old)) for n, new, old in pairs if new != old]
    if shape.expert != was.expert:
        found.append(Flag(name="--enable-expert-parallel", value="" if shape.expert else None, was=None))
    return tuple(found)
