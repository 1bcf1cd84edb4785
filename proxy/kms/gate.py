"""The way to one key service: few calls at a time and off the event loop, and none while it is known to be down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from proxy.kms.own_thread import in_own_thread
from proxy.kms.service import KeyService, KeyServiceDownError

THREADS = 4
_FAILURES = 3  # in a row open the circuit
_LEAST, _MOST = 0.5, 30.0  # seconds of a pause


def pause(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row: doubling, with jitter, so that processes do not come back
    together. `chance`: from 0 to 1."""
    return min(_LEAST * 2.0 ** min(failures - 1, 16), _MOST) * (0.5 + 0.5 * chance)


class Gate:
    """A circuit breaker before one key service. Used from one event loop. How long a call may take is the service's own
    matter: bounded.py."""

    def __init__(self, service: KeyService, monotonic: Callable[[], float], chance: Callable[[], float]) -> None:
        self.service, self._monotonic, self._chance = service, monotonic, chance
        self._places = asyncio.Semaphore(THREADS)
        self._waiting: set[asyncio.Task[Any]] = set()
        self._failures = 0
        self._closed_from = 0.0  # no calls before
        self._trying = False

    @property
    def down(self) -> bool:
        """Whether calls failed so often that there are none but one now and then."""
        return self._failures >= _FAILURES

    async def call[*P, R](self, verb: Callable[[*P], R], *arguments: *P) -> R:
        """`verb(*arguments)` in a thread, when there is a place. Raises what it raises; KeyServiceDownError, without a
        call, while the service is down."""
        self._require_up()
        async with self._place():
            self._require_up()  # those that had a place may have found out
            return await self._tried(verb, *arguments)

    def call_off(self) -> None:
        """Cancels the tasks that wait for a place; those that have one come to their end."""
        for task in tuple(self._waiting):
            task.cancel()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        task = cast(asyncio.Task[Any], asyncio.current_task())
        self._waiting.add(task)
        try:
            await self._places.acquire()
        finally:
            self._waiting.discard(task)
        try:
            yield
        finally:
            self._places.release()

    def _require_up(self) -> None:
        if self.down and (self._trying or self._monotonic() < self._closed_from):
            raise KeyServiceDownError(f"key service {self.service.name}: is down, not asked again yet")

    async def _tried[*P, R](self, verb: Callable[[*P], R], *arguments: *P) -> R:
        self._trying = self.down
        try:
            result = await asyncio.wrap_future(in_own_thread(f"gate-{self.service.name}", verb, *arguments))
        except KeyServiceDownError:
            self._failures += 1
            self._closed_from = self._monotonic() + pause(self._failures, self._chance())
            raise
        except Exception:
            self._failures = 0  # it answers, if only with a no
            raise
        finally:
            self._trying = False
        self._failures = 0
        return result
