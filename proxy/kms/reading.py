"""The keyring's file as it was last read, arranged for look-ups, and taken up anew when it changed.

All readings come from one thread at a time and are taken up in the order they were made in; what needs a key service is
no reading and waits for its answers elsewhere.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms.budget import SharedBudget
from proxy.kms.cache import Held
from proxy.kms.holdings import Holdings, arranged
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document
from proxy.kms.own_thread import in_own_thread
from proxy.kms.service import KeysError
from proxy.ports import Clock


class Reading:
    """Used from one event loop. `document`: as it was last read; `holdings`: the same, arranged; `problem`: why the
    file cannot be read now, empty if it can."""

    def __init__(
        self,
        file: KeyringFile,
        refresh: float,
        clock: Clock,
        budget: SharedBudget,
        protects: Callable[[Held], None],
        write: Callable[..., None],
    ) -> None:
        """`refresh`: seconds between two looks for a key nobody knows. `protects` is called with each key that
        protects from now on, `write` with lines for the log (see Log). Reads nothing yet."""
        self.file, self._refresh, self._clock, self._budget = file, refresh, clock, budget
        self._protects, self._write = protects, write
        self.document, self.holdings = Document(()), Holdings()
        self.problem = ""
        self._stamp: tuple[int, ...] | None = None
        self._changes = budget.changes
        self._next_look = -math.inf
        self._look: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._over = False

    def reload(self) -> None:
        """Takes up what the file says now, all of it or nothing. Blocks.

        Raises KeysError, KeyMismatchError; what was read before then stays, and the caller sounds the alarm.
        """
        stamp = self.file.stamp()
        self.take_up(self.file.document())
        self._stamp = stamp

    async def follow(self) -> None:
        """Takes up the file if it changed; one reading for all who wait."""
        if self._look is None:
            self._next_look = self._clock.monotonic() + self._refresh
            self._look = asyncio.get_running_loop().create_task(self._read())
        await asyncio.shield(self._look)

    async def look_for_unknown(self) -> None:
        """Looks at the file for a key nobody knows: at once if a process of this machine changed it, else at most once
        an interval. Never asks a key service."""
        changed = self._budget.changes != self._changes
        if self._look is None and not changed and self._clock.monotonic() < self._next_look:
            return
        await self.follow()

    async def change[*P](self, work: Callable[[*P], Document], *arguments: *P) -> None:
        """`work`, which may change the file and gives what holds then, in its turn; takes that up. Raises what it
        raises."""
        async with self._turn:
            document = await asyncio.wrap_future(in_own_thread("keyring", work, *arguments))
        self.take_up(document)

    async def beside[*P, R](self, work: Callable[[*P], R], *arguments: *P) -> R:
        """What `work` gives, which may have to wait for somebody else: meanwhile the file is read and changed as ever.
        Raises what it raises."""
        return await asyncio.wrap_future(in_own_thread("keyring-beside", work, *arguments))

    async def read_anew(self) -> None:
        """Takes up what the file says from now on. Raises KeysError, KeyMismatchError."""
        await self.change(self.file.document)

    def take_up(self, document: Document) -> None:
        """`document` holds from now on."""
        if self._over:
            return
        # The file counts, even if somebody put an older one in its place; readings come in the order they were made in.
        if document.revision < self.document.revision:
            self._write(40, "keyring_older")
        self.document = document
        self.arrange()

    def arrange(self) -> None:
        """Keys that are due by the clock are active, whether or not the file says so."""
        found = arranged(self.document.entries, self._clock.now(), self.holdings, self._protects)
        for name, held in self.holdings.by_id.items():
            if found.by_id.get(name) is not held:
                held.release()
        self.holdings = found

    def close(self) -> None:
        """Nothing is taken up any more, and every key is given up; who has one goes on with it."""
        self._over = True
        for held in self.holdings.by_id.values():
            held.release()

    async def _read(self) -> None:
        # Seen, whatever comes of it: a file that cannot be read is not read again for each unknown key.
        self._changes = self._budget.changes
        try:
            stamp = self.file.stamp()
            if stamp != self._stamp:
                await self.read_anew()
                self._stamp = stamp
            self.problem = ""
        except (KeysError, KeyMismatchError) as error:
            if not self.problem:
                self._write(40, "keyring_unreadable", error=type(error).__name__)
            self.problem = str(error)
        finally:
            self._look = None
