"""Answers that are pleasant in a notebook: dictionaries and lists, with units converted when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas

    from resource_agent.transport import Question

# What may be asked for, from what is there: the API has bytes and ratios.
CONVERTED = {
    "_gb": ("_bytes", 1e-9), "_gib": ("_bytes", 2.0**-30), "_percent": ("_ratio", 100.0), "_ms": ("_seconds", 1000.0),
    "_kwh": ("_joules", 1 / 3.6e6), "_kw": ("_watts", 1e-3),
}  # fmt: skip
MOST_SHOWN = 20
MOST_COLUMNS = 12


class Answer(dict[str, Any]):
    """One thing. `answer["memory_used_gb"]` is made from `memory_used_bytes`; None stays None."""

    etag: str | None = None  # its version, for `if_match` of whoever changes it

    def __missing__(self, name: str) -> Any:
        """This will convert a unit. Raises KeyError when there is nothing to convert."""
        for wanted, (there, factor) in CONVERTED.items():
            source = name.removesuffix(wanted) + there
            if name.endswith(wanted) and source in self:
                value = self[source]
                return None if value is None else value * factor
        raise KeyError(name)

    def _repr_html_(self) -> str:
        return _table(["", "value"], [[name, value] for name, value in self.items()])


class Page(Sequence[Answer]):
    """One page of a list: a sequence of answers, with what stands around them."""

    def __init__(self, body: Mapping[str, Any], asked: Question[Page] | None = None) -> None:
        """`body` is the answer as it came, and `asked` what it answers."""
        self._asked = asked
        self.items = [Answer(item) for item in body["items"]]
        self.next_cursor: str | None = body.get("next_cursor")
        self.around = Answer({name: value for name, value in body.items() if name not in ("items", "next_cursor")})

    @overload
    def __getitem__(self, index: int) -> Answer: ...
    @overload
    def __getitem__(self, index: slice) -> list[Answer]: ...
    @overload
    def __getitem__(self, index: str) -> Any: ...
    def __getitem__(self, index: int | slice | str) -> Any:
        """This will give an item by its place, or by name what stands around them."""
        return self.around[index] if isinstance(index, str) else self.items[index]

    def __len__(self) -> int:
        """This will say how many are on this page."""
        return len(self.items)

    def __iter__(self) -> Iterator[Answer]:
        """This will give the items of this page."""
        return iter(self.items)

    def following(self) -> Question[Page] | None:
        """This will give the question for the next page; None: this was the last."""
        if self._asked is None or self.next_cursor is None:
            return None
        return replace(self._asked, query={**self._asked.query, "cursor": self.next_cursor})

    def mean(self, field: str) -> float | None:
        """This will average a field over the items in which it is known; None: it is known in none."""
        known = [item[field] for item in self.items if item[field] is not None]
        return sum(known) / len(known) if known else None

    def frame(self) -> pandas.DataFrame:
        """This will give a pandas data frame: of a history one line for each point, indexed by time."""
        import pandas  # noqa: PLC0415 - optional, and slow to load

        rows = list(_rows(self.items))
        frame = pandas.DataFrame(rows)
        if rows and "at" in rows[0]:
            frame["at"] = pandas.to_datetime(frame["at"])
            frame = frame.set_index("at")
        return frame

    def __repr__(self) -> str:
        """This will say how many there are, and of what."""
        more = ", more follow" if self.next_cursor else ""
        names = ", ".join(list(self.items[0])[:6]) if self.items else "empty"
        return f"<Page of {len(self)}{more}: {names}>"

    def _repr_html_(self) -> str:
        columns = [n for n in (self.items[0] if self.items else {}) if n != "unknown"][:MOST_COLUMNS]
        rows = [[item.get(name) for name in columns] for item in self.items[:MOST_SHOWN]]
        left = len(self) - len(rows)
        return _table(columns, rows) + (f"<p>and {left} more</p>" if left > 0 else "")


def _rows(items: Sequence[Answer]) -> Iterator[dict[str, Any]]:
    for item in items:
        points = item.get("points")
        about = {name: value for name, value in item.items() if name != "points"}
        if isinstance(points, list):
            yield from ({**about, **point} for point in points)
        else:
            yield about


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = ("".join(f"<td>{escape(_shown(value))}</td>" for value in row) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)[:80]
