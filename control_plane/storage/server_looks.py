"""The newest samples of inference servers, distributions included, for work that follows them look by look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.rows import namedtuple_row

from control_plane.model.sample import Distribution, Reading
from control_plane.storage.session import SyncConnection

# Of one server at once: a quarter of an hour at a look every five seconds.
MOST_LOOKS = 200


class LookReader:
    """Reads samples as Readings. Keeps what rows point at: reasons by unknown set, bounds by layout."""

    def __init__(self, scalars: Sequence[str], histograms: Sequence[str]) -> None:
        """`scalars` and `histograms` are the fields that are read; the rest of a row stays where it is."""
        self._scalars = tuple(scalars)
        self._histograms = tuple(histograms)
        self._reasons: dict[int, Mapping[str, str]] = {}
        self._bounds: dict[int, Mapping[str, tuple[float, ...]]] = {}
        columns = [
            *self._scalars,
            *(f"{name}_{part}" for name in self._histograms for part in ("buckets", "sum")),
        ]
        self._query = sql.SQL(
            "SELECT s.* FROM unnest(%(ids)s::int[], %(after)s::timestamptz[]) AS t(entity_id, after) "
            "CROSS JOIN LATERAL (SELECT entity_id, taken_at, unknown_set_id, layout_id, {} FROM inference_sample s "
            "WHERE s.entity_id = t.entity_id AND s.taken_at > t.after AND s.taken_at > %(oldest)s "
            "AND s.taken_at <= %(until)s ORDER BY s.taken_at LIMIT %(most)s) s ORDER BY s.taken_at, s.entity_id"
        ).format(sql.SQL(", ").join(map(sql.Identifier, columns)))

    def read(self, connection: SyncConnection, after: Mapping[int, datetime], until: datetime) -> list[Reading]:
        """This will give the samples of each server from after the given moment, oldest first, at most MOST_LOOKS."""
        if not after:
            return []
        ids = sorted(after)
        arguments = {
            "ids": ids, "after": [after[i] for i in ids], "oldest": min(after.values()), "until": until,
            "most": MOST_LOOKS,
        }  # fmt: skip
        with connection.cursor(row_factory=namedtuple_row) as cursor:
            rows = cursor.execute(self._query, arguments).fetchall()
        self._load(connection, rows)
        return list(self._readings(rows))

    def _readings(self, rows: Sequence[Any]) -> Iterator[Reading]:
        for row in rows:
            values = {name: getattr(row, name) for name in self._scalars}
            bounds = self._bounds.get(row.layout_id, {})
            distributions = {
                name: Distribution(bounds=bounds[name], counts=tuple(counts), sum=getattr(row, f"{name}_sum"))
                for name in self._histograms
                if name in bounds and (counts := getattr(row, f"{name}_buckets")) is not None
            }
            reasons = self._reasons.get(row.unknown_set_id, {})
            yield Reading(
                entity_id=row.entity_id,
                taken_at=row.taken_at,
                values=values,
                unknown={n: why for n, why in reasons.items() if values.get(n) is None and n not in distributions},
                distributions=distributions,
            )

    def _load(self, connection: SyncConnection, rows: Sequence[Any]) -> None:
        sets = {row.unknown_set_id for row in rows if row.unknown_set_id is not None} - self._reasons.keys()
        layouts = {row.layout_id for row in rows if row.layout_id is not None} - self._bounds.keys()
        if sets:
            self._reasons |= dict(
                connection.execute(
                    "SELECT unknown_set_id, reasons FROM unknown_set WHERE unknown_set_id = ANY(%s)", (list(sets),)
                ).fetchall()
            )
        if layouts:
            found = connection.execute(
                "SELECT layout_id, bounds FROM histogram_layout WHERE layout_id = ANY(%s)", (list(layouts),)
            ).fetchall()
            for layout_id, bounds in found:
                self._bounds[layout_id] = {name: tuple(of) for name, of in bounds.items()}
