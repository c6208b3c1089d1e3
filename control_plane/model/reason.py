"""Why a value is unknown."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Why a value is unknown. The numbers are those of telemetry.proto's UnknownReason."""

    NOT_A_NUMBER = 0
    UNSUPPORTED = 1
    NO_PERMISSION = 2
    DEVICE_LOST = 3
    TIMED_OUT = 4
    ERROR = 5
    FIRST_SAMPLE = 6
    NOT_EXPOSED = 7
    SERVER_GONE = 8
    OUT_OF_RANGE = 9
    NOT_SENT = 10
    NOT_COLLECTED = 11
    HUNG = 12

    @property
    def label(self) -> str:
        """This will give the reason as answers show it."""
        return self.name.lower()

    @classmethod
    def from_payload(cls, payload: int) -> Reason:
        """This will name a NaN's payload; one that a newer agent may know reads as not collected."""
        try:
            return cls(payload)
        except ValueError:
            return cls.NOT_COLLECTED
