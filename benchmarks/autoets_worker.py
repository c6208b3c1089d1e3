"""AutoETS of statsforecast at some origins of a series; run by `autoets.py` in an environment that has it.

Standard input: one JSON object {"values": […], "origins": […], "horizons": […], "window": n}, with null for unknown.
Standard output: one JSON object {"forecasts": [[…]], "failed": n}.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
from statsforecast.models import AutoETS


def main() -> None:
    """This will answer one question on standard input."""
    asked = json.load(sys.stdin)
    warnings.filterwarnings("ignore")  # of the optimiser, at some windows
    values = np.asarray([np.nan if v is None else v for v in asked["values"]], dtype=np.float64)
    longest = max(asked["horizons"])
    forecasts, failed = [], 0
    for origin in asked["origins"]:
        window = values[max(0, origin + 1 - asked["window"]) : origin + 1]
        window = window[~np.isnan(window)]  # what is unknown is left out: a gap is closed up
        try:
            said = AutoETS(season_length=1, model="ZZN").forecast(y=window, h=longest)["mean"]
            answer = [float(said[h - 1]) for h in asked["horizons"]]
        except Exception:  # boundary: a window that cannot be fitted is answered by its last value, and counted
            answer = [np.nan]
        if not np.all(np.isfinite(answer)):
            failed += 1
            answer = [float(window[-1]) if len(window) else 0.0] * len(asked["horizons"])
        forecasts.append([max(a, 0.0) for a in answer])
    json.dump({"forecasts": forecasts, "failed": failed}, sys.stdout)


if __name__ == "__main__":
    main()
