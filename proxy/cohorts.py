"""Messages that arrive together go through the steps together: cohort scheduling (Larus and Parkes, USENIX 2002).

A step that follows another finds the processor's caches full of that one's code, and takes two to three times as long
as one that follows itself. So what arrives while a cohort is on its way waits until that one is through, and goes as
the next; in a cohort every message rests after each step until the others have done it too. Nothing waits for what the
world has to say: who waits for a key or an upstream has left the cohort, and comes back with another.
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Callable, Generator
from typing import Final

_MOST: Final = 32  # members of a cohort: what more of them hold would not fit into the caches either


class Cohorts:
    """Those of one event loop."""

    def __init__(self) -> None:
        self._arrived: deque[Callable[[], None]] = deque()
        self._resting = 0
        self._alone = False
        self._gate_is_set = False

    def join(self, begin: Callable[[], None]) -> None:
        """Calls `begin` from the event loop when the next cohort starts; in the order of arrival."""
        self._arrived.append(begin)
        if not self._gate_is_set:
            self._gate_is_set = True
            asyncio.get_running_loop().call_soon(self._open_gate)

    @types.coroutine
    def rest(self) -> Generator[None]:
        """Await it between two steps, never for anything else: the next cohort does not start before."""
        if self._alone:  # nobody to let pass: the steps follow each other at once
            return
        self._resting += 1
        try:
            yield
        finally:
            self._resting -= 1

    def _open_gate(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._resting:
            members = min(len(self._arrived), _MOST)
            self._alone = members == 1
            for _ in range(members):
                loop.call_soon(self._arrived.popleft())  # on its own, so that one that raises stops no other
        self._gate_is_set = bool(self._arrived)
        if self._gate_is_set:
            loop.call_soon(self._open_gate)


class Inlet:
    """What a connection received and its next cohort will take."""

    def __init__(self, cohorts: Cohorts, take: Callable[[bytes], None]) -> None:
        self._cohorts, self._take = cohorts, take
        self._waiting = b""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def put(self, data: bytes) -> None:
        """Has `take` called with `data` in the next cohort; at once if the connection has something waiting already,
        after that: so a sender can make nobody hold more than one piece."""
        if self._waiting:
            self.flush()
            self._take(data)
        else:
            self._waiting = data
            self._cohorts.join(self.flush)

    def flush(self) -> None:
        """Has what waits taken now: before anything that comes after it in the stream."""
        waiting, self._waiting = self._waiting, b""
        if waiting:
            self._take(waiting)

    def drop(self) -> None:
        """Forgets what waits: the connection is gone."""
        self._waiting = b""
