"""What samples point at, for the job's thread: reasons by unknown set, bounds by histogram layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from control_plane.storage.session import SyncConnection


class Lookups:
    """Caches of dictionary entries, which never change."""

    def __init__(self) -> None:
        """They fill as rows name them."""
        self._reasons: dict[int, Mapping[str, str]] = {}
        self.bounds: dict[int, Mapping[str, Sequence[float]]] = {}

    def load(
        self, connection: SyncConnection, *, unknown_set_ids: Iterable[int] = (), layout_ids: Iterable[int] = ()
    ) -> None:
        """This will make sure that the named entries are at hand."""
        sets = sorted({int(number) for number in unknown_set_ids} - self._reasons.keys())
        if sets:
            self._reasons.update(
                connection.execute(
                    "SELECT unknown_set_id, reasons FROM unknown_set WHERE unknown_set_id = ANY(%s)", (sets,)
                ).fetchall()
            )
        layouts = sorted({int(number) for number in layout_ids} - self.bounds.keys())
        if layouts:
            self.bounds.update(
                connection.execute(
                    "SELECT layout_id, bounds FROM histogram_layout WHERE layout_id = ANY(%s)", (layouts,)
                ).fetchall()
            )

    def reasons(self, unknown_set_id: int) -> Mapping[str, str]:
        """This will give field → reason; empty where everything was known."""
        return self._reasons.get(unknown_set_id, {})
