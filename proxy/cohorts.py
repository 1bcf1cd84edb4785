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
# Turns of the event loop after which the next cohort starts anyway, more than there are steps: if somebody always rests
# it would never.
_TURNS: Final = 16
_PIECE: Final = 256 * 1024  # bytes a connection may have waiting


class Cohorts:
    """Those of one event loop."""

    def __init__(self) -> None:
        self._arrived: deque[Callable[[], None]] = deque()
        self._resting = 0
        self._alone = False
        self._turns = 0
        self._gate_is_set = False

    def join(self, begin: Callable[[], None]) -> None:
        """Calls `begin` from the event loop when the next cohort starts; in the order of arrival."""
        self._arrived.append(begin)
        if not self._gate_is_set:
            asyncio.get_running_loop().call_soon(self._open_gate)
            self._gate_is_set = True  # not before, or a fault there would leave everybody waiting for no gate

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
        self._gate_is_set = False
        loop = asyncio.get_running_loop()
        self._turns += 1
        if self._resting and self._turns <= _TURNS:
            loop.call_soon(self._open_gate)
            self._gate_is_set = True
            return
        self._turns = 0
        members = min(len(self._arrived), _MOST)
        self._alone = members == 1 and not self._resting
        try:
            for _ in range(members):
                loop.call_soon(self._arrived[0])  # on its own, so that one that raises stops no other
                self._arrived.popleft()
        finally:
            if self._arrived:
                loop.call_soon(self._open_gate)
                self._gate_is_set = True


class Inlet:
    """What a connection received and its next cohort will take."""

    def __init__(self, cohorts: Cohorts, take: Callable[[bytes], None]) -> None:
        self._cohorts, self._take = cohorts, take
        self._waiting = b""
        self._joined = False

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def put(self, data: bytes) -> None:
        """Has `take` called with `data` in the next cohort, together with what waits already; at once if that is more
        than may wait. However often a peer sends, it joins each cohort once."""
        self._waiting = self._waiting + data if self._waiting else data
        if len(self._waiting) > _PIECE:
            self.flush()
        elif not self._joined:
            self._cohorts.join(self._begin)
            self._joined = True

    def flush(self) -> None:
        """Has what waits taken now: before anything that comes after it in the stream."""
        waiting, self._waiting = self._waiting, b""
        if waiting:
            self._take(waiting)

    def _begin(self) -> None:
        self._joined = False
        self.flush()
