"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """Implements ports.Clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class SleeplessClock:
    """Implements ports.Clock for what may be kept for so long and no longer, keys above all: its `monotonic` goes on
    while the machine is suspended (CLOCK_BOOTTIME, Linux), as that of SystemClock does not. Not for deadlines that an
    event loop watches: its clock stands still with the machine."""

    now = staticmethod(time.time)

    @staticmethod
    def monotonic() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
