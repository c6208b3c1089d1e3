"""From a fleet to a plan: what is alike is counted, packed, and laid back onto real GPUs with the fewest moves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from control_plane.decisions.consolidation.fleet import Bin, Engine, Plan, absurd, broken
from control_plane.decisions.consolidation.packing import Class, Kind, Packed, Pattern, pack, room
from control_plane.model.scaling import Because, NoAction

Shape = tuple[float, float, frozenset[str] | None, str | None]


def plan(bins: Sequence[Bin], engines: Sequence[Engine], *, seconds: float = 8.0) -> Plan | NoAction:
    """This will place engines on GPUs that cost least together, or say why they stay."""
    if wrong := absurd(bins, engines):
        return NoAction(because=Because.ABSURD_DATA, explanation=wrong)
    now = {e.name: e.at for e in engines}
    if unknown := [e.name for e in engines if e.at not in {b.name for b in bins}]:
        return NoAction(because=Because.MISSING_DATA, explanation=f"where {unknown[0]} is, is not known")
    moving = [e for e in engines if not e.fixed]
    before = _cost(bins, set(now.values()))
    if not moving:
        return NoAction(because=Because.NOTHING_BINDS, explanation="no engine may move")
    kinds, members = _kinds(bins, [e for e in engines if e.fixed])
    classes, shapes = _classes(moving)
    start = _in_use(moving, kinds, members, classes, shapes)
    packed = pack(classes, kinds, seconds=seconds, start=start)
    opened = _cost(bins, {e.at for e in engines if e.fixed})
    if packed.left_out:
        return NoAction(
            because=Because.DOES_NOT_FIT, explanation=f"{packed.left_out} engines have no room anywhere else"
        )
    places = {e.name: e.at for e in engines if e.fixed} | _laid(packed, moving, members, classes, shapes)
    after = _cost(bins, set(places.values()))
    bound = opened + packed.bound_usd_per_hour
    if wrong_places := broken(bins, engines, places):
        return NoAction(because=Because.DOES_NOT_FIT, explanation=wrong_places[0])
    if after >= before * 0.999:
        return NoAction(
            because=Because.NOT_WORTH_IT,
            explanation=f"{len(set(now.values()))} GPUs are in use, and no plan was found that costs less "
            f"(none can cost less than {bound:.2f} $ an hour; it is {before:.2f})",
        )
    used = set(places.values())
    return Plan(
        places=places, usd_per_hour=after, bound_usd_per_hour=min(bound, after), before_usd_per_hour=before,
        moves=[(e.name, e.at, places[e.name]) for e in engines if places[e.name] != e.at],
        freed=[b.name for b in bins if b.name in set(now.values()) and b.name not in used],
    )  # fmt: skip


def _cost(bins: Sequence[Bin], used: set[str]) -> float:
    return sum(b.usd_per_hour for b in bins if b.name in used)


def _kinds(bins: Sequence[Bin], fixed: Sequence[Engine]) -> tuple[list[Kind], list[list[str]]]:
    """This will gather GPUs that are alike. One that a fixed engine holds open costs no more, and has less room."""
    held: dict[str, list[Engine]] = defaultdict(list)
    for engine in fixed:
        held[engine.at].append(engine)
    grouped: dict[Kind, list[str]] = defaultdict(list)
    for b in bins:
        memory, compute = room(b.memory_bytes, b.compute)
        on = held.get(b.name, [])
        alike = Kind(
            name=b.kind, memory_bytes=memory - sum(e.memory_bytes for e in on),
            compute=compute - sum(e.compute for e in on), usd_per_hour=0.0 if on else b.usd_per_hour, count=0,
            closed=frozenset(e.apart for e in on if e.apart is not None),
        )  # fmt: skip
        if alike.memory_bytes > 0 and alike.compute > 0:
            grouped[alike].append(b.name)
    return [replace(kind, count=len(names)) for kind, names in grouped.items()], list(grouped.values())


def _shape(engine: Engine) -> Shape:
    return engine.memory_bytes, engine.compute, engine.kinds, engine.apart


def _classes(engines: Sequence[Engine]) -> tuple[list[Class], dict[Shape, int]]:
    counts: dict[Shape, int] = {}
    for engine in engines:
        counts[_shape(engine)] = counts.get(_shape(engine), 0) + 1
    classes = [
        Class(memory_bytes=memory, compute=compute, kinds=kinds, apart=apart, count=count)
        for (memory, compute, kinds, apart), count in counts.items()
    ]
    return classes, {shape: place for place, shape in enumerate(counts)}


def _in_use(
    engines: Sequence[Engine], kinds: Sequence[Kind], members: Sequence[Sequence[str]], classes: Sequence[Class],
    shapes: Mapping[Shape, int],
) -> list[Pattern]:  # fmt: skip
    """This will give the ways in which GPUs are filled now, so that what is there is one of the answers."""
    counts: dict[str, list[int]] = {}
    for engine in engines:
        counts.setdefault(engine.at, [0] * len(classes))[shapes[_shape(engine)]] += 1
    out = []
    for number, kind in enumerate(kinds):
        for name in members[number]:
            if name in counts and _holds(kind, classes, counts[name]):
                out.append(Pattern(number, tuple(counts[name])))
    return out


def _holds(kind: Kind, classes: Sequence[Class], counts: Sequence[int]) -> bool:
    on = [(each, n) for each, n in zip(classes, counts, strict=True) if n]
    return (
        sum(each.memory_bytes * n for each, n in on) <= kind.memory_bytes
        and (sum(each.compute * n for each, n in on) <= kind.compute)
        and all(each.kinds is None or kind.name in each.kinds for each, _ in on)
        and all(sum(n for each, n in on if each.apart == word) <= 1 for word in {each.apart for each, _ in on} - {None})
        and not ({each.apart for each, _ in on} & kind.closed)
    )


def _laid(
    packed: Packed, engines: Sequence[Engine], members: Sequence[Sequence[str]], classes: Sequence[Class],
    shapes: Mapping[Shape, int],
) -> dict[str, str]:  # fmt: skip
    """This will give each way a real GPU, the one first on which most engines may stay, and each engine its place."""
    there: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for engine in sorted(engines, key=lambda e: e.name):
        there[engine.at][shapes[_shape(engine)]].append(engine.name)
    wanted = [(pattern, n) for pattern, count in packed.patterns for n in range(count)]
    overlaps = sorted(
        (
            (-sum(min(n, len(there[name][c])) for c, n in enumerate(pattern.counts) if n), place, name)
            for place, (pattern, _) in enumerate(wanted)
            for name in members[pattern.kind]
            if name in there
        ),
    )
    chosen: dict[int, str] = {}
    taken: set[str] = set()
    for overlap, place, name in overlaps:
        if overlap < 0 and place not in chosen and name not in taken:
            chosen[place] = name
            taken.add(name)
    for place, (pattern, _) in enumerate(wanted):
        if place not in chosen:
            chosen[place] = next(name for name in members[pattern.kind] if name not in taken)
            taken.add(chosen[place])
    return _assigned([(chosen[place], pattern) for place, (pattern, _) in enumerate(wanted)], there, classes)


def _assigned(
    filled: Sequence[tuple[str, Pattern]], there: Mapping[str, Mapping[int, list[str]]], classes: Sequence[Class]
) -> dict[str, str]:
    """This will let engines stay where their GPU keeps a place for them, and give the others the places left."""
    places: dict[str, str] = {}
    open_at: dict[int, list[str]] = defaultdict(list)
    for name, pattern in filled:
        for c, count in enumerate(pattern.counts):
            stay = there[name][c][:count] if name in there and c in there[name] else []
            places |= dict.fromkeys(stay, name)
            open_at[c] += [name] * (count - len(stay))
    for c in range(len(classes)):
        homeless = [e for on in there.values() for e in on.get(c, []) if e not in places]
        places |= dict(zip(homeless, open_at[c], strict=False))
    return places
