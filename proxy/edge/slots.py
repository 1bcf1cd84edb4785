"""So many at once and no more: who comes when all slots are taken waits in line, until a deadline."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """For one event loop. What asyncio.Semaphore is for, but taking a free slot takes no coroutine."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    def take_free(self) -> bool:
        """Takes a slot, if one is free. While anybody waits none is: it goes from hand to hand."""
        if self.taken >= self._most:
            return False
        self.taken += 1
        return True

    async def take(self, deadline: float) -> None:
        """Takes a slot, in the order of coming. TimeoutError at `deadline` (loop time)."""
        if self.take_free():
            return
        handed = asyncio.get_running_loop().create_future()
        self._waiting.append(handed)
        try:
            async with asyncio.timeout_at(deadline):
                await handed
        except BaseException:
            if handed.done() and not handed.cancelled():  # it was handed over just when its taker left
                self.give_back()
            elif handed in self._waiting:
                self._waiting.remove(handed)
            raise

    def give_back(self) -> None:
        """To be called once for each slot taken."""
        while self._waiting:
            handed = self._waiting.popleft()
            if not handed.done():
                handed.set_result(None)  # the slot stays taken: whoever comes before its new owner runs finds none free
                return
        self.taken -= 1
