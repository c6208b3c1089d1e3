"""Plots as SVG, drawn here: no script, nothing loaded, readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from control_plane.model.use import UseClass

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 860, 220, 56, 26, 10
# Okabe and Ito's colours, which colour-blind people tell apart; grey for what is not known.
COLOURS: Mapping[UseClass, str] = {
    UseClass.USEFUL: "#009e73",
    UseClass.INEFFICIENT: "#e69f00",
    UseClass.STRANDED: "#d55e00",
    UseClass.ALLOCATED_IDLE: "#cc79a7",
    UseClass.UNALLOCATED: "#56b4e9",
    UseClass.UNKNOWN: "#9a9a9a",
}
TICKS = 4


def bar(shares: Sequence[tuple[UseClass, float]], words: Mapping[UseClass, str]) -> str:
    """This will draw one bar whose parts add up to all of it."""
    x, parts = 0.0, []
    for each, share in shares:
        width = share * WIDTH
        if width > 0:
            label = f"{words[each]}: {share:.1%}"
            parts.append(
                f'<rect x="{x:.1f}" y="0" width="{width:.1f}" height="34" fill="{COLOURS[each]}">'
                f"<title>{escape(label)}</title></rect>"
            )
            if width > 46:
                parts.append(f'<text x="{x + width / 2:.1f}" y="22" text-anchor="middle" class="in">{share:.0%}</text>')
        x += width
    return _svg(WIDTH, 34, "".join(parts), "shares of the paid GPU-hours")


def areas(at: Sequence[str], layers: Sequence[tuple[UseClass, Sequence[float]]], words: Mapping[UseClass, str]) -> str:
    """This will draw layers on top of one another over time; together they are the GPUs."""
    steps = len(at)
    if steps == 0:
        return ""
    most = max((sum(values[n] for _, values in layers) for n in range(steps)), default=0.0)
    top = _top(most)
    below = [0.0] * steps
    parts = []
    for each, values in layers:
        above = [low + value for low, value in zip(below, values, strict=True)]
        if max(values) > 0:
            there = [f"{_x(n, steps):.1f},{_y(v, top):.1f}" for n, v in _stepped(above)]
            back = [f"{_x(n, steps):.1f},{_y(v, top):.1f}" for n, v in reversed(_stepped(below))]
            parts.append(
                f'<polygon points="{" ".join(there + back)}" fill="{COLOURS[each]}">'
                f"<title>{escape(words[each])}</title></polygon>"
            )
        below = above
    return _svg(WIDTH, HEIGHT, "".join(parts) + _axes(at, top), "GPUs by what their time went into")


def line(
    at: Sequence[str], values: Sequence[float | None], unit: str, ahead: Sequence[tuple[float, float, float]]
) -> str:
    """This will draw a series, and what is forecast of it: (steps ahead, expected, at most). Gaps stay gaps."""
    steps = len(at)
    known = [v for v in values if v is not None]
    if not known:
        return ""
    width = steps + (max((a for a, _, _ in ahead), default=0.0))
    top = _top(max([*known, *(most for _, _, most in ahead)]))
    parts: list[str] = []
    run: list[str] = []
    for n, value in [*enumerate(values), (steps, None)]:
        if value is not None:
            run.append(f"{_x(n + 0.5, width):.1f},{_y(value, top):.1f}")
            continue
        if len(run) > 1:
            parts.append(f'<polyline points="{" ".join(run)}" class="line"/>')
        elif run:
            parts.append(_dot(*run[0].split(",")))
        run = []
    for steps_ahead, expected, most in ahead:
        x = _x(steps - 0.5 + steps_ahead, width)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_y(expected, top):.1f}" y2="{_y(most, top):.1f}" class="ahead"/>'
            f'<circle cx="{x:.1f}" cy="{_y(expected, top):.1f}" r="3" class="dot"><title>{expected:,.0f} expected, '
            f"at most {most:,.0f}</title></circle>"
        )
    return _svg(WIDTH, HEIGHT, "".join(parts) + _axes(at, top, width), unit)


def _dot(x: str, y: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="2" class="dot"/>'


def legend(words: Mapping[UseClass, str]) -> str:
    """This will name the colours."""
    return "".join(f'<span class="key"><i class="{each}"></i>{escape(words[each])}</span>' for each in UseClass)


def _stepped(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(n + edge, value) for n, value in enumerate(values) for edge in (0.0, 1.0)]


def _x(step: float, steps: float) -> float:
    return LEFT + step / max(steps, 1) * (WIDTH - LEFT - 4)


def _y(value: float, top: float) -> float:
    return TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM)


def _top(most: float) -> float:
    """This will give a round number that is not below the largest value."""
    if most <= 0:
        return 1.0
    magnitude = 10 ** math.floor(math.log10(most))
    return float(next(m * magnitude for m in (1, 2, 2.5, 4, 5, 8, 10) if m * magnitude >= most * 0.9999))


def _axes(at: Sequence[str], top: float, width: float | None = None) -> str:
    parts = []
    for tick in range(TICKS + 1):
        value = top * tick / TICKS
        y = _y(value, top)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for part in range(5):
        n = round(part * (len(at) - 1) / 4) if len(at) > 1 else 0
        x = _x(n + 0.5, width or len(at))
        anchor = "start" if part == 0 else "middle" if part < 4 or width else "end"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{escape(_clock(at[n], at))}</text>')
    return "".join(parts)


def _clock(moment: str, at: Sequence[str]) -> str:
    return moment[11:16] if at[0][:10] == at[-1][:10] else f"{moment[5:10]} {moment[11:16]}"


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _svg(width: float, height: float, inside: str, label: str) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label, quote=True)}">{inside}</svg>'
