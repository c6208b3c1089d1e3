"""Trees of small files, as /sys has them, from one listing."""

from __future__ import annotations

from pathlib import Path

HOST_DATA = Path(__file__).parents[1] / "data" / "host"


def plant(listing: Path, root: Path) -> Path:
    """This will make the files and links of a listing below `root` and give it: see tests/data/host/README.md."""
    for line in listing.read_text().splitlines():
        name, arrow, target = line.partition(" -> ")
        if not arrow:
            name, _, text = line.partition(": ")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            path.symlink_to(target)
        else:
            path.write_text(text + "\n")
    return root
