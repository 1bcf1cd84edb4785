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
# Below this load the two buckets of a key were never both full in trials with a million records; 90 % was too much.
LOAD: Final = 0.75

_TIME: Final = 8  # bytes
_BUCKET: Final = WAYS * KEY
_TIMES: Final = struct.Struct(f"={WAYS}d")  # of one bucket
_UNUSED: Final = bytes(_TIME)
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
        self._key, self._chosen = b"", (0, 0)  # where the last key asked for may stand
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

    def find(self, key: bytes) -> int | None:
        """The slot of the record of `key`, whether its time is over or not. ValueError if `key` is not 16 bytes."""
        if len(key) != KEY:  # a shorter one would be found inside others
            raise ValueError(f"a key must have {KEY} bytes, not {len(key)}")
        for bucket in self._choices(key):
            start = self._keys + bucket * _BUCKET
            keys = self._memory[start : start + _BUCKET]
            at = keys.find(key)
            while at >= 0:
                way, inside = divmod(at, KEY)
                slot = bucket * WAYS + way
                if inside == 0 and self._until[slot] > 0.0:  # else it spans two keys, or its record is not whole
                    return slot
                at = keys.find(key, at + 1)
        return None

    def lives(self, slot: int, now: float) -> bool:
        """Whether the time of the record at `slot` is not over."""
        return self._until[slot] > now

    def room(self, key: bytes, now: float) -> int | None:
        """A slot for a `key` that `find` does not know. None: all records it might replace are still needed."""
        best, most = None, -1
        for bucket in self._choices(key):
            first = bucket * WAYS
            start = self._offset + first * _TIME
            # Slots are taken in turn, so that what follows the first unused one is unused, too. No time's last byte is
            # zero: eight zeros begin where a slot does.
            at = self._memory[start : start + WAYS * _TIME].find(_UNUSED)
            way, unused = (at // _TIME, WAYS - at // _TIME) if at >= 0 else (self._earliest(start, now), 0)
            if way is not None and unused > most:  # of two buckets the emptier one, so that both fill evenly
                best, most = first + way, unused
        return best

    def _earliest(self, start: int, now: float) -> int | None:
        """Where in a full bucket the record stands whose time was over first; None if none's is."""
        times = _TIMES.unpack_from(self._memory, start)
        earliest = min(times)
        return times.index(earliest) if earliest <= now else None

    def get(self, slot: int) -> tuple[Any, ...]:
        """The fields of a live record."""
        return self._body.unpack_from(self._memory, self._bodies + slot * self._body.size)

    def put(self, slot: int, key: bytes, until: float, *fields: bytes | float) -> None:
        """Writes the record of `key` into the slot that `find` or else `room` named for it: a key never has two."""
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

    def _choices(self, key: bytes) -> tuple[int, int]:
        if key is not self._key:  # `find` and `room` are asked for the same key one after the other
            mixed = (int.from_bytes(key, "little") * self._secret & _MASK) >> 64
            self._chosen = (mixed >> 32) * self._buckets >> 32, (mixed & 0xFFFFFFFF) * self._buckets >> 32
            self._key = key
        return self._chosen
