"""A table of fixed-size records in shared memory, each named by 16 bytes and kept for its time.

Set-associative with two choices: a key may stand in either of two buckets of `WAYS` slots, the emptier one is taken.
A record is never moved, and never evicted before its time is over: no room means no room.

Crash safety: `until` (Unix seconds, one aligned 8-byte store; 0 means "no record") is zeroed before a slot is written
and set after it, so a record whose writer was killed half-way is not there for anybody else. The caller holds the lock
between processes.
"""

from __future__ import annotations

import mmap
import struct
from typing import Any, Final

KEY: Final = 16  # bytes
WAYS: Final = 16
NO_ROOM: Final = -1  # in place of a slot
# Below this load the two buckets of a key were never both full in trials with a million records; 90 % was too much.
LOAD: Final = 0.75

_TIME: Final = 8  # bytes
_BUCKET: Final = WAYS * KEY
_TIMES: Final = struct.Struct(f"={WAYS}d")  # of one bucket
_UNUSED: Final = bytes(KEY)
_MASK: Final = (1 << 128) - 1


def buckets_for(entries: int) -> int:
    """How many buckets hold `entries` records without running out of room by bad luck."""
    return int(entries / (LOAD * WAYS)) + 2


class Table:
    """Records of the shape `body` by key. Not a view of its own process: everything it knows is in `memory`."""

    def __init__(self, memory: mmap.mmap, offset: int, buckets: int, body: struct.Struct, secret: int) -> None:
        """Lies at `offset` (a multiple of 8) of `memory`, which must be zero there; see `size`.

        `secret`: 128 random bits, so that nobody who influences keys can aim them at one bucket (multiply-shift
        hashing, Dietzfelbinger et al. 1997).
        """
        slots = buckets * WAYS
        self._memory = memory
        self._buckets = buckets
        self._body = body
        self._secret = secret | 1
        self._keys = offset + slots * _TIME
        self._bodies = self._keys + slots * KEY
        self._offset = offset
        self._until = memoryview(memory)[offset : self._keys].cast("d")

    @staticmethod
    def size(buckets: int, body: struct.Struct) -> int:
        """Bytes that a table takes."""
        return buckets * WAYS * (_TIME + KEY + body.size)

    def close(self) -> None:
        self._until.release()

    def locate(self, key: bytes, now: float) -> tuple[int, bool]:
        """The slot of the record of `key`, whether its time is over or not, and True. Or, if there is none, a slot for
        it and False; NO_ROOM for a slot if all records it might replace are still needed `now`.

        ValueError if `key` is not 16 bytes.
        """
        if len(key) != KEY:  # a shorter one would be found inside others
            raise ValueError(f"a key must have {KEY} bytes, not {len(key)}")
        memory, until = self._memory, self._until
        slot, most = NO_ROOM, -1
        mixed = (int.from_bytes(key, "little") * self._secret & _MASK) >> 64
        for half in (mixed >> 32, mixed & 0xFFFFFFFF):
            first = (half * self._buckets >> 32) * WAYS
            start = self._keys + first * KEY
            keys = memory[start : start + _BUCKET]
            at = keys.find(key)
            while at >= 0:
                way, inside = divmod(at, KEY)
                if inside == 0 and until[first + way] > 0.0:  # else it spans two keys, or its record is not whole
                    return first + way, True
                at = keys.find(key, at + 1)
            # Slots are taken in turn, so that what follows the first unused one is unused, too. The key before it may
            # end with zeros.
            at = keys.find(_UNUSED)
            way = -(-at // KEY)
            unused = WAYS - way
            if at < 0 or until[first + way] > 0.0:  # none; or there are that many zeros in keys
                way, unused = self._earliest(first, now), 0
            if way >= 0 and unused > most:  # of two buckets the emptier one, so that both fill evenly
                slot, most = first + way, unused
        return slot, False

    def holds(self, slot: int, key: bytes) -> bool:
        """Whether the record of `key` still stands at `slot`."""
        at = self._keys + slot * KEY
        return self._until[slot] > 0.0 and self._memory[at : at + KEY] == key

    def lives(self, slot: int, now: float) -> bool:
        """Whether the time of the record at `slot` is not over."""
        return self._until[slot] > now

    def _earliest(self, first: int, now: float) -> int:
        """Where in the bucket of the slot `first` the record stands whose time was over first; NO_ROOM if none's is."""
        times = _TIMES.unpack_from(self._memory, self._offset + first * _TIME)
        earliest = min(times)
        return times.index(earliest) if earliest <= now else NO_ROOM

    def get(self, slot: int) -> tuple[Any, ...]:
        """The fields of a live record."""
        return self._body.unpack_from(self._memory, self._bodies + slot * self._body.size)

    def put(self, slot: int, key: bytes, until: float, *fields: bytes | float) -> None:
        """Writes the record of `key` into the slot that `locate` named for it: a key never has two."""
        self._until[slot] = 0.0
        at = self._keys + slot * KEY
        self._memory[at : at + KEY] = key
        self._body.pack_into(self._memory, self._bodies + slot * self._body.size, *fields)
        self._until[slot] = until

    def change(self, slot: int, *fields: bytes | float) -> None:
        """Other fields for a live record."""
        until = self._until[slot]
        self._until[slot] = 0.0
        self._body.pack_into(self._memory, self._bodies + slot * self._body.size, *fields)
        self._until[slot] = until

    def extend(self, slot: int, until: float) -> None:
        """A live record lives until then, or longer if it did already."""
        if until > self._until[slot]:
            self._until[slot] = until
