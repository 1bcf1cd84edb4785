"""A ring of stored replies in shared memory: the newest ones stay, the oldest are overwritten.

Positions count all bytes ever written, so whether a reply is still there is one comparison. Crash safety: the end is
moved (one aligned 8-byte store) before the bytes are written, so what a killed writer spoiled counts as gone already,
and nobody knows the position of what it did not finish. The caller holds the lock between processes.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

from proxy.cleared import StoredReply

_HEAD: Final = struct.Struct("=16sII")  # message key, bytes of form, bytes of body
_SHARE: Final = 8  # a reply may take one in so many bytes of the ring


class ReplyRing:
    """Replies of up to an eighth of `size` bytes each (the head included), at `offset` of `memory`."""

    def __init__(self, memory: mmap.mmap, offset: int, size: int, end: memoryview[int]) -> None:
        """`end[0]`: an 8-byte word of the shared memory, the position after the newest reply; 0 at the start."""
        self._memory = memory
        self._offset = offset
        self._size = size
        self._end = end

    def append(self, key: bytes, reply: StoredReply) -> int | None:
        """Its position; None if it is too large to be kept."""
        form = reply.form.encode()
        record = _HEAD.pack(key, len(form), len(reply.body)) + form + reply.body
        if len(record) > self._size // _SHARE:
            return None
        position = self._end[0]
        left = self._size - position % self._size
        if len(record) > left:  # a reply never runs across the end of the memory
            position += left
        self._end[0] = position + len(record)
        at = self._offset + position % self._size
        self._memory[at : at + len(record)] = record
        return position

    def read(self, key: bytes, position: int) -> StoredReply | None:
        """The reply that `append` put there for `key`; None if it was overwritten since."""
        if self._end[0] - position > self._size:
            return None
        at = self._offset + position % self._size
        owner, form, body = _HEAD.unpack_from(self._memory, at)
        if owner != key:  # cannot be; but one follower's reply must never reach another
            return None
        start = at + _HEAD.size
        middle = start + form
        return StoredReply(self._memory[start:middle].decode(), self._memory[middle : middle + body])
