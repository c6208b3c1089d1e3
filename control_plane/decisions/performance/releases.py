"""How old an engine's release is, since engines get faster."""

from __future__ import annotations

import re
from itertools import pairwise

# Engine → (version, years since October 2025). Months of releases, read off the engines' release notes; between two
# releases by the share of the way, after the last one as old as it. Public sweeps without a version are of that autumn.
RELEASES: dict[str, tuple[tuple[tuple[int, int], float], ...]] = {
    "vllm": (((0, 9), -0.35), ((0, 10), -0.2), ((0, 11), 0.02), ((0, 12), 0.15), ((0, 15), 0.33), ((0, 18), 0.5)),
    "trtllm": (((0, 21), -0.4), ((1, 0), -0.25), ((1, 1), 0.0), ((1, 2), 0.1), ((1, 3), 0.27)),
    "sglang": (((0, 4), -0.6), ((0, 5), -0.15), ((0, 6), 0.6)),
}
# SGLang's minor number stands still; its patch number counts months.
SGLANG_PATCH_YEARS = 0.055
OLDEST, NEWEST = -0.6, 0.6  # nothing was measured beyond; a gain that goes on for ever is not believed


def age_years(engine: str, version: str | None) -> float:
    """This will give the years between a release and October 2025; 0 for a version that nobody names."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version or "")
    known = RELEASES.get(engine)
    if found is None or known is None:
        return -0.17 if version and "dev" in version else 0.0
    major, minor, patch = (int(part or 0) for part in found.groups())
    if engine == "sglang" and (major, minor) == (0, 5):
        years = -0.2 + SGLANG_PATCH_YEARS * patch
    else:
        years = _between(known, major * 1000 + minor)
    return min(max(years, OLDEST), NEWEST)


def _between(known: tuple[tuple[tuple[int, int], float], ...], wanted: int) -> float:
    points = [(major * 1000 + minor, years) for (major, minor), years in known]
    for (low, low_years), (high, high_years) in pairwise(points):
        if low <= wanted <= high:
            return low_years + (high_years - low_years) * (wanted - low) / (high - low)
    return points[0][1] if wanted < points[0][0] else points[-1][1]
