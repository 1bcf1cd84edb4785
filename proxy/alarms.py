"""Deadlines of many exchanges on one timer. A timer of the event loop for each costs more than most steps of an
exchange, and nearly all of them are cancelled unused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

_TICK: Final = 0.02  # seconds between two looks at the deadlines, while there are any: so late an alarm may be


class Alarms:
    """Like the `call_at` of an event loop, up to 20 ms late. For one event loop."""

    def __init__(self) -> None:
        self._alarms: dict[int, tuple[float, Callable[[], object]]] = {}
        self._last = 0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, when: float, ring: Callable[[], object]) -> int:
        """Calls `ring` once, when loop time is `when`, unless it is cancelled by the number returned."""
        self._last += 1
        self._alarms[self._last] = (when, ring)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK, self._look)
        return self._last

    def cancel(self, number: int) -> None:
        """Does nothing if the alarm has rung."""
        self._alarms.pop(number, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        # First: whatever rings below, the clock goes on.
        self._timer = loop.call_later(_TICK, self._look) if self._alarms else None
        now = loop.time()
        for number in [number for number, (when, _) in self._alarms.items() if when <= now]:
            if (alarm := self._alarms.pop(number, None)) is not None:
                alarm[1]()


class TimeLimit:
    """`with TimeLimit(alarms, seconds):` raises TimeoutError out of the block when they are over, as asyncio.timeout
    does; a cancellation from outside stays one."""

    def __init__(self, alarms: Alarms, seconds: float) -> None:
        self._alarms = alarms
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._alarm = self._alarms.set(task.get_loop().time() + self._seconds, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._alarms.cancel(self._alarm)
        if not self._expired:
            return
        # Asked for by nobody else, the cancellation ends here (documentation of asyncio.Task.uncancel).
        if self._task.uncancel() <= self._cancelling and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
