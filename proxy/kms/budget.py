"""What was protected with each data key, counted by all workers of a machine together, in shared memory.

One anonymous memory file, made by the supervisor before it forks. A row for each key says how much of it was given out
and how much may be, which is what the keyring file already has on the disk as used: a crash of everything can waste
budget, never exceed it. Workers take blocks of uses and spend them without a lock; what a killed worker had taken is
wasted. A record lock keeps processes apart, and the kernel frees a killed worker's; a thread lock keeps the threads of
one process apart.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

from proxy.refusal import Refusal

_ROW: Final = struct.Struct("=16sQQQQ")  # key, uses given, bytes given, uses allowed, bytes allowed
_FREE, _GONE = bytes(16), b"\xff" * 16
_HEAD: Final = 64  # the first word counts changes of the keyring
_MOST: Final = 2**63 - 1


class Given(NamedTuple):
    """What a worker got, and what is left for the next, uses and bytes each."""

    uses: int
    size: int
    uses_left: int
    size_left: int


class SharedBudget:
    """For all processes forked after `create`; each calls `reopened` once."""

    def __init__(self, fd: int, rows: int) -> None:
        """Use `create`."""
        self._fd, self._rows = fd, rows
        self._memory = mmap.mmap(fd, _HEAD + rows * _ROW.size, trackfd=False)
        self._words = memoryview(self._memory)[:8].cast("Q")
        self._thread = threading.Lock()

    @classmethod
    def create(cls, rows: int = 1 << 15) -> Self:
        """`rows`: keys that protect at the same time; a power of two. Raises OSError if there is no memory."""
        fd = os.memfd_create("wxgate-budget", os.MFD_CLOEXEC)
        os.ftruncate(fd, _HEAD + rows * _ROW.size)
        return cls(fd, rows)

    def reopened(self) -> SharedBudget:
        """The same memory for a process that was just forked: a thread of its parent may have held the lock."""
        return SharedBudget(self._fd, self._rows)

    def close(self) -> None:
        """Gives the memory back; it is gone when the last process did or ended."""
        self._words.release()
        self._memory.close()
        os.close(self._fd)

    @property
    def changes(self) -> int:
        """How often a process of this machine has changed the keyring."""
        return self._words[0]

    def note_change(self) -> None:
        """Tells all processes that the keyring file is another one."""
        with self._locked():
            self._words[0] += 1

    def admit(self, key_id: bytes, uses: int, size: int, *, fresh: bool = False) -> None:
        """Enters a key unless it is there: as used up to what the file says, or not at all if it is `fresh`. Raises
        Refusal `key_unavailable` if there is no room."""
        with self._locked():
            row = self._find(key_id)
            if self._key(row) == _name(key_id):
                return
            given = (0, 0) if fresh else (uses, size)
            allowed = (0, 0) if fresh else (uses, size)
            # The name last: a killed writer leaves a free row.
            _ROW.pack_into(self._memory, row, self._key(row), *given, *allowed)
            self._memory[row : row + 16] = _name(key_id)

    def allow(self, key_id: bytes, uses: int, size: int) -> None:
        """More may be given out: what is on the disk as used. Never less than before."""
        with self._locked():
            row = self._known(key_id)
            if row is not None:
                _, given_uses, given_size, allowed_uses, allowed_size = self._row(row)
                self._put(row, given_uses, given_size, max(uses, allowed_uses), max(size, allowed_size))

    def count_elsewhere(self, key_id: bytes, uses: int, size: int) -> None:
        """The file says that so much is used. Where that is more than was ever allowed here, it was used elsewhere, or
        before this memory was made: it counts as given out. To be called while the file is locked."""
        with self._locked():
            row = self._known(key_id)
            if row is not None:
                _, *given, allowed_uses, allowed_size = self._row(row)
                if uses > allowed_uses:
                    given[0], allowed_uses = max(given[0], uses), uses
                if size > allowed_size:
                    given[1], allowed_size = max(given[1], size), size
                self._put(row, *given, allowed_uses, allowed_size)

    def take(self, key_id: bytes, uses: int, size: int) -> Given:
        """Gives out at most `uses` and `size` bytes; nothing if either is used up or the key is not entered."""
        with self._locked():
            row = self._known(key_id)
            if row is None:
                return Given(0, 0, 0, 0)
            _, given_uses, given_size, allowed_uses, allowed_size = self._row(row)
            left_uses, left_size = max(allowed_uses - given_uses, 0), max(allowed_size - given_size, 0)
            if not left_uses or not left_size:
                return Given(0, 0, left_uses, left_size)
            uses, size = min(uses, left_uses), min(size, left_size)
            self._put(row, given_uses + uses, given_size + size, allowed_uses, allowed_size)
            return Given(uses, size, left_uses - uses, left_size - size)

    def counts(self, key_id: bytes) -> tuple[int, int] | None:
        """Uses and bytes given out; None if the key is not entered."""
        with self._locked():
            row = self._known(key_id)
            return None if row is None else self._row(row)[1:3]

    def allowed(self, key_id: bytes) -> tuple[int, int] | None:
        """Uses and bytes that may be given out, those that were among them; None if the key is not entered."""
        with self._locked():
            row = self._known(key_id)
            return None if row is None else self._row(row)[3:5]

    def forget(self, keep: Collection[bytes]) -> None:
        """Makes room: only the keys `keep` stay."""
        names = {_name(key_id) for key_id in keep}
        with self._locked():
            for row in range(_HEAD, _HEAD + self._rows * _ROW.size, _ROW.size):
                if self._key(row) not in (_FREE, _GONE) and self._key(row) not in names:
                    self._memory[row : row + 16] = _GONE

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread:
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _find(self, key_id: bytes) -> int:
        """The row of a key, or where it may be entered."""
        name, free = _name(key_id), None
        start = int.from_bytes(key_id[:4]) % self._rows
        for step in range(self._rows):
            row = _HEAD + (start + step) % self._rows * _ROW.size
            found = self._key(row)
            if found == name:
                return row
            if found in (_FREE, _GONE) and free is None:
                free = row
            if found == _FREE:
                break
        if free is None:
            raise Refusal("key_unavailable")
        return free

    def _known(self, key_id: bytes) -> int | None:
        try:
            row = self._find(key_id)
        except Refusal:
            return None
        return row if self._key(row) == _name(key_id) else None

    def _key(self, row: int) -> bytes:
        return self._memory[row : row + 16]

    def _row(self, row: int) -> tuple[bytes, int, int, int, int]:
        return _ROW.unpack_from(self._memory, row)

    def _put(self, row: int, *counts: int) -> None:
        _ROW.pack_into(self._memory, row, self._key(row), *counts)


def _name(key_id: bytes) -> bytes:
    """Key ids are evenly distributed, of 16 or 32 bytes."""
    return key_id[:16]


class Meter:
    """One worker's account of one key: it spends what it took, and takes more ahead of time, so that the values of one
    message find enough."""

    __slots__ = (
        *("_block_size", "_block_uses", "_budget", "_key_id", "_size", "_taken", "_uses"),
        *("scarce", "size_taken", "uses_taken"),
    )

    def __init__(self, budget: SharedBudget, key_id: bytes, block: tuple[int, int], taken: Callable[[], None]) -> None:
        """`block`: uses and bytes it takes at a time. `taken` is called each time it asked for some. `scarce` then says
        whether less than a block was left for the next time."""
        self._budget, self._key_id, self._taken = budget, key_id, taken
        self._block_uses, self._block_size = block
        self._uses = self._size = 0
        self.uses_taken = self.size_taken = 0
        self.scarce = False

    def spend(self, size: int) -> None:
        """One use, of `size` bytes. Raises Refusal `key_unavailable` if the budget is spent."""
        self._uses -= 1
        self._size -= size
        if 2 * self._uses < self._block_uses or 2 * self._size < self._block_size:
            self._take(size)
            if self._uses < 0 or self._size < 0:
                self._uses += 1
                self._size += size
                raise Refusal("key_unavailable")

    def ready(self) -> bool:
        """Whether there is something to spend; takes a block if half of one is not at hand."""
        if 2 * self._uses < self._block_uses or 2 * self._size < self._block_size:
            self._take(0)
        return self._uses > 0 and self._size > 0

    def _take(self, size: int) -> None:
        given = self._budget.take(self._key_id, self._block_uses, max(self._block_size, size))
        self._uses += given.uses
        self._size += given.size
        self.uses_taken += given.uses
        self.size_taken += given.size
        self.scarce = given.uses_left < self._block_uses or given.size_left < self._block_size
        self._taken()
