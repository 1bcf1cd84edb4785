"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """Implements ports.Clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
