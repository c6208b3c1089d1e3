"""The driver's own power samples between two looks: their mean and their peak."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from node_agent.host.nvml_facts import PowerSample
from node_agent.model import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerWindow:
    """The driver's power samples between two ticks, in two numbers."""

    mean_watts: float | Reason
    peak_watts: float | Reason
    next_stamp: int = field(default=0)  # ask for samples newer than this; 0 asks for all

    @classmethod
    def of(cls, samples: Sequence[PowerSample] | Reason, *, is_first: bool) -> PowerWindow:
        """This will sum up a window.

        The first answer holds samples from before the first tick: only its last stamp is of use.
        After an empty answer the next window starts anew, because a clock that was set back
        would else hide every new sample until it has caught up.
        """
        if isinstance(samples, Reason):
            return cls(mean_watts=samples, peak_watts=samples)
        if not samples:
            return cls(mean_watts=Reason.NOT_COLLECTED, peak_watts=Reason.NOT_COLLECTED)
        next_stamp = max(sample.taken_at_microseconds for sample in samples)
        if is_first:
            return cls(mean_watts=Reason.FIRST_SAMPLE, peak_watts=Reason.FIRST_SAMPLE, next_stamp=next_stamp)
        watts = [sample.watts for sample in samples]
        return cls(mean_watts=math.fsum(watts) / len(watts), peak_watts=max(watts), next_stamp=next_stamp)
